# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault of the table, a few times; in full with `-m slow`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.faults import FAULTS
from tests.faults.rig import Fault, Unavailable

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="signals, mounts and limits of Linux"
)
SEED = 2
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])


@each_fault
def test_fault_is_survived(fault: Fault, tmp_path: Path) -> None:
    check(fault, tmp_path, fault.few)


@pytest.mark.slow
@each_fault
def test_fault_is_always_survived(fault: Fault, tmp_path: Path) -> None:
    check(fault, tmp_path, fault.many)


def check(fault: Fault, folder: Path, repetitions: int) -> None:
    try:
        tally = fault.make(folder / "fault", repetitions, SEED)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert tally.repetitions == repetitions
    assert not tally.failures, "\n".join(tally.failures)
