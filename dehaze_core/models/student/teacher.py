# SPDX-License-Identifier: GPL-3.0-or-later
"""The teacher of Rich Feature Distillation: an FSRCNN for every band (Mitheran et al. 2022).

FSRCNN (Dong et al. 2016, arXiv 1608.00367) doubles the resolution of a clear image: features of
5 x 5 px, shrunk to few channels, mapped, expanded again, and spread over 2 x 2 pixels by a
transposed convolution. Bands are branches that know nothing of each other, done side by side as
groups of the same convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from dehaze_core.models.config import NetworkConfig

SCALE = 2
"""How many times finer the teacher's image is."""

_SLOPE = 0.25  # at which PReLU starts


@dataclass(frozen=True, slots=True)
class TeacherConfig(NetworkConfig):
    """Shape of a `Teacher`; the default is the published one with separable convolutions.

    Attributes:
        bands: Bands of the image, a branch for each.
        separable: Whether the layers between the first and the last are depthwise convolutions
            followed by pointwise ones.
        features: Channels d of a branch at its beginning and end.
        shrunk: Channels s between them.
        mappings: Number m of 3 x 3 layers.
    """

    bands: int = 3
    separable: bool = True
    features: int = 56
    shrunk: int = 12
    mappings: int = 4


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """What a teacher sees in an image (N, B, H, W).

    Attributes:
        first: (N, B * d, H, W) features of the first layer, band by band.
        mid: (N, B * d, H, W) features from which the image is made.
        image: (N, B, 2H, 2W) the image at twice the resolution, display-encoded, not clamped.
    """

    first: Tensor
    mid: Tensor
    image: Tensor


class Teacher(nn.Module):
    """The branches of all bands.

    Args:
        config: Bands, widths and depth.
    """

    architecture = "rfd-teacher"

    def __init__(self, config: TeacherConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TeacherConfig()
        bands, wide, narrow = config.bands, config.features, config.shrunk
        self.extract = nn.Sequential(
            _initialised(nn.Conv2d(bands, bands * wide, 5, padding=2, groups=bands), "leaky_relu"),
            nn.PReLU(bands * wide, _SLOPE),
        )
        shapes = [(wide, narrow, 1), *[(narrow, narrow, 3)] * config.mappings, (narrow, wide, 1)]
        self.map = nn.Sequential(*(_layer(config, *shape) for shape in shapes))
        # 9 x 9 around the 2 x 2 pixels of a feature.
        self.spread = nn.ConvTranspose2d(
            bands * wide, bands, 9, stride=SCALE, padding=4, output_padding=1, groups=bands
        )
        nn.init.normal_(self.spread.weight, std=1e-3)
        nn.init.zeros_(self.spread.get_parameter("bias"))

    def forward(self, image: Tensor) -> TeacherAnswer:
        """Double the resolution of an image.

        Args:
            image: (N, B, H, W) float32 display-encoded, [0, 1].
        """
        first = self.extract(image)
        mid = self.map(first)
        return TeacherAnswer(first, mid, self.spread(mid))


def _layer(config: TeacherConfig, width: int, width_out: int, kernel: int) -> nn.Sequential:
    """Return a layer of all branches that maps `width` channels of each to `width_out`."""
    bands = config.bands
    given, made, padding = bands * width, bands * width_out, kernel // 2
    if not config.separable:
        mixed = nn.Conv2d(given, made, kernel, padding=padding, groups=bands)
        return nn.Sequential(_initialised(mixed, "leaky_relu"), nn.PReLU(made, _SLOPE))
    return nn.Sequential(
        _initialised(nn.Conv2d(given, given, kernel, padding=padding, groups=given), "linear"),
        _initialised(nn.Conv2d(given, made, 1, groups=bands), "leaky_relu"),
        nn.PReLU(made, _SLOPE),
    )


def _initialised(layer: nn.Conv2d, then: Literal["linear", "leaky_relu"]) -> nn.Conv2d:
    """Initialise a layer so that the variance is kept through what follows it (He et al. 2015)."""
    nn.init.kaiming_normal_(layer.weight, a=_SLOPE, nonlinearity=then)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer
