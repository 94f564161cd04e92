# SPDX-License-Identifier: GPL-3.0-or-later
"""The face of the algorithms that dehaze: one for each kind of network, otherwise the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.qgis

# Public API: scripts and models name them.
SHARED = [
    "INPUT", "BANDS", "EXTENT", "MODEL", "STRENGTH", "DEVICE", "BACKEND", "BLOCK_SIZE",
    "MEMORY_LIMIT", "THREADS", "CREATION_OPTIONS", "OUTPUT", "THICKNESS",
]  # fmt: skip
INPUTS = {
    "dehazexl": [*SHARED[:6], "CONTEXT", *SHARED[6:]],
    "distilled": SHARED,
    "samguided": [
        *SHARED[:4], "MASK", "STRUCTURE", "SEGMENTER", *SHARED[4:6], "CODING", "CONTEXT",
        *SHARED[7:],
    ],
}  # fmt: skip
OUTPUTS = [
    "OUTPUT", "THICKNESS", "WIDTH", "HEIGHT", "VALID_FRACTION", "MEAN_THICKNESS",
    "MEAN_TRANSMISSION", "SECONDS", "MPX_PER_SECOND", "RESUMED_BLOCKS", "DEVICE_USED",
]  # fmt: skip
ADVANCED = {
    "CODING", "CONTEXT", "BACKEND", "BLOCK_SIZE", "MEMORY_LIMIT", "THREADS", "CREATION_OPTIONS",
}  # fmt: skip

KNOWN_MODELS = {
    "dehazexl": ["dehazexl-lite", "dehazexl-base", "dehazexl-small"],
    "distilled": ["distilled"],
    "samguided": [
        "guided-lite", "guided-base", "guided-small", "guided-distilled", "guided-unet",
        "guided-restormer",
    ],
}  # fmt: skip


@pytest.fixture(params=["dehazexl", "distilled", "samguided"])
def algorithm(provider: Any, request: pytest.FixtureRequest) -> Any:
    """Each algorithm that dehazes in turn, fresh."""
    return provider.algorithm(request.param).create()


def test_every_algorithm_explains_itself(provider: Any) -> None:
    from qgis.PyQt.QtCore import QUrl

    assert provider.algorithms()
    for algorithm in provider.algorithms():
        assert algorithm.displayName()
        assert algorithm.group()
        assert algorithm.shortDescription().endswith(".")
        assert len(algorithm.shortHelpString()) > 200
        assert len(algorithm.tags()) > 5
        assert not algorithm.icon().isNull()
        assert Path(QUrl(algorithm.helpUrl()).toLocalFile()).is_file()


def test_every_parameter_and_output_is_described(provider: Any) -> None:
    for algorithm in provider.algorithms():
        for parameter in algorithm.parameterDefinitions():
            assert parameter.description(), parameter.name()
            assert parameter.help().endswith("."), parameter.name()
        for output in algorithm.outputDefinitions():
            assert output.description(), output.name()


def test_the_help_page_names_every_parameter_and_output(algorithm: Any) -> None:
    from qgis.PyQt.QtCore import QUrl

    page = Path(QUrl(algorithm.helpUrl()).toLocalFile()).read_text(encoding="utf-8")

    named = [*INPUTS[algorithm.name()], *OUTPUTS]
    assert [name for name in named if f"<code>{name}</code>" not in page] == []


def test_the_public_names_are_kept(algorithm: Any) -> None:
    names = [parameter.name() for parameter in algorithm.parameterDefinitions()]
    assert algorithm.id() in {"dehaze:dehazexl", "dehaze:distilled", "dehaze:samguided"}
    assert names == INPUTS[algorithm.name()]
    assert [output.name() for output in algorithm.outputDefinitions()] == OUTPUTS


def test_only_fine_tuning_is_advanced(algorithm: Any, package: ModuleType) -> None:
    from dehaze.processing_algorithms.compat import FLAG_ADVANCED

    advanced = {
        parameter.name()
        for parameter in algorithm.parameterDefinitions()
        if parameter.flags() & FLAG_ADVANCED
    }

    assert advanced == ADVANCED & set(INPUTS[algorithm.name()])


def test_it_may_run_in_a_thread_be_cancelled_and_batched(algorithm: Any) -> None:
    from qgis.core import QgsProcessingAlgorithm

    flags = algorithm.flags()

    assert not flags & QgsProcessingAlgorithm.FlagNoThreading
    assert flags & QgsProcessingAlgorithm.FlagCanCancel
    assert flags & QgsProcessingAlgorithm.FlagSupportsBatch


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"BANDS": [1, 2]}, "2 bands"),
        ({"BANDS": [1, 2, 9]}, "raster has 3"),
        ({"OUTPUT": "INPUT"}, "overwrite"),
        ({"THICKNESS": "INPUT"}, "overwrite"),
        ({"THICKNESS": "OUTPUT"}, "same file"),
        ({"OUTPUT": "result.png"}, "png"),
        ({"STRENGTH": 151}, "STRENGTH"),
        ({"DEVICE": "abacus"}, "DEVICE"),
        ({"BACKEND": "abacus"}, "BACKEND"),
        ({"MODEL": "abacus"}, "MODEL"),
        ({"INPUT": "gone.tif"}, "INPUT"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    algorithm: Any, make_tif: Callable[..., Path], changes: dict[str, Any], complaint: str
) -> None:
    from qgis.core import QgsProcessingContext

    if not set(changes) <= set(INPUTS[algorithm.name()]):
        pytest.skip("networks of this kind have no such choice")
    values = {"INPUT": str(make_tif()), "OUTPUT": str(make_tif("x.tif").with_name("result.tif"))}
    # The name of a parameter stands for its value.
    wanted = {name: values.get(str(value), value) for name, value in changes.items()}

    is_fine, message = algorithm.checkParameterValues({**values, **wanted}, QgsProcessingContext())

    assert not is_fine
    assert complaint in message


def test_models_of_the_user_follow_the_known_ones_of_their_kind(
    algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = {
        "wetlands": "dehazexl-swin-s",
        "dehazexl-base": "dehazexl-base",
        "tiny": "distilled",
        "parks": "guided-lite",
        "distilled": "dehazexl-lite",  # the name of a known model: never one of another kind
        "other": "cyclegan",
    }
    for name, architecture in cards.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"architecture": architecture}))
    own = {"dehazexl": ["wetlands"], "distilled": ["tiny"], "samguided": ["parks"]}[
        algorithm.name()
    ]
    known = KNOWN_MODELS[algorithm.name()]
    for folder, names in ((tmp_path / "none", known), (tmp_path, [*known, *own])):
        monkeypatch.setenv("DEHAZE_MODELS", str(folder))

        fresh = algorithm.create()
        model = fresh.parameterDefinition("MODEL")

        assert model.options() == names
        assert model.defaultValue() == known[0]


def test_damaged_cards_are_no_models(
    algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KNOWN_MODELS[algorithm.name()][0]
    sound = json.dumps({"architecture": kind}).encode()
    damaged = {
        "empty": b"",
        "list": b"[]",
        "nameless": b"{}",
        "number": b'{"architecture": 7}',
        "cut": sound[:-1],
        "binary": b"\xff" + sound,
        "deep": b"[" * 200_000,
        "endless": b" " * (256 << 10) + sound,
    }
    for name, content in damaged.items():
        (tmp_path / f"{name}.json").write_bytes(content)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "sound.json").write_bytes(sound)
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path))

    fresh = algorithm.create()

    assert fresh.parameterDefinition("MODEL").options() == [
        *KNOWN_MODELS[algorithm.name()],
        "sound",
    ]


def test_the_engine_is_asked_for_what_was_chosen(
    algorithm: Any,
    make_tif: Callable[..., Path],
    make_engine: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qgis.core import QgsProcessingContext, QgsProcessingFeedback

    python = make_engine(
        "import shutil\n"
        f"shutil.copy(job, {str(tmp_path / 'asked.json')!r})\n"
        "say('hello', protocol=1, version='0.1.0', pid=os.getpid())\n"
        "say('result', values={'width': 96, 'height': 64, 'seconds': 1.0, 'mpx_per_second': 0.01,"
        " 'device': 'cpu'})"
    )
    monkeypatch.setenv("DEHAZE_ENGINE_PYTHON", str(python))
    source, target = make_tif(), tmp_path / "clear.tif"
    values = {"INPUT": str(source), "OUTPUT": str(target), "STRENGTH": 80}
    chosen = {
        "dehazexl": {"context": "hyper", "backend": "onnxruntime"},
        "distilled": {"backend": "onnxruntime"},
        "samguided": {
            "context": "exact", "structure": "dehaze_mask", "segmenter": "slic",
            "coding": "paper_sum_wrap",
        },
    }[algorithm.name()]  # fmt: skip
    values.update({name.upper(): value for name, value in chosen.items()})

    _, is_fine = algorithm.run(values, QgsProcessingContext(), QgsProcessingFeedback(False))

    assert is_fine
    asked = json.loads((tmp_path / "asked.json").read_text())
    mask = {"mask": None} if algorithm.name() == "samguided" else {}
    assert asked["task"] == "run"
    assert asked["parameters"] == {
        **chosen,
        **mask,
        "source": str(source),
        "destination": str(target),
        "model": KNOWN_MODELS[algorithm.name()][0],
        "strength": 0.8,
        "device": "auto",
        "bands": None,
        "extent": None,
        "thickness": None,
        "block_size": None,
        "memory_limit": None,
        "threads": None,
        "creation_options": [],
    }


@pytest.mark.parametrize("bands", [None, [], [1], [3, 2, 1]])
def test_values_that_make_sense_are_taken(
    algorithm: Any, make_tif: Callable[..., Path], bands: list[int] | None
) -> None:
    from qgis.core import QgsProcessingContext

    values = {"INPUT": str(make_tif()), "BANDS": bands, "OUTPUT": "TEMPORARY_OUTPUT"}

    assert algorithm.checkParameterValues(values, QgsProcessingContext()) == (True, "")
