# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a network that look at pixels, each as a graph of its own.

They take nearly all of the time of a run. What lies between them, the context of all tokens, is
streamed from disk and stays in PyTorch.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from dehaze_core.errors import ModelError
from dehaze_core.models.onnx.graph import Graph, Port
from dehaze_core.models.onnx.painter import Painter
from dehaze_core.models.streaming import (
    HazeMaps,
    OverviewNetwork,
    SceneHaze,
    StreamedNetwork,
    TokenNetwork,
)
from dehaze_core.models.student.student import Student

RGB, VALID = "rgb", "valid"


def parts_of(network: StreamedNetwork) -> dict[str, Graph]:
    """Return the parts of a network by the names of its methods.

    Raises:
        ModelError: It is of a kind that is not exported (BACKEND_MODEL).
    """
    refuse_guided(network)
    if isinstance(network, Student):
        return _student_parts(network)
    if isinstance(network, TokenNetwork) and not network.paints:
        return _token_parts(network)
    raise ModelError(
        f"Networks of the kind {network.architecture} cannot be written as ONNX graphs; those of "
        "dehazexl-lite and distilled can.",
        hint="Choose the backend 'torch', or another model.",
        code="BACKEND_MODEL",
    )


def refuse_guided(network: StreamedNetwork) -> None:
    """Refuse networks that are shown a mask beside the bands.

    Raises:
        ModelError: The network has guides (BACKEND_MODEL).
    """
    if network.guides:
        raise ModelError(
            f"Networks of the kind {network.architecture} are guided by a mask, and cannot be "
            "written as ONNX graphs; those of dehazexl-lite and distilled can.",
            hint="Choose the backend 'torch', or a model without a guide.",
            code="BACKEND_MODEL",
        )


def pixels(name: str, bands: int) -> Port:
    """Return a port for (1, bands, H, W) values."""
    return Port(name, (1, bands, "height", "width"))


def _token_parts(network: TokenNetwork) -> dict[str, Graph]:
    seen = (pixels(RGB, network.bands), pixels(VALID, 1))
    told = (
        Port("conditions", (1, "rows", "columns", network.condition_width)),
        Port("airlight", (1, 3)),
        Port("alpha", (1, 1)),
    )
    maps = (
        Port("haze_thickness", (1, 1, "haze_rows", "haze_columns")),
        Port("haze_airlight", (1, 3, "haze_rows", "haze_columns")),
        Port("haze_presence", (1, 1, "rows", "columns")),
        Port("haze_edge_slope", (1, 1, "haze_rows", "haze_columns")),
    )
    tokens = Port("tokens", (1, "rows", "columns", network.token_width))
    return {
        "encode": Graph(_Encode(network), seen, (tokens,)),
        "estimate": Graph(_EstimateHaze(network), (*seen, *told), maps),
    }


def _student_parts(student: Student) -> dict[str, Graph]:
    config, bands = student.config, student.bands
    rgb, share = pixels(RGB, bands), Port("weight", (1, "rows", "columns"))
    values = Port("values", (1, config.groups_start + config.outer * config.width))
    clear = pixels("clear", bands)
    return {
        "look": Graph(_Look(student), (rgb, pixels(VALID, 1), share), (values,)),
        "estimate": Graph(Painter(student), (rgb, values), (clear,), constant=("values",)),
    }


class _Encode(nn.Module):
    """`TokenNetwork.encode`."""

    def __init__(self, network: TokenNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor, valid: Tensor) -> Tensor:
        return self.network.encode(rgb, valid)


class _EstimateHaze(nn.Module):
    """`TokenNetwork.estimate` of a network that answers with haze."""

    def __init__(self, network: TokenNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, rgb: Tensor, valid: Tensor, conditions: Tensor, airlight: Tensor, alpha: Tensor
    ) -> tuple[Tensor, ...]:
        scene = SceneHaze(airlight, alpha)
        maps = cast(HazeMaps, self.network.estimate(rgb, valid, conditions, scene))
        return maps.thickness, maps.airlight, maps.presence, maps.edge_slope


class _Look(nn.Module):
    """`OverviewNetwork.look`."""

    def __init__(self, network: OverviewNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor, valid: Tensor, weight: Tensor) -> Tensor:
        return self.network.look(rgb, valid, weight).values
