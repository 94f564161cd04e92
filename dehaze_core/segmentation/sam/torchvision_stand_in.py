# SPDX-License-Identifier: GPL-3.0-or-later
"""torchvision where its compiled operators cannot be loaded.

Segment Anything imports torchvision, whose usual wheels are built for CUDA. Beside a build of
PyTorch for the CPU their library does not load, and `import torchvision` fails because it describes
an operator that is not there. The one operator needed, non-maximum suppression, is then defined
here; a torchvision that loads is left alone.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

_NAMESPACE = "torchvision"
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# Both are described by torchvision when it is imported; the second is for quantised boxes.
_OPERATORS = ("nms", "qnms")
_ON_ANY_DEVICE = "CompositeExplicitAutograd"

# Operators live as long as the library they were defined in.
_libraries: list[torch.library.Library] = []


def import_torchvision() -> None:
    """Import torchvision, with our suppression where its own does not load.

    Raises:
        ImportError: It is not installed.
        RuntimeError: It does not work for another reason.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if f"{_NAMESPACE}::nms does not exist" not in str(error):
            raise
        _define_operators()
        import torchvision
        import torchvision.extension
        import torchvision.ops.boxes

        # It refuses operators unless its own library has brought them.
        torchvision.ops.boxes._assert_has_ops = lambda: None


def _define_operators() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == _NAMESPACE]:
        del sys.modules[name]
    library = torch.library.Library(_NAMESPACE, "DEF")
    for name in _OPERATORS:
        library.define(name + _SIGNATURE)
    library.impl("nms", suppressed, _ON_ANY_DEVICE)
    _libraries.append(library)


def suppressed(boxes: Tensor, scores: Tensor, most_overlap: float) -> Tensor:
    """Return which boxes are left when those that overlap a better one too much are gone.

    Args:
        boxes: Left, top, right and bottom of every box, (N, 4).
        scores: How good they are, (N,); of equal ones the first is better.
        most_overlap: Intersection over union from which on, exclusively, a box goes.

    Returns:
        Indices of the boxes left, best first.
    """
    left = scores.argsort(descending=True, stable=True)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while left.numel():
        best, left = left[0], left[1:]
        kept.append(best)
        corners = torch.minimum(boxes[best, 2:], boxes[left, 2:])
        sides = (corners - torch.maximum(boxes[best, :2], boxes[left, :2])).clamp(min=0)
        common = sides[:, 0] * sides[:, 1]
        # Boxes without area share nothing: 0 / 0 is no number, and not too much.
        overlap = common / (areas[best] + areas[left] - common)
        left = left[~(overlap > most_overlap)]
    return torch.stack(kept) if kept else left
