# SPDX-License-Identifier: GPL-3.0-or-later
"""Haze removal for georeferenced rasters of any size.

The public surface is small and loaded on first use, so that `import dehaze_core` costs nothing and
never pulls in torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dehaze_core.errors import DehazeError

if TYPE_CHECKING:
    from dehaze_core.engine import RunSettings, make_plan, run
    from dehaze_core.models import list_models, load_model
    from dehaze_core.scene import open_scene

# PyTorch reads this once, when it makes its first tensor; no later place is early enough. What it
# is for: `dehaze_core.engine.memory`. Only Linux knows it.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"

__all__ = [
    "DehazeError",
    "RunSettings",
    "__version__",
    "list_models",
    "load_model",
    "make_plan",
    "open_scene",
    "run",
]

_HOME = {
    "RunSettings": "dehaze_core.engine.settings",
    "list_models": "dehaze_core.models",
    "load_model": "dehaze_core.models",
    "make_plan": "dehaze_core.engine",
    "open_scene": "dehaze_core.scene",
    "run": "dehaze_core.engine",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562 hook
    """Import a public name from its home module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
