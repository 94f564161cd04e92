# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens of a raster on disk, and the ways in which all of them look at each other."""
