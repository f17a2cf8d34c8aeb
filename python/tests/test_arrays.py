"""Arrays, images in memory and planes become the volumes that the same voxels in a file become."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zarr
from helpers import INTEGERS, NUMBERS, RGB, identical, noise, smooth, write_nifti

import voxquarry as vq

AFFINE = np.array([[-2, 0.125, 0, 90], [0, 1.5, 0.25, -126], [0, 0, 0.5, -72], [0, 0, 0, 1.0]])


def ingested(folder: Path, source: object, **options: object) -> vq.Volume:
    shutil.rmtree(folder / "s.zarr", ignore_errors=True)
    return vq.ingest({"s": {"v": source}}, folder / "s.zarr", patch_size=8, **options)["s"]["v"]


@pytest.mark.parametrize("dtype", [*NUMBERS, "f2", "?"])
def test_every_dtype_byte_order_and_memory_order(tmp_path: Path, dtype: str) -> None:
    voxels = noise((5, 13, 21, 34), "u1") > 99 if dtype == "?" else noise((5, 13, 21, 34), dtype)
    stored = voxels.view("u1") if dtype == "?" else voxels
    padded = np.zeros((5, 26, 22, 34), voxels.dtype)
    padded[:, ::2, 1:] = voxels
    read_only = voxels.copy()
    read_only.flags.writeable = False
    for given in (
        voxels,
        np.asfortranarray(voxels),
        voxels.astype(voxels.dtype.newbyteorder(">")),
        padded[:, ::2, 1:],
        voxels[:, ::-1][:, ::-1],
        read_only,
    ):
        volume = ingested(tmp_path, given)
        assert identical(volume[...], stored)
        assert identical(zarr.open_array(tmp_path / "s.zarr/s/v/0", mode="r")[...], stored)


@pytest.mark.parametrize("dims", ["czyx", "zyxc", "xyzc", "yczx", "CZYX"])
def test_axes_by_name_in_any_order(tmp_path: Path, dims: str) -> None:
    voxels = smooth((3, 17, 12, 9))
    given = np.moveaxis(voxels, range(4), [dims.lower().index(a) for a in "czyx"])
    assert identical(ingested(tmp_path, given, dims=dims)[...], voxels)
    assert identical(ingested(tmp_path, vq.Array(given, dims=dims))[...], voxels)


def test_further_axes_of_length_one_are_left_out(tmp_path: Path) -> None:
    voxels = smooth((7, 8, 9))
    assert identical(ingested(tmp_path, voxels[None, None], dims="tczyx")[...], voxels[None])
    assert identical(ingested(tmp_path, voxels[:, None], dims="ztyx")[...], voxels)
    with pytest.raises(vq.UsageError, match="axis 't' has 2 entries"):
        ingested(tmp_path, np.zeros((2, 3, 4, 5)), dims="tzyx")


def test_many_channels_that_lie_inside(tmp_path: Path) -> None:
    voxels = smooth((11, 9, 8, 7))
    given = np.moveaxis(voxels, 0, -1)
    assert identical(ingested(tmp_path, given, dims="zyxc")[...], voxels)


def test_spacing_and_affine(tmp_path: Path) -> None:
    voxels = smooth((4, 5, 6))
    for options, affine in (
        ({}, np.eye(4)),
        ({"spacing": 2}, np.diag([2, 2, 2, 1])),
        ({"spacing": (3, 2, 1)}, np.diag([1, 2, 3, 1])),
        ({"affine": AFFINE}, AFFINE),
    ):
        assert np.array_equal(ingested(tmp_path, voxels, **options).affine, affine)
        of_array = vq.Array(voxels, **options)
        assert np.array_equal(ingested(tmp_path, of_array).affine, affine)
    own = ingested(tmp_path, vq.Array(voxels, spacing=5), spacing=1)
    assert own.spacing == (5, 5, 5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spacing": (1, 1, 1), "affine": AFFINE}, "exclude each other"),
        ({"spacing": (1, 2)}, "expected a number or"),
        ({"spacing": (1, -2, 1)}, "above 0"),
        ({"spacing": float("nan")}, "above 0"),
        ({"affine": np.full((4, 4), np.nan)}, "not finite"),
        ({"affine": np.zeros((4, 4))}, "last row"),
        ({"affine": np.diag([1, 1, 0, 1])}, "singular"),
        ({"affine": np.eye(3)}, "expected 4×4"),
        ({"affine": "RAS"}, "expected 4×4"),
        ({"dims": "zy"}, "names 2 axes"),
        ({"dims": "zyy"}, "once each"),
        ({"dims": "abc"}, "once each"),
    ],
)
def test_wrong_geometry_and_axes(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(vq.UsageError, match=words):
        ingested(tmp_path, smooth((4, 5, 6)), **options)
    assert not list(tmp_path.glob("*.zarr/s"))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4)), r"numpy.ndarray of shape \(3, 4\)"),
        (np.zeros((2, 3, 4, 5, 6)), "name others"),
        (np.zeros((3, 0, 4)), "at least one voxel"),
        (np.zeros((3, 4, 5), object), "object"),
        (np.zeros((3, 4, 5), complex), "complex128"),
        (np.zeros((3, 4, 5), RGB), "integers"),
        (np.zeros((3, 4, 5), "M8[s]"), "datetime64"),
        (np.zeros((3, 4, 5), np.longdouble), "longdouble|float128"),
        (np.ma.masked_equal(np.zeros((3, 4, 5)), 0), "fill it first"),
        ([[[1, 2], [3, 4]]], "no path and no array"),
        ((np.zeros((4, 5)) for _ in range(3)), "wrap a generator in Planes"),
    ],
)
def test_what_is_no_volume(tmp_path: Path, array: object, words: str) -> None:
    with pytest.raises(vq.UsageError, match=words):
        ingested(tmp_path, array)


def test_a_lone_array_needs_a_subject(tmp_path: Path) -> None:
    with pytest.raises(vq.UsageError, match="name of its subject"):
        vq.ingest(np.zeros((3, 4, 5)), tmp_path / "s.zarr")
    volume = vq.ingest({"s": smooth((3, 4, 5))}, tmp_path / "s.zarr", patch_size=4)["s"]["image"]
    assert identical(volume[...], smooth((3, 4, 5)))


def test_labels_and_weights(tmp_path: Path) -> None:
    labels, heat = smooth((9, 8, 7), "u1") % 3, abs(smooth((9, 8, 7), "f4"))
    volumes = {"seg": vq.Labels(labels), "heat": vq.Weights(heat), "mask": vq.Labels(labels > 1)}
    subject = vq.ingest({"s": volumes}, tmp_path / "s.zarr", patch_size=4)["s"]
    assert subject["seg"].labels == {n: int((labels == n).sum()) for n in (1, 2)}
    assert subject["mask"].labels == {1: int((labels == 2).sum())}
    assert (tmp_path / "s.zarr/s/heat/sums").is_dir()
    with pytest.raises(vq.DataError, match=r"numpy.ndarray of s/v.*0\.5.*integers"):
        ingested(tmp_path, vq.Labels(np.full((3, 4, 5), 0.5)))


def test_other_grids_in_one_subject(tmp_path: Path) -> None:
    volumes = {"a": np.zeros((3, 4, 5)), "b": np.zeros((3, 4, 6))}
    with pytest.raises(vq.DataError, match="numpy.ndarray of s/b.*another grid"):
        vq.ingest({"s": volumes}, tmp_path / "s.zarr")
    volumes = {f"{n}": vq.Array(np.zeros((3, 4, 5)), spacing=n) for n in (1, 2)}
    with pytest.raises(vq.DataError, match="grid"):
        vq.ingest({"s": volumes}, tmp_path / "s.zarr")


@pytest.mark.parametrize("shape", [(9, 8, 7), (9, 8, 7, 3), (9, 8), (9, 8, 7, 2, 3)])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", None])
def test_nibabel_images(tmp_path: Path, shape: tuple[int, ...], name: str | None) -> None:
    image = nib.Nifti1Image(smooth(shape), AFFINE)
    if name:
        nib.save(image, tmp_path / name)
        image = nib.load(tmp_path / name)
    volume = ingested(tmp_path, image)
    nib.save(image, tmp_path / "expected.nii")
    expected = vq.ingest(tmp_path / "expected.nii", tmp_path / "e.zarr", patch_size=8)
    assert identical(volume[...], expected["expected"]["image"][...])
    assert np.array_equal(volume.affine, image.affine)


def test_scaled_nibabel_images_keep_stored_voxels_and_scaling(tmp_path: Path) -> None:
    stored = smooth((9, 8, 7))

    def edit(header: nib.Nifti1Header) -> None:
        header.set_slope_inter(0.5, -1024)
        header.set_sform(AFFINE, 2)

    path = write_nifti(tmp_path / "a.nii", stored, edit=edit)
    volume = ingested(tmp_path, nib.load(path))
    assert identical(volume[...], np.ascontiguousarray(stored.T))
    assert (volume.slope, volume.intercept) == (0.5, -1024)
    real = nib.load(path).get_fdata()
    assert np.allclose(volume.scaled[...], real.T)
    # Cached real values are not what the file stores: the image says what counts.
    mask = write_nifti(tmp_path / "m.nii", stored % 2, edit=lambda h: h.set_slope_inter(3, 1))
    labels = ingested(tmp_path, vq.Labels(nib.load(mask)))
    assert set(labels.labels) == {1, 4}


def test_an_array_lies_where_the_image_of_its_subject_lies(tmp_path: Path) -> None:
    image = nib.Nifti1Image(smooth((9, 8, 7)), AFFINE)
    volumes = {"seg": vq.Labels(np.ones((7, 8, 9), bool)), "ct": image}
    subject = vq.ingest({"s": volumes}, tmp_path / "s.zarr", patch_size=4)["s"]
    assert np.array_equal(subject["seg"].affine, AFFINE)


def test_arrays_beside_files(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", smooth((9, 8, 7)))
    own = nib.load(path).affine
    volumes = {"ct": path, "seg": vq.Labels(vq.Array(np.ones((7, 8, 9), bool), affine=own))}
    subject = vq.ingest({"s": volumes}, tmp_path / "s.zarr", patch_size=4)["s"]
    assert identical(subject["ct"][...], np.ascontiguousarray(smooth((9, 8, 7)).T))
    assert subject["seg"].labels == {1: 504}


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (vq._arrays, vq._ingest):
        found = doctest.testmod(module)
        assert found.attempted >= 3 and found.failed == 0
    guide = Path(__file__).parents[2] / "docs/arrays.md"
    (example,) = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(guide), "exec"), {})
    assert vq.open("arrays.zarr")["case02"]["em"][39, 0, 0] == 39


def planes_of(voxels: np.ndarray) -> Iterator[np.ndarray]:
    """Planes ``(y, x)`` or ``(c, y, x)`` in ascending z."""
    yield from (voxels[..., z, :, :] for z in range(voxels.shape[-3]))


@pytest.mark.parametrize("shape", [(19, 8, 7), (3, 19, 8, 7)])
@pytest.mark.parametrize("dtype", [*INTEGERS, "f4", ">f8"])
def test_planes(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    voxels = smooth(shape, dtype)
    native = voxels.astype(voxels.dtype.newbyteorder("="))
    stated = vq.Planes(planes_of(voxels), shape=shape, dtype=dtype)
    for planes in (
        stated,
        vq.Planes(planes_of(voxels), shape=shape),
        vq.Planes(list(planes_of(voxels))),
    ):
        assert identical(ingested(tmp_path, planes, spacing=2)[...], native)


def test_planes_that_are_not_as_stated(tmp_path: Path) -> None:
    voxels = smooth((6, 8, 7))
    for planes, words in (
        (vq.Planes(planes_of(voxels), shape=(9, 8, 7)), "end after 6, expected 9"),
        (vq.Planes(planes_of(voxels), shape=(5, 8, 7)), "go on after 5"),
        (vq.Planes(planes_of(voxels), shape=(6, 8, 9)), r"plane 0 is int16 of shape \(8, 7\)"),
        (vq.Planes(planes_of(voxels), shape=(6, 8, 7), dtype="f4"), "expected float32"),
        (vq.Planes([voxels[0], voxels[1].T]), r"plane 1 is int16 of shape \(7, 8\)"),
    ):
        with pytest.raises(vq.DataError, match=words):
            ingested(tmp_path, planes)
    assert not list(tmp_path.glob("*.zarr/s"))
    for arguments, words in (
        ((planes_of(voxels),), "give shape"),
        (([],), "without a plane"),
    ):
        with pytest.raises(vq.UsageError, match=words):
            vq.Planes(*arguments)
    used = vq.Planes(planes_of(voxels), shape=voxels.shape)
    ingested(tmp_path, used)
    with pytest.raises(vq.DataError, match="used up"):
        ingested(tmp_path, used)


def test_an_exception_of_the_generator_is_the_cause(tmp_path: Path) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield from np.zeros((17, 8, 7))
        raise RuntimeError("the camera is gone")

    with pytest.raises(vq.DataError, match="Planes of s/v.*RuntimeError: the camera") as caught:
        ingested(tmp_path, vq.Planes(failing(), shape=(40, 8, 7)))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert not list(tmp_path.glob("*.zarr/s"))

    class Unreadable:
        shape, dtype = (3, 4, 5), np.dtype("u1")

        def __getitem__(self, index: object) -> np.ndarray:
            raise OSError("unplugged")

    with pytest.raises(vq.DataError, match="unplugged") as caught:
        ingested(tmp_path, Unreadable())
    assert isinstance(caught.value.__cause__, OSError)


def test_keyboard_interrupt_of_a_generator_is_itself(tmp_path: Path) -> None:
    def interrupted() -> Iterator[np.ndarray]:
        yield np.zeros((8, 7))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingested(tmp_path, vq.Planes(interrupted(), shape=(40, 8, 7)))
    assert not list(tmp_path.glob("*.zarr/s"))


SLOW = """
import itertools, sys, time, numpy as np, voxquarry as vq
def slow():
    for z in range(2000):
        time.sleep(0.02)
        if z == 20:
            print("running", flush=True)
        yield np.zeros((8, 7), "u1")
