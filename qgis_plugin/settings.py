# SPDX-License-Identifier: GPL-3.0-or-later
"""Dehaze's entries under Settings > Options > Processing > Providers."""

from __future__ import annotations

from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtGui import QIcon

from ..processing_algorithms.engine_environment import SETTING_NAME, default_python

try:
    from processing.core.ProcessingConfig import ProcessingConfig, Setting
except ImportError:
    # A QGIS library without the Processing plugin (some servers): there is no options page, the
    # settings still count.
    ProcessingConfig = None


def add_settings(group: str, icon: QIcon) -> None:
    """Add the entries under the heading `group`."""
    if ProcessingConfig is None:
        return
    ProcessingConfig.setGroupIcon(group, icon)
    ProcessingConfig.addSetting(
        Setting(
            group,
            SETTING_NAME,
            QCoreApplication.translate("DehazeSettings", "Python of the Dehaze engine"),
            "",
            valuetype=Setting.FILE,
            placeholder=str(default_python()),
        )
    )
    ProcessingConfig.readSettings()


def remove_settings(group: str) -> None:
    """Take the entries away again."""
    if ProcessingConfig is None:
        return
    ProcessingConfig.removeSetting(SETTING_NAME)
    ProcessingConfig.settingIcons.pop(group, None)
