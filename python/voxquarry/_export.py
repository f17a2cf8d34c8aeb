"""``export``: volumes as files."""

from __future__ import annotations

from . import _native
from ._progress import shown
from ._types import Path, VolumeProgress


def export(
    volume: _native.Volume,
    out: Path,
    *,
    overwrite: bool = False,
    progress: VolumeProgress | bool | None = None,
) -> None:
    """Writes a volume to a file; the format follows the extension: NIfTI (``.nii``, ``.nii.gz``,
    ``.hdr``/``.img``), NRRD (``.nrrd``, ``.nhdr``), MetaImage (``.mha``, ``.mhd``), MGH (``.mgh``,
    ``.mgz``), TIFF (``.tif`` for ImageJ, ``.ome.tif``), or NumPy (``.npy``, without the affine).

    A volume that was ingested from a NIfTI file gets the header of that file, in a NIfTI file.
    Otherwise channels become the fourth axis, float16 becomes float32 (but in ``.npy``), and int8
    becomes int16 in MGH. Slope and intercept go into the header of NIfTI; other formats have none,
    and get real values as float32, or float64 if 32 bits or more are stored. Voxels are streamed in
    slabs of planes. The threads of the volume's dataset compress ``.nii.gz``, NRRD and ``.mgz``;
    the bytes do not depend on their number. Ctrl-C stops the export between slabs. No partial file
    remains after an error.

    Args:
        volume: The volume to write.
        out: The file; either of a pair.
        overwrite: Replace an existing file.
        progress: ``True`` for a bar, or a function that is called with the volume
            (``"case01/ct"``), the bytes read so far and the bytes in all.

    Raises:
        UsageError: An extension that cannot be written, a dtype that the format lacks, or a file
            that exists already.
        DataError: The volume is damaged.
        StorageError: Disk or permissions.
    """
    _native.export(volume, out, overwrite=overwrite, progress=shown(progress))
