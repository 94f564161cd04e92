# SPDX-License-Identifier: GPL-3.0-or-later
"""From finished blocks to a file: written aside, read back, and only then given its name."""
