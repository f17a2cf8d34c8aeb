"""Subjects in which a sampler can draw no patch, in the faces of torch, TorchIO and MONAI; and even
counts of patches in the workers of a loader.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import monai.data
import numpy as np
import pytest
import torch
import torchio as tio
from torch.utils.data import DataLoader, SequentialSampler

import voxquarry as vq
import voxquarry.monai as vm
import voxquarry.torch
import voxquarry.torchio as vt

PATCH = 8
NAMES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> vq.Dataset:
    """Four subjects, of which ``b`` has no label."""
    subjects = {}
    for i, name in enumerate(NAMES):
        seg = np.zeros((20, 20, 20), "u1")
        seg[8:12, 8:12, 8:12] = 0 if name == "b" else 1
        subjects[name] = {"ct": np.full((20, 20, 20), i, "i2"), "seg": vq.Labels(seg)}
    folder: Path = tmp_path_factory.mktemp("missing")
    return vq.ingest(subjects, folder / "store.zarr", patch_size=PATCH)


def names_of(batches: object) -> Counter:
    return Counter(name for batch in batches for name in batch["subject"])


@pytest.mark.parametrize("make", [voxquarry.torch.PatchDataset, vm.Dataset])
def test_map_style_datasets(store: vq.Dataset, make: type) -> None:
    """One subject without the label ended the training (MONAI#6576)."""
    load = monai.data.DataLoader if make is vm.Dataset else DataLoader
    sampler = vq.LabelSampler(PATCH, "seg", {1: 1.0})
    with pytest.raises(vq.UsageError, match=r"1 of 4 subjects \(b: no voxel of the labels \[1\]\)"):
        make(store, sampler, ["ct"], 3)
    skipping = make(store, sampler, ["ct"], 3, on_missing="skip")
    assert list(skipping.missing) == ["b"]
    assert names_of(load(skipping, batch_size=2)) == {"a": 3, "c": 3, "d": 3}
    anywhere = make(store, sampler, ["ct"], 3, on_missing="background")
    assert names_of(load(anywhere, batch_size=2)) == dict.fromkeys(NAMES, 3)
    assert anywhere[3]["subject"] == "b"
    expected = vq.UniformSampler(PATCH).locations(store["b"], 1)
    assert anywhere[3]["location"][:3].tolist() == expected[0].tolist()


def test_the_loader_of_a_queue(store: vq.Dataset) -> None:
    sampler = vq.LabelSampler(PATCH, "seg", {1: 1.0})
    queue = vq.Queue(store, sampler, ["ct"], 3, on_missing="skip")
    assert names_of(voxquarry.torch.loader(queue)) == {"a": 3, "c": 3, "d": 3}


def test_torchios_queue(store: vq.Dataset) -> None:
    subjects = tio.SubjectsDataset([vt.subject(store[name]) for name in NAMES])
    sampler = vt.LabelSampler(PATCH, "seg", {1: 1.0})
    with pytest.raises(vq.UsageError, match=r"1 of 4 subjects \(b: no voxel of the labels \[1\]\)"):
        vt.Queue(subjects, 8, 3, sampler)
    skipping = vt.Queue(subjects, 9, 3, sampler, on_missing="skip")
    assert Counter(skipping[0].name for _ in range(len(skipping))) == {"a": 3, "c": 3, "d": 3}
    anywhere = vt.Queue(subjects, 12, 3, sampler, on_missing="background")
    assert Counter(anywhere[0].name for _ in range(len(anywhere))) == dict.fromkeys(NAMES, 3)
    with pytest.raises(vq.UsageError, match="subject_sampler"):
        order = SequentialSampler(subjects)
        vt.Queue(subjects, 8, 3, sampler, order, 0, False, on_missing="skip")
    with pytest.raises(vq.UsageError, match="no image 'nope'"):
        vt.Queue(subjects, 8, 3, vt.LabelSampler(PATCH, "nope"))
    with pytest.raises(vq.UsageError, match="expected"):
        vt.Queue(subjects, 12, 3, sampler, on_missing="ignore")


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker:UserWarning")
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_give_even_counts(store: vq.Dataset, workers: int, persistent: bool) -> None:
    """Workers of a loader gave some subjects more patches than others, in every epoch
    (TorchIO#725).
    """
    subjects = tio.SubjectsDataset([vt.subject(store[name]) for name in NAMES])
    queue = vt.Queue(subjects, 6, 5, vt.UniformSampler(PATCH), start_background=False)
    torch.manual_seed(3)
    loader = tio.SubjectsLoader(
        queue, batch_size=3, num_workers=workers, persistent_workers=persistent
    )
    orders, places = [], set()
    for _ in range(3):
        batches = list(loader)
        orders.append([name for batch in batches for name in batch["name"]])
        places.update(tuple(p) for batch in batches for p in batch[tio.LOCATION].tolist())
        assert Counter(orders[-1]) == dict.fromkeys(NAMES, 5), orders
    assert len({tuple(order) for order in orders}) == 3
    assert len(places) > 40
    assert any(len(set(batch["name"])) > 1 for batch in batches)


def test_workers_follow_a_subject_sampler(store: vq.Dataset) -> None:
    subjects = tio.SubjectsDataset([vt.subject(store[name]) for name in NAMES])
    order = SequentialSampler(subjects)
    queue = vt.Queue(
        subjects,
        6,
        2,
        vt.UniformSampler(PATCH),
        order,
        shuffle_subjects=False,
        shuffle_patches=False,
        start_background=False,
    )
    loader = tio.SubjectsLoader(queue, batch_size=2, num_workers=2)
    assert [name for batch in loader for name in batch["name"]] == list("aabbccdd")
