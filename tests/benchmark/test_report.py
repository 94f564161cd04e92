# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages and documents: complete, escaped, with pictures that exist, and rewritten in place."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from dehaze_core.benchmark.html import Html, document, element
from dehaze_core.benchmark.methods import Contest
from dehaze_core.benchmark.pairs_run import run_pairs
from dehaze_core.benchmark.real_run import run_real
from dehaze_core.benchmark.report import Report
from dehaze_core.engine.progress import Silent
from dehaze_core.errors import OutputError, SettingsError
from tests.benchmark.conftest import put


class Page(HTMLParser):
    """Collect a page's addresses, and fail on elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in {"src", "href"}]
        if tag not in {"img", "meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def report(contest: Contest, pairs_folder: Path, tmp_path: Path) -> Report:
    for name in ("sea/a.png", "b.png"):
        put(tmp_path / "real" / name, np.full((40, 40, 3), 90, np.uint8))
    out = tmp_path / "out"
    pairs = run_pairs(pairs_folder, out, contest, None, Silent())
    real = run_real(tmp_path / "real", out, contest, None, Silent())
    return Report("small set", pairs, real)


def test_every_address_on_the_pages_leads_somewhere(report: Report, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report.write(out)

    for name in ("index.html", "real.html"):
        page = Page((out / name).read_text(encoding="utf-8"))
        files = [unquote(address) for address in page.addresses if not address.startswith("#")]
        assert len(files) > 4
        assert all((out / file).is_file() for file in files)


def test_page_of_pairs_shows_hazy_methods_and_clear_once_each(
    report: Report, tmp_path: Path
) -> None:
    report.write(tmp_path / "out")

    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")

    assert re.findall(r"<figcaption><b>(.*?)</b>", text)[:4] == ["hazy", "ours", "theirs", "clear"]
    assert text.count("<figure>") == 4 * 5
    assert "d &amp; &lt;e&gt;_L3" in text
    assert "<e>" not in text
    assert "small set" in text


def test_worst_pictures_of_a_level_come_first(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path / "out")

    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")

    # 50 DN are taken off: that is exact for c, and 10 DN wrong for b.
    assert text.index("<h3>b_L1</h3>") < text.index("<h3>c_L1</h3>")


def test_markdown_names_methods_tables_and_what_was_left_out(
    report: Report, tmp_path: Path
) -> None:
    report.write(tmp_path / "out")

    text = (tmp_path / "out" / "benchmark.md").read_text(encoding="utf-8")

    for part in (
        "## small set", "5 pairs", "`ours`: takes 50 DN off", "aod-net: left out",
        "### All methods", "by level", "Wilcoxon", "Targets of ours", "Real haze (2 pictures)",
    ):  # fmt: skip
        assert part in text
    assert str(tmp_path) not in text, "no path of this machine"


def test_a_document_is_begun_and_then_rewritten_in_place(report: Report, tmp_path: Path) -> None:
    doc = tmp_path / "quality.md"
    report.insert(doc)
    first = doc.read_text(encoding="utf-8")
    doc.write_text(first.replace("PSNR", "outdated") + "\nWritten by hand.\n", encoding="utf-8")

    report.insert(doc)

    assert doc.read_text(encoding="utf-8") == first + "\nWritten by hand.\n"


def test_sections_of_other_titles_are_left_alone(report: Report, tmp_path: Path) -> None:
    doc = tmp_path / "quality.md"
    report.insert(doc)
    before = doc.read_text(encoding="utf-8")

    Report("other set", report.pairs).insert(doc)

    after = doc.read_text(encoding="utf-8")
    assert after.startswith(before.rstrip())
    assert "## other set" in after


def test_a_document_with_half_a_pair_of_marks_is_left_as_it_is(
    report: Report, tmp_path: Path
) -> None:
    doc = tmp_path / "quality.md"
    doc.write_text("<!-- benchmark: small set -->\nby hand\n")

    with pytest.raises(OutputError) as caught:
        report.insert(doc)
    assert caught.value.code == "OUTPUT_MARKS"
    assert doc.read_text().endswith("by hand\n")


def test_a_document_that_cannot_be_written_is_an_output_error(
    report: Report, tmp_path: Path
) -> None:
    with pytest.raises(OutputError) as caught:
        report.insert(tmp_path / "no folder" / "quality.md")
    assert caught.value.code == "OUTPUT_WRITE"


@pytest.mark.parametrize("title", ["", "a --> b", "a\nb", "<b>", "a--b"])
def test_titles_that_would_break_the_marks_are_refused(report: Report, title: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Report(title, report.pairs)
    assert caught.value.code == "SETTINGS_OPTION"


def test_elements_escape_text_and_attributes_but_not_elements() -> None:
    inner = element("b", "1 < 2")

    assert inner == "<b>1 &lt; 2</b>"
    assert element("p", inner, "&", class_='"x"') == (
        '<p class="&quot;x&quot;"><b>1 &lt; 2</b>&amp;</p>'
    )
    assert element("img", src="a") == '<img src="a">'
    assert isinstance(inner, Html)


def test_a_page_needs_nothing_from_elsewhere() -> None:
    text = document("T", element("p", "x"))

    assert "http" not in text
    assert "<script" not in text
    Page(text)
