# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the zoo that shows how rasters are stored: layouts, containers, formats."""

from __future__ import annotations

import functools
import http.server
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
import rioxarray
import xarray as xr
from PIL import Image, ImageCms
from rasterio.enums import ColorInterp, Resampling

from dehaze_core.engine.output.zarr_output import write_zarr
from dehaze_core.scene import open_scene
from tests.frame.rasters import (
    Case,
    geotiff,
    pixels,
    setting,
    tagged,
    valid_outside_wedge,
    wedge,
    write,
)

WORLD_FILE = "10.0\n0.0\n0.0\n-10.0\n500005.0\n5399995.0\n"


def _overviews(beside: bool) -> Callable[[Path], str]:
    def build(folder: Path) -> str:
        path = write(folder / "scene.tif")
        mode = {"TIFF_USE_OVR": "YES"} if beside else {}
        with rasterio.Env(**mode), rasterio.open(path, "r+") as raster:
            raster.build_overviews([2, 4], Resampling.average)
        return path

    return build


def _cog(folder: Path) -> str:
    source = write(folder / "pixels.tif", wedge(pixels(), 0), nodata=0, edit=tagged(A="b"))
    rasterio.shutil.copy(source, folder / "scene.tif", driver="COG")
    return str(folder / "scene.tif")


def _zipped(folder: Path) -> str:
    with zipfile.ZipFile(folder / "scene.zip", "w") as archive:
        archive.write(_cog(folder), "inner folder/scene.tif")
    return f"/vsizip/{folder / 'scene.zip'}/inner folder/scene.tif"


