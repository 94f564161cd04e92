# SPDX-License-Identifier: GPL-3.0-or-later
"""Segments of a scene: found, kept, written, and shown to the networks that are guided by them."""
