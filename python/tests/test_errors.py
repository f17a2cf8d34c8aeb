"""Errors tell whose move it is; what is interrupted leaves nothing half-written, and the same call
continues.
"""

from __future__ import annotations

import errno
import importlib
import pickle
import sys
import threading
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, noise, smooth, store_of, write_nifti

import voxquarry as vq


def source(folder: Path, name: str = "a.nii", shape: tuple[int, ...] = (5, 6, 7)) -> Path:
    return write_nifti(folder / name, smooth(shape))


def entries(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_exception_tree() -> None:
    bases = {
        vq.UsageError: (vq.Error, ValueError),
        vq.NotFoundError: (vq.UsageError, KeyError),
        vq.PathNotFoundError: (vq.UsageError, FileNotFoundError),
        vq.TooLargeError: (vq.UsageError, MemoryError),
        vq.DataError: (vq.Error,),
        vq.StorageError: (vq.Error, OSError),
        vq.FileMissingError: (vq.StorageError, FileNotFoundError),
        vq.OutOfMemoryError: (vq.StorageError, MemoryError),
    }
    for kind, expected in bases.items():
        assert all(issubclass(kind, base) for base in expected), kind
    assert not issubclass(vq.DataError, ValueError | OSError)


def test_what_is_not_there(tmp_path: Path) -> None:
    store = vq.ingest({"case01": source(tmp_path)}, tmp_path / "store.zarr")
    for look, message in (
        (lambda: store["case02"], 'no subject "case02" in .*; there is "case01"'),
        (lambda: store["case01"]["ct"], 'no volume "ct" in .*; there is "image"'),
    ):
        for kind in (KeyError, vq.UsageError, vq.NotFoundError, ValueError):
            with pytest.raises(kind, match=message) as caught:
                look()
            # A plain KeyError would show the message's repr.
            assert str(caught.value).startswith("no ")
    with pytest.raises(vq.UsageError, match="not a voxquarry store: there is nothing at that path"):
        vq.open(tmp_path / "elsewhere.zarr")
    with pytest.raises(vq.UsageError, match="not a voxquarry store"):
        vq.open(tmp_path)


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    gone, table = tmp_path / "gone", tmp_path / "table.csv"
    table.write_text("subject,volume,kind,path\nx,ct,image,gone.nii\n")
    looks = {
        "there is nothing at that path": [lambda: vq.open(gone), lambda: vq.verify(gone)],
        "no file": [
            lambda: vq.ingest(gone, tmp_path / "store.zarr"),
            lambda: vq.ingest(gone.with_suffix(".csv"), tmp_path / "store.zarr"),
            lambda: vq.ingest(table, tmp_path / "store.zarr"),
        ],
    }
    for message, calls in looks.items():
        for call in calls:
            with pytest.raises(vq.UsageError, match=message) as caught:
                call()
            error = caught.value
            assert isinstance(error, FileNotFoundError)
            assert (type(error), error.errno) == (vq.PathNotFoundError, errno.ENOENT)
            assert str(gone) in str(error)
            assert error.filename.startswith(str(gone))
            assert str(pickle.loads(pickle.dumps(error))) == str(error)
    # What is there, but no store, is no missing file.
    with pytest.raises(vq.UsageError) as caught:
        vq.open(tmp_path)
    assert not isinstance(caught.value, OSError)


def test_what_no_memory_holds(tmp_path: Path) -> None:
    volume = store_of(tmp_path, smooth((3, 4, 5)))
    for size in (1 << 40, 1 << 15):
        with pytest.raises(MemoryError) as caught:
            volume.read((0, 0, 0), size, padding="edge")
        assert isinstance(caught.value, vq.Error)
    with pytest.raises(
        vq.OutOfMemoryError, match="memory for a list of 1152921504606846976 patches"
    ):
        vq.GridSampler(1).locations((1 << 20, 1 << 20, 1 << 20))
    with pytest.raises(vq.OutOfMemoryError, match=r"memory for an array of 1 channels of \[65536"):
        vq.Aggregator(vq.GridSampler(4096), (1 << 16, 1 << 16, 1 << 16))


def test_remedies_are_arguments(tmp_path: Path) -> None:
    store = vq.ingest({"case01": source(tmp_path)}, tmp_path / "store.zarr")
    volume = store["case01"]["image"]
    calls = {
        r'padding="reflect"|\(a number, "edge" or "reflect"\)|padding=0': lambda: volume.read(
            (0, 0, 0), 9
        ),
        r"overwrite=True.*skip_existing=True": lambda: vq.ingest(
            {"case01": source(tmp_path)}, tmp_path / "store.zarr", 8
        ),
    }
    for message, call in calls.items():
        with pytest.raises(vq.UsageError, match=message) as caught:
            call()
        assert "--" not in str(caught.value)


def test_data_sets_and_subjects_are_mappings(tmp_path: Path) -> None:
    images = {"ct": source(tmp_path), "pet": source(tmp_path, "b.nii")}
    store = vq.ingest({"b": images, "a": images}, tmp_path / "store.zarr")
    for mapping, names in ((store, ["a", "b"]), (store["a"], ["ct", "pet"])):
        assert isinstance(mapping, Mapping)
        assert list(mapping) == list(mapping.keys()) == names
        assert len(mapping) == 2
        assert names[0] in mapping and "x" not in mapping and 3 not in mapping
        assert [value.name for value in mapping.values()] == names
        assert [(name, value.name) for name, value in mapping.items()] == list(
            zip(names, names, strict=True)
        )
        assert [type(view) for view in (mapping.keys(), mapping.values(), mapping.items())] == [
            KeysView,
            ValuesView,
            ItemsView,
        ]
        assert mapping.get(names[1]).name == names[1]
        assert mapping.get("x") is None and mapping.get("x", 7) == 7 and mapping.get(3, 7) == 7
        assert {**mapping}.keys() == set(names)
        with pytest.raises(KeyError, match="3"):
            mapping[3]
    assert store["a"].size == (7, 6, 5)
    assert store.path == str(tmp_path / "store.zarr")


def test_every_form_of_sources(tmp_path: Path) -> None:
    image, labels = (
        source(tmp_path),
        write_nifti(tmp_path / "seg.nii.gz", smooth((5, 6, 7), "u1") % 3),
    )
    forms = {
        "path": (image, {"a": ["image"]}),
        "string": (str(labels), {"seg": ["image"]}),
        "list": ([image, vq.Labels(labels)], {"a": ["image"], "seg": ["image"]}),
        "flat": ({"x": image, "y": vq.Labels(labels)}, {"x": ["image"], "y": ["image"]}),
        "nested": ({"x": {"ct": image, "seg": vq.Labels(str(labels))}}, {"x": ["ct", "seg"]}),
    }
    table = tmp_path / "table.csv"
    table.write_text(
        "subject,volume,kind,path\nx,ct,image,a.nii\nx,seg,labels,seg.nii.gz\ny,ct,image,a.nii\n"
    )
    forms["manifest"] = (table, {"x": ["ct", "seg"], "y": ["ct"]})
    for name, (sources, expected) in forms.items():
        store = vq.ingest(sources, tmp_path / f"{name}.zarr", patch_size=[4, (1, 6, 5)])
        assert {subject: list(content) for subject, content in store.items()} == expected, name
    for name in ("nested", "manifest"):
        subject = vq.open(tmp_path / f"{name}.zarr")["x"]
        assert (subject["ct"].kind, subject["seg"].kind) == ("image", "labels")
        counts = np.bincount(subject["seg"][...].ravel())
        assert subject["seg"].labels == {1: counts[1], 2: counts[2]}
        assert subject["ct"].labels == {}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (5, "source is a int"),
        ({}, "names no file"),
        ([], "names no file"),
        ({"a": 5}, "5 is no path"),
        ({"a": {"b": {"c": "d"}}}, "is no path"),
        ({"../a": "a.nii"}, "subject"),
        ({"a": {"b/c": "a.nii"}}, "volume"),
        (["a.nii", "a.nii"], 'subject "a" names volume "image" twice'),
    ],
)
def test_impossible_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: object, message: str
) -> None:
    source(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(vq.UsageError, match=message):
        vq.ingest(sources, "store.zarr")
    assert not (tmp_path / "store.zarr" / "zarr.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 0}, "patch_size"),
        ({"patch_size": "large"}, "patch_size"),
        ({"patch_size": [8, "x"]}, "patch_size"),
        ({"codec": "best"}, "best"),
        ({"memory_bytes": "1 lot"}, "1 lot"),
        ({"memory_bytes": 10}, "memory"),
        ({"overwrite": True, "skip_existing": True}, "exclude each other"),
    ],
)
def test_impossible_options(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(vq.UsageError, match=message):
        vq.ingest(source(tmp_path), tmp_path / "store.zarr", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_bytes": "plenty"}, "plenty"),
        ({"cache_bytes": -1}, "cache_bytes"),
        ({"threads": 0}, "threads 0"),
        ({"verify": "sometimes"}, "sometimes"),
        ({"access": "magic"}, "magic"),
    ],
)
def test_impossible_ways_to_open(tmp_path: Path, options: dict[str, object], message: str) -> None:
    store_of(tmp_path, smooth((3, 4, 5)))
    with pytest.raises(vq.UsageError, match=message):
        vq.open(tmp_path / "store.zarr", **options)


