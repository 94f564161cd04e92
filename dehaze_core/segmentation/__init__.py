# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture divided into segments, by Segment Anything or classically, and their grey codes."""
