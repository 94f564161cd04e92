# SPDX-License-Identifier: GPL-3.0-or-later
"""Processing algorithms of Dehaze and what they share. Standard library and QGIS only."""
