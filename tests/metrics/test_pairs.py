# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of pairs: what is found, what is refused, and how means are taken."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dehaze_core.errors import InputError, ModelError, OutputError
from dehaze_core.metrics.pairs import LoadedPair, PairScore, Summary, find_pairs, load_picture


def put(path: Path, picture: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(picture)
    (image.convert(mode) if mode else image).save(path)


def picture(value: int, side: int = 24) -> np.ndarray:
    noise = np.random.default_rng(value).integers(0, 20, (side, side, 3))
    return (noise + value).astype(np.uint8)


def fake_score(name: str, psnr_in: float, psnr_out: float, change: float = 0.0) -> PairScore:
    level = name[-2:]
    return PairScore(
        name=name,
        level=level,
        large=name.startswith("large"),
        psnr_in=psnr_in,
        psnr_out=psnr_out,
        ssim_in=0.5,
        ssim_out=0.6,
        ciede_in=20,
        ciede_out=10,
        angle_in=3,
        angle_out=2,
        change_dn=change,
        seam=1,
        seconds=0.1,
    )


def test_partners_are_found_by_stem_whatever_their_format(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "park_L2.png", picture(120))
    put(tmp_path / "clear" / "park_L2.jpg", picture(60))
    put(tmp_path / "hazy" / "large_sea_L4.png", picture(120))
    put(tmp_path / "clear" / "large_sea_L4.webp", picture(60))

    first, second = find_pairs(tmp_path)

    assert (first.level, first.large, first.clear.name) == ("L4", True, "large_sea_L4.webp")
    assert (second.level, second.large, second.clear.name) == ("L2", False, "park_L2.jpg")


def test_a_data_set_with_a_folder_for_each_level_is_read(tmp_path: Path) -> None:
    put(tmp_path / "clear" / "park.png", picture(60))
    for level in ("L1", "L3"):
        put(tmp_path / level / "park.png", picture(120))

    pairs = find_pairs(tmp_path)

    assert [(p.name, p.level, p.clear.name) for p in pairs] == [
        ("park_L1", "L1", "park.png"),
        ("park_L3", "L3", "park.png"),
    ]


def test_a_name_without_level_is_accepted(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "park.png", picture(120))
    put(tmp_path / "clear" / "park.png", picture(60))

    assert find_pairs(tmp_path)[0].level == "-"


def test_a_missing_partner_is_named(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "park_L2.png", picture(120))
    (tmp_path / "clear").mkdir()

    with pytest.raises(InputError, match=r"park_L2\.\* .* found none"):
        find_pairs(tmp_path)


def test_an_ambiguous_partner_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "a.png", picture(120))
    put(tmp_path / "clear" / "a.png", picture(60))
    put(tmp_path / "clear" / "a.jpg", picture(60))

    with pytest.raises(InputError, match=r"found a\.jpg, a\.png"):
        find_pairs(tmp_path)


def test_a_folder_without_the_two_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected hazy"):
        find_pairs(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hazy").mkdir()
    (tmp_path / "clear").mkdir()

    with pytest.raises(InputError, match="empty"):
        find_pairs(tmp_path)


def test_alpha_does_not_enter(tmp_path: Path) -> None:
    opaque = np.dstack([picture(80), np.full((24, 24), 255, np.uint8)])
    faint = opaque.copy()
    faint[..., 3] = 9
    put(tmp_path / "opaque.png", opaque)
    put(tmp_path / "faint.png", faint)

    assert np.array_equal(
        load_picture(tmp_path / "faint.png"), load_picture(tmp_path / "opaque.png")
    )


def test_bands_are_red_green_blue_in_this_order(tmp_path: Path) -> None:
    red = np.zeros((24, 24, 3), np.uint8)
    red[..., 0] = 200
    put(tmp_path / "red.png", red)

    assert load_picture(tmp_path / "red.png")[0, 0].tolist() == [200, 0, 0]


def test_a_palette_is_expanded_to_its_colours(tmp_path: Path) -> None:
    red = np.zeros((24, 24, 3), np.uint8)
    red[..., 0] = 255
    put(tmp_path / "palette.png", red, mode="P")

    assert load_picture(tmp_path / "palette.png").shape == (24, 24, 3)
    assert load_picture(tmp_path / "palette.png")[0, 0, 0] > 250


def test_16_bit_pictures_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((24, 24), 4000, np.uint16)).save(tmp_path / "deep.png")

    with pytest.raises(InputError, match="8 bits"):
        load_picture(tmp_path / "deep.png")


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture")

    with pytest.raises(InputError, match=r"notes\.png"):
        load_picture(tmp_path / "notes.png")


