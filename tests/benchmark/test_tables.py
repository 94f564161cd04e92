# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and targets say what the scores say, and nothing where there is nothing to say."""

from __future__ import annotations

import math

import pytest

from dehaze_core.benchmark.methods import Contest, Method
from dehaze_core.benchmark.results import PairResults, is_chip, is_large
from dehaze_core.benchmark.tables import Table, number, p_value, pair_tables, summary, worst_loss
from dehaze_core.benchmark.targets import Target, targets
from dehaze_core.metrics.pairs import PairScore
from tests.benchmark.conftest import score


def results(**scores: list[PairScore]) -> PairResults:
    named = {name.replace("_", "-"): values for name, values in scores.items()}
    methods = tuple(Method(name, "", lambda hazy: hazy) for name in named)
    return PairResults(Contest(methods, ()), named)


@pytest.fixture
def sample() -> PairResults:
    return results(
        ours=[
            score("a_L0", 48.0, change_dn=0.5, seam=math.nan),
            score("b_L0", math.inf, change_dn=2.5),
            score("c_L1", 26.0, seam=0.99),
            score("d_L1", 28.0, seam=1.01),
            score("large_e_L3", 21.0, ciede_out=8.0),
        ],
        slices_256=[
            score("a_L0", 48.0),
            score("b_L0", math.inf),
            score("c_L1", 26.0),
            score("d_L1", 28.3),
            score("large_e_L3", 18.0, seam=1.9, ciede_out=6.0),
        ],
    )


def cells(table: Table, name: str) -> tuple[str, ...]:
    return next(row for row in table.rows if row[0] == name)


def table_of(sample: PairResults, title: str) -> Table:
    return next(table for table in pair_tables(sample) if title in table.title)


def test_overview_holds_means_over_hazy_pairs(sample: PairResults) -> None:
    row = cells(table_of(sample, "All methods"), "ours")

    assert row == (
        "ours", "25.00", "0.900", "6.00", "2.00", "100.0%", "21.00", "0.990 .. 1.010", "1.50, 2.50",
    )  # fmt: skip


def test_levels_hold_mean_deviation_and_number(sample: PairResults) -> None:
    table = table_of(sample, "PSNR, dB, by level")

    assert table.headings == ("method", "L0 (2)", "L1 (2)", "L3 (1)", "all hazy (3)")
    assert cells(table, "ours") == ("ours", "inf", "27.00 ± 1.41", "21.00", "25.00 ± 3.61")


def test_every_method_is_tested_against_the_first(sample: PairResults) -> None:
    table = table_of(sample, "against each other")

    assert cells(table, "slices-256") == (
        "slices-256", "+0.00", "1.0000", "33.3%", "+0.00", "1.0000", "0.0%",
    )  # fmt: skip


def test_context_table_shows_the_gain_and_the_worst_loss(sample: PairResults) -> None:
    table = table_of(sample, "context")

    assert cells(table, "ours")[1:] == ("21.00", "27.00", "25.00", "–", "0.990 .. 1.010")
    assert cells(table, "slices-256")[1:] == ("18.00", "27.15", "24.10", "0.30", "1.000 .. 1.900")


def test_gains_are_taken_pair_by_pair(sample: PairResults) -> None:
    assert sample.gains("slices-256", is_large) == [3.0]
    assert sample.gains("slices-256", is_chip) == pytest.approx([0.0, -0.3])
    assert worst_loss(sample, "slices-256") == pytest.approx(0.3)


def test_targets_are_held_missed_or_not_measured(sample: PairResults) -> None:
    found = {target.what: target for target in targets(sample)}

    psnr = found["PSNR, mean of hazy levels, dB"]
    assert psnr.held is False
    assert psnr.cells()[1:] == ("≥ 25.50", "25.00", "missed by 0.50")
    assert found["clear pictures changed, worst, DN"].cells()[3] == "missed by 0.50"
    assert found["PSNR of large scenes, dB"].held
    assert found["gain over slices of 256 px, large scenes, dB"].value == 3.0
    assert found["worst loss to slices of 256 px, small pictures, dB"].held is False
    assert found["seam score, lowest"].held
    assert "gain over slices of 512 px, large scenes, dB" not in found


def test_a_bound_that_is_met_exactly_is_held() -> None:
    assert Target("x", 1.0, 1.0, at_least=True).held
    assert Target("x", 1.0, 1.0, at_least=False).held


def test_clear_pairs_alone_claim_nothing_about_haze() -> None:
    clear = results(ours=[score("a_L0", 50.0)], identity=[score("a_L0", math.inf)])

    tables = pair_tables(clear)

    assert cells(tables[0], "ours")[1:4] == ("–", "–", "–")
    assert cells(tables[-1], "identity")[1:] == ("–",) * 6
    assert targets(clear)[0].cells()[3] == "not measured"


def test_markdown_has_a_line_a_row_and_escapes_its_own_signs() -> None:
    text = Table("T", "Note.", ("method", "n"), (("a|b", "1"), ("c", "2"))).markdown()

    assert text.splitlines() == [
        "### T", "", "Note.", "", "| method | n |", "|---|---:|", "| a\\|b | 1 |", "| c | 2 |",
    ]  # fmt: skip


def test_numbers_without_a_value_are_dashes() -> None:
    assert number(None, 2) == number(math.nan, 2) == "–"
    assert (number(math.inf, 2), number(1.256, 2)) == ("inf", "1.26")
    assert (p_value(0.03125), p_value(1e-9)) == ("0.0312", "< 0.0001")


def test_the_summary_for_a_card_holds_the_means_that_can_be_told(sample: PairResults) -> None:
    assert summary(sample) == {
        "PSNR": 25.0,
        "PSNR L1": 27.0,
        "PSNR L3": 21.0,
        "PSNR large": 21.0,
        "SSIM": 0.9,
        "CIEDE2000": 6.0,
        "spectral angle": 2.0,
        "improved": 1.0,
        "clear changed, mean": 1.5,
        "clear changed, worst": 2.5,
    }
    hazy_only = results(ours=[score("c_L1", 26.0)])
    assert "clear changed, mean" not in summary(hazy_only)


def test_the_summary_tells_how_far_the_first_model_is_above_other_models() -> None:
    ours, theirs = (
        [score("c_L1", 26.0), score("d_L3", 20.0)],
        [score("c_L1", 24.0), score("d_L3", 21.0)],
    )
    methods = tuple(
        Method(name, "", lambda hazy: hazy, model)
        for name, model in (("ours", "ours"), ("theirs+haze_mask", "theirs"), ("classic", None))
    )
    scores = {"ours": ours, "theirs+haze_mask": theirs, "classic": theirs}

    found = summary(PairResults(Contest(methods, ()), scores))

    assert {key: value for key, value in found.items() if " above " in key} == {
        "PSNR above theirs+haze_mask": 0.5,
        "PSNR L1 above theirs+haze_mask": 2.0,
        "PSNR L3 above theirs+haze_mask": -1.0,
    }
