# SPDX-License-Identifier: GPL-3.0-or-later
"""Methods by name: what is known, what is left out and why, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dehaze_core.benchmark.methods import BASELINES, choose_methods
from dehaze_core.errors import ModelError, SettingsError

LITE = "dehazexl-lite"


def test_models_come_first_and_aod_net_is_left_out_with_a_reason() -> None:
    contest = choose_methods([LITE], BASELINES)

    names = [method.name for method in contest.methods]
    assert names == [LITE, *(name for name in BASELINES if name != "aod-net")]
    assert contest.first.name == LITE
    assert len(contest.left_out) == 1
    assert "--aod-weights" in contest.left_out[0]


def test_a_model_is_described_by_the_digest_of_its_weights() -> None:
    assert "sha256" in choose_methods([LITE], []).first.about


def test_the_model_itself_and_its_slices_differ_where_context_matters() -> None:
    rng = np.random.default_rng(1)
    hazy = np.rint(rng.integers(0, 200, (64, 320, 3)) * 0.4 + 130).astype(np.uint8)
    hazy[:, 256:] //= 3  # beyond the first slice: another brightness
    whole, sliced = choose_methods([LITE], ["slices-256"]).methods

    left = (slice(None), slice(0, 200))

    assert not np.array_equal(whole.restore(hazy)[left], sliced.restore(hazy)[left])


def test_a_picture_of_one_slice_is_restored_as_a_whole() -> None:
    hazy = np.random.default_rng(1).integers(100, 220, (64, 96, 3)).astype(np.uint8)
    whole, sliced = choose_methods([LITE], ["slices-256"]).methods

    assert np.array_equal(whole.restore(hazy), sliced.restore(hazy))


@pytest.mark.parametrize(
    ("models", "baselines", "message"),
    [
        ([], ["identity"], "none was named"),
        ([LITE], ["black-magic"], "black-magic.*dark-channel"),
        ([LITE, LITE], [], "named twice"),
        ([LITE], ["identity", "identity"], "named twice"),
    ],
)
def test_impossible_choices_are_explained(
    models: list[str], baselines: list[str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        choose_methods(models, baselines)
    assert caught.value.code == "SETTINGS_OPTION"


def test_unknown_models_and_weights_are_model_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        choose_methods(["no-such-model"], [])
    with pytest.raises(ModelError, match="gone"):
        choose_methods([LITE], ["aod-net"], tmp_path / "gone.pth")
