# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.qgis

# Public API: scripts and models name them.
INPUTS = [
    "INPUT", "BANDS", "EXTENT", "MODEL", "STRENGTH", "DEVICE", "CONTEXT", "BLOCK_SIZE",
    "MEMORY_LIMIT", "THREADS", "CREATION_OPTIONS", "OUTPUT", "THICKNESS",
]  # fmt: skip
OUTPUTS = [
    "OUTPUT", "THICKNESS", "WIDTH", "HEIGHT", "VALID_FRACTION", "MEAN_THICKNESS",
    "MEAN_TRANSMISSION", "SECONDS", "MPX_PER_SECOND", "RESUMED_BLOCKS", "DEVICE_USED",
]  # fmt: skip
ADVANCED = {"CONTEXT", "BLOCK_SIZE", "MEMORY_LIMIT", "THREADS", "CREATION_OPTIONS"}


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

    assert [name for name in INPUTS + OUTPUTS if f"<code>{name}</code>" not in page] == []


def test_the_public_names_are_kept(algorithm: Any) -> None:
    assert algorithm.id() == "dehaze:dehazexl"
    assert [parameter.name() for parameter in algorithm.parameterDefinitions()] == INPUTS
    assert [output.name() for output in algorithm.outputDefinitions()] == OUTPUTS


def test_only_fine_tuning_is_advanced(algorithm: Any, package: ModuleType) -> None:
    from dehaze.processing_algorithms.compat import FLAG_ADVANCED

    advanced = {
        parameter.name()
        for parameter in algorithm.parameterDefinitions()
        if parameter.flags() & FLAG_ADVANCED
    }

    assert advanced == ADVANCED


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
        ({"INPUT": "gone.tif"}, "INPUT"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    algorithm: Any, make_tif: Callable[..., Path], changes: dict[str, Any], complaint: str
) -> None:
    from qgis.core import QgsProcessingContext

    values = {"INPUT": str(make_tif()), "OUTPUT": str(make_tif("x.tif").with_name("result.tif"))}
    # The name of a parameter stands for its value.
    wanted = {name: values.get(str(value), value) for name, value in changes.items()}

    is_fine, message = algorithm.checkParameterValues({**values, **wanted}, QgsProcessingContext())

    assert not is_fine
    assert complaint in message


def test_models_of_the_user_follow_those_that_are_known(
    algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ["dehazexl-lite", "dehazexl-base", "dehazexl-small"]
    for name in ("wetlands", "dehazexl-base"):
        (tmp_path / f"{name}.json").write_text("{}")
    for folder, names in ((tmp_path / "none", known), (tmp_path, [*known, "wetlands"])):
        monkeypatch.setenv("DEHAZE_MODELS", str(folder))

        fresh = algorithm.create()
        model = fresh.parameterDefinition("MODEL")

        assert model.options() == names
        assert model.defaultValue() == "dehazexl-lite"


@pytest.mark.parametrize("bands", [None, [], [1], [3, 2, 1]])
def test_values_that_make_sense_are_taken(
    algorithm: Any, make_tif: Callable[..., Path], bands: list[int] | None
) -> None:
    from qgis.core import QgsProcessingContext

    values = {"INPUT": str(make_tif()), "BANDS": bands, "OUTPUT": "TEMPORARY_OUTPUT"}

    assert algorithm.checkParameterValues(values, QgsProcessingContext()) == (True, "")
