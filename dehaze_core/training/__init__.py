# SPDX-License-Identifier: GPL-3.0-or-later
"""Training: clear imagery, haze on the fly, losses and the loop."""
