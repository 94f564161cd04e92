# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark writes when all is scored: Markdown, pages, and its section of a document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dehaze_core.benchmark.pages import PAIRS_PAGE, REAL_PAGE, pairs_page, real_page
from dehaze_core.benchmark.real_run import RealResults
from dehaze_core.benchmark.real_tables import real_tables
from dehaze_core.benchmark.results import PairResults
from dehaze_core.benchmark.tables import pair_tables
from dehaze_core.benchmark.targets import target_table
from dehaze_core.errors import OutputError, SettingsError

TABLES = "benchmark.md"
_TITLE = re.compile(r"\w[\w .,+()-]*")


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

        The section stands between two marks; all else in the document stays as it is. A document
        that does not exist is begun.

        Raises:
            OutputError: The document cannot be written (OUTPUT_WRITE), or one of its marks is
                missing (OUTPUT_MARKS).
        """
        begin, end = f"<!-- benchmark: {self.title} -->", f"<!-- end: {self.title} -->"
        try:
            text = document.read_text(encoding="utf-8") if document.exists() else _HEAD
            section = f"{begin}\n{self.markdown()}{end}\n"
            before, found, rest = text.partition(begin)
            if not found:
                document.write_text(f"{text.rstrip()}\n\n{section}", encoding="utf-8")
                return
            _, closed, after = rest.partition(f"{end}\n")
            if not closed:
                raise OutputError(
                    f"{document} has the mark {begin} but not {end} on a line after it.",
                    hint="Put the second mark back, or delete the first.",
                    code="OUTPUT_MARKS",
                )
            document.write_text(f"{before}{section}{after}", encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"{document} cannot be written: {error}.", code="OUTPUT_WRITE"
            ) from error


_HEAD = """# Image quality

Each section is written by `dehaze benchmark PAIRS --out FOLDER --doc THIS_FILE --title SECTION`,
which leaves the pictures in FOLDER and replaces what is between the marks here; the rest is by
hand.
"""


def check_title(title: str) -> None:
    """Refuse titles that would not survive in a heading and a comment.

    Raises:
        SettingsError: The title has other signs than letters, digits, spaces and `.,+()-`, or
            begins with one of these (SETTINGS_OPTION).
    """
    if not _TITLE.fullmatch(title) or "--" in title:
        raise SettingsError(
            f"The title is {title!r}; expected letters, digits, spaces and . , + ( ) -.",
            hint="Give another one with --title.",
            code="SETTINGS_OPTION",
        )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}.", code="OUTPUT_FOLDER") from error
