# SPDX-License-Identifier: GPL-3.0-or-later
"""Dehaze: haze removal for rasters as Processing algorithms.

In the assembled plugin folder this file is the package's `__init__.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qgis.gui import QgisInterface

    from .qgis_plugin.plugin import DehazePlugin


def classFactory(iface: QgisInterface | None) -> DehazePlugin:
    """Return the plugin; `iface` is None where QGIS has no window."""
    from .qgis_plugin.plugin import DehazePlugin  # noqa: PLC0415 - loaded when enabled

    return DehazePlugin()
