"""Export in parallel blocks: any gzip reader reads it, results of the aggregator too; interrupted,
it leaves nothing.
"""

from __future__ import annotations

import gzip
import signal
import subprocess
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import identical, noise, smooth, store_of

import voxquarry as vq

# Of the writer: what a thread compresses at once.
BLOCK_BYTES = 1 << 20


def result_of(folder: Path, voxels: np.ndarray, **options: object) -> vq.Volume:
    """What the aggregator stores of patches that hold ``voxels``, ``(c, z, y, x)``."""
    channels, *size = voxels.shape
    grid = vq.GridSampler([min(n, 16) for n in size], overlap=[min(n, 16) // 2 for n in size])
    aggregator = vq.Aggregator(
        grid, size, channels=channels, out=folder / "pred.zarr/case/pred", **options
    )
    depth, height, width = grid.patch_size
    for z, y, x in grid.locations(size):
        aggregator.add(voxels[:, z : z + depth, y : y + height, x : x + width], (z, y, x))
    return aggregator.finish()


def expect(path: Path, voxels: np.ndarray) -> nib.Nifti1Image:
    """nibabel finds ``voxels``, ``(c, z, y, x)`` or ``(z, y, x)``, in the file, as stored."""
    image = nib.load(path)
    # NIfTI's axes are (x, y, z, c): ours, read backwards.
    assert identical(
        np.asanyarray(image.dataobj.get_unscaled()), np.ascontiguousarray(voxels.transpose())
    )
    return image


@pytest.mark.parametrize(
    "voxels",
    [
        noise((83, 97, 101), "f4"),
        smooth((3 * BLOCK_BYTES // 2 // 64, 8, 8), "i2"),
        np.zeros((130, 128, 127), "i2"),
        np.zeros((1, 1, 1), "u1"),
        noise((2, 61, 97, 103), "i2"),
    ],
    ids=["float32", "blocks that are full", "empty", "one voxel", "channels"],
)
def test_any_number_of_threads_makes_the_same_file(tmp_path: Path, voxels: np.ndarray) -> None:
    volume = store_of(tmp_path, voxels, patch_size=32)
    vq.export(volume, tmp_path / "plain.nii")
    plain = (tmp_path / "plain.nii").read_bytes()
    files = []
    for threads in (1, 2, 8):
        volume = vq.open(tmp_path / "store.zarr", threads=threads)["case01"]["ct"]
        vq.export(volume, tmp_path / f"{threads}.nii.gz")
        files.append((tmp_path / f"{threads}.nii.gz").read_bytes())
    assert files[0] == files[1] == files[2]
    assert gzip.decompress(files[0]) == plain
    # Some readers stop at the first member: it holds everything.
    member = zlib.decompressobj(31)
    assert member.decompress(files[0]) == plain
    assert member.eof and not member.unused_data
    subprocess.run(["gzip", "-t", tmp_path / "1.nii.gz"], check=True)
    expect(tmp_path / "8.nii.gz", voxels)


@pytest.mark.parametrize("name", ["pred.nii.gz", "pred.nii", "pred.hdr"])
def test_blended_channels_are_the_fourth_axis(tmp_path: Path, name: str) -> None:
    voxels = smooth((3, 40, 33, 21), "f4")
    volume = result_of(tmp_path, voxels)
    assert volume.dtype == "float32"
    vq.export(volume, tmp_path / name)
    image = expect(tmp_path / name, volume[...])
    assert image.shape == (21, 33, 40, 3)
    np.testing.assert_allclose(image.get_fdata(), voxels.transpose(3, 2, 1, 0), rtol=1e-6)
    assert np.array_equal(image.affine, volume.affine)


def test_quantised_probabilities_keep_slope_and_intercept(tmp_path: Path) -> None:
    voxels = np.random.default_rng(1).uniform(-0.2, 0.8, (2, 24, 20, 17)).astype("f4")
    volume = result_of(
        tmp_path, voxels, dtype="uint8", finish=("quantize", 1 / 255, -0.2), window="crop"
    )
    vq.export(volume, tmp_path / "pred.nii.gz")
    image = expect(tmp_path / "pred.nii.gz", volume[...])
    assert image.get_data_dtype() == "uint8"
    # The header has them in 32 bits.
    assert (image.dataobj.slope, image.dataobj.inter) == (np.float32(1 / 255), np.float32(-0.2))
    np.testing.assert_allclose(
        image.get_fdata(), voxels.transpose(3, 2, 1, 0), atol=0.5 / 255 + 1e-6
    )


def test_labels_lose_the_channel_axis(tmp_path: Path) -> None:
    voxels = np.random.default_rng(2).normal(size=(5, 20, 19, 18)).astype("f4")
    volume = result_of(tmp_path, voxels, finish="argmax", window="crop")
    vq.export(volume, tmp_path / "labels.nii.gz")
    expect(tmp_path / "labels.nii.gz", voxels.argmax(axis=0).astype("u1"))


def test_float16_becomes_float32_without_loss(tmp_path: Path) -> None:
    # All there are.
    voxels = np.arange(1 << 16, dtype="u2").view("f2").reshape(1, 64, 32, 32)
    volume = result_of(tmp_path, voxels, dtype="float16", window="crop")
    stored = volume[...]
    assert stored.dtype == "f2"
    vq.export(volume, tmp_path / "half.nii.gz")
    found = np.asanyarray(nib.load(tmp_path / "half.nii.gz").dataobj).transpose()
    assert found.dtype == "f4"
    assert np.array_equal(np.isnan(found), np.isnan(stored))
    # A NaN's bits may change, a zero's sign may not.
    expected, number = stored.astype("f4"), ~np.isnan(stored)
    assert identical(found[number], expected[number])


def test_progress_counts_every_byte_once(tmp_path: Path) -> None:
    volume = store_of(tmp_path, noise((2, 50, 40, 30), "i2"), patch_size=16)
    calls: list[tuple[str, int, int]] = []
    vq.export(volume, tmp_path / "a.nii.gz", progress=lambda *call: calls.append(call))
    done = [n for _, n, _ in calls]
    assert len(done) > 4 and done == sorted(set(done))
    assert {(name, total) for name, _, total in calls} == {("case01/ct", done[-1])}
    assert done[-1] == 2 * 50 * 40 * 30 * 2


class OurOwnError(Exception):
    pass


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.img"])
def test_whatever_stops_it_leaves_no_file(tmp_path: Path, name: str) -> None:
    volume = store_of(tmp_path, noise((200, 64, 64), "i2"), patch_size=16)
    before = sorted(tmp_path.iterdir())

    def fail(*_: object) -> None:
        raise OurOwnError

    # As Ctrl-C does.
    for stop, error in (
        (fail, OurOwnError),
        (lambda *_: signal.raise_signal(signal.SIGINT), KeyboardInterrupt),
    ):
        calls: list[int] = []

        def progress(label: str, done: int, total: int, stop=stop, calls=calls) -> None:
            calls.append(done)
            if len(calls) == 3:
                stop()

        with pytest.raises(error):
            vq.export(volume, tmp_path / name, progress=progress)
        assert len(calls) == 3
        assert sorted(tmp_path.iterdir()) == before
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(OurOwnError):
        vq.export(volume, tmp_path / name, overwrite=True, progress=fail)
    assert (tmp_path / name).read_bytes() == b"mine"
