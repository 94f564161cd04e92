# SPDX-License-Identifier: GPL-3.0-or-later
"""Job files with hostile values end in a coded error; model names reach no other folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dehaze_core.engine import Silent
from dehaze_core.errors import DehazeError
from dehaze_core.worker.protocol import PROTOCOL, Job, ProtocolError
from dehaze_core.worker.tasks import run, settings_from

HOSTILE_VALUES = [
    {"source": 5},
    {"source": ["a.tif"]},
    {"source": {"a": 1}},
    {"source": "a\0.tif"},
    {"destination": None},
    {"destination": ""},
    {"strength": "1"},
    {"strength": float("nan")},
    {"bands": "rgb"},
    {"bands": [[1], [2], [3]]},
    {"extent": ["a", "b", "c", "d"]},
    {"extent": 7},
    {"block_size": "64"},
    {"memory_limit": [1]},
    {"threads": -1},
    {"creation_options": 3},
    {"__class__": "x"},
]


@pytest.mark.parametrize("values", HOSTILE_VALUES, ids=json.dumps)
def test_a_value_of_the_wrong_kind_is_a_settings_error(values: dict[str, Any]) -> None:
    with pytest.raises(DehazeError) as caught:
        settings_from({"source": "in.tif", "destination": "out.tif"} | values)

    assert caught.value.code == "SETTINGS"


@pytest.mark.parametrize(
    "name",
    ["../dehazexl-lite", "weights/../dehazexl-lite", "C:\\models\\a", "/etc/passwd", "a\0", 3],
)
def test_a_model_name_cannot_leave_the_model_folders(name: Any, tmp_path: Path) -> None:
    job = {"source": "in.tif", "destination": str(tmp_path / "out.tif"), "model": name}

    with pytest.raises(DehazeError) as caught:
        run(job, Silent())

    assert caught.value.code == "MODEL_NAME"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        json.dumps({"protocol": PROTOCOL, "task": "../run"}),
        json.dumps({"protocol": PROTOCOL, "task": ["run"]}),
        json.dumps({"protocol": PROTOCOL, "task": "run", "parameters": []}),
        json.dumps({"protocol": [PROTOCOL], "task": "run"}),
    ],
)
def test_a_malformed_job_is_a_protocol_error(text: str) -> None:
    with pytest.raises(ProtocolError):
        Job.from_json(text)
