# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: no network, no cloud credentials, and small seeded rasters.

Loaded inside QGIS's Python as well, so nothing outside the standard library is imported at the top.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
TESTS = itertools.count()
CREDENTIALS = ("AWS_", "AZURE_", "GOOGLE_", "GS_", "CPL_", "GDAL_", "PROJ_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say so."""
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        if not torch.cuda.is_available():
            _skip(items, "gpu", "no CUDA device")
    if importlib.util.find_spec("qgis") is None:
        _skip(items, "qgis", "not inside QGIS's Python")


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_configure() -> None:
    """Give every process of a parallel run a core of its own, or their threads wait for each other.

    Runs take as many threads as there are cores.
    """
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if number.isdigit() and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(number) % len(cores)]})


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Refuse connections that leave the machine, forget credentials and GDAL settings.

    No test finds in the cache what another one, or the user, has left there.
    """
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and address[0] not in LOOPBACK:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    for name in [name for name in os.environ if name.startswith(CREDENTIALS)]:
        monkeypatch.delenv(name)
    # Made by whoever keeps something, which few tests do.
    cache = tmp_path_factory.getbasetemp() / "caches" / str(next(TESTS))
    monkeypatch.setenv("DEHAZE_CACHE", str(cache))


@pytest.fixture
def make_raster(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a small seeded GeoTIFF and returns its path.

    `make_raster(name="scene.tif", height=48, width=64, count=3, dtype="uint8", data=None, seed=0,
    crs="EPSG:32633", transform=None, nodata=None, valid=None, descriptions=None, **profile)`

    `data` replaces the random pixels, `(count, height, width)`; its shape and dtype then count.
    `valid`, a boolean `(height, width)` array, is written as the internal mask. `transform`
    defaults to 10 m pixels, north up. Further keywords go into the rasterio profile.
    """

    def make(name: str = "scene.tif", **options: Any) -> Path:
        path = tmp_path / name
        write_raster(path, **options)
        return path

    return make


def write_raster(
    path: Path,
    *,
    height: int = 48,
    width: int = 64,
    count: int = 3,
    dtype: str = "uint8",
    data: Any = None,
    seed: int = 0,
    crs: str | None = "EPSG:32633",
    transform: Any = None,
    nodata: float | None = None,
    valid: Any = None,
    descriptions: tuple[str, ...] | None = None,
    **profile: Any,
) -> None:
    """Write the raster that `make_raster` describes."""
    import rasterio
    from rasterio.transform import from_origin

    if data is None:
        data = random_pixels((count, height, width), dtype, seed)
    profile = {"driver": "GTiff", "crs": crs, "nodata": nodata, **profile}
    profile["transform"] = transform or from_origin(500_000, 5_400_000, 10, 10)
    bands, rows, columns = data.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", count=bands, height=rows, width=columns, dtype=data.dtype, **profile
        ) as raster,
    ):
        raster.write(data)
        if valid is not None:
            raster.write_mask(valid)
        if descriptions is not None:
            raster.descriptions = descriptions


def random_pixels(shape: tuple[int, int, int], dtype: str, seed: int) -> Any:
    """Return seeded pixels that fill the usual range of the dtype and never hit zero."""
    import numpy as np

    generator = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        return generator.uniform(0.01, 0.9, shape).astype(dtype)
    top = {"uint8": 255, "int8": 127}.get(dtype, 10_000)
    return generator.integers(1, top, shape).astype(dtype)
