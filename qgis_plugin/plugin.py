# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugin object: registers the Processing provider, and nothing else."""

from __future__ import annotations

from qgis.core import QgsApplication

from .provider import DehazeProvider


class DehazePlugin:
    """Lives as long as the plugin is enabled."""

    def __init__(self) -> None:
        self._provider: DehazeProvider | None = None

    def initProcessing(self) -> None:
        """Register the provider; `qgis_process` calls this and nothing else."""
        if self._provider is None:
            self._provider = DehazeProvider()
            QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """Start in a QGIS with a window."""
        self.initProcessing()

    def unload(self) -> None:
        """Take the provider away again."""
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
