"""Ingests a small volume with the installed package and reads a patch of it back."""

import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np

import voxquarry as vq


def nifti(voxels: np.ndarray) -> bytes:
    """A NIfTI-1 file with a unit affine; `voxels` is `(z, y, x)` of int16."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *voxels.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)  # int16
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, 0, 1)
    for row in range(3):
        struct.pack_into("<f", header, 280 + 20 * row, 1)
    header[344:348] = b"n+1\0"
    return bytes(header) + voxels.astype("<i2").tobytes()


with tempfile.TemporaryDirectory() as folder:
    voxels = np.arange(40 * 50 * 60, dtype="<i2").reshape(40, 50, 60)
    source = Path(folder) / "scan.nii.gz"
    source.write_bytes(gzip.compress(nifti(voxels)))
    store = vq.ingest(source, Path(folder) / "scan.vxq", patch_size=16)
    patch = store["scan"]["image"].read((3, 5, 7), 16)
    assert np.array_equal(patch, voxels[3:19, 5:21, 7:23])
    print("voxquarry", vq.__version__, "reads", patch.shape, patch.dtype)
