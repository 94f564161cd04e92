# SPDX-License-Identifier: GPL-3.0-or-later
"""Scattering physics: the forward model, haze layers, their inversion, and synthesis."""
