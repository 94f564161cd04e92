# SPDX-License-Identifier: GPL-3.0-or-later
"""Segment Anything: its four official sizes, their checkpoints, and masks of whole pictures."""
