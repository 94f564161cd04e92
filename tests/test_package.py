# SPDX-License-Identifier: GPL-3.0-or-later
"""The package as seen from outside: light to import, small public surface, honest command line."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import dehaze_core
from dehaze_core import cli
from dehaze_core.errors import DehazeError, InputError, ResourceError

HEAVY = {"torch", "rasterio", "xarray", "zarr", "dask", "skimage"}


def loaded_after(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import dehaze_core", "import dehaze_core.cli"])
def test_import_pulls_in_nothing_heavy(statement: str) -> None:
    assert not loaded_after(statement) & HEAVY


@pytest.mark.parametrize("name", dehaze_core.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(dehaze_core, name) is not None
    assert name in dir(dehaze_core)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = dehaze_core.no_such_name


def test_version_is_printed() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])

    assert result.stdout.strip() == f"dehaze {dehaze_core.__version__}"


@pytest.mark.parametrize(
    "error",
    [
        InputError("Found a cat, expected a raster [1, 2].", hint="Pass a raster."),
        ResourceError("Found 1 MiB, expected 2 GiB.", code="MEMORY"),
    ],
)
def test_errors_end_with_message_hint_and_exit_code_but_no_traceback(
    error: DehazeError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == error.exit_code
    text = capsys.readouterr().err
    assert f"error {error.code}: {error.message}" in text
    assert error.hint in text
    assert "Traceback" not in text
