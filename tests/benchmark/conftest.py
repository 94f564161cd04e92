# SPDX-License-Identifier: GPL-3.0-or-later
"""A contest of three methods that need no network, and small folders for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dehaze_core.benchmark.methods import Contest, Method
from dehaze_core.metrics.pairs import PairScore


def put(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture
def contest() -> Contest:
    return Contest(
        (
            Method("ours", "takes 50 DN off", lambda hazy: np.maximum(hazy, 50) - np.uint8(50)),
            Method("identity", "nothing", lambda hazy: hazy),
            Method("theirs", "takes 20 DN off", lambda hazy: np.maximum(hazy, 20) - np.uint8(20)),
        ),
        ("aod-net: left out, no weights were given",),
    )


@pytest.fixture
def pairs_folder(tmp_path: Path) -> Path:
    """Five pairs: one clear, three hazy chips, one hazy large scene."""
    rng = np.random.default_rng(0)
    for name, haze in (
        ("a_L0", 0),
        ("b_L1", 40),
        ("c_L1", 50),
        ("d & <e>_L3", 60),
        ("large_f_L3", 55),
    ):
        clear = rng.integers(60, 160, (24, 32, 3)).astype(np.uint8)
        put(tmp_path / "pairs" / "clear" / f"{name}.png", clear)
        put(tmp_path / "pairs" / "hazy" / f"{name}.png", clear + np.uint8(haze))
    return tmp_path / "pairs"


def score(name: str, psnr_out: float, **changes: float) -> PairScore:
    numbers = {
        "psnr_in": 12.0, "psnr_out": psnr_out, "ssim_in": 0.5, "ssim_out": 0.9, "ciede_in": 20.0,
        "ciede_out": 5.0, "angle_in": 4.0, "angle_out": 2.0, "change_dn": 10.0, "seam": 1.0,
        "seconds": 0.1,
    }  # fmt: skip
    return PairScore(
        name=name, level=name[-2:], large=name.startswith("large"), **(numbers | changes)
    )
