# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.qgis


@pytest.fixture
def places(package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, on a computer without an engine."""
    from dehaze.processing_algorithms import engine_environment
    from qgis.core import QgsSettings

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv(engine_environment.VARIABLE, raising=False)
    monkeypatch.setattr(engine_environment, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    QgsSettings().remove(engine_environment.SETTING_KEY)
    yield engine_environment
    QgsSettings().remove(engine_environment.SETTING_KEY)


def interpreter(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(sys.executable)
    return path


def test_without_an_engine_the_algorithm_says_how_to_get_it(
    places: ModuleType, algorithm: Any, tmp_path: Path
) -> None:
    can, message = algorithm.canExecute()

    assert not can
    assert str(tmp_path / "data" / "dehaze" / "engine") in message
    assert "pip install" in message
    assert "Processing > Providers > Dehaze" in message


def test_the_default_folder_is_found(places: ModuleType, algorithm: Any) -> None:
    python = interpreter(places.default_python())

    assert places.find_engine_python() == python
    assert algorithm.canExecute() == (True, "")


def test_a_folder_of_links_leads_to_the_engine_of_the_source_code(
    places: ModuleType, tmp_path: Path
) -> None:
    python = interpreter(tmp_path / "a" / ".venv" / "engine" / "bin" / "python")

    assert places.find_engine_python() == python


def test_the_setting_wins_over_the_variable_over_the_default(
    places: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qgis.core import QgsSettings

    default = interpreter(places.default_python())
    variable = interpreter(tmp_path / "variable")
    setting = interpreter(tmp_path / "setting")

    found = [places.find_engine_python()]
    monkeypatch.setenv(places.VARIABLE, str(variable))
    found.append(places.find_engine_python())
    QgsSettings().setValue(places.SETTING_KEY, str(setting))
    found.append(places.find_engine_python())

    assert found == [default, variable, setting]


def test_a_wrong_setting_is_told_and_not_replaced(places: ModuleType, tmp_path: Path) -> None:
    from qgis.core import QgsSettings

    interpreter(places.default_python())
    QgsSettings().setValue(places.SETTING_KEY, str(tmp_path / "gone"))

    with pytest.raises(places.EngineMissingError, match="gone"):
        places.find_engine_python()
