"""The volumes that are read: synthetic ones and a real one, made once in the data folder.

A volume is a pair of files: every patch is compared with `volume.npy`; Voxquarry and nibabel start
from `volume.nii`. Axes are (z, y, x), x fastest.
"""

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

# Part of every volume's folder name; raise it when a generator changes, so that volumes are remade.
GENERATION = 1
QUICK = (256, 256, 256)


@dataclass(frozen=True)
class Volume:
    """A volume on disk; `folder` also holds the stores that the systems make of it."""

    name: str
    folder: Path
    shape: tuple[int, int, int]
    dtype: str

    @property
    def npy(self):
        return self.folder / "volume.npy"

    @property
    def nii(self):
        return self.folder / "volume.nii"

    @property
    def voxel_bytes(self):
        return np.dtype(self.dtype).itemsize

    @property
    def raw_bytes(self):
        return int(np.prod(self.shape)) * self.voxel_bytes

    def voxels(self):
        """The voxels, memory-mapped."""
        return np.load(self.npy, mmap_mode="r")


class Frame:
    """Coordinates and random fields on the planes `z0 … z1` of a volume.

    They do not depend on how the volume is cut into slabs.
    """

    def __init__(self, shape, z0, z1):
        self.shape = shape
        self.z0 = z0
        self.planes = np.arange(z0, z1)
        nz, ny, nx = shape
        self.z = self.planes[:, None, None] / nz
        self.y = (np.arange(ny) / ny - 0.5)[None, :, None]
        self.x = (np.arange(nx) / nx - 0.5)[None, None, :]

    def smooth(self, seed, cell):
        """A trilinear random field of unit variance at its knots, one knot per `cell` voxels."""
        knots = np.random.default_rng(seed).standard_normal(
            [int(np.ceil(n / cell)) + 4 for n in self.shape], dtype=np.float32
        )
        for axis, at in enumerate(
            (self.planes / cell, np.arange(self.shape[1]) / cell, np.arange(self.shape[2]) / cell)
        ):
            i = at.astype(int)
            w = (at - i).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
            knots = np.take(knots, i, axis) * (1 - w) + np.take(knots, i + 1, axis) * w
        return knots

    def noise(self, seed, sigma):
        """Noise of unit variance, blurred in-plane by `sigma` voxels like a scanner's kernel."""
        white = np.random.default_rng([seed, self.z0]).standard_normal(
            (len(self.planes), *self.shape[1:]), dtype=np.float32
        )
        blurred = ndimage.gaussian_filter(white, (0, sigma, sigma), truncate=3) if sigma else white
        return blurred / blurred.std()


def ct_hounsfield(frame):
    """Tissue, lung, bone and air with scanner-like noise, in Hounsfield units.

    It compresses like a chest CT.
    """
    x, y, z = frame.x, frame.y, frame.z
    scale = frame.shape[2] / 512
    organs, texture, vessels = (
        frame.smooth(seed, cell * scale) for seed, cell in ((1, 48), (2, 16), (3, 5))
    )
    radius = np.sqrt((x / 0.44) ** 2 + (y / 0.33) ** 2) + 0.03 * np.sin(9 * z)
    lung = (np.abs(np.abs(x) - 0.17) < 0.11) & (np.abs(y) < 0.18) & (z > 0.45) & (z < 0.85)
    bone = ((radius > 0.80) & (radius < 0.87) & (texture > 0.2)) | (
        (np.abs(x) < 0.05) & (np.abs(y - 0.2) < 0.06)
    )
    hu = np.where(
        organs > 0.9,
        60 + 20 * texture,
        np.where(organs < -0.9, -90 + 15 * texture, 35 + 12 * texture),
    )
    hu = np.where(lung, -840 + 40 * vessels + 25 * texture + (vessels > 1.6) * 700, hu)
    hu = np.where(bone, 420 + 170 * vessels + 90 * texture, hu)
    hu = np.where(radius > 1.0, -1000, np.where(radius > 0.97, -90, hu)).astype(np.float32)
    hu += np.where(radius > 1.0, 6.0, np.where(lung, 22.0, 17.0)).astype(np.float32) * frame.noise(
        11, 0.5
    )
    return np.clip(np.where(x**2 + y**2 > 0.25, -1024, hu), -1024, 3071)


