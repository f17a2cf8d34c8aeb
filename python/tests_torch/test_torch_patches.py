"""``voxquarry.torch.PatchDataset``: the sampler's patches by number, whoever reads them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from conftest import Pair
from torch.utils.data import ConcatDataset, DataLoader, Subset

import voxquarry as vq
from voxquarry.torch import PatchDataset

PATCH = (16, 12, 20)


def assert_patch(item: dict, voxels: dict[str, dict[str, np.ndarray]], start: np.ndarray) -> None:
    start = start.tolist()
    box = tuple(slice(a, a + p) for a, p in zip(start, PATCH, strict=True))
    assert item["location"].tolist() == [*start, *(s.stop for s in box)]
    for name in item.keys() & {"ct", "seg", "map"}:
        array = voxels[item["subject"]][name]
        assert item[name].shape == (1, *PATCH)
        assert item[name].dtype == torch.from_numpy(array).dtype
        assert np.array_equal(item[name][0].numpy(), array[box])


def test_items_are_the_samplers(pair: Pair) -> None:
    voxels = pair.voxels
    ds, sampler = pair.open(), vq.UniformSampler(PATCH)
    patches = PatchDataset(ds, sampler, ["ct", "seg"], patches_per_subject=5, seed=7)
    assert len(patches) == 15
    for epoch in (0, 3):
        patches.set_epoch(epoch)
        for n in range(15):
            name = "abc"[n // 5]
            start = sampler.locations(ds[name], 1, seed=7, epoch=epoch, first=n % 5)[0]
            assert patches[n]["subject"] == name
            assert_patch(patches[n], voxels, start)
    assert torch.equal(patches[-1]["ct"], patches[14]["ct"])
    for wrong in (15, -16):
        with pytest.raises(IndexError):
            patches[wrong]


def test_a_batch_is_its_items(pair: Pair) -> None:
    patches = PatchDataset(pair.open(), vq.UniformSampler(PATCH), patches_per_subject=5, seed=1)
    assert patches.volumes == ["ct", "map", "seg"]
    order = [14, 0, 4, 4, 7]
    together = patches.__getitems__(order)
    for n, item in zip(order, together, strict=True):
        alone = patches[n]
        assert item.keys() == alone.keys() == {"ct", "map", "seg", "location", "subject"}
        assert item["subject"] == alone["subject"]
        for key in ("ct", "seg", "location"):
            assert torch.equal(item[key], alone[key])


def test_a_grid_covers_all_subjects(pair: Pair) -> None:
    voxels = pair.voxels
    ds, grid = pair.open(), vq.GridSampler(PATCH, overlap=4)
    patches = PatchDataset(ds, grid, patches_per_subject=3)
    expected = [(name, start) for name in ds for start in grid.locations(ds[name])]
    assert len(patches) == len(expected)
    for n, (name, start) in enumerate(expected):
        assert patches[n]["subject"] == name
        assert_patch(patches[n], voxels, start)


def test_padding(pair: Pair) -> None:
    voxels = pair.voxels
    ds, sampler = pair.open(), vq.UniformSampler(PATCH, border="pad")
    for padding, mode in (
        (None, {"mode": "constant"}),
        (-3, {"mode": "constant", "constant_values": -3}),
        ("edge", {"mode": "edge"}),
    ):
        patches = PatchDataset(
            ds, sampler, ["ct"], 20, padding=padding, transform=lambda item: item["ct"]
        )
        around = {
            name: np.pad(v["ct"], [(p, p) for p in PATCH], **mode) for name, v in voxels.items()
        }
        outside = 0
        for n in range(len(patches)):
            name = "abc"[n // 20]
            start = sampler.locations(ds[name], 1, first=n % 20)[0]
            outside += bool((start < 0).any())
            z, y, x = start + PATCH
            found = patches[n]
            assert np.array_equal(
                found[0], around[name][z : z + PATCH[0], y : y + PATCH[1], x : x + PATCH[2]]
            )
        assert outside > 5


# Python 3.12 and later warn about any fork of a process with threads; that it works here is what is
# tested.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers(pair: Pair, method: str) -> None:
    patches = PatchDataset(
        pair.open(threads=2), vq.UniformSampler(PATCH), patches_per_subject=6, seed=2
    )
    assert len(pickle.dumps(patches)) < 2000
    order = np.random.default_rng(1).permutation(len(patches)).tolist()
    loaders = [
        DataLoader(patches, batch_size=3, sampler=order, **options)
        for options in (
            {},
            {
                "num_workers": 2,
                "multiprocessing_context": method,
                "timeout": 60,
                "persistent_workers": True,
            },
        )
    ]
    places = []
    for epoch in (0, 4):
        patches.set_epoch(epoch)
        alone, batches = map(list, loaders)
        assert len(batches) == len(alone) == 6
        for found, expected in zip(batches, alone, strict=True):
            assert found["subject"] == expected["subject"]
            assert all(torch.equal(found[key], expected[key]) for key in ("ct", "seg", "location"))
        places += [tuple(place) for batch in batches for place in batch["location"].tolist()]
    assert len(set(places)) == len(places) == 36


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_every_iteration_is_another_epoch(pair: Pair, workers: int, persistent: bool) -> None:
    """The same patches came in every epoch where nobody called ``set_epoch`` (DALI#4134,
    MIScnn#17); also through a dataset around it that reads item by item.
    """

    def make() -> PatchDataset:
        return PatchDataset(
            pair.open(), vq.UniformSampler(PATCH), ["ct"], patches_per_subject=6, seed=2
        )

    expected = []
    chosen = make()
    for epoch in range(3):
        chosen.set_epoch(epoch)
        expected.append(sorted(tuple(chosen[n]["location"].tolist()) for n in range(18)))
    assert len({*map(tuple, expected)}) == 3
    options = {"multiprocessing_context": "fork", "timeout": 60} if workers else {}
    options |= {"num_workers": workers, "persistent_workers": persistent and workers > 0}
    patches = make()
    wrapped = ConcatDataset([make()]) if workers else Subset(make(), range(18))
    for dataset in (patches, wrapped):
        batches = DataLoader(dataset, batch_size=4, shuffle=True, **options)
        for epoch in range(3):
            places = [tuple(p) for batch in batches for p in batch["location"].tolist()]
            assert sorted(places) == expected[epoch]
    # Looking at an item counts for nothing, and a choice is kept.
    assert tuple(patches[3]["location"].tolist()) == tuple(patches[3]["location"].tolist())
    patches.set_epoch(1)
    for _ in range(2):
        places = [tuple(p) for item in DataLoader(patches) for p in item["location"].tolist()]
        assert sorted(places) == expected[1]
    with pytest.raises(vq.UsageError, match="epoch -1"):
        patches.set_epoch(-1)


def test_what_cannot_be(pair: Pair) -> None:
    ds, sampler = pair.open(), vq.UniformSampler(PATCH)
    with pytest.raises(
        vq.UsageError, match=r"subject 'a' has no volume 'mr'; it has: ct, map, seg"
    ):
        PatchDataset(ds, sampler, ["ct", "mr"])
    with pytest.raises(vq.UsageError, match="expected a list of names"):
        PatchDataset(ds, sampler, "ct")
    with pytest.raises(vq.UsageError, match="at least 1"):
        PatchDataset(ds, sampler, patches_per_subject=0)
