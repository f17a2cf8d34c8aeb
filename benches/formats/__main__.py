"""Measures the ingest of other formats than NIfTI: ``python -m benches.formats``.

A CT series beside SimpleITK, which only reads it; files of 4 GiB within ``--memory 256MiB``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hdf5plugin
import numpy as np

RESULTS = Path(__file__).parents[1] / "results" / "formats"
SLICES, ROUNDS = 500, 3
#: Planes, rows and columns of the large volumes: 4 GiB of uint16.
LARGE = (1024, 1448, 1448)
MEMORY = 256 << 20


def planes(shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Smooth structure and noise of a few bits, as a camera has it."""
    random = np.random.default_rng(5)
    noise = random.integers(0, 64, (16, *shape[1:]), np.uint16)
    y, x = np.indices(shape[1:], np.float32)
    waves = 1000 + 500 * np.sin(y / 40) * np.cos(x / 60)
    for z in range(shape[0]):
        yield (waves * (1 + z / shape[0])).astype(np.uint16) + noise[z % 16]


def write_tiff(path: Path, shape: tuple[int, int, int]) -> None:
    import tifffile

    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    tifffile.imwrite(path, planes(shape), shape=shape, dtype="u2", imagej=True, metadata=metadata)


def write_hdf5(path: Path, shape: tuple[int, int, int]) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        chunks = (min(64, shape[0]), 256, 256)
        data = file.create_dataset("raw", shape, "u2", chunks=chunks, **hdf5plugin.LZ4())
        data.attrs["element_size_um"] = (2.0, 1.0, 1.0)
        write_slabs(data, shape)


def write_zarr(path: Path, shape: tuple[int, int, int]) -> None:
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=3)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [2.0, 1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    multiscales = [{"axes": axes, "datasets": datasets}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    chunks = (min(64, shape[0]), 256, 256)
    write_slabs(group.create_array("0", shape=shape, dtype="u2", chunks=chunks), shape)


def write_slabs(array: object, shape: tuple[int, int, int]) -> None:
    source = planes(shape)
    for z in range(0, shape[0], 64):
        slab = [next(source) for _ in range(min(64, shape[0] - z))]
        array[z : z + len(slab)] = np.stack(slab)


def write_series(folder: Path, slices: int, *, lossless: bool) -> None:
    """A CT series of 512 × 512 slices, one file each."""
    import imagecodecs
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLosslessSV1, generate_uid

    folder.mkdir()
    syntax = JPEGLosslessSV1 if lossless else ExplicitVRLittleEndian
    series, frame = generate_uid(), generate_uid()
    for z, plane in enumerate(planes((slices, 512, 512))):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = syntax
        ds = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        ds.Modality, ds.SeriesInstanceUID, ds.StudyInstanceUID = "CT", series, series
        ds.FrameOfReferenceUID, ds.InstanceNumber = frame, z + 1
        ds.ImagePositionPatient, ds.PixelSpacing = [0, 0, float(z)], [0.8, 0.8]
        ds.ImageOrientationPatient, ds.SliceThickness = [1, 0, 0, 0, 1, 0], 1
        ds.Rows, ds.Columns, ds.SamplesPerPixel = 512, 512, 1
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PhotometricInterpretation, ds.RescaleSlope, ds.RescaleIntercept = "MONOCHROME2", 1, -1024
        if lossless:
            ds.PixelData = encapsulate([imagecodecs.ljpeg_encode(plane, bitspersample=16)])
            ds["PixelData"].VR = "OB"
        else:
            ds.PixelData = plane.tobytes()
            ds["PixelData"].VR = "OW"
        ds.save_as(folder / f"{z:04}.dcm", enforce_file_format=True)


def child(way: str, source: str, target: str) -> None:
    """One conversion or reading in a process of its own; prints seconds and peak memory."""
    if way == "SimpleITK":
        import SimpleITK as sitk

        begin = time.perf_counter()
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(source))
        reader.Execute()
    else:
        import voxquarry as vq

        begin = time.perf_counter()
        vq.ingest(source, target, patch_size=96, memory_bytes=MEMORY)
    seconds = time.perf_counter() - begin
    status = Path("/proc/self/status").read_text()
    print(json.dumps([seconds, int(status.split("VmHWM:")[1].split()[0]) * 1024]))


def measure(way: str, source: Path, target: Path) -> tuple[float, int]:
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", __spec__.name, "--child", way, str(source), str(target)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    os.sync()
    return tuple(json.loads(printed.splitlines()[-1]))


def run(data: Path, *, quick: bool) -> dict[str, dict[str, float]]:
    """Figures by name: seconds (median of the rounds) and peak memory in MiB."""
    found: dict[str, list[tuple[float, int]]] = {}
    slices = 40 if quick else SLICES
    for name, lossless in (("CT series", False), ("CT series, JPEG lossless", True)):
        folder = data / "series"
        write_series(folder, slices, lossless=lossless)
        for _ in range(1 if quick else ROUNDS):
            for way in ("SimpleITK", "Voxquarry"):
                figures = measure(way, folder, data / "store")
                found.setdefault(f"{name}, {way}", []).append(figures)
        shutil.rmtree(folder)
    shape = (64, 256, 256) if quick else LARGE
    for name, write in (
        ("stack.tif", write_tiff),
        ("stack.h5", write_hdf5),
        ("stack.ome.zarr", write_zarr),
    ):
        write(data / name, shape)
        found[f"{name}, 4 GiB"] = [measure("Voxquarry", data / name, data / "store")]
        shutil.rmtree(data / name, ignore_errors=True)
        (data / name).unlink(missing_ok=True)
    return {
        name: {
            "seconds": statistics.median(seconds for seconds, _ in rounds),
            "peak_mib": max(peak for _, peak in rounds) / 2**20,
        }
        for name, rounds in found.items()
    }


def table(found: dict[str, dict[str, float]]) -> str:
    lines = ["| | seconds | peak memory, MiB (Python included) |", "|---|---|---|"]
    lines += [f"| {name} | {f['seconds']:.1f} | {f['peak_mib']:.0f} |" for name, f in found.items()]
    for name in ("CT series", "CT series, JPEG lossless"):
        ours, theirs = (found[f"{name}, {way}"]["seconds"] for way in ("Voxquarry", "SimpleITK"))
        lines += ["", f"{name}: ingest / SimpleITK reading alone = {ours / theirs:.2f}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.formats", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files: a smoke run")
    parser.add_argument("--data", type=Path, default=Path("bench-data"), help="(bench-data)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    arguments.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.data) as folder:
        found = run(Path(folder), quick=arguments.quick)
    print(table(found))
    if not arguments.quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "record.json").write_text(json.dumps(found, indent=1) + "\n")
        (RESULTS / "tables.md").write_text(table(found))


if __name__ == "__main__":
    main()
