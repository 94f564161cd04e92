# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network must offer to be run on rasters of any size, block by block.

Blocks become an answer one by one (`estimate`), which must not depend on how the raster is cut.
What a block has to know of the rest of the raster is found out before, in one of two ways. A
`TokenNetwork` turns blocks of pixels into tokens (`encode`), and the tokens of the whole raster
look at each other (`context`). An `OverviewNetwork` looks at the raster scaled down (`look`).

Either the answer is physical, haze from which clear pixels are computed (`HazeMaps`), or the
network paints the clear pixels itself (`PaintedImage`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dehaze_core.haze.layers import full_resolution
from dehaze_core.haze.physics import RGB_WAVELENGTHS, angstrom_ratio
from dehaze_core.models.config import NetworkConfig
from dehaze_core.models.dehazexl.context import GlobalContext

TOKEN_PX = 32
"""Side of a token in pixels."""

HAZE_PX = 4
"""Side of a cell of the predicted haze maps in pixels."""

FILL = 0.5
"""Display value that stands for pixels without data; the first layer takes it for zero."""


@dataclass(frozen=True, slots=True)
class SceneHaze:
    """What is one value for the whole raster; empty where a network has no such values.

    Attributes:
        airlight: (N, 3) logits of the airlight per model band.
        alpha: (N, 1) Angstrom exponent, [-0.5, 2.5].
    """

    airlight: Tensor
    alpha: Tensor

    def to(self, device: torch.device) -> SceneHaze:
        """Return the same values on another device."""
        return SceneHaze(self.airlight.to(device), self.alpha.to(device))

    @property
    def ratios(self) -> Tensor:
        """Return tau_band / tau_550 of the model bands, (N, 3, 1, 1)."""
        ratios = [angstrom_ratio(self.alpha, wavelength) for wavelength in RGB_WAVELENGTHS]
        return torch.cat(ratios, dim=1)[:, :, None, None]


@dataclass(frozen=True, slots=True)
class SceneStatistics:
    """What global poolings say of the whole raster, the same for every block.

    Attributes:
        values: (N, V) float32; what they mean is the network's affair.
    """

    values: Tensor

    def to(self, device: torch.device) -> SceneStatistics:
        """Return the same values on another device."""
        return SceneStatistics(self.values.to(device))


SceneValues = SceneHaze | SceneStatistics
"""What is known of a raster as a whole, beside its tokens."""


@dataclass(frozen=True, slots=True)
class HazeMaps:
    """Haze of a block at a quarter of its resolution.

    Attributes:
        thickness: (N, 1, h, w) optical thickness at 550 nm, >= 0.
        airlight: (N, 3, h, w) airlight in linear light, (0, 1.2).
        presence: (N, 1, h/8, w/8) logit of there being any haze, one for a token; the thickness
            takes it into account already.
        edge_slope: (N, 1, h, w) slope of the edge-aware upsampling, (-1, 1), see
            `dehaze_core.haze.layers`.
    """

    thickness: Tensor
    airlight: Tensor
    presence: Tensor
    edge_slope: Tensor

    def per_pixel(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Return thickness (N, 1, H, W) and airlight (N, 3, H, W) of the pixels (N, 3, H, W).

        Channels of `rgb` behind the bands, guides of the network, are left out.
        """
        luminance = rgb[:, : self.airlight.shape[1]].mean(dim=1, keepdim=True)
        return full_resolution(self.thickness, self.airlight, self.edge_slope, luminance)

    def is_finite(self) -> bool:
        """Return whether every value of the maps is a number."""
        maps = (self.thickness, self.airlight, self.edge_slope)
        return all(bool(values.isfinite().all()) for values in maps)

    def without_gaps(self) -> HazeMaps:
        """Return the maps with no haze where a value is not a number."""
        usable = torch.cat((self.thickness, self.airlight, self.edge_slope), dim=1).isfinite()
        usable = usable.all(dim=1, keepdim=True)
        return HazeMaps(
            torch.where(usable, self.thickness, 0.0),
            torch.where(usable, self.airlight, 0.5),
            self.presence,
            torch.where(usable, self.edge_slope, 0.0),
        )


@dataclass(frozen=True, slots=True)
class PaintedImage:
    """Clear pixels of a block as a network paints them.

    Attributes:
        clear: (N, 3, H, W) display-encoded, about [0, 1], not clamped.
        features: (N, C, H, W) features of some stages, kept in training only, for whoever compares
            them with those of another network.
    """

    clear: Tensor
    features: tuple[Tensor, ...] = ()

    def is_finite(self) -> bool:
        """Return whether every value is a number."""
        return bool(self.clear.isfinite().all())

    def without_gaps(self, rgb: Tensor) -> PaintedImage:
        """Return the image with the pixels of `rgb` (N, 3, H, W) where a value is not a number.

        Channels of `rgb` behind the bands, guides of the network, are left out.
        """
        usable = self.clear.isfinite().all(dim=1, keepdim=True)
        return PaintedImage(torch.where(usable, self.clear, rgb[:, : self.clear.shape[1]]))


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory a network takes at the peak of a run, measured with `benchmarks.speed`.

    Attributes:
        fixed_mib: Weights, and what a part of a block in work takes if its size is fixed.
        bytes_per_px: What grows with the block, for each of its pixels with halo.
    """

    fixed_mib: int
    bytes_per_px: int


class StreamedNetwork(nn.Module, ABC):
    """A network the engine can run on rasters of any size, block by block.

    Attributes:
        architecture: Kind of network, one of `architectures.ARCHITECTURES`.
        config: Its shape.
        bands: Bands of the pictures it sees and answers for; the engine runs networks with 3.
        guides: Channels behind the bands that guide it, [0, 1], and are never dehazed: the code of
            the pixel's segment, 0 where there is none or no data. All that is called `rgb` has
            `bands + guides` channels.
        paints: Whether it answers with a `PaintedImage`; else with `HazeMaps`.
        token_width: Channels C of a token; 0 for a network without tokens.
        unit_px: Blocks begin and end at multiples of this many pixels, itself one of `TOKEN_PX`.
        halo_px: Pixels around a block, whole units, that can influence its tokens or its result.
        footprint: Memory it takes.
    """

    architecture: str
    config: NetworkConfig
    bands: int = 3
    guides: int = 0
    paints: bool = False
    token_width: int = 0
    unit_px: int
    halo_px: int
    footprint: Footprint

    @abstractmethod
    def stages(self) -> list[nn.Module]:
        """Return the parts whose features training may compute again instead of keeping them."""

    @abstractmethod
    def estimate(
        self,
        rgb: Tensor,
        valid: Tensor,
        conditions: Tensor,
        scene: Any,  # noqa: ANN401 - SceneHaze or SceneStatistics, each network knows which
    ) -> HazeMaps | PaintedImage:
        """Pass B: answer for a block with its halo.

        Args:
            rgb: (N, 3, H, W) float32 display-encoded, [0, 1], `FILL` where there is no data; H and
                W are multiples of `unit_px`. Guides follow as further channels.
            valid: (N, 1, H, W) float32, 1 where the pixel holds data, else 0.
            conditions: (N, H/32, W/32, K) what is known of its tokens; K is 0 without tokens.
            scene: What is known of the whole raster, on the device of the network: `SceneHaze`
                from tokens, `SceneStatistics` from an overview.
        """


class TokenNetwork(StreamedNetwork):
    """A network whose blocks learn of the rest of the raster through tokens.

    Attributes:
        condition_width: Channels K of what pass B is given for each token.
        context_budget: Largest number of keys for which attention stays exact, if nobody chooses.
        context: Layers in which the tokens of the whole raster look at each other.
    """

    condition_width: int
    context_budget: int
    context: GlobalContext

    @abstractmethod
    def encode(self, rgb: Tensor, valid: Tensor) -> Tensor:
        """Pass A: turn a block of pixels into tokens.

        Args:
            rgb: As for `estimate`.
            valid: As for `estimate`.

        Returns:
            (N, H/32, W/32, C) tokens.
        """

    @abstractmethod
    def scene_sums(self, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the terms whose sums over all strips of tokens give the haze of the scene.

        Args:
            hidden: (N, r, c, D) tokens after the context.
            weight: (N, r, c) share of valid pixels.

        Returns:
            (N, V) weighted sums of votes and (N, 1) the sum of their weights.
        """

    @abstractmethod
    def scene_haze(self, votes: Tensor, trust: Tensor) -> SceneHaze:
        """Turn the sums of all strips, float32, into the haze of the scene."""

    @abstractmethod
    def conditions(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Return what pass B is told of the tokens, and so of the rest of the raster.

        Args:
            tokens: (N, r, c, C) from `encode`.
            hidden: (N, r, c, D) the same tokens after the context.

        Returns:
            (N, r, c, K).
        """


class PaintingTokenNetwork(TokenNetwork):
    """A network with tokens that paints, and has no values for the scene as a whole."""

    paints = True

    def scene_sums(self, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return no votes, (N, 0), and the sum of the weights, (N, 1)."""
        return hidden.new_zeros(len(hidden), 0), weight.sum(dim=(1, 2))[:, None]

    def scene_haze(self, votes: Tensor, trust: Tensor) -> SceneHaze:
        """Return the haze of a scene of which nothing is known."""
        return SceneHaze(votes, votes)


class OverviewNetwork(StreamedNetwork):
    """A network whose global poolings are taken once, from an overview, and frozen.

    Attributes:
        overview_px: Longest side of the overview in px. A raster that is not larger is looked at
            as it is.
    """

    overview_px: int

    @abstractmethod
    def look(self, rgb: Tensor, valid: Tensor, weight: Tensor) -> SceneStatistics:
        """Return what `estimate` is told of the whole raster.

        Args:
            rgb: (N, 3, H, W) the overview, as for `estimate`.
            valid: (N, 1, H, W) as for `estimate`.
            weight: (N, H/32, W/32) share of real, valid pixels of every token: the overview may
                have been continued beyond its edge.
        """
