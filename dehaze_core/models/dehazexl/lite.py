# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehazexl-lite`: the anatomy of DehazeXL with convolutions and a physical head.

Patches -> tokens -> global bottleneck -> decoder with skips, as in DehazeXL (Chen et al. 2025,
arXiv 2504.09621), but all work is done at a quarter of the resolution and below, and the network
does not paint pixels: it estimates optical thickness and airlight, and the scattering model
(`dehaze_core.haze`) does the rest. Details of the ground come from the input, so none are invented.

The network is split where a streaming engine has to cut it:

    encode     skips, tokens   block of pixels     -> tokens                       (pass A)
    context                    all tokens          -> tokens that know the raster  (between them)
    estimate   skips, decode   block + its tokens  -> haze at a quarter of the resolution (pass B)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.models.config import NetworkConfig
from dehaze_core.models.dehazexl.context import ContextNetwork
from dehaze_core.models.dehazexl.layers import CellExtremes, ConvBlock, Downsample, Stem, Upsample
from dehaze_core.models.streaming import (
    HAZE_PX,
    TOKEN_PX,
    Footprint,
    HazeMaps,
    SceneHaze,
    TokenNetwork,
)

LOCAL = 4
"""Values a token gives the decoder beside features: airlight deviations, haze presence."""


@dataclass(frozen=True, slots=True)
class LiteConfig(NetworkConfig):
    """Shape of a `DehazeXLLite`; stages are at 1/4, 1/8, 1/16 and 1/32 of the resolution.

    Raises:
        ValueError: There is no network of this shape: all are whole numbers above 0, four or three
            where there are several; kernels are odd, and the last width is a multiple of 4.
    """

    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    encoder_blocks: tuple[int, int, int, int] = (1, 1, 2, 2)
    encoder_kernels: tuple[int, int, int, int] = (5, 5, 5, 3)
    decoder_blocks: tuple[int, int, int] = (1, 1, 2)
    decoder_kernels: tuple[int, int, int] = (5, 5, 3)
    context_layers: int = 2
    context_heads: int = 4
    context_head_dim: int = 32
    context_budget: int = 1024

    def __post_init__(self) -> None:
        """Check that a network of this shape can be built and run."""
        NetworkConfig.__post_init__(self)
        if not all(kernel % 2 for kernel in (*self.encoder_kernels, *self.decoder_kernels)):
            raise ValueError("kernels are even, expected odd ones, which have a centre")
        # Half of the code of a position is for rows, half for columns: sines and cosines.
        if self.widths[-1] % 4:
            raise ValueError(f"the last width is {self.widths[-1]}, expected a multiple of 4")

    @property
    def encode_halo(self) -> int:
        """Pixels around a block of whole tokens that can influence its tokens."""
        return self._through_encoder(0, 3)

    @property
    def decode_halo(self) -> int:
        """Pixels around a block of whole tokens that can influence its result."""
        reach = 2 * HAZE_PX  # the head's 3 x 3 kernel and the interpolation to full resolution
        widest = 0
        for stage in range(3):
            reach = _reach(reach, stage, self.decoder_blocks[stage], self.decoder_kernels[stage])
            widest = max(widest, self._through_encoder(reach, stage))
        return widest

    def _through_encoder(self, reach: int, deepest: int) -> int:
        for stage in range(deepest, -1, -1):
            reach = _reach(reach, stage, self.encoder_blocks[stage], self.encoder_kernels[stage])
        return reach


