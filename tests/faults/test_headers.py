# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasters with mutated headers are read or refused with a code: no crash, no hang."""

from __future__ import annotations

import sys

import pytest

from tests.faults.header_cases import HeaderSummary, run_header_cases

MOST_MEMORY_MIB = 1024

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are Linux's")


def check(summary: HeaderSummary, count: int) -> None:
    assert not summary.uncoded, "\n".join(summary.uncoded[:20])
    assert not summary.crashed
    assert not summary.hung
    assert summary.survived == count
    assert summary.peak_mib < MOST_MEMORY_MIB


def test_mutated_headers_are_read_or_refused() -> None:
    summary = run_header_cases(200)

    check(summary, 200)
    # Else the mutations would be too weak or too strong to mean anything.
    assert summary.read > 20
    assert summary.refused.total() > 20


@pytest.mark.slow
def test_ten_thousand_mutated_headers_are_read_or_refused() -> None:
    check(run_header_cases(10_000), 10_000)
