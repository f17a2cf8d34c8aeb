"""Weights that training updates, through loaders with and without worker processes; epochs that a
sampler of patches chooses; versions of torch (issue 21).
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Pair
from torch.utils.data import DataLoader

import voxquarry as vq
from voxquarry.torch import PatchDataset, PatchSampler, QueueDataset, loader

PATCH = (8, 12, 10)
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning",
    "ignore:This DataLoader will create .* worker processes:UserWarning",
)


def queue_of(pair: Pair) -> vq.Queue:
    options = {"patches_per_subject": 9, "batch_size": 4, "seed": 3, "threads": 2}
    return vq.Queue(pair.open(), vq.UniformSampler(PATCH), ["ct"], **options)


def weights_of(pair: Pair) -> dict[str, Any]:
    volume = pair.open()["b"]["ct"]
    grid = [-(-s // c) for s, c in zip(volume.shape[-3:], volume.chunks, strict=True)]
    chunks = np.zeros(grid)
    chunks.flat[::2] = 1.5
    return {"subjects": {"a": 0.0, "b": 4.0}, "chunks": {"b": chunks}}


def places(batches: Any) -> list[list[Any]]:
    return [
        [name, *place]
        for batch in batches
        for name, place in zip(
            batch["subject"], np.asarray(batch["location"]).tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_gives_the_queues_patches(pair: Pair, workers: int, method: str) -> None:
    queue = queue_of(pair)
    expected = [places(queue)]
    queue.update_weights(**weights_of(pair))
    expected += [places(queue), places(queue)]
    options = {"num_workers": workers, "multiprocessing_context": method} if workers else {}
    batches = loader(queue_of(pair), **options)
    found = []
    for number, batch in enumerate(batches):
        found.append(batch)
        if number == 2:
            # From the next epoch on.
            batches.update_weights(**weights_of(pair))
            state = batches.state_dict()
    assert places(found) == expected[0]
    assert [places(batches), places(batches)] == expected[1:]
    # A state within the epoch before has them already.
    resumed = loader(queue_of(pair), **options)
    resumed.load_state_dict(state)
    assert places(resumed) == expected[0][12:]
    assert places(resumed) == expected[1]


def test_workers_that_live_on_refuse_old_weights(pair: Pair) -> None:
    dataset = QueueDataset(queue_of(pair))
    for batches in (
        loader(queue_of(pair), num_workers=1, persistent_workers=True),
        DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True),
    ):
        first, second = places(batches), places(batches)
        assert first != second
        of = dataset if type(batches) is DataLoader else batches
        of.update_weights(**weights_of(pair))
        with pytest.raises(vq.UsageError, match="leave out persistent_workers"):
            list(batches)


def test_the_epoch_chooses_order_and_patches(pair: Pair) -> None:
    """A plain loader of a map-style dataset had no sampler that a trainer could tell the epoch."""

    def loader_of(workers: int = 0, **options: Any) -> tuple[PatchDataset, DataLoader]:
        patches = PatchDataset(pair.open(), vq.UniformSampler(PATCH), ["ct"], 4, seed=2)
        sampler = PatchSampler(patches, **options)
        keep = {"persistent_workers": True} if workers else {}
        return patches, DataLoader(patches, 5, sampler=sampler, num_workers=workers, **keep)

    _, batches = loader_of()
    epochs = [places(batches) for _ in range(4)]
    assert len({str(epoch) for epoch in epochs}) == 4
    names = [[place[0] for place in epoch] for epoch in epochs]
    assert all(sorted(order) == sorted(names[0]) for order in names) and names[0] != names[1]
    # A run that is resumed in epoch 2, and workers that live on.
    for workers in (0, 2):
        _, resumed = loader_of(workers)
        resumed.sampler.set_epoch(2)
        assert [places(resumed), places(resumed)] == epochs[2:]
        resumed.sampler.set_epoch(1)
        assert places(resumed) == epochs[1]
    # Ranks have disjoint parts of the same patches.
    for world in (2, 3):
        parts = [places(loader_of(rank=r, world_size=world)[1]) for r in range(world)]
        assert sorted(place for part in parts for place in part) == sorted(epochs[0])
    _, ordered = loader_of(shuffle=False)
    assert [place[0] for place in places(ordered)] == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    patches, _ = loader_of()
    with pytest.raises(vq.UsageError, match="rank 2"):
        PatchSampler(patches, rank=2, world_size=2)
    with pytest.raises(vq.UsageError, match="epoch -1"):
        PatchSampler(patches).set_epoch(-1)


def test_objects_are_items(pair: Pair) -> None:
    sampler = vq.ObjectSampler(64, "seg", "pad")
    patches = PatchDataset(pair.open(), sampler, ["seg"], 4)
    for n in range(len(patches)):
        assert (patches[n]["seg"].int() > 0).any()


@pytest.mark.parametrize("version", ["2.2.1", "3.0.0"])
def test_versions_that_are_not_supported(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """They failed somewhere inside, at the first uint16 volume."""
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.delitem(sys.modules, "voxquarry.torch")
    with pytest.raises(
        ImportError, match=rf"torch 2\.3 or newer.*{version} is installed: pip install"
    ):
        importlib.import_module("voxquarry.torch")