def _reach(reach: int, stage: int, blocks: int, kernel: int) -> int:
    """Return how far around a block one must look before the convolutions of a stage, in px."""
    cell = HAZE_PX << stage
    return (-(-reach // cell) + blocks * (kernel // 2)) * cell


class DehazeXLLite(TokenNetwork):
    """The network. All inputs are display-encoded RGB, about [0, 1], with a validity mask.

    Args:
        config: Widths, depths and the context budget.
    """

    architecture = "dehazexl-lite"
    config: LiteConfig
    unit_px = TOKEN_PX
    footprint = Footprint(fixed_mib=30, bytes_per_px=210)

    def __init__(self, config: LiteConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LiteConfig()
        w = config.widths
        self.halo_px = -(-max(config.encode_halo, config.decode_halo) // TOKEN_PX) * TOKEN_PX
        self.token_width = w[3]
        self.condition_width = w[3] + LOCAL
        self.context_budget = config.context_budget
        self.stem = Stem(w[0])
        self.encoder = nn.ModuleList(
            _stage(w[i], config.encoder_blocks[i], config.encoder_kernels[i]) for i in range(4)
        )
        self.down = nn.ModuleList(Downsample(w[i], w[i + 1]) for i in range(3))
        self.extremes = CellExtremes(w[3], TOKEN_PX // Stem.patch)
        self.context = ContextNetwork(
            w[3], config.context_layers, config.context_heads, config.context_head_dim
        )
        self.up = nn.ModuleList(Upsample(w[i + 1], w[i]) for i in range(3))
        self.decoder = nn.ModuleList(
            _stage(w[i], config.decoder_blocks[i], config.decoder_kernels[i]) for i in range(3)
        )
        self.scene_head = nn.Linear(w[3], 5)
        self.local_head = nn.Linear(w[3], LOCAL)
        self.thickness_head = nn.Conv2d(w[0], 2, 3, padding=1)
        self._initialise_heads()

    def _initialise_heads(self) -> None:
        for head in (self.scene_head, self.local_head, self.thickness_head):
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.get_parameter("bias"))
        # Start with a bright airlight and a little haze everywhere, present almost for certain.
        nn.init.ones_(self.scene_head.get_parameter("bias")[:3])
        nn.init.constant_(self.thickness_head.get_parameter("bias")[:1], 0.1)
        nn.init.constant_(self.local_head.get_parameter("bias")[3:], 2.0)

    @torch.no_grad()
    def raise_presence(self, logits: float) -> None:
        """Move the threshold between clear and hazy: negative for fewer scenes taken for hazy."""
        self.local_head.get_parameter("bias")[3:] += logits

    def stages(self) -> list[nn.Module]:
        """Return the stages of encoder and decoder."""
        return [*self.encoder, *self.decoder]

    def encode(self, rgb: Tensor, valid: Tensor) -> Tensor:
        """Pass A: return the tokens of a block; see `TokenNetwork.encode`."""
        return self.tokens(rgb, self.skips(rgb, valid))

    def estimate(
        self, rgb: Tensor, valid: Tensor, conditions: Tensor, scene: SceneHaze
    ) -> HazeMaps:
        """Pass B: return the haze of a block; see `TokenNetwork.estimate`."""
        return self.decode(self.skips(rgb, valid), conditions, scene)

    def skips(self, rgb: Tensor, valid: Tensor) -> list[Tensor]:
        """Encode pixels to features at 1/4, 1/8 and 1/16.

        Args:
            rgb: (N, 3, H, W) display-encoded, `FILL` where there is no data.
            valid: (N, 1, H, W) mask.
        """
        features = [self.encoder[0](self.stem(rgb, valid))]
        for i in (1, 2):
            features.append(self.encoder[i](self.down[i - 1](features[-1])))
        return features

    def tokens(self, rgb: Tensor, skips: list[Tensor]) -> Tensor:
        """Return the tokens (N, H/32, W/32, C) of an image and its features from `skips`."""
        deepest: Tensor = self.encoder[3](self.down[2](skips[-1]))
        extremes: Tensor = self.extremes(rgb)
        return deepest + extremes

    def scene_sums(self, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the terms whose sums over all strips give the haze of the whole scene.

        Args:
            hidden: (N, r, c, C) tokens after the bottleneck.
            weight: (N, r, c) share of valid pixels.

        Returns:
            (N, 4) weighted sums of votes (airlight logits and exponent) and (N, 1) the sum of their
            weights. Tokens vote with a learned trust: dense haze knows the airlight best.
        """
        votes, trust = self._head(self.scene_head, hidden).split((4, 1), dim=-1)
        trust = weight[..., None] * (torch.sigmoid(trust) + 1e-3)
        return (votes * trust).sum(dim=(1, 2)), trust.sum(dim=(1, 2))

    @staticmethod
    def scene_haze(votes: Tensor, trust: Tensor) -> SceneHaze:
        """Turn the summed votes of all tokens into the haze of the scene."""
        airlight, alpha = (votes / trust.clamp_min(1e-6)).split((3, 1), dim=1)
        return SceneHaze(airlight, 3.0 * torch.sigmoid(alpha - 0.5) - 0.5)

    def conditions(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Return what the decoder learns of the tokens, and so of the rest of the raster.

        Args:
            tokens: (N, r, c, C) from `tokens`.
            hidden: (N, r, c, C) the same tokens after the bottleneck.

        Returns:
            (N, r, c, C + LOCAL) fused features, the local deviation of the airlight's logits, and
            the logit of there being haze: clear ground must stay as it is.
        """
        return torch.cat((tokens + hidden, self._head(self.local_head, hidden)), dim=-1)

    def decode(self, skips: list[Tensor], conditions: Tensor, scene: SceneHaze) -> HazeMaps:
        """Pass B: estimate the haze of a block of H x W px.

        Args:
            skips: Features of the block from `skips`.
            conditions: (N, H/32, W/32, C + LOCAL) from `conditions`.
            scene: Haze of the whole scene.
        """
        y, local = conditions[..., :-LOCAL], conditions[..., -LOCAL:].permute(0, 3, 1, 2)
        for i in (2, 1, 0):
            y = self.decoder[i](self.up[i](y) + skips[i])
        thickness, slope = self._head(self.thickness_head, y.permute(0, 3, 1, 2)).split(1, dim=1)
        logits = scene.airlight[:, :, None, None] + 0.5 * torch.tanh(local[:, :3].float())
        presence = local[:, 3:].float()
        coarse = torch.cat((1.2 * torch.sigmoid(logits), torch.sigmoid(presence)), dim=1)
        fine = F.interpolate(coarse, size=thickness.shape[-2:], mode="bilinear")
        # A sharp softplus: nearly straight over the useful range, and nearly zero below it.
        thickness = F.softplus(thickness, beta=8.0) * fine[:, 3:]
        return HazeMaps(thickness, fine[:, :3], presence, torch.tanh(slope))

    @staticmethod
    def _head(head: nn.Module, features: Tensor) -> Tensor:
        """Run a head in float32 also under autocast: steps of bfloat16 would show as bands."""
        with torch.autocast(features.device.type, enabled=False):
            out: Tensor = head(features.float())
        return out

    def forward(
        self, rgb: Tensor, valid: Tensor, weight: Tensor, budget: int | None = None
    ) -> tuple[HazeMaps, SceneHaze]:
        """Estimate the haze of a raster in memory in one pass.

        Args:
            rgb: (N, 3, H, W) float32 display-encoded, H and W multiples of 32.
            valid: (N, 1, H, W) float32 mask.
            weight: (N, H/32, W/32) share of real, valid pixels of every token.
            budget: Largest number of keys; the configuration's by default.
        """
        skips = self.skips(rgb, valid)
        tokens = self.tokens(rgb, skips)
        hidden = self.context(tokens, weight, budget or self.config.context_budget)
        scene = self.scene_haze(*self.scene_sums(hidden, weight))
        return self.decode(skips, self.conditions(tokens, hidden), scene), scene


def _stage(width: int, blocks: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(*(ConvBlock(width, kernel) for _ in range(blocks)))


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(math.prod(p.shape) for p in model.parameters())
