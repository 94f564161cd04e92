# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile and malformed model files are refused with a code; nothing in them is run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.checkpoint_cases import Act, Outcome, cases, run_case, run_checkpoint_cases
from tests.faults.pickle_cases import reduced

__all__ = ["run_checkpoint_cases"]

ROOT = Path(__file__).parents[2]
HANG_S = 60.0
MOST_MEMORY_MIB = 500


@pytest.mark.parametrize(("name", "make"), [pytest.param(*case, id=case[0]) for case in cases()])
def test_hostile_checkpoint_is_refused_and_not_run(
    name: str, make: Callable[[Path], Act], tmp_path: Path
) -> None:
    outcome = run_case(name, make, tmp_path / "case")

    assert not outcome.executed
    assert outcome.refused
    assert outcome.code.startswith("MODEL_")
    assert outcome.seconds < HANG_S


def test_all_together_stay_within_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.checkpoint_cases"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)

    assert len(found["outcomes"]) >= 30
    assert all(Outcome(*outcome).refused for outcome in found["outcomes"])
    assert found["peak_mib"] < MOST_MEMORY_MIB


def test_the_canary_sings_when_a_payload_does_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "payload").write_bytes(reduced(canary))

    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "payload")], check=True)

    assert canary.exists()