def test_input_and_output_are_both_compared_with_the_reference(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "a_L1.png", picture(120))
    put(tmp_path / "clear" / "a_L1.png", picture(60))

    score = LoadedPair.load(find_pairs(tmp_path)[0]).score(lambda hazy: hazy - np.uint8(55))

    assert score.psnr_out > score.psnr_in + 10
    assert score.ciede_out < score.ciede_in
    assert score.change_dn == pytest.approx(55)


def test_a_restorer_that_changes_the_shape_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "a_L1.png", picture(120))
    put(tmp_path / "clear" / "a_L1.png", picture(60))

    with pytest.raises(ModelError, match="expected"):
        LoadedPair.load(find_pairs(tmp_path)[0]).score(lambda hazy: hazy[1:])


def test_what_is_scored_is_the_file_that_is_kept(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "a_L1.png", picture(120))
    put(tmp_path / "clear" / "a_L1.png", picture(60))
    loaded = LoadedPair.load(find_pairs(tmp_path)[0])

    kept = loaded.score(lambda hazy: hazy - np.uint8(55), tmp_path / "new" / "a.png")

    assert np.array_equal(load_picture(tmp_path / "new" / "a.png"), picture(120) - 55)
    assert kept.psnr_out == loaded.score(lambda hazy: hazy - np.uint8(55)).psnr_out


def test_a_picture_that_cannot_be_kept_is_an_output_error(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "a_L1.png", picture(120))
    put(tmp_path / "clear" / "a_L1.png", picture(60))
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OutputError) as caught:
        LoadedPair.load(find_pairs(tmp_path)[0]).score(lambda hazy: hazy, tmp_path / "file" / "a")
    assert caught.value.code == "OUTPUT_FOLDER"


def test_a_pair_of_two_sizes_is_named(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "a_L1.png", picture(120))
    put(tmp_path / "clear" / "a_L1.png", picture(60, side=30))

    with pytest.raises(InputError, match="a_L1 has a hazy picture of 24 x 24"):
        LoadedPair.load(find_pairs(tmp_path)[0])


def test_two_hazy_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "a_L1.png", picture(120))
    put(tmp_path / "hazy" / "a_L1.jpg", picture(120))
    put(tmp_path / "clear" / "a_L1.png", picture(60))

    with pytest.raises(InputError, match=r"found a_L1\.jpg, a_L1\.png"):
        find_pairs(tmp_path)


def test_seams_are_told_relative_to_those_of_the_ground(tmp_path: Path) -> None:
    ground = np.random.default_rng(4).integers(60, 180, (300, 520, 3)).astype(np.uint8)
    ground[256:] += 40  # a field ends just where a slice might
    put(tmp_path / "hazy" / "a_L1.png", ground)
    put(tmp_path / "clear" / "a_L1.png", ground)
    loaded = LoadedPair.load(find_pairs(tmp_path)[0])

    def in_two(hazy: np.ndarray) -> np.ndarray:
        hazy = hazy.copy()
        hazy[:, 256:512] -= 40
        return hazy

    assert loaded.score(lambda hazy: hazy - np.uint8(20)).seam == pytest.approx(1)
    assert loaded.score(in_two).seam > 1.1


def test_a_picture_without_grid_lines_has_no_seam_score(tmp_path: Path) -> None:
    put(tmp_path / "hazy" / "a_L1.png", picture(120))
    put(tmp_path / "clear" / "a_L1.png", picture(60))

    score = LoadedPair.load(find_pairs(tmp_path)[0]).score(lambda hazy: hazy)

    assert math.isnan(score.seam)


def test_summary_averages_images_and_keeps_clear_ones_apart() -> None:
    summary = Summary.of(
        [
            fake_score("a_L1", 20, 24),
            fake_score("b_L4", 10, 16),
            fake_score("large_c_L4", 12, 11),
            fake_score("d_L0", math.inf, 45, change=1.5),
        ]
    )

    assert summary.hazy is not None
    assert (summary.hazy.images, summary.hazy.psnr_in, summary.hazy.psnr_out) == (3, 14, 17)
    assert summary.chips is not None
    assert summary.chips.psnr_out == 20
    assert summary.large is not None
    assert summary.large.psnr_out == 11
    assert summary.levels["L4"].images == 2
    assert summary.improved == pytest.approx(2 / 3)
    assert summary.clear is not None
    assert summary.clear.change_dn == 1.5


def test_summary_of_clear_images_alone_claims_nothing_about_haze() -> None:
    summary = Summary.of([fake_score("d_L0", math.inf, 45)])

    assert summary.hazy is None
    assert summary.improved is None
