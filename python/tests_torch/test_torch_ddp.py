"""Data-parallel training with gloo on one machine: ranks and their workers read disjoint parts of
one plan.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import Pair
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import voxquarry as vq
from voxquarry.torch import PatchDataset, loader

PATCH = 8
PATCHES = 16
EPOCHS = 2


def queue_of(path: Path, rank: int, world: int) -> vq.Queue:
    dataset, sampler = vq.open(path), vq.UniformSampler(PATCH)
    return vq.Queue(
        dataset,
        sampler,
        ["ct"],
        PATCHES,
        batch_size=2,
        seed=1,
        rank=rank,
        world_size=world,
        threads=1,
    )


def train(rank: int, world: int, path: Path, folder: Path, workers: int) -> None:
    """One rank: writes the places it read and the weights it ended with."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world
    )
    torch.manual_seed(rank)
    model = DistributedDataParallel(nn.Conv3d(1, 2, 3))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    batches = loader(queue_of(path, rank, world), num_workers=workers, timeout=60 if workers else 0)
    read = []
    for epoch in range(EPOCHS):
        batches.set_epoch(epoch)
        for batch in batches:
            optimizer.zero_grad()
            model(batch["ct"].float() / 15000).square().mean().backward()
            optimizer.step()
            read += [
                (epoch, name, *place)
                for name, place in zip(batch["subject"], batch["location"].tolist(), strict=True)
            ]
    # Map-style, as torch shares it out.
    patches = PatchDataset(vq.open(path), vq.UniformSampler(PATCH), ["ct"], PATCHES, seed=1)
    shared = DataLoader(
        patches, batch_size=2, sampler=DistributedSampler(patches, shuffle=True, seed=4)
    )
    mapped = [tuple(place) for batch in shared for place in batch["location"].tolist()]
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    torch.save({"read": read, "mapped": mapped, "weights": weights}, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(("world", "workers"), [(2, 2), (4, 0)])
def test_ranks_share_an_epoch(pair: Pair, tmp_path: Path, world: int, workers: int) -> None:
    mp.spawn(train, (world, pair.path, tmp_path, workers), nprocs=world)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(world)]
    for rank in ranks[1:]:
        assert all(
            torch.equal(a, b) for a, b in zip(rank["weights"], ranks[0]["weights"], strict=True)
        )
    alone = queue_of(pair.path, 0, 1)
    for epoch in range(EPOCHS):
        alone.set_epoch(epoch)
        whole = [
            (epoch, name, *place)
            for batch in alone
            for name, place in zip(batch["subject"], batch["location"].tolist(), strict=True)
        ]
        parts = [[place for place in rank["read"] if place[0] == epoch] for rank in ranks]
        assert len(whole) == len(set(whole)) == 3 * PATCHES
        # Together the ranks read the plan of one process, each every so-manyth patch of it.
        assert [part[n] for n in range(len(parts[0])) for part in parts] == whole
    mapped = [place for rank in ranks for place in rank["mapped"]]
    assert len(mapped) == len(set(mapped)) == 3 * PATCHES
