"""``voxquarry.torch.loader`` and ``QueueDataset``: the queue's stream, whoever delivers it, and
wherever it is resumed.
"""

from __future__ import annotations

import itertools
import pickle
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Pair
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import voxquarry as vq
from voxquarry.torch import QueueDataset, loader
from voxquarry.torch.queues import tensors

PATCH = (8, 12, 10)
# Python 3.12 and later warn about any fork of a process with threads; that it works here is what is
# tested.
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning",
    "ignore:This DataLoader will create .* worker processes:UserWarning",
)
# torchdata, of torch.
OF_TORCHDATA = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")


def queue_of(pair: Pair, **options: object) -> vq.Queue:
    options = {"patches_per_subject": 9, "batch_size": 4, "seed": 3, "threads": 2, **options}
    return vq.Queue(pair.open(), vq.UniformSampler(PATCH), ["ct", "seg"], **options)


def kept(batches: Iterable[dict]) -> list[dict]:
    """Copies of batches: tensors as bytes with their type and shape."""

    def value(item: object) -> object:
        if not isinstance(item, torch.Tensor):
            return list(item)
        return item.dtype, tuple(item.shape), item.numpy().tobytes()

    return [{name: value(item) for name, item in batch.items()} for batch in batches]


def test_batches_are_the_volumes(pair: Pair) -> None:
    queue = queue_of(pair)
    batches = loader(queue)
    assert len(batches) == len(queue) == 7
    seen = []
    for batch in batches:
        assert batch.keys() == {"ct", "seg", "location", "subject"}
        assert batch["ct"].dtype == torch.int16
        assert batch["seg"].dtype == torch.uint16
        assert batch["location"].dtype == torch.int64
        for n, (name, place) in enumerate(
            zip(batch["subject"], batch["location"].tolist(), strict=True)
        ):
            box = tuple(slice(a, b) for a, b in zip(place[:3], place[3:], strict=True))
            for volume in ("ct", "seg"):
                assert np.array_equal(batch[volume][n, 0].numpy(), pair.voxels[name][volume][box])
            # What a training does with unsigned integers.
            assert torch.equal(
                batch["seg"][n].long()[0],
                torch.from_numpy(pair.voxels[name]["seg"][box].astype("i8")),
            )
            seen.append((name, *place))
    assert len(set(seen)) == len(seen) == 27


def test_tensors_are_the_queues_memory(pair: Pair) -> None:
    batch = next(iter(queue_of(pair)))
    tensor = tensors(batch)["ct"]
    assert tensor.data_ptr() == batch["ct"].ctypes.data
    assert tensor.is_contiguous()
    tensor.zero_()
    assert not batch["ct"].any()


WAYS = [
    {},
    {"num_workers": 2, "multiprocessing_context": "fork"},
    {"num_workers": 3, "multiprocessing_context": "forkserver", "persistent_workers": True},
    {"num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": True},
]


@pytest.mark.parametrize("way", WAYS[1:])
def test_workers_deliver_the_same_stream(pair: Pair, way: dict) -> None:
    queue = queue_of(pair)
    alone, shared = loader(queue), loader(queue_of(pair), timeout=60, **way)
    for epoch in (0, 0, 5):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        # The pool of this process runs when the workers are forked from it.
        assert kept(shared) == kept(alone)
    plain = DataLoader(QueueDataset(queue), batch_size=None, timeout=60, **way)
    assert kept(plain) == kept(alone)


@pytest.mark.parametrize("way", [*WAYS, {"num_workers": 2, "multiprocessing_context": "spawn"}])
def test_every_iteration_is_another_epoch(pair: Pair, way: dict) -> None:
    """The same patches came in every epoch where nobody called ``set_epoch`` (DALI#4134,
    MIScnn#17).
    """
    queue = queue_of(pair)
    expected = [kept(map(tensors, queue)) for _ in range(4)]
    assert all(expected[0] != other for other in expected[1:])
    dataset = QueueDataset(queue_of(pair))
    ours = loader(queue_of(pair), timeout=60 if way else 0, **way)
    plain = DataLoader(dataset, batch_size=None, timeout=60 if way else 0, **way)
    for batches, chooser in ((ours, ours), (plain, dataset)):
        assert [kept(batches) for _ in range(2)] == expected[:2]
        # One that is left after its first batch counts, too.
        iterator = iter(batches)
        next(iterator)
        del iterator
        assert kept(batches) == expected[3]
        chooser.set_epoch(1)
        assert [kept(batches) for _ in range(2)] == expected[1:3]


