# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark writes when all is scored: Markdown, pages, and its section of a document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dehaze_core.benchmark.document import check_title, insert_section
from dehaze_core.benchmark.pages import PAIRS_PAGE, REAL_PAGE, pairs_page, real_page
from dehaze_core.benchmark.real_run import RealResults
from dehaze_core.benchmark.real_tables import real_tables
from dehaze_core.benchmark.results import PairResults
from dehaze_core.benchmark.tables import pair_tables
from dehaze_core.benchmark.targets import target_table
from dehaze_core.errors import OutputError

TABLES = "benchmark.md"


@dataclass(frozen=True, slots=True)
class Report:
    """Results of a benchmark under a title.

    Attributes:
        title: Name of the set of pairs.
        pairs: Results on pairs.
        real: Results on real haze, if asked for.
    """

    title: str
    pairs: PairResults
    real: RealResults | None = None

    def __post_init__(self) -> None:
        check_title(self.title)

    def write(self, out: Path) -> None:
        """Write `index.html`, `real.html` and `benchmark.md` into the output folder.

        Raises:
            OutputError: The folder cannot be written (OUTPUT_FOLDER).
        """
        tables = [*pair_tables(self.pairs), target_table(self.pairs)]
        page = pairs_page(self.pairs, tables, self.title, self.real is not None)
        _write(out / PAIRS_PAGE, page)
        if self.real is not None:
            page = real_page(self.real, real_tables(self.real), f"{self.title}: real haze")
            _write(out / REAL_PAGE, page)
        _write(out / TABLES, self.markdown())

    def markdown(self) -> str:
        """Return the results as a section of Markdown with a heading of the second level."""
        tables = [*pair_tables(self.pairs), target_table(self.pairs)]
        if self.real is not None:
            tables += real_tables(self.real)
        parts = [f"## {self.title}\n", self._introduction(), *(t.markdown() for t in tables)]
        return "\n".join(parts)

    def _introduction(self) -> str:
        methods = self.pairs.contest.methods
        lines = [
            f"{len(self.pairs.first)} pairs. Every method gets the same 8-bit picture; what it "
            "returns is saved as 8-bit PNG, read back and compared with the clear one "
            "([definitions](metrics.md)).",
            "",
            *(f"- `{method.name}`: {method.about}" for method in methods),
            *(f"- {line}" for line in self.pairs.contest.left_out),
        ]
        return "\n".join(lines) + "\n"

    def insert(self, document: Path) -> None:
        """Put the section into a Markdown document, in place of the one of the same title.

        Raises:
            OutputError: The document cannot be written, see `insert_section`.
        """
        insert_section(document, self.title, self.markdown())


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}.", code="OUTPUT_FOLDER") from error
