# SPDX-License-Identifier: GPL-3.0-or-later
"""Full numbers of repetitions take a quarter of an hour: they run only when asked for by marker."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip slow tests of this folder unless the marker expression names them."""
    if "slow" in config.option.markexpr:
        return
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="in full with -m slow only"))
