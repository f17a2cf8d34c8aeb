"""Blosc2 as nnU-Net keeps its training cases, and zstd in the same layout."""

import blosc2
import numpy as np

from . import nnunet
from .system import System, box


def write_case(voxels, patch, path, data, codec=blosc2.Codec.LZ4HC, level=5):
    """Writes `voxels`, `(z, y, x)`, as nnU-Net writes the image of a case.

    The rule comes from the wheel in the folder `data`.
    """
    _, layout, select_filter = nnunet.rules(data)
    case = voxels[None]
    blocks, chunks = layout(case.shape, patch, case.dtype.itemsize)
    chosen = select_filter(case, blocks, chunks, codec, level)
    cparams = {"codec": codec, "clevel": level, "filters": [chosen], "nthreads": 2}
    blosc2.asarray(
        np.ascontiguousarray(case), urlpath=str(path), chunks=chunks, blocks=blocks, cparams=cparams
    )


class NnUNet(System):
    name = "blosc2, nnU-Net's layout"
    store = "blosc2-nnunet"
    layout_follows_patch = True
    codec = blosc2.Codec.LZ4HC
    level = 5

    def recipe(self):
        version, _, _ = nnunet.rules(self.volume.folder.parent)
        return {
            "blosc2": blosc2.__version__,
            "nnunetv2": version,
            "codec": self.codec.name,
            "level": self.level,
        }

    def write(self, folder):
        data = self.volume.folder.parent
        write_case(
            self.volume.voxels(), self.patch, folder / "case.b2nd", data, self.codec, self.level
        )

    def open(self, threads=1):
        blosc2.set_nthreads(threads)
        self.reader = blosc2.open(
            urlpath=str(self.folder / "case.b2nd"),
            mode="r",
            dparams={"nthreads": threads},
            mmap_mode="r",
        )

    def read(self, start, size, out):
        return self.reader[(slice(0, 1), *box(start, size))][0]


class NnUNetZstd(NnUNet):
    name = "blosc2, same layout, zstd 8"
    store = "blosc2-nnunet-zstd"
    codec = blosc2.Codec.ZSTD
    level = 8


class NnUNetUnmapped(NnUNet):
    """The same file with positioned reads, which are faster on a cold disk."""

    name = "blosc2, nnU-Net's layout, no mmap"

    def open(self, threads=1):
        blosc2.set_nthreads(threads)
        self.reader = blosc2.open(
            urlpath=str(self.folder / "case.b2nd"), mode="r", dparams={"nthreads": threads}
        )


SYSTEMS = (NnUNet, NnUNetZstd)
