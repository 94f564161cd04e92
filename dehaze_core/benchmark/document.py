# SPDX-License-Identifier: GPL-3.0-or-later
"""Sections of a Markdown document that commands write and people leave alone."""

from __future__ import annotations

import re
from pathlib import Path

from dehaze_core.errors import OutputError, SettingsError

_TITLE = re.compile(r"\w[\w .,+()-]*")

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


def insert_section(document: Path, title: str, text: str) -> None:
    """Put a section into a Markdown document, in place of the one of the same title.

    The section stands between two marks; all else in the document stays as it is. A document that
    does not exist is begun.

    Args:
        document: The document.
        title: Title of the section, see `check_title`.
        text: The section with its heading, ending with a line break.

    Raises:
        OutputError: The document cannot be written (OUTPUT_WRITE), or one of its marks is missing
            (OUTPUT_MARKS).
    """
    begin, end = f"<!-- benchmark: {title} -->", f"<!-- end: {title} -->"
    section = f"{begin}\n{text}{end}\n"
    try:
        old = document.read_text(encoding="utf-8") if document.exists() else _HEAD
        before, found, rest = old.partition(begin)
        if not found:
            document.write_text(f"{old.rstrip()}\n\n{section}", encoding="utf-8")
            return
        _, closed, after = rest.partition(f"{end}\n")
        if closed:
            document.write_text(f"{before}{section}{after}", encoding="utf-8")
            return
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{document} cannot be written: {error}.", code="OUTPUT_WRITE") from error
    raise OutputError(
        f"{document} has the mark {begin} but not {end} on a line after it.",
        hint="Put the second mark back, or delete the first.",
        code="OUTPUT_MARKS",
    )
