"""NIfTI files written field by field, so that nibabel's habits on writing hide nothing; stores made
of them; and forked children.
"""

from __future__ import annotations

import gzip
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

import voxquarry as vq

HEADERS = {
    (1, False): nib.Nifti1Header,
    (1, True): nib.nifti1.Nifti1PairHeader,
    (2, False): nib.Nifti2Header,
    (2, True): nib.nifti2.Nifti2PairHeader,
}
INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
NUMBERS = [*INTEGERS, "f4", "f8"]
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
RGBA = np.dtype([*RGB.descr, ("A", "u1")])


def hear_interrupts() -> None:
    """SIGINT raises KeyboardInterrupt in all tests from here on, and in child processes.

    A shell starts background jobs with SIGINT ignored, and children inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def noise(shape: tuple[int, ...], dtype: object, seed: int = 0) -> np.ndarray:
    """Voxels that use every bit of an integer type; floats with a few that are not finite."""
    dtype, random = np.dtype(dtype), np.random.default_rng(seed)
    if dtype.kind != "f":
        count = int(np.prod(shape))
        return np.frombuffer(random.bytes(count * dtype.itemsize), dtype).reshape(shape).copy()
    voxels = random.normal(0, 1000, shape).astype(dtype)
    voxels.flat[:4] = [np.nan, np.inf, -np.inf, -0.0][: voxels.size]
    return voxels


def smooth(shape: tuple[int, ...], dtype: object = "i2") -> np.ndarray:
    """Voxels that compress, each with neighbours like it and none twice in a small volume."""
    return (np.arange(int(np.prod(shape))) * 7 % 30011 - 15000).reshape(shape).astype(dtype)


def write_nifti(
    path: Path,
    voxels: np.ndarray,
    *,
    version: int = 1,
    order: str = "<",
    edit: Callable[[nib.Nifti1Header], None] = lambda header: None,
) -> Path:
    """Writes ``voxels``, ``(x, y, z, …)``; ``.hdr`` writes a pair. ``edit`` changes the header
    last.
    """
    pair = path.suffix == ".hdr"
    header = HEADERS[version, pair](endianness=order)
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    header["vox_offset"] = 0 if pair else header.single_vox_offset
    edit(header)
    head = header.binaryblock + bytes(4)
    data = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")
    if pair:
        path.write_bytes(head)
        path.with_suffix(".img").write_bytes(data)
    else:
        path.write_bytes(gzip.compress(head + data, 1) if path.suffix == ".gz" else head + data)
    return path


def store_of(
    folder: Path,
    voxels: np.ndarray,
    *,
    kind: type = str,
    name: str = "store.zarr",
    **options: object,
) -> vq.Volume:
    """The volume that ``voxels``, ``(z, y, x)`` or ``(c, z, y, x)``, become."""
    open_options = {key: options.pop(key) for key in ("cache_bytes", "threads") if key in options}
    source = write_nifti(
        folder / "source.nii",
        voxels.T if voxels.ndim == 3 else np.moveaxis(voxels, 0, -1).transpose(2, 1, 0, 3),
    )
    vq.ingest({"case01": {"ct": kind(source)}}, folder / name, **options)
    return vq.open(folder / name, **open_options)["case01"]["ct"]


def identical(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether both have the same dtype, shape and bits."""
    return (found.dtype, found.shape) == (
        expected.dtype,
        expected.shape,
    ) and found.tobytes() == expected.tobytes()


def in_child(work: Callable[[], object]) -> object:
    """What ``work`` gives in a forked child, which has a minute."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            os.write(write, pickle.dumps(work()))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0, "the child hung or died"
    return pickle.loads(answer)
