# SPDX-License-Identifier: GPL-3.0-or-later
"""RFD: a small student that dehazes, and the super-resolution teacher whose features guide it."""
