# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile model files and mutated headers as rows of the table; they have tests of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.faults.checkpoint_cases import Outcome
from tests.faults.header_cases import ROOT, run_header_cases
from tests.faults.rig import Tally

_MOST_SECONDS = 2.0
_MOST_MIB = 500


def hostile_checkpoints(folder: Path, repetitions: int, seed: int) -> Tally:
    """Offer every hostile model file there is, whatever the number of repetitions asked for."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.checkpoint_cases"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found, tally = json.loads(done.stdout), Tally()
    outcomes = [Outcome(*outcome) for outcome in found["outcomes"]]
    too_much = found["peak_mib"] >= _MOST_MIB
    for outcome in outcomes:
        sound = outcome.refused and not outcome.executed and outcome.seconds <= _MOST_SECONDS
        tally.add(None if sound and not too_much else f"{outcome}, peak {found['peak_mib']} MiB")
    slowest = max(outcome.seconds for outcome in outcomes)
    executed = sum(outcome.executed for outcome in outcomes)
    tally.remark = (
        f"{executed} executed; slowest refusal {slowest:.2f} s; at most {found['peak_mib']:.0f} MiB"
    )
    return tally


def mutated_headers(folder: Path, repetitions: int, seed: int) -> Tally:
    """Open and read rasters with mutated headers."""
    summary = run_header_cases(repetitions)
    failures = [
        *summary.uncoded,
        *(f"{number}: the process died" for number in summary.crashed),
        *(f"{number}: the process hung" for number in summary.hung),
    ]
    remark = (
        f"{summary.read} read, {summary.refused.total()} refused with a code; slowest "
        f"{summary.slowest_s:.2f} s; at most {summary.peak_mib:.0f} MiB"
    )
    return Tally(summary.count, failures, remark)
