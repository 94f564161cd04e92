# SPDX-License-Identifier: GPL-3.0-or-later
"""Assemble the folder `dehaze/` that QGIS loads as a plugin, from the parts of this repository.

    python3 scripts/assemble_plugin.py --output DIR          DIR/dehaze, copies
    python3 scripts/assemble_plugin.py --output DIR --zip    and DIR/dehaze.zip, for release
    python3 scripts/assemble_plugin.py --link [DIR]          DIR/dehaze, links, for development

Without DIR, links go to the plugin folder of the default QGIS profile. Of the engine, only the
worker protocol and the places of models come along: everything else runs outside QGIS.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "dehaze"
# Source in the repository -> place in the plugin; folders are taken whole.
PARTS = {
    "metadata.txt": "metadata.txt",
    "LICENSE": "LICENSE",
    "qgis_plugin/package_init.py": "__init__.py",
    "qgis_plugin": "qgis_plugin",
    "processing_algorithms": "processing_algorithms",
    "dehaze_core/places.py": "dehaze_core/places.py",
    "dehaze_core/worker/__init__.py": "dehaze_core/worker/__init__.py",
    "dehaze_core/worker/protocol.py": "dehaze_core/worker/protocol.py",
}
ENGINE_INIT = '''# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the engine that QGIS shares: the worker protocol, the places of models."""
'''
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "package_init.py")
# A fixed time makes the same source give the same zip.
ZIP_TIME = (2020, 1, 1, 0, 0, 0)


def assemble(parent: Path, place: Callable[[Path, Path], None]) -> Path:
    """Make `parent`/dehaze anew and return it.

    Args:
        parent: Folder to put the plugin folder into; made if missing.
        place: Puts a file or folder of the repository to its place in the plugin.

    Raises:
        SystemExit: There is something else under that name.
    """
    plugin = parent / NAME
    _remove_old(plugin)
    for source, target in PARTS.items():
        destination = plugin / target
        destination.parent.mkdir(parents=True, exist_ok=True)
        place(ROOT / source, destination)
    (plugin / "dehaze_core" / "__init__.py").write_text(ENGINE_INIT, encoding="utf-8")
    return plugin


def _remove_old(plugin: Path) -> None:
    if plugin.is_symlink():
        plugin.unlink()
    elif plugin.is_dir():
        if not (plugin / "metadata.txt").exists() and any(plugin.iterdir()):
            sys.exit(f"{plugin} is not a plugin folder, so it is left alone; choose another place.")
        shutil.rmtree(plugin)  # does not follow links
    elif plugin.exists():
        sys.exit(f"{plugin} is a file, so it is left alone; choose another place.")


def copy(source: Path, target: Path) -> None:
    """Copy a file or folder."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=LEFT_OUT)
    else:
        shutil.copyfile(source, target)


def link(source: Path, target: Path) -> None:
    """Link to a file or folder."""
    target.symlink_to(source, target_is_directory=source.is_dir())


def pack(plugin: Path) -> Path:
    """Zip the plugin folder, beside it, and return the zip's path."""
    archive = plugin.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(entry for entry in plugin.rglob("*") if entry.is_file()):
            entry = zipfile.ZipInfo(f"{NAME}/{path.relative_to(plugin).as_posix()}", ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            file.writestr(entry, path.read_bytes())
    return archive


def default_plugins_folder() -> Path:
    """Return the plugin folder of the default profile of QGIS 3."""
    home = Path.home()
    if sys.platform == "win32":
        data = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        data = home / "Library" / "Application Support"
    else:
        data = home / ".local" / "share"
    return data / "QGIS" / "QGIS3" / "profiles" / "default" / "python" / "plugins"


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", metavar="DIR", type=Path)
    what.add_argument("--link", metavar="DIR", type=Path, nargs="?", const=default_plugins_folder())
    parser.add_argument("--zip", action="store_true", help="with --output: zip it as well")
    options = parser.parse_args()
    if options.output is None:
        plugin = assemble(options.link.expanduser(), link)
        sys.stdout.write(f"{plugin} links to {ROOT}\nEnable the plugin Dehaze in QGIS.\n")
        return
    plugin = assemble(options.output.expanduser(), copy)
    sys.stdout.write(f"{plugin}\n")
    if options.zip:
        sys.stdout.write(f"{pack(plugin)}\n")


if __name__ == "__main__":
    main()