@pytest.mark.parametrize("rank_options", [{}, {"rank": 1, "world_size": 2, "drop_last": True}])
@pytest.mark.parametrize(("before", "after"), [(0, 3), (4, 2), (2, 7)])
def test_resumed_with_any_workers(pair: Pair, before: int, after: int, rank_options: dict) -> None:
    ways = [{"num_workers": w, "multiprocessing_context": "fork"} if w else {} for w in (0, 2)]
    reference = loader(queue_of(pair, **rank_options))
    reference.set_epoch(2)
    expected, following = kept(reference), kept(reference)
    for first, second in (ways, ways[::-1]):
        interrupted = loader(queue_of(pair, **rank_options), **first)
        interrupted.set_epoch(2)
        batches = iter(interrupted)
        before_ = min(before, len(expected))
        assert kept(itertools.islice(batches, before_)) == expected[:before_]
        state = pickle.loads(pickle.dumps(interrupted.state_dict()))
        resumed = loader(queue_of(pair, **rank_options), **second)
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        again = iter(resumed)
        taken = kept(itertools.islice(again, after))
        assert taken == expected[before_ : before_ + after]
        # A second interruption, and then the rest, and then the whole next epoch.
        third = loader(queue_of(pair, **rank_options), **first)
        third.load_state_dict(resumed.state_dict())
        # A loop that has ended is not resumed: there the next epoch begins.
        if before_ + after <= len(expected):
            assert kept(third) == expected[before_ + after :]
        assert kept(third) == following


@OF_TORCHDATA
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 4, 7])
def test_stateful_dataloader(pair: Pair, workers: int, taken: int) -> None:
    def make() -> StatefulDataLoader:
        options = {"multiprocessing_context": "fork", "timeout": 60} if workers else {}
        return StatefulDataLoader(
            QueueDataset(queue_of(pair)), batch_size=None, num_workers=workers, **options
        )

    reference = loader(queue_of(pair))
    expected, following = kept(reference), kept(reference)
    interrupted = make()
    assert kept(take(interrupted, taken)) == expected[:taken]
    state = pickle.loads(pickle.dumps(interrupted.state_dict()))
    resumed = make()
    resumed.load_state_dict(state)
    rest = kept(resumed)
    assert rest == expected[taken:]
    assert kept(resumed) == following


def take(batches: Iterable[dict], count: int) -> Iterator[dict]:
    """The first batches, without asking for one more."""
    iterator = iter(batches)
    for _ in range(count):
        yield next(iterator)


def test_pickles_small_and_begins_at_the_epochs_beginning(pair: Pair) -> None:
    dataset = QueueDataset(queue_of(pair))
    reference = queue_of(pair)
    expected = [kept(map(tensors, reference)) for _ in range(2)]
    assert len(pickle.dumps(dataset)) < 2500
    assert kept(pickle.loads(pickle.dumps(dataset))) == expected[0]
    iterator = iter(dataset)
    next(iterator)
    assert kept(pickle.loads(pickle.dumps(dataset))) == expected[1]


def test_errors_reach_the_training(pair: Pair, tmp_path: Path) -> None:
    shutil.copytree(pair.path, tmp_path / "store.zarr")
    shards = [
        path
        for path in (tmp_path / "store.zarr" / "b" / "ct").rglob("*")
        if path.is_file() and path.suffix != ".json"
    ]
    assert shards
    for shard in shards:
        shard.write_bytes(bytes(shard.stat().st_size))
    ds = vq.open(tmp_path / "store.zarr")
    for way in ({}, {"num_workers": 2, "multiprocessing_context": "fork"}):
        queue = vq.Queue(ds, vq.UniformSampler(PATCH), ["ct"], patches_per_subject=9, batch_size=4)
        with pytest.raises(vq.Error, match="b/ct|'b'|\"b\"") as info:
            list(loader(queue, **way))
        assert isinstance(info.value, vq.DataError)


def test_pinning_is_asked_for_where_there_is_a_gpu(pair: Pair) -> None:
    queue = queue_of(pair)
    assert loader(queue).pin_memory is torch.cuda.is_available()
    assert loader(queue, pin_memory=True).pin_memory is True