try:
    vq.ingest({"s": vq.Planes(slow(), shape=(2000, 8, 7))}, sys.argv[1], patch_size=8)
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_stops_a_slow_generator(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(store)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "running\n"
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=20)[0] == "stopped\n"
    assert not (store / "s").exists()


def test_an_ingest_that_is_repeated_knows_the_same_voxels(tmp_path: Path) -> None:
    a, b, store = smooth((9, 8, 7)), smooth((9, 8, 7)) + 1, tmp_path / "s.zarr"
    vq.ingest({"a": a}, store, patch_size=4)
    # As after an interruption: "a" is done, and is not written again.
    before = os.stat(store / "a").st_ino
    assert list(vq.ingest({"a": a.copy(), "b": b}, store, patch_size=4)) == ["a", "b"]
    assert os.stat(store / "a").st_ino == before
    with pytest.raises(vq.UsageError, match="exists already"):
        vq.ingest({"a": a + 1, "c": b}, store, patch_size=4)


def test_memory_is_that_of_slabs(tmp_path: Path) -> None:
    made = []

    class Computed:
        """256 MiB that exist nowhere."""

        shape, dtype = (256, 512, 512), np.dtype("f4")

        def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
            planes = range(*index[0].indices(256))
            made.append(len(planes))
            return np.stack([np.full((512, 512), z, "f4") for z in planes])

    tracemalloc.start()
    volume = ingested(tmp_path, Computed(), memory_bytes="128MiB")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(made) == 256 and max(made) <= 64
    assert peak < 160 << 20
    assert [float(volume[z, 3, 4]) for z in (0, 100, 255)] == [0, 100, 255]


