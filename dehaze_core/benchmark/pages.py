# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of pictures to judge by eye: hazy, every method, clear; the worst of a level first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dehaze_core.benchmark.html import Html, document, element, link
from dehaze_core.benchmark.methods import IDENTITY
from dehaze_core.benchmark.pairs_run import restored_path, thumbnail_path
from dehaze_core.benchmark.real_run import (
    RealResults,
    RealScore,
    real_restored_path,
    real_thumbnail_path,
)
from dehaze_core.benchmark.results import PairResults
from dehaze_core.benchmark.tables import Table, number
from dehaze_core.metrics import Appearance
from dehaze_core.metrics.pairs import PairScore

PAIRS_PAGE = "index.html"
REAL_PAGE = "real.html"


def pairs_page(results: PairResults, tables: Sequence[Table], title: str, has_real: bool) -> str:
    """Return the page of a benchmark of pairs: tables, then pictures by level."""
    menu = [element("a", level, href=f"#{level}") for level in results.levels]
    if has_real:
        menu.append(element("a", "real haze", href=REAL_PAGE))
    sections = []
    for level in results.levels:
        chosen = [i for i, score in enumerate(results.first) if score.level == level]
        chosen.sort(key=lambda i: results.first[i].psnr_out)
        heading = f"{level}, {len(chosen)} images, the worst of {results.contest.first.name} first"
        sections.append(element("h2", heading, id=level))
        sections += [_pair_row(results, index) for index in chosen]
    return document(title, element("nav", *menu), *map(_table, tables), *sections)


def real_page(results: RealResults, tables: Sequence[Table], title: str) -> str:
    """Return the contact sheet of real haze: before, and after by every method."""
    menu = element("nav", element("a", "pairs", href=PAIRS_PAGE))
    rows = [_real_row(results, index) for index in range(len(results.first))]
    return document(title, menu, *map(_table, tables), *rows)


def _table(table: Table) -> Html:
    head = element("tr", *(element("th", text) for text in table.headings))
    rows = [element("tr", *(element("td", text) for text in row)) for row in table.rows]
    return element(
        "section",
        element("h3", table.title),
        element("p", table.note.replace("*", "")),
        element("div", element("table", head, *rows), class_="wide"),
    )


def _pair_row(results: PairResults, index: int) -> Html:
    name = results.first[index].name
    figures = [_figure("hazy", _hazy_numbers(results.first[index]), thumbnail_path("hazy", name))]
    for method, scores in results.scores.items():
        if method != IDENTITY:
            figures.append(
                _figure(
                    method,
                    f"{number(scores[index].psnr_out, 2)} dB, "
                    f"CIEDE2000 {number(scores[index].ciede_out, 1)}",
                    thumbnail_path(f"restored/{method}", name),
                    restored_path(method, name),
                )
            )
    figures.append(_figure("clear", "", thumbnail_path("clear", name)))
    return _row(name, figures)


def _hazy_numbers(score: PairScore) -> str:
    return f"{number(score.psnr_in, 2)} dB, CIEDE2000 {number(score.ciede_in, 1)}"


def _real_row(results: RealResults, index: int) -> Html:
    first: RealScore = results.first[index]
    hazy = real_thumbnail_path("hazy", first.name)
    figures = [_figure("before", _look(first.before), hazy)]
    for method, scores in results.scores.items():
        if method != IDENTITY:
            figures.append(
                _figure(
                    method,
                    _look(scores[index].after),
                    real_thumbnail_path(f"restored/{method}", first.name),
                    real_restored_path(method, first.name),
                )
            )
    return _row(first.name, figures)


def _look(look: Appearance) -> str:
    return (
        f"haze {number(look.haze, 3)}, contrast {number(look.contrast, 3)}, "
        f"saturation {number(look.saturation, 2)}, clipped {number(100 * look.clipped, 1)} %"
    )


def _row(name: str, figures: Sequence[Html]) -> Html:
    return element("section", element("h3", name), element("div", *figures, class_="pictures"))


def _figure(label: str, numbers: str, thumbnail: Path, full: Path | None = None) -> Html:
    image = element("img", src=link(thumbnail), alt=label, loading="lazy")
    shown = image if full is None else element("a", image, href=link(full))
    caption = element("figcaption", element("b", label), " ", numbers)
    return element("figure", shown, caption)
