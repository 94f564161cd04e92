# SPDX-License-Identifier: GPL-3.0-or-later
"""What our models have to beat: classical methods, a small published network, and slicing.

Each takes and returns an 8-bit picture, `(rows, columns, 3)` uint8, sRGB-encoded, and is written
from its paper. None of them is offered as a way to dehaze a raster.
"""
