# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the house to its sizes: a file fits a reader's head, a function fits a screen."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 50


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body; signature and docstring are free."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def offences(path: Path) -> Iterator[str]:
    """Yield one line for each thing in `path` that is too long."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines, {FILE_LINES} at most"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = function_lines(node)
            if length > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name}: {length} lines, {FUNCTION_LINES} at most"


def main() -> int:
    """Check every Python file below the folders given as arguments."""
    files = [path for folder in sys.argv[1:] for path in sorted(Path(folder).rglob("*.py"))]
    found = [offence for path in files for offence in offences(path)]
    sys.stdout.writelines(f"{offence}\n" for offence in found)
    sys.stdout.write(f"sizes: {len(files)} files, {len(found)} too long\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
