"""numpy's memory map, webKnossos' wkw, HDF5, and common ways to read NIfTI files."""

import shutil

import h5py
import indexed_gzip
import nibabel
import numpy as np
import wkw

from . import data
from .system import System, box


class Memmap(System):
    """Uncompressed: a patch is copied from the map into a buffer that is reused."""

    name = "numpy memmap, uncompressed"
    store = "numpy"

    def write(self, folder):
        np.save(folder / "volume.npy", self.volume.voxels())

    def open(self, threads=1):
        self.reader = np.load(self.folder / "volume.npy", mmap_mode="r")

    def read(self, start, size, out):
        np.copyto(out, self.reader[box(start, size)])
        return out


class Wkw(System):
    name = "wkw, 32³, lz4"
    store = "wkw"

    def recipe(self):
        return {"block": 32, "file": 32}

    def write(self, folder):
        voxels = self.volume.voxels()
        plain = folder / "plain"
        header = wkw.Header(voxels.dtype.type, block_len=32, file_len=32)
        with wkw.Dataset.create(str(plain), header) as dataset:
            dataset.write((0, 0, 0), np.asfortranarray(voxels.T))
            # Only whole files can be written compressed, so they are compressed afterwards, as in
            # webKnossos' own tools.
            dataset.compress(str(folder / "dataset"), compress_files=True)
        shutil.rmtree(plain)

    def open(self, threads=1):
        self.reader = wkw.Dataset.open(str(self.folder / "dataset"))

    def read(self, start, size, out):
        return self.reader.read(start[::-1], size[::-1])[0].T


class Hdf5(System):
    compression: str

    @property
    def name(self):
        return f"h5py, 32³, {self.compression}"

    @property
    def store(self):
        return f"hdf5-{self.compression}"

    def write(self, folder):
        voxels = self.volume.voxels()
        chunks = tuple(min(32, n) for n in voxels.shape)
        with h5py.File(folder / "volume.h5", "w") as file:
            dataset = file.create_dataset(
                "volume",
                voxels.shape,
                voxels.dtype,
                chunks=chunks,
                compression=self.compression,
                shuffle=True,
            )
            for z in range(0, voxels.shape[0], 32):
                dataset[z : z + 32] = voxels[z : z + 32]

    def open(self, threads=1):
        self.reader = h5py.File(self.folder / "volume.h5", "r")["volume"]

    def read(self, start, size, out):
        self.reader.read_direct(out, box(start, size))
        return out


class Hdf5Lzf(Hdf5):
    compression = "lzf"


class Hdf5Gzip(Hdf5):
    compression = "gzip"


class NiftiSlicing(System):
    """nibabel reads only the rows of the patch."""

    name = "nibabel, slicing .nii"
    store = "nifti"

    def write(self, folder):
        (folder / "volume.nii").write_bytes(self.volume.nii.read_bytes())

    def open(self, threads=1):
        self.reader = nibabel.load(self.folder / "volume.nii").dataobj

    def read(self, start, size, out):
        return np.asarray(self.reader[box(start, size)[::-1]]).T


class GzipSlicing(System):
    """nibabel over a seekable gzip reader; building its index is not timed."""

    name = "nibabel, indexed_gzip"
    store = "nifti-gz"
    slow = True

    def write(self, folder):
        data.gzip_copy(self.volume.nii, folder / "volume.nii.gz")
        with indexed_gzip.IndexedGzipFile(str(folder / "volume.nii.gz")) as file:
            file.build_full_index()
            file.export_index(str(folder / "volume.gzidx"))

    def open(self, threads=1):
        folder = self.folder
        file = indexed_gzip.IndexedGzipFile(
            str(folder / "volume.nii.gz"), index_file=str(folder / "volume.gzidx")
        )
        self.reader = nibabel.Nifti1Image.from_stream(file).dataobj

    def read(self, start, size, out):
        return np.asarray(self.reader[box(start, size)[::-1]]).T


class GzipLoading(System):
    """Loads the whole file with nibabel and crops, as TorchIO and MONAI do without a cache."""

    name = "nibabel, full load of .nii.gz"
    store = "nifti-gz"
    slow = True

    def write(self, folder):
        GzipSlicing.write(self, folder)

    def open(self, threads=1):
        self.path = self.folder / "volume.nii.gz"

    def read(self, start, size, out):
        voxels = np.asarray(nibabel.load(self.path).dataobj)
        np.copyto(out, voxels[box(start, size)[::-1]].T)
        return out


SYSTEMS = (Memmap, Wkw, Hdf5Lzf, Hdf5Gzip, NiftiSlicing, GzipSlicing, GzipLoading)
