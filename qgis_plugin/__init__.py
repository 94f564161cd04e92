# SPDX-License-Identifier: GPL-3.0-or-later
"""What QGIS loads: the plugin object and the Processing provider."""
