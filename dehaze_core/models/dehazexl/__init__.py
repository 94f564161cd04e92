# SPDX-License-Identifier: GPL-3.0-or-later
"""DehazeXL: tokenised patches with a global-context bottleneck."""