def test_what_is_stated_holds_for_files_of_a_dictionary_too(tmp_path: Path) -> None:
    voxels, path = smooth((8, 9, 10)), tmp_path / "a.npy"
    np.save(path, voxels)
    alone = {"s": {"ct": path, "mask": vq.Labels(path)}, "t": path}
    dataset = vq.ingest(alone, tmp_path / "1.zarr", patch_size=4, spacing=(3, 2, 1))
    volumes = [*dataset["s"].values(), dataset["t"]["image"]]
    assert [volume.spacing for volume in volumes] == [(3, 2, 1)] * 3
    for source in (alone, path):
        with pytest.raises(vq.UsageError, match="dims describes arrays"):
            vq.ingest(source, tmp_path / "2.zarr", patch_size=4, dims="zyx")
    # Beside arrays it is theirs, and no subject's that has none.
    mixed = {"s": {"ct": voxels, "mask": vq.Labels(path)}}
    assert vq.ingest(mixed, tmp_path / "3.zarr", spacing=1)["s"]["mask"].spacing == (1, 1, 1)
    with pytest.raises(vq.UsageError, match="subject 't': beside arrays"):
        vq.ingest(mixed | {"t": path}, tmp_path / "4.zarr", spacing=2)


def test_rows_of_chunks_are_computed_once(tmp_path: Path) -> None:
    voxels, reads = smooth((50, 24, 16)), []

    class Chunked:
        shape, dtype, chunks = voxels.shape, voxels.dtype, (20, 8, 16)

        def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
            reads.append((index[0].start, index[0].stop))
            return voxels[index]

    assert identical(ingested(tmp_path, Chunked())[...], voxels)
    assert reads == [(0, 20), (20, 40), (40, 50)]


def test_other_threads_run_while_arrays_are_encoded(tmp_path: Path) -> None:
    count, stop = [0], threading.Event()

    def work() -> None:
        while not stop.is_set():
            count[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    ingested(tmp_path, noise((128, 256, 256), "i2"), codec="compact")
    stop.set()
    thread.join()
    assert count[0] > 1000
