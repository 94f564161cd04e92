# SPDX-License-Identifier: GPL-3.0-or-later
"""What computes the parts of a network that look at pixels: PyTorch, or onnxruntime on the CPU.

With onnxruntime a network is replaced by one of the same family whose parts are ONNX graphs. What
lies between them, the context of all tokens, is PyTorch's as before.
"""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from torch import Tensor, nn

from dehaze_core.engine.device import Device, choose_device
from dehaze_core.engine.settings import BackendChoice, RunSettings
from dehaze_core.errors import ModelError, ResourceError
from dehaze_core.models.onnx.exports import open_parts
from dehaze_core.models.onnx.session import Session, is_installed, runtime_version
from dehaze_core.models.streaming import (
    Footprint,
    HazeMaps,
    OverviewNetwork,
    PaintedImage,
    SceneHaze,
    SceneStatistics,
    StreamedNetwork,
    TokenNetwork,
)

FASTER_IN_ONNXRUNTIME = frozenset({"distilled"})
"""Architectures for which `auto` takes onnxruntime, measured with `benchmarks.backends`."""

ONNXRUNTIME_MIB = 110
"""Memory of onnxruntime itself and of the graphs."""

MORE = 5 / 4
"""Memory of a block in onnxruntime where the network paints, relative to PyTorch: onnxruntime takes
it in ever larger pieces. For a network that answers with haze it is no more than in PyTorch."""


def device_for(settings: RunSettings) -> Device:
    """Return the device of a run; onnxruntime computes on the CPU.

    Raises:
        ResourceError: CUDA was asked for and there is none (DEVICE_MISSING).
    """
    return choose_device("cpu" if settings.backend == "onnxruntime" else settings.device)


def with_backend(
    network: StreamedNetwork, choice: BackendChoice, device: Device, threads: int
) -> StreamedNetwork:
    """Return a network that is computed by the backend of a user's choice.

    Args:
        network: The model's network, on the CPU.
        choice: `auto` takes onnxruntime where it is installed, the device is the CPU, and it is the
            faster one for networks of this kind; else PyTorch.
        device: Where the run computes.
        threads: CPU threads.

    Raises:
        ModelError: Networks of this kind cannot be exported (BACKEND_MODEL), or onnxruntime does
            not answer like PyTorch on this machine (BACKEND_DIFFERS).
        ResourceError: A package that onnxruntime needs is not installed (BACKEND_MISSING).
    """
    if choice == "onnxruntime":
        return _in_onnxruntime(network, threads)
    if choice == "auto" and _pays(network, device):
        # Where it does not work as it should, PyTorch does.
        with suppress(ModelError, ResourceError):
            return _in_onnxruntime(network, threads)
    return network


def backend_of(network: StreamedNetwork) -> str:
    """Return what computes a network: `torch`, or `onnxruntime` and its version."""
    if isinstance(network, (OnnxTokenNetwork, OnnxOverviewNetwork)):
        return f"onnxruntime {runtime_version()}"
    return "torch"


class OnnxTokenNetwork(TokenNetwork):
    """A network with tokens whose passes over the pixels are ONNX graphs.

    Args:
        network: The network they were made from, which does all the rest.
        sessions: `encode` and `estimate`.
    """

    def __init__(self, network: TokenNetwork, sessions: dict[str, Session]) -> None:
        super().__init__()
        _take_after(self, network)
        self.condition_width = network.condition_width
        self.context_budget = network.context_budget
        self.context = network.context
        self.network = network
        self._sessions = sessions

    def stages(self) -> list[nn.Module]:
        """Return the stages of the network, which is trained without the graphs."""
        return self.network.stages()

    def encode(self, rgb: Tensor, valid: Tensor) -> Tensor:
        """Pass A; see `TokenNetwork.encode`."""
        return self._sessions["encode"].run(rgb=rgb, valid=valid)[0]

    def estimate(
        self, rgb: Tensor, valid: Tensor, conditions: Tensor, scene: SceneHaze
    ) -> HazeMaps:
        """Pass B; see `StreamedNetwork.estimate`."""
        maps = self._sessions["estimate"].run(
            rgb=rgb,
            valid=valid,
            conditions=conditions,
            airlight=scene.airlight,
            alpha=scene.alpha,
        )
        return HazeMaps(*maps)

    def scene_sums(self, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums of the network."""
        return self.network.scene_sums(hidden, weight)

    def scene_haze(self, votes: Tensor, trust: Tensor) -> SceneHaze:
        """Return the haze of the scene as the network does."""
        return self.network.scene_haze(votes, trust)

    def conditions(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Return the conditions of the network."""
        return self.network.conditions(tokens, hidden)


class OnnxOverviewNetwork(OverviewNetwork):
    """A network that looks at an overview, whose passes over the pixels are ONNX graphs.

    Args:
        network: The network they were made from.
        sessions: `look` and `estimate`.
    """

    def __init__(self, network: OverviewNetwork, sessions: dict[str, Session]) -> None:
        super().__init__()
        _take_after(self, network)
        self.overview_px = network.overview_px
        self.network = network
        self._sessions = sessions

    def stages(self) -> list[nn.Module]:
        """Return the stages of the network, which is trained without the graphs."""
        return self.network.stages()

    def look(self, rgb: Tensor, valid: Tensor, weight: Tensor) -> SceneStatistics:
        """Look at the overview; see `OverviewNetwork.look`."""
        values = self._sessions["look"].run(rgb=rgb, valid=valid, weight=weight)
        # It is looked at once.
        self._sessions["look"].release()
        return SceneStatistics(values[0])

    def estimate(
        self, rgb: Tensor, valid: Tensor, conditions: Tensor, scene: SceneStatistics
    ) -> PaintedImage:
        """Pass B; see `StreamedNetwork.estimate`."""
        clear = self._sessions["estimate"].run(rgb=rgb, values=scene.values)
        return PaintedImage(clear[0])


def _in_onnxruntime(network: StreamedNetwork, threads: int) -> StreamedNetwork:
    sessions = open_parts(network, threads)
    if isinstance(network, OverviewNetwork):
        return OnnxOverviewNetwork(network, sessions)
    return OnnxTokenNetwork(cast(TokenNetwork, network), sessions)


def _take_after(new: StreamedNetwork, network: StreamedNetwork) -> None:
    """Give a network the attributes of the one that it stands for."""
    new.train(network.training)
    new.architecture, new.config, new.bands = network.architecture, network.config, network.bands
    new.paints, new.token_width = network.paints, network.token_width
    new.unit_px, new.halo_px = network.unit_px, network.halo_px
    fixed, each = network.footprint.fixed_mib, network.footprint.bytes_per_px
    new.footprint = Footprint(fixed + ONNXRUNTIME_MIB, int(MORE * each) if new.paints else each)


def _pays(network: StreamedNetwork, device: Device) -> bool:
    return (
        network.architecture in FASTER_IN_ONNXRUNTIME
        and device.torch.type == "cpu"
        and is_installed()
    )