def test_manifests_name_the_line(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("subject,volume,kind,path\nx,ct,image,missing.nii\n")
    with pytest.raises(vq.UsageError, match=r"table\.csv.*2.*missing\.nii"):
        vq.ingest(table, tmp_path / "store.zarr")
    table.write_text("subject,volume,kind\nx,ct,image\n")
    with pytest.raises(vq.UsageError, match="path"):
        vq.ingest(table, tmp_path / "store.zarr")


def test_missing_files_and_folders_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(vq.Error, match=r"nothing\.nii"):
        vq.ingest(tmp_path / "nothing.nii", tmp_path / "store.zarr")
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(vq.UsageError, match="holds something else"):
        vq.ingest(source(tmp_path), other)
    assert entries(other) == {"thesis.txt"}


def test_a_subject_that_is_there(tmp_path: Path) -> None:
    one, two = (
        write_nifti(tmp_path / "1.nii", noise((3, 4, 5), "i2", 1)),
        write_nifti(tmp_path / "2.nii", noise((3, 4, 5), "i2", 2)),
    )
    store = tmp_path / "store.zarr"
    first = vq.ingest({"a": one}, store)["a"]["image"][...]
    with pytest.raises(vq.UsageError, match="exists already"):
        vq.ingest({"a": two}, store)
    assert identical(vq.ingest({"a": two}, store, skip_existing=True)["a"]["image"][...], first)
    second = vq.ingest({"a": two}, store, overwrite=True)["a"]["image"][...]
    assert not identical(second, first)


def test_volumes_of_one_subject_share_a_grid(tmp_path: Path) -> None:
    images = {"ct": source(tmp_path), "pet": source(tmp_path, "b.nii", (5, 6, 8))}
    with pytest.raises(vq.DataError, match=r"b\.nii"):
        vq.ingest({"a": images}, tmp_path / "store.zarr")
    assert not (tmp_path / "store.zarr" / "a").exists()


def test_ctrl_c_leaves_nothing_half_written_and_a_rerun_continues(tmp_path: Path) -> None:
    sources = {
        f"case{n}": write_nifti(tmp_path / f"{n}.nii", noise((20, 20, 40), "i2", n))
        for n in range(4)
    }
    store, seen = tmp_path / "store.zarr", []

    def progress(volume: str, done: int, total: int) -> None:
        seen.append((volume, done, total))
        if volume == "case2/image":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vq.ingest(sources, store, patch_size=16, progress=progress)
    assert "case2/image" in [volume for volume, _, _ in seen]
    # Subjects are ingested side by side: others may have been published before.
    there = {name for name in sources if (store / name).exists()}
    assert "case2" not in there
    if there:
        assert set(vq.open(store)) == there
        assert vq.verify(store)["subjects"] == len(there)
    seen.clear()
    whole = vq.ingest(sources, store, patch_size=16, progress=lambda *call: seen.append(call))
    assert {volume for volume, _, _ in seen} == {f"{name}/image" for name in sources.keys() - there}
    assert list(whole) == list(sources)
    for n, content in enumerate(whole.values()):
        assert identical(
            content["image"][...], np.ascontiguousarray(noise((20, 20, 40), "i2", n).T)
        )
    # What the interrupted run had begun is gone.
    again = tmp_path / "again.zarr"
    vq.ingest(sources, again, patch_size=16)
    assert entries(store) == entries(again)


def test_an_error_in_progress_is_the_callers_own(tmp_path: Path) -> None:
    def progress(*_: object) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        vq.ingest(source(tmp_path), tmp_path / "store.zarr", progress=progress)
    with pytest.raises(vq.UsageError, match="an ingest was interrupted|nothing at that path"):
        vq.open(tmp_path / "store.zarr")


def test_progress_counts_every_byte_once(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    vq.ingest(
        source(tmp_path, shape=(30, 20, 50)),
        tmp_path / "store.zarr",
        patch_size=16,
        progress=lambda *call: calls.append(call),
    )
    assert {volume for volume, _, _ in calls} == {"a/image"}
    done = [count for _, count, _ in calls]
    assert done == sorted(done)
    assert calls[-1][1:] == (30 * 20 * 50 * 2,) * 2


def test_damage_is_told_by_reads_and_verify(tmp_path: Path) -> None:
    volume = store_of(tmp_path, noise((40, 40, 40), "i2"), patch_size=16)
    whole = volume[...]
    report = vq.verify(tmp_path / "store.zarr")
    assert report["subjects"] == report["volumes"] == 1
    assert report["encoded_bytes"] > whole.nbytes
    shard = next(
        path for path in (tmp_path / "store.zarr/case01/ct/0/c").rglob("*") if path.is_file()
    )
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.unlink()
    shard.write_bytes(content)
    damaged = vq.open(tmp_path / "store.zarr")["case01"]["ct"]
    with pytest.raises(vq.DataError, match="crc32c"):
        damaged.read((0, 0, 0), 40)
    unchecked = vq.open(tmp_path / "store.zarr", verify="never")["case01"]["ct"]
    assert not identical(unchecked.read((0, 0, 0), 40), whole)
    with pytest.raises(vq.DataError, match="crc32c") as caught:
        vq.verify(tmp_path / "store.zarr")
    assert len(caught.value.errors) == 1
    assert str(shard) in caught.value.errors[0]


def test_storage_errors_carry_the_systems_number(tmp_path: Path) -> None:
    volume = store_of(tmp_path, smooth((3, 4, 5)))
    with pytest.raises(OSError, match="nowhere") as caught:
        vq.export(volume, tmp_path / "nowhere" / "a.nii")
    assert isinstance(caught.value, vq.StorageError)
    assert caught.value.errno == 2


def test_ingest_lets_other_threads_run(tmp_path: Path) -> None:
    turns, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            turns[0] += 1

    path = write_nifti(tmp_path / "a.nii", noise((96, 96, 96), "f4"))
    thread = threading.Thread(target=count)
    thread.start()
    before = turns[0]
    vq.ingest(path, tmp_path / "store.zarr")
    after = turns[0]
    stop.set()
    thread.join()
    assert after - before > 100


@pytest.mark.parametrize("extra", ["torch", "torchio", "monai", "nnunet", "lightning"])
def test_missing_packages_are_named_with_their_extra(
    monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    for package in ("torch", "torchio", "monai", "nnunetv2", "lightning"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"voxquarry.{extra}", raising=False)
    with pytest.raises(
        ImportError,
        match=rf"^voxquarry\.{extra} needs \w+: pip install voxquarry\[{extra}\]$",
    ):
        importlib.import_module(f"voxquarry.{extra}")