def ct(frame):
    return np.rint(ct_hounsfield(frame)).astype(np.int16)


def ct_normalised(frame):
    """The CT as nnU-Net stores it: resampled (here by a fraction of a voxel in x), z-scored."""
    hu = np.rint(ct_hounsfield(frame)).astype(np.float32)
    resampled = hu * np.float32(0.63) + np.roll(hu, -1, axis=2) * np.float32(0.37)
    return (np.clip(resampled, -970, 1090) - np.float32(-158.6)) / np.float32(324.7)


def electron_microscopy(frame):
    """Dark membranes around cells, textured cytoplasm and shot noise; no plane is constant."""
    membranes = np.abs(frame.smooth(21, 24)) < 0.07
    membranes |= np.abs(frame.smooth(22, 10)) < 0.05
    grey = 150 + 9 * frame.smooth(23, 30) + 5 * frame.smooth(24, 4)
    grey = np.where(membranes, 70, grey) + 3.0 * frame.noise(25, 0.7)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def label_map(frame):
    """A few hundred connected blobs with about twenty labels on a background of zeros."""
    field = frame.smooth(31, 40) + 0.25 * frame.smooth(32, 9)
    kind = np.digitize(frame.smooth(33, 90), np.linspace(-1.5, 1.5, 20))
    return np.where(field > 0.45, kind + 1, 0).astype(np.uint16)


# Name: generator, dtype, shape.
SYNTHETIC = {
    "int16": (ct, "int16", (1024, 512, 512)),
    "uint8": (electron_microscopy, "uint8", (1024, 512, 512)),
    "float32": (ct_normalised, "float32", (512, 512, 512)),
    "labels": (label_map, "uint16", (512, 512, 512)),
}
NAMES = (*SYNTHETIC, "real")
TITLES = {
    "int16": "int16, CT-like",
    "uint8": "uint8, EM-like",
    "float32": "float32, normalised CT-like",
    "labels": "uint16, labels",
    "real": "uint8, real MR (ch2better)",
}


def volume(name, data, quick, say):
    """The volume `name` in the folder `data`; made if it does not exist."""
    folder = data / f"{name}-{'quick' if quick else 'full'}-{GENERATION}"
    ready = folder / "ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        say(f"making the volume {name}")
        if name == "real":
            save(folder, real_volume(data))
        else:
            make, dtype, shape = SYNTHETIC[name]
            _generate(folder, make, dtype, QUICK if quick else shape)
        ready.touch()
    voxels = np.load(folder / "volume.npy", mmap_mode="r")
    return Volume(name, folder, voxels.shape, voxels.dtype.name)


def _generate(folder, make, dtype, shape):
    voxels = np.lib.format.open_memmap(folder / "volume.npy", "w+", dtype, shape)
    for z0 in range(0, shape[0], 32):
        z1 = min(z0 + 32, shape[0])
        voxels[z0:z1] = make(Frame(shape, z0, z1))
    voxels.flush()
    _save_nifti(folder, voxels)


def save(folder, voxels):
    np.save(folder / "volume.npy", voxels)
    _save_nifti(folder, voxels)


def _save_nifti(folder, voxels):
    # x is fastest in NIfTI too: the transposed view has the same bytes in Fortran order.
    nibabel.save(nibabel.Nifti1Image(voxels.T, np.eye(4)), folder / "volume.nii")


def real_volume(data):
    """The Colin 27 head (`ch2better`) of Debian's package mricron-data, downloaded if necessary."""
    relative = Path("usr/share/mricron/templates/ch2better.nii.gz")
    path = Path("/") / relative
    if not path.exists():
        unpacked = data / "mricron-data"
        path = unpacked / relative
        if not path.exists():
            unpacked.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                ["apt-get", "download", "mricron-data"],
                cwd=unpacked,
                check=True,
                capture_output=True,
            )
            package = next(unpacked.glob("mricron-data_*.deb"))
            subprocess.run(
                ["dpkg-deb", "-x", package.name, "."], cwd=unpacked, check=True, capture_output=True
            )
    image = nibabel.load(path)
    return np.ascontiguousarray(np.asarray(image.dataobj).T)


def gzip_copy(source, target):
    """Compresses `source` with gzip at level 6."""
    with open(source, "rb") as plain, gzip.open(target, "wb", 6) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)
