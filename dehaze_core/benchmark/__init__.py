# SPDX-License-Identifier: GPL-3.0-or-later
"""Every model and baseline over the same pictures by one protocol, with tables and pages."""
