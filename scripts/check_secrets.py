# SPDX-License-Identifier: GPL-3.0-or-later
"""Scan files the way the QGIS plugin repository does; anything that looks like a secret fails.

Model cards are left out: the sha256 of public weights is written there on purpose.
"""

from __future__ import annotations

import sys
from pathlib import Path

from detect_secrets import SecretsCollection
from detect_secrets.settings import default_settings

TEXT = {
    ".cfg",
    ".css",
    ".html",
    ".ini",
    ".json",
    ".md",
    ".py",
    ".qml",
    ".sh",
    ".toml",
    ".txt",
    ".xml",
}


def text_files(folder: Path) -> list[Path]:
    """Return the text files below `folder`, cards beside weights excepted."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in TEXT and not path.with_suffix(".safetensors").is_file()
    ]


def main() -> int:
    """Scan the folders given as arguments; return 1 where something was found."""
    files = [path for folder in sys.argv[1:] for path in text_files(Path(folder))]
    secrets = SecretsCollection()
    with default_settings():
        for path in files:
            secrets.scan_file(str(path))
    for path, secret in secrets:
        sys.stdout.write(f"{path}:{secret.line_number}: {secret.type}\n")
    sys.stdout.write(f"secrets: {len(files)} files, {len(list(secrets))} findings\n")
    return 1 if secrets else 0


if __name__ == "__main__":
    sys.exit(main())
