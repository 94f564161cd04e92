# SPDX-License-Identifier: GPL-3.0-or-later
"""DehazeXL as published (Chen et al. 2025, arXiv 2504.09621), at any size.

Encoder and decoder look at one patch of 256 x 256 px at a time; only the tokens of the bottleneck
know the rest of the raster. So the network is exact when it is run patch by patch, and as nothing
but tokens crosses the borders of patches, they may show. `overlap` blends patches of four grids,
each moved by half a patch: four times the work, and no longer what was published.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from dehaze_core.models.dehazexl.bottleneck import Bottleneck
from dehaze_core.models.dehazexl.lite import parameter_count
from dehaze_core.models.dehazexl.patches import (
    PATCH_PX,
    PATCH_TOKENS,
    Places,
    batches,
    blending_window,
    channels_first,
    patches_of,
    put,
    take,
)
from dehaze_core.models.dehazexl.published_config import DehazeXLConfig
from dehaze_core.models.dehazexl.swin import Decoder
from dehaze_core.models.dehazexl.swin_v2 import Encoder
from dehaze_core.models.streaming import (
    TOKEN_PX,
    Footprint,
    PaintedImage,
    PaintingTokenNetwork,
    SceneHaze,
)

_HALF = PATCH_PX // 2
_GRIDS = ((0, 0), (0, _HALF), (_HALF, 0), (_HALF, _HALF))


class DehazeXL(PaintingTokenNetwork):
    """The network: pixels of patches to tokens, tokens among each other, patches to clear pixels.

    Args:
        config: Widths, depths, positions and overlap.
    """

    architecture = "dehazexl-base"
    config: DehazeXLConfig
    unit_px = PATCH_PX

    def __init__(self, config: DehazeXLConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DehazeXLConfig()
        # Patches that reach into a block from outside begin half a patch before it; a whole one
        # keeps the grid of patches where it is.
        self.halo_px = PATCH_PX if config.overlap else 0
        self.token_width = self.condition_width = config.token_width
        self.context_budget = config.context_budget
        self.encoder = Encoder(
            config.width, config.depths, config.heads, config.encoder_window, PATCH_PX
        )
        self.context = Bottleneck(
            config.token_width, config.context_layers, config.context_heads, config.positions
        )
        self.decoder = Decoder(config.width, config.heads, config.decoder_window, PATCH_TOKENS)
        # Weights and two patches in work, whose features grow with the width.
        self.footprint = Footprint(
            fixed_mib=(4 * parameter_count(self) >> 20) + 3 * config.width,
            bytes_per_px=130 if config.overlap else 100,
        )

    def stages(self) -> list[nn.Module]:
        """Return the stages of encoder and decoder."""
        return [*self.encoder.layers, *self.decoder.layers_up]

    def encode(self, rgb: Tensor, valid: Tensor) -> Tensor:
        """Pass A: return the tokens of a block; see `StreamedNetwork.encode`."""
        pixels, parts = patches_of(self.seen(rgb, valid), PATCH_PX), batches(valid)
        return self._tokens(rgb, parts, [self.encoder(take(pixels, part))[-1] for part in parts])

    def conditions(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Return the tokens after the bottleneck; the decoder has the others from its patch."""
        return hidden

    def estimate(
        self, rgb: Tensor, valid: Tensor, conditions: Tensor, scene: SceneHaze
    ) -> PaintedImage:
        """Pass B: paint a block; see `StreamedNetwork.estimate`."""
        rgb = self.seen(rgb, valid)
        if self.config.overlap:
            return PaintedImage(self._blended(rgb, valid, conditions))
        clear = rgb[:, : self.bands].clone()
        for part, painted in self._painted(rgb, valid, conditions):
            put(patches_of(clear, PATCH_PX), part, painted)
        return PaintedImage(clear)

    def forward(
        self, rgb: Tensor, valid: Tensor, weight: Tensor, budget: int | None = None
    ) -> PaintedImage:
        """Paint a raster in memory, encoding each patch only once.

        Args:
            rgb: (N, 3, H, W) float32 display-encoded, H and W multiples of 256.
            valid: (N, 1, H, W) float32 mask.
            weight: (N, H/32, W/32) share of real, valid pixels of every token.
            budget: Largest number of keys; the configuration's by default.
        """
        rgb = self.seen(rgb, valid)
        pixels, parts = patches_of(rgb, PATCH_PX), batches(valid)
        features = [self.encoder(take(pixels, part)) for part in parts]
        tokens = self._tokens(rgb, parts, [each[-1] for each in features])
        hidden = self.context(tokens, weight, budget or self.context_budget)
        if self.config.overlap:
            return PaintedImage(self._blended(rgb, valid, hidden))
        clear = rgb[:, : self.bands].clone()
        known = patches_of(channels_first(hidden), PATCH_TOKENS)
        painted = [
            self._paint(take(pixels, part), take(known, part), skips)
            for part, skips in zip(parts, features, strict=True)
        ]
        if parts:
            put(patches_of(clear, PATCH_PX), list(chain(*parts)), torch.cat(painted))
        return PaintedImage(clear)

    def seen(self, rgb: Tensor, valid: Tensor) -> Tensor:
        """Return what the encoder is shown of a block: its pixels as they are."""
        return rgb

    def _tokens(self, rgb: Tensor, parts: list[Places], deepest: list[Tensor]) -> Tensor:
        """Return the token map (N, H/32, W/32, C) of patches; without data it is zero."""
        n, _, height, width = rgb.shape
        tokens = rgb.new_zeros(n, height // TOKEN_PX, width // TOKEN_PX, self.token_width)
        if parts:
            patches = patches_of(channels_first(tokens), PATCH_TOKENS)
            put(patches, list(chain(*parts)), channels_first(torch.cat(deepest)))
        return tokens

    def _painted(
        self, rgb: Tensor, valid: Tensor, conditions: Tensor
    ) -> Iterator[tuple[Places, Tensor]]:
        """Yield the patches that hold data and what is painted there, some at a time."""
        pixels = patches_of(rgb, PATCH_PX)
        known = patches_of(channels_first(conditions), PATCH_TOKENS)
        for part in batches(valid):
            seen = take(pixels, part)
            yield part, self._paint(seen, take(known, part), self.encoder(seen))

    def _paint(self, pixels: Tensor, hidden: Tensor, features: list[Tensor]) -> Tensor:
        """Return clear patches (P, 3, 256, 256); hidden is (P, D, 8, 8)."""
        added = self.decoder(hidden.permute(0, 2, 3, 1), features)
        changed: Tensor = pixels[:, : self.bands] + added
        return changed

    def _blended(self, rgb: Tensor, valid: Tensor, conditions: Tensor) -> Tensor:
        """Return the mean of the patches of four grids, weighted towards their middle."""
        window, pixels = blending_window().to(rgb.device), rgb[:, : self.bands]
        clear, total = torch.zeros_like(pixels), torch.zeros_like(rgb[:, :1])
        for row, col in _GRIDS:
            moved = (..., slice(row, None), slice(col, None))
            tokens = (..., slice(row // TOKEN_PX, None), slice(col // TOKEN_PX, None), slice(None))
            if min(rgb[moved].shape[-2:]) < PATCH_PX:
                continue
            sums, weights = patches_of(clear[moved], PATCH_PX), patches_of(total[moved], PATCH_PX)
            for part, painted in self._painted(rgb[moved], valid[moved], conditions[tokens]):
                put(sums, part, take(sums, part) + painted * window)
                put(weights, part, take(weights, part) + window)
        # At the rim of the raster a single patch may have next to no weight, but never none.
        return torch.where(total > 0, clear / total.clamp_min(1e-12), pixels)
