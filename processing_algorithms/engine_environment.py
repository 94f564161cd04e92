# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the Dehaze engine is on this computer, and what to do when it is nowhere.

The engine lives in a Python environment of its own, because torch, numpy and rasterio cannot share
a process with QGIS's libraries.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qgis.core import QgsSettings
from qgis.PyQt.QtCore import QCoreApplication

SETTING_NAME = "DEHAZE_ENGINE_PYTHON"
SETTING_KEY = f"Processing/Configuration/{SETTING_NAME}"
VARIABLE = "DEHAZE_ENGINE_PYTHON"


class EngineMissingError(Exception):
    """No usable engine; the text says where it was looked for and how to get it."""


@dataclass(frozen=True)
class _Place:
    python: Path
    chosen_by: str  # empty for places that nobody chose on purpose


def find_engine_python() -> Path:
    """Return the engine's Python interpreter.

    A path somebody chose (QGIS setting, then environment variable) is taken or complained about,
    never silently replaced by another one.

    Raises:
        EngineMissingError: It is not there.
    """
    for place in _places():
        if os.access(place.python, os.X_OK) and place.python.is_file():
            return place.python
        if place.chosen_by:
            raise EngineMissingError(
                _tr(
                    "{chooser} names {path} as the Python of the Dehaze engine, but there is no "
                    "program. Correct it or empty it; expected is a file such as {default}."
                ).format(path=place.python, chooser=place.chosen_by, default=default_python())
            )
    raise EngineMissingError(
        _tr(
            "The Dehaze engine was not found. It is a Python environment of its own, expected at "
            "{folder}\n\n"
            "To make it, run these two lines in a terminal, with Python 3.11 or newer and with the "
            "folder of Dehaze's source code in place of SOURCE:\n\n"
            'python3 -m venv "{folder}"\n'
            '"{python}" -m pip install SOURCE\n\n'
            "If you have an engine elsewhere, name its Python under Settings > Options > "
            "Processing > Providers > Dehaze."
        ).format(folder=default_folder(), python=default_python())
    )


def default_folder() -> Path:
    """Return the folder where the engine's environment is expected."""
    home = Path.home()
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = home / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return data / "dehaze" / "engine"


def default_python() -> Path:
    """Return the interpreter inside `default_folder()`."""
    return _python_of(default_folder())


def _places() -> Iterator[_Place]:
    """Yield the places to look at, first choice first."""
    setting = str(QgsSettings().value(SETTING_KEY, "") or "").strip()
    if setting:
        yield _Place(
            Path(setting).expanduser().absolute(),
            _tr("The QGIS setting Processing > Providers > Dehaze"),
        )
    variable = os.environ.get(VARIABLE, "").strip()
    if variable:
        yield _Place(
            Path(variable).expanduser().absolute(),
            _tr("The environment variable {name}").format(name=VARIABLE),
        )
    yield _Place(default_python(), "")
    # A plugin folder of links leads back to the source code with its own environment.
    yield _Place(_python_of(Path(__file__).resolve().parents[1] / ".venv" / "engine"), "")


def _python_of(environment: Path) -> Path:
    if sys.platform == "win32":
        return environment / "Scripts" / "python.exe"
    return environment / "bin" / "python"


def _tr(text: str) -> str:
    return QCoreApplication.translate("DehazeEngine", text)
