# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of Dehaze with one more input channel, the code of the segment a pixel lies in.

As in "Let Segment Anything Help Image Dehaze" (Jin et al. 2023, arXiv 2306.15870) only the first
convolution grows; what is painted or corrected are the bands. A trained network grows by a slice of
zeros (`expanded`): it then computes what it did before, and can learn what segments are good for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dehaze_core.errors import ModelError
from dehaze_core.models.dehazexl.layers import Stem
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig
from dehaze_core.models.dehazexl.published import DehazeXL
from dehaze_core.models.dehazexl.published_config import SMALL, DehazeXLConfig
from dehaze_core.models.dehazexl.swin_v2 import PatchEmbed
from dehaze_core.models.sam_guided.gate import centred, gated, split_gated
from dehaze_core.models.streaming import Footprint, StreamedNetwork
from dehaze_core.models.student.student import Student, StudentConfig

GUIDED_BYTES = 16
"""Memory a guide takes for each pixel: itself, its weight, and both together with the bands."""


class GuidedConv(nn.Conv2d):
    """A convolution of bands and guides, summed apart: without guides it is one of bands alone.

    Args:
        known: Channels in front of the guides.
        guides: Channels that guide.
        width_out: Channels of the features.
        kernel: Side of the kernel.
        stride: Step between two features, px.
        padding: Zeros around the image, px.
    """

    def __init__(
        self,
        known: int,
        guides: int,
        width_out: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__(known + guides, width_out, kernel, stride=stride, padding=padding)
        self.known = known

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, known + guides, H, W) to features; guides with zeros for weights add nothing."""
        known, guides = self.weight[:, : self.known], self.weight[:, self.known :]
        features = F.conv2d(x[:, : self.known], known, self.bias, self.stride, self.padding)
        return features + F.conv2d(x[:, self.known :], guides, None, self.stride, self.padding)


class GuidedStem(Stem):
    """`Stem` with guides; the extremes are those of the bands.

    Args:
        width: Number of output channels.
        bands: Bands in front of the guides.
        guides: Channels that guide.
    """

    def __init__(self, width: int, bands: int, guides: int) -> None:
        super().__init__(width)
        self.bands = bands
        self.embed = GuidedConv(bands + 1, guides, width, self.patch, stride=self.patch)

    def forward(self, rgb: Tensor, valid: Tensor) -> Tensor:
        """Embed an image with guides; see `Stem.forward`."""
        pixels, guide = split_gated(rgb, valid, self.bands)
        embedded: Tensor = self.embed(torch.cat((pixels * 2 - 1, valid, guide), dim=1))
        return self.with_extremes(embedded, pixels)


class GuidedPatchEmbed(PatchEmbed):
    """`PatchEmbed` with guides."""

    def __init__(self, width: int, bands: int, guides: int) -> None:
        super().__init__(width)
        side = self.proj.kernel_size[0]
        self.proj = GuidedConv(bands, guides, width, side, stride=side)


class GuidedLite(DehazeXLLite):
    """`dehazexl-lite` with a guide.

    Args:
        config: As for `DehazeXLLite`.
    """

    architecture = "guided-lite"
    guides = 1
    footprint = Footprint(
        DehazeXLLite.footprint.fixed_mib, DehazeXLLite.footprint.bytes_per_px + GUIDED_BYTES
    )

    def __init__(self, config: LiteConfig | None = None) -> None:
        super().__init__(config)
        self.stem = GuidedStem(self.config.widths[0], self.bands, self.guides)

    def tokens(self, rgb: Tensor, skips: list[Tensor]) -> Tensor:
        """Return the tokens of an image with guides; see `DehazeXLLite.tokens`."""
        return super().tokens(rgb[:, : self.bands], skips)


class GuidedDehazeXL(DehazeXL):
    """The published network with a guide.

    Args:
        config: As for `DehazeXL`; the small network by default.
    """

    architecture = "guided-small"
    guides = 1

    def __init__(self, config: DehazeXLConfig | None = None) -> None:
        super().__init__(config or SMALL)
        self.encoder.patch_embed = GuidedPatchEmbed(self.config.width, self.bands, self.guides)
        self.footprint = _with_guide(self.footprint)

    def seen(self, rgb: Tensor, valid: Tensor) -> Tensor:
        """Return what the encoder is shown of a block, with the guide weighted by the gate."""
        return gated(rgb, valid, self.bands)


class GuidedStudent(Student):
    """`distilled` with a guide.

    Args:
        config: As for `Student`.
    """

    architecture = "guided-distilled"
    guides = 1

    def __init__(self, config: StudentConfig | None = None) -> None:
        super().__init__(config)
        self.pre = GuidedConv(self.bands, self.guides, self.config.width, 3, padding=1)
        self.footprint = _with_guide(self.footprint)

    def first_features(self, rgb: Tensor, valid: Tensor) -> Tensor:
        """Return what the first layer makes of pixels and guide, (N, width, H, W)."""
        features: Tensor = self.pre(centred(rgb, valid, self.bands))
        return features


# Kinds without a guide by the name of their architecture: their twin, and its first convolution.
_TWINS: dict[str, tuple[type[GuidedLite | GuidedDehazeXL | GuidedStudent], str, str]] = {
    "dehazexl-lite": (GuidedLite, "guided-lite", "stem.embed.weight"),
    "dehazexl-base": (GuidedDehazeXL, "guided-base", "encoder.patch_embed.proj.weight"),
    "dehazexl-small": (GuidedDehazeXL, "guided-small", "encoder.patch_embed.proj.weight"),
    "distilled": (GuidedStudent, "guided-distilled", "pre.weight"),
}


@torch.no_grad()
def expanded(network: StreamedNetwork) -> StreamedNetwork:
    """Return the guided twin of a trained network, which answers like it whatever the guide.

    Args:
        network: A network without guides.

    Returns:
        A network of its own, on the same device and in the same mode, that can be trained further.

    Raises:
        ModelError: Networks of this kind have no guided twin (MODEL_ARCHITECTURE).
    """
    if network.architecture not in _TWINS:
        raise ModelError(
            f"There is no guided network for the weights of one of the kind "
            f"'{network.architecture[:80]}'; there are for those of {', '.join(_TWINS)}.",
            hint="Start from a model of one of these kinds.",
            code="MODEL_ARCHITECTURE",
        )
    kind, name, first = _TWINS[network.architecture]
    twin = kind(network.config)  # type: ignore[arg-type]  # the configuration of the same kind
    twin.architecture = name
    tensors = dict(network.state_dict())
    weight = tensors[first]
    added = weight.new_zeros(len(weight), twin.guides, *weight.shape[2:])
    tensors[first] = torch.cat((weight, added), dim=1)
    twin.load_state_dict(tensors, strict=True)
    return twin.to(weight.device).train(network.training)


def _with_guide(footprint: Footprint) -> Footprint:
    return Footprint(footprint.fixed_mib, footprint.bytes_per_px + GUIDED_BYTES)
