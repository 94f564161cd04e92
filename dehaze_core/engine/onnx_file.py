# SPDX-License-Identifier: GPL-3.0-or-later
"""A model as one ONNX file, hazy pixels in and clear pixels out, for programs other than Dehaze.

The file looks at nothing but the picture it is given: of a raster cut into tiles, every tile has a
context of its own. `dehaze run` knows the whole raster, and shows no edges between blocks.

What the QGIS plugin Deepness reads is from its sources (PUTvision/qgis-plugin-deepness). A model
that gives a raster of several bands is called Superresolution there, whatever its scale.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core import __version__
from dehaze_core.engine.output.aside import put_file, temporary_folder, write_errors
from dehaze_core.errors import ModelError, OutputError, SettingsError
from dehaze_core.haze.layers import correct
from dehaze_core.models import Model, ModelCard, load_model
from dehaze_core.models.dehazexl.context import ContextNetwork, Keys
from dehaze_core.models.dehazexl.lite import DehazeXLLite
from dehaze_core.models.onnx.exports import export_and_compare
from dehaze_core.models.onnx.graph import Graph, with_metadata
from dehaze_core.models.onnx.parts import pixels, refuse_guided
from dehaze_core.models.streaming import TOKEN_PX, OverviewNetwork
from dehaze_core.scene.srgb import srgb_decode, srgb_encode

INPUT, OUTPUT = "input", "output"

USUAL_SIDE = 512
"""Side of a tile in px that is proposed to programs where the file leaves it open."""

_HALF_DN = 0.5 / 255


def export_model(
    name: str, destination: Path, side: int | None = None, *, overwrite: bool = False
) -> None:
    """Write a model as an ONNX file, whole or not at all.

    The file maps `input` to `output`, both (1, 3, H, W) float32, display-encoded, [0, 1]; H and W
    are multiples of 32.

    Args:
        name: Name of the model.
        destination: The file, `.onnx`.
        side: Fix height and width at this many px, which some programs need; free if None.
        overwrite: Replace an existing file.

    Raises:
        ModelError: The model cannot be loaded, or is of a kind that is not exported
            (BACKEND_MODEL).
        OutputError: The file exists (OUTPUT_EXISTS) or cannot be written.
        ResourceError: A package that ONNX needs is not installed (BACKEND_MISSING).
        SettingsError: The file has another suffix, or the side is no multiple of 32.
    """
    _check(destination, side, overwrite)
    model = load_model(name)
    whole = export_and_compare(_graph(model), torch.get_num_threads(), _HALF_DN).model
    content = with_metadata(whole, _metadata(model.card, side), side)
    with (
        temporary_folder(destination, None) as folder,
        write_errors(destination, len(content)),
    ):
        made = folder / destination.name
        made.write_bytes(content)
        put_file(made, destination, overwrite=overwrite)


def _check(destination: Path, side: int | None, overwrite: bool) -> None:
    if destination.suffix.lower() != ".onnx":
        raise SettingsError(f"The file is {destination.name}, expected a name that ends in .onnx.")
    if side is not None and (side < TOKEN_PX or side % TOKEN_PX):
        raise SettingsError(f"A side of {side} px was given, expected a multiple of {TOKEN_PX}.")
    if destination.exists() and not overwrite:
        raise OutputError(
            f"{destination} exists already.",
            hint="Choose another name, or allow overwriting.",
            code="OUTPUT_EXISTS",
        )


def _metadata(card: ModelCard, side: int | None) -> dict[str, str]:
    """Return what the file tells of itself, JSON by name."""
    values = {
        # For Deepness. It reads tile_size, and documents tiles_size; tiles must not overlap, since
        # it writes whole tiles of models of this type.
        "model_type": "Superresolution",
        "tile_size": side or USUAL_SIDE,
        "tiles_size": side or USUAL_SIDE,
        "tiles_overlap": 0,
        "dehaze_model": card.name,
        "dehaze_architecture": card.architecture,
        "dehaze_sha256": card.sha256,
        "dehaze_licence": card.licence,
        "dehaze_version": __version__,
        "dehaze_values": "red, green, blue, display-encoded (sRGB), 0 to 1, before and after",
        "dehaze_sides": f"multiples of {TOKEN_PX} px",
    }
    return {key: json.dumps(value) for key, value in values.items()}


def _graph(model: Model) -> Graph:
    network = model.network
    refuse_guided(network)
    if isinstance(network, DehazeXLLite):
        module: nn.Module = _PhysicalModel(network)
    elif isinstance(network, OverviewNetwork):
        module = _PaintingModel(network)
    else:
        raise ModelError(
            f"Model '{model.card.name}' is of the kind {network.architecture}, expected "
            "dehazexl-lite or distilled; others cannot be written as one ONNX file.",
            hint="Choose another model, or run this one with 'dehaze run'.",
            code="BACKEND_MODEL",
        )
    return Graph(module, (pixels(INPUT, network.bands),), (pixels(OUTPUT, network.bands),))


class _PhysicalModel(nn.Module):
    """Haze by `dehazexl-lite`, with exact attention, taken out by the scattering model."""

    def __init__(self, network: DehazeXLLite) -> None:
        super().__init__()
        self.network = network
        self.context = copy.deepcopy(cast(ContextNetwork, network.context))
        for name, module in list(self.context.named_modules()):
            if isinstance(module, nn.RMSNorm):
                self.context.set_submodule(name, _WrittenOutNorm(module))

    def forward(self, rgb: Tensor) -> Tensor:
        network = self.network
        skips = network.skips(rgb, torch.ones_like(rgb[:, :1]))
        tokens = network.tokens(rgb, skips)
        hidden = _exact_context(self.context, tokens)
        scene = network.scene_haze(*network.scene_sums(hidden, torch.ones_like(tokens[..., 0])))
        maps = network.decode(skips, network.conditions(tokens, hidden), scene)
        clear = correct(srgb_decode(rgb), *maps.per_pixel(rgb), scene.ratios)
        return srgb_encode(clear.clamp(0.0, 1.0)).clamp(0.0, 1.0)


class _WrittenOutNorm(nn.Module):
    """`nn.RMSNorm`, for which these operators of ONNX have no word."""

    def __init__(self, norm: nn.RMSNorm) -> None:
        super().__init__()
        self.weight = norm.weight
        self.eps = norm.eps or torch.finfo(norm.weight.dtype).eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight


class _PaintingModel(nn.Module):
    """What a network paints that takes its statistics from the picture itself."""

    def __init__(self, network: OverviewNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor) -> Tensor:
        valid = torch.ones_like(rgb[:, :1])
        weight = F.avg_pool2d(valid, TOKEN_PX)[:, 0]
        painted: Tensor = self.network(rgb, valid, weight).clear
        return painted.clamp(0.0, 1.0)


def _exact_context(context: ContextNetwork, tokens: Tensor) -> Tensor:
    """Return the hidden states (1, r, c, C) of tokens that all look at each other.

    `GlobalContext.forward` chooses by the number of tokens, which a graph with free sides cannot.
    """
    hidden: Tensor = context.input(tokens) + _position_code(tokens)
    for layer in context.each_layer():
        key, value = layer.keys_values(layer.normalise(hidden).flatten(1, 2))
        hidden = layer(hidden, Keys(key, value, None))
    return hidden


def _position_code(tokens: Tensor) -> Tensor:
    """Return `context.position_code` of a whole raster, from tensors instead of numbers only.

    Args:
        tokens: (1, r, c, C).

    Returns:
        (r, c, C) float32.
    """
    y = torch.ones_like(tokens[0, :, 0, 0]).cumsum(0) - 0.5
    x = torch.ones_like(tokens[0, 0, :, 0]).cumsum(0) - 0.5
    unit = 64.0 / (torch.maximum(y[-1], x[-1]) + 0.5)
    quarter = tokens.shape[-1] // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    y, x = ((each * unit)[:, None] * frequency.float() for each in (y, x))
    code_y = torch.cat((y.sin(), y.cos()), dim=-1)[:, None]
    code_x = torch.cat((x.sin(), x.cos()), dim=-1)[None]
    return torch.cat((code_x + 0.0 * code_y, code_y + 0.0 * code_x), dim=-1)