class _Files(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with the byte ranges that GDAL asks for, silently."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last or len(content)) + 1]
        self.send_response(206)
        last = str(int(first) + len(part) - 1)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; yield its address."""
    handler = functools.partial(_Files, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _vrt(folder: Path) -> str:
    source = write(folder / "pixels.tif", wedge(pixels(), 0), nodata=0)
    rasterio.shutil.copy(source, folder / "scene.vrt", driver="VRT")
    return str(folder / "scene.vrt")


def _broken_vrt(folder: Path) -> str:
    path = _vrt(folder)
    (folder / "pixels.tif").unlink()
    return path


def _picture(suffix: str, world: str = "", count: int = 3, **options: Any) -> Callable[[Path], str]:
    """Return a builder of a picture as cameras and scanners make them."""

    def build(folder: Path) -> str:
        path = folder / f"scene{suffix}"
        image = pixels(count).transpose(1, 2, 0)
        Image.fromarray(image.squeeze()).save(path, **options)
        if world:
            path.with_suffix(world).write_text(WORLD_FILE)
        return str(path)

    return build


def _camera_picture(folder: Path) -> str:
    exif = Image.Exif()
    exif[271], exif[306] = "Maker", "2024:05:06 07:08:09"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = folder / "scene.jpg"
    picture = Image.fromarray(pixels().transpose(1, 2, 0))
    picture.save(path, exif=exif, icc_profile=profile, dpi=(300, 300))
    return str(path)


def _as(
    driver: str, suffix: str, count: int = 3, dtype: str = "uint8", **options: Any
) -> Callable[[Path], str]:
    """Return a builder that has GDAL write another format."""

    def build(folder: Path) -> str:
        source = write(folder / "pixels.tif", pixels(count, dtype))
        path = folder / f"scene{suffix}"
        rasterio.shutil.copy(source, path, driver=driver, **options)
        return str(path)

    return build


def _gif(folder: Path) -> str:
    path = folder / "scene.gif"
    Image.fromarray(pixels(1)[0]).convert("P").save(path)
    return str(path)


def _container(folder: Path) -> str:
    names = ("one", "two")
    dataset = xr.Dataset({n: (("y", "x"), pixels(1, "float32")[0]) for n in names})
    path = folder / "scene.nc"
    dataset.to_netcdf(path, engine="h5netcdf" if _has_h5netcdf() else "scipy")
    return str(path)


def _has_h5netcdf() -> bool:
    return "h5netcdf" in xr.backends.list_engines()


def _text(folder: Path) -> str:
    (folder / "scene.tif").write_text("this is no raster")
    return str(folder / "scene.tif")


def _rioxarray_zarr(zarr_format: int) -> Callable[[Path], tuple[str, str]]:
    def build(folder: Path) -> tuple[str, str]:
        twin = write(
            folder / "twin.tif",
            wedge(pixels(3, "int16"), -9999),
            nodata=-9999,
            edit=setting(
                descriptions=("b", "g", "r"),
                colorinterp=[ColorInterp.gray, ColorInterp.undefined, ColorInterp.undefined],
            ),
        )
        path = folder / "scene.zarr"
        with rioxarray.open_rasterio(twin) as raster:
            raster.rename("image").to_dataset().to_zarr(
                path, zarr_format=zarr_format, consolidated=False
            )
        return str(path), twin

    return build


def _own_zarr(folder: Path) -> tuple[str, str]:
    """Make a zarr group as our own outputs are, with everything in it that has no CF word."""

    def edit(raster: Any) -> None:
        setting(
            descriptions=("a", "", "c"),
            units=("m", "", "K"),
            scales=(1.0, 2.0, 3.0),
            colorinterp=[ColorInterp[name] for name in ("blue", "green", "red")],
        )(raster)
        tagged(A="b", domains={"D": {"k": "v"}}, bands={2: {"w": "560"}})(raster)

    twin = write(folder / "twin.tif", mask=valid_outside_wedge(), edit=edit)
    path = folder / "scene.zarr"
    with open_scene(twin) as scene:
        write_zarr(
            lambda window: scene.read(window)[0],
            scene.frame,
            scene.stored_mask,
            path,
            provenance={},
            progress=lambda share: None,
        )
    return str(path), twin


CASES = [
    Case("layout", "strips", geotiff(compress="lzw")),
    Case("layout", "tiles", geotiff(tiled=True, blockxsize=16, blockysize=16, compress="deflate")),
    Case("layout", "band by band", geotiff(interleave="band")),
    Case("layout", "BigTIFF, big-endian", geotiff(BIGTIFF="YES", ENDIANNESS="BIG")),
    Case("layout", "JPEG in tiles", geotiff(compress="jpeg", photometric="ycbcr", tiled=True)),
    Case("layout", "sparse", geotiff(lambda: wedge(pixels(), 0), nodata=0, SPARSE_OK=True)),
    Case("overviews", "inside", _overviews(beside=False)),
    Case("overviews", "file beside", _overviews(beside=True)),
    Case("container", "COG", _cog),
    Case("container", "COG in a zip archive", _zipped),
    Case("container", "VRT", _vrt),
    Case("container", "VRT with a missing file", _broken_vrt, refused="INPUT_MISSING"),
    Case("container", "of several rasters", _container, refused="INPUT_CONTAINER"),
    Case("format", "JPEG, from a camera", _camera_picture),
    Case("format", "JPEG with a world file", _picture(".jpg", ".jgw")),
    Case("format", "PNG with a world file", _picture(".png", ".pgw")),
    Case("format", "PNG with alpha", _picture(".png", count=4)),
    Case("format", "PNG, grey", _picture(".png", count=1)),
    Case("format", "BMP", _picture(".bmp")),
    Case("format", "GIF with a palette", _gif, refused="INPUT_PALETTE"),
    Case("format", "no raster", _text, refused="INPUT_UNREADABLE"),
    Case(
        "format",
        "JPEG 2000",
        _as("JP2OpenJPEG", ".jp2", QUALITY="100", REVERSIBLE="YES", dtype="uint16"),
        driver="JP2OpenJPEG",
    ),
    Case("format", "ENVI", _as("ENVI", ".dat", 4, dtype="uint16")),
    Case("format", "Erdas Imagine", _as("HFA", ".img", dtype="uint16")),
    Case("format", "GeoPackage", _as("GPKG", ".gpkg")),
    Case("format", "NetCDF", _as("netCDF", ".nc", 1, dtype="float32")),
    Case("format", "WebP", _picture(".webp", lossless=True)),
    Case("zarr", "version 2, by rioxarray", _rioxarray_zarr(2)),
    Case("zarr", "version 3, by rioxarray", _rioxarray_zarr(3)),
    Case("zarr", "our own, with everything", _own_zarr),
]
