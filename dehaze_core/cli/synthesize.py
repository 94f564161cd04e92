# SPDX-License-Identifier: GPL-3.0-or-later
"""`dehaze synthesize` and `dehaze synthesize-set`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dehaze_core.cli.values import numbers, show

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("synthesize")(synthesize)
    app.command("synthesize-set")(synthesize_set)


def synthesize(
    source: Annotated[str, typer.Argument(metavar="IN", help="Clear raster.")],
    destination: Annotated[Path, typer.Argument(metavar="OUT", help=".tif or .zarr to write.")],
    kind: Annotated[
        str,
        typer.Option(help="homogeneous, patchy, cirrus, plume, valley, broken or texture."),
    ] = "patchy",
    level: Annotated[
        str | None, typer.Option(help="L0 (none) to L4 (very dense); L2 if left out.")
    ] = None,
    thickness: Annotated[
        float | None, typer.Option(help="Optical thickness at 550 nm, instead of a level.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another haze.")] = 0,
    wavelength: Annotated[
        float | None, typer.Option(help="Size of the largest patches in pixels.")
    ] = None,
    wavelength_m: Annotated[
        float | None, typer.Option(help="Size of the largest patches in metres.")
    ] = None,
    texture: Annotated[
        str | None, typer.Option(help="Raster of real haze, for kind texture.")
    ] = None,
    dem: Annotated[str | None, typer.Option(help="Raster of heights, for kind valley.")] = None,
    fog_base: Annotated[
        float | None, typer.Option(help="Height of full fog; the low end of the scene's heights.")
    ] = None,
    fog_depth: Annotated[float, typer.Option(help="Height over which fog thins to 1/e.")] = 100.0,
    alpha: Annotated[
        float | None, typer.Option(help="Angstrom exponent; by kind if left out.")
    ] = None,
    airlight: Annotated[
        str | None, typer.Option(help="red,green,blue in linear light; by kind if left out.")
    ] = None,
    airlight_variation: Annotated[
        float, typer.Option(help="Relative variation of the airlight over the scene.")
    ] = 0.0,
    adjacency: Annotated[
        float, typer.Option(help="Blur of the ground at thickness 1, px, up to 2.")
    ] = 0.0,
    noise: Annotated[
        str | None,
        typer.Option(help="Sensor noise shot,read: variance = shot * I + read^2, e.g. 1e-4,2e-3."),
    ] = None,
    unrounded: Annotated[
        bool, typer.Option("--float", help="Write the hazy raster as floats, not rounded.")
    ] = False,
    bands: Annotated[
        str | None, typer.Option(help="Red, green and blue as band numbers; or one band.")
    ] = None,
    thickness_out: Annotated[
        Path | None, typer.Option(help="Also write the optical thickness here.")
    ] = None,
    airlight_out: Annotated[Path | None, typer.Option(help="Also write the airlight here.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Also write all that is known of the haze here, as JSON.")
    ] = None,
    block: Annotated[int, typer.Option(help="Block size in px; never changes pixels.")] = 1024,
    creation_option: Annotated[
        list[str] | None, typer.Option("--co", help="GDAL creation option KEY=VALUE, repeatable.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace existing outputs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put haze on a clear raster and write down the truth about it."""
    from dehaze_core.cli.console import TerminalProgress
    from dehaze_core.synthesis import synthesize as run_synthesis

    settings = _settings(
        source=source,
        destination=str(destination),
        kind=kind,
        level=level,
        thickness=thickness,
        seed=seed,
        wavelength=wavelength,
        wavelength_m=wavelength_m,
        texture=texture,
        dem=dem,
        fog_base=fog_base,
        fog_depth=fog_depth,
        alpha=alpha,
        airlight=numbers(airlight, float, "--airlight"),
        airlight_variation=airlight_variation,
        adjacency=adjacency,
        noise=numbers(noise, float, "--noise") or (0.0, 0.0),
        unrounded=unrounded,
        bands=numbers(bands, int, "--bands"),
        thickness_output=None if thickness_out is None else str(thickness_out),
        airlight_output=None if airlight_out is None else str(airlight_out),
        truth_output=None if truth is None else str(truth),
        block_size=block,
        overwrite=overwrite,
        creation_options=tuple(creation_option or ()),
    )
    with TerminalProgress(quiet=as_json) as progress:
        report = run_synthesis(settings, progress)
    show(report.as_dict(), as_json)


def synthesize_set(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Clear rasters; a MANIFEST.csv may give their sites."
        ),
    ],
    destination: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the data set.")],
    textures: Annotated[
        Path | None, typer.Option(help="Folder of rasters of real haze, used beside made-up haze.")
    ] = None,
    test_share: Annotated[
        float, typer.Option(help="Share of the rasters whose sites go to test/, 0 to 0.5.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Another seed, other haze.")] = 0,
    unrounded: Annotated[
        bool, typer.Option("--float", help="Write hazy rasters as floats, not rounded.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set of clear rasters and the same at levels L1 to L4, with the truth.

    Goes on where it was stopped.
    """
    from dehaze_core.cli.console import TerminalProgress
    from dehaze_core.synthesis.dataset import SetSettings
    from dehaze_core.synthesis.dataset import synthesize_set as make_set

    settings = SetSettings(
        source=source,
        destination=destination,
        textures=textures,
        test_share=test_share,
        seed=seed,
        unrounded=unrounded,
    )
    with TerminalProgress(quiet=as_json) as progress:
        report = make_set(settings, progress)
    show(report.as_dict(), as_json)


def _settings(**values: Any) -> Any:  # noqa: ANN401 - fields of SynthesisSettings
    from dehaze_core.synthesis import SynthesisSettings

    return SynthesisSettings(**values)
