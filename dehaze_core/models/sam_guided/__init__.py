# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that are told, beside the bands, which segment a pixel belongs to."""
