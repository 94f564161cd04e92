# SPDX-License-Identifier: GPL-3.0-or-later
"""Shape of the published DehazeXL, and of its relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from dehaze_core.models.config import NetworkConfig
from dehaze_core.models.dehazexl.bottleneck import Positions
from dehaze_core.models.dehazexl.patches import PATCH_PX
from dehaze_core.models.dehazexl.swin_v2 import EMBED_PX

_MAP = PATCH_PX // EMBED_PX


@dataclass(frozen=True, slots=True)
class DehazeXLConfig(NetworkConfig):
    """Shape of a `DehazeXL`; the default is the published one, with a Swin V2-T encoder.

    Attributes:
        width: Channels of the encoder's first stage; tokens have eight times as many.
        depths: Blocks of the encoder's stages.
        heads: Attention heads of the stages, in the encoder and in the decoder.
        encoder_window: Side of the encoder's windows, in features.
        decoder_window: Side of the decoder's windows.
        context_layers: Layers of the bottleneck.
        context_heads: Their attention heads.
        context_budget: Largest number of keys for which their attention stays exact.
        positions: How the bottleneck counts tokens, see `bottleneck.Positions`.
        overlap: Whether the patches of four grids are blended.

    Raises:
        ValueError: There is no network of this shape.
    """

    width: int = 96
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    heads: tuple[int, int, int, int] = (3, 6, 12, 24)
    encoder_window: int = 16
    decoder_window: int = 8
    context_layers: int = 2
    context_heads: int = 8
    context_budget: int = 4096
    positions: Positions = "absolute"
    overlap: bool = False

    def __post_init__(self) -> None:
        """Check that a network of this shape can be built and run."""
        NetworkConfig.__post_init__(self)
        if self.width % 8:
            raise ValueError(
                f"'width' is {self.width}, expected a multiple of 8: it is halved thrice"
            )
        stages = [(self.width << stage, heads) for stage, heads in enumerate(self.heads)]
        for channels, heads in (*stages, (self.token_width, self.context_heads)):
            if channels % heads:
                raise ValueError(f"{heads} heads cannot share {channels} channels")
        for side in (self.encoder_window, self.decoder_window):
            if _MAP % side:
                raise ValueError(f"windows of {side} do not divide a map of {_MAP}")
        if self.positions not in get_args(Positions):
            raise ValueError(f"'positions' is {self.positions}, expected {get_args(Positions)}")

    @property
    def token_width(self) -> int:
        """Length of a token."""
        return self.width << len(self.heads) - 1


BASE = DehazeXLConfig()
"""The published network: Swin V2-T."""

SMALL = DehazeXLConfig(width=32, heads=(1, 2, 4, 8))
"""The same anatomy at a third of the width."""

SWIN_S = DehazeXLConfig(depths=(2, 2, 18, 2))
"""With the encoder Swin V2-S, as the two below one of the paper's ablation."""

SWIN_B = DehazeXLConfig(width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32))

SWIN_L = DehazeXLConfig(width=192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48))
