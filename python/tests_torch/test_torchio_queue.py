"""``voxquarry.torchio.Queue`` beside TorchIO's: the documented pipelines, the same patches in the
same order, and errors.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import torchio as tio
from conftest import Pair
from test_torchio_patches import PATCH, assert_same_patch, ours, theirs
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

import voxquarry.torchio as vt


def datasets(
    pair: Pair, transform: object = None
) -> tuple[tio.SubjectsDataset, tio.SubjectsDataset]:
    kinds = (ours, theirs)
    return tuple(
        tio.SubjectsDataset([kind(pair, name) for name in "abc"], transform) for kind in kinds
    )


def patches_of(queue: tio.Queue, count: int, seed: int) -> list[tio.Subject]:
    torch.manual_seed(seed)
    return [queue[0] for _ in range(count)]


@pytest.mark.parametrize(
    "options",
    [{}, {"shuffle_subjects": False}, {"shuffle_patches": False}, {"start_background": False}],
)
@pytest.mark.parametrize("lengths", [(7, 3), (9, 6), (100, 5), (1, 1)])
def test_the_same_patches_in_the_same_order(
    pair: Pair, options: dict, lengths: tuple[int, int]
) -> None:
    found, expected = (
        patches_of(queue, 2 * len(queue) + 3, 11)
        for queue in (
            module.Queue(dataset, *lengths, module.UniformSampler(PATCH), **options)
            for module, dataset in zip((vt, tio), datasets(pair), strict=True)
        )
    )
    assert len(found) == len(expected) == 6 * lengths[1] + 3
    for a, b in zip(found, expected, strict=True):
        assert_same_patch(a, b)


def test_with_transforms_workers_and_other_samplers(pair: Pair) -> None:
    """Subjects that are transformed as a whole, in worker processes; and a sampler that is
    TorchIO's own.
    """
    transform = tio.Compose([tio.RescaleIntensity((0, 1)), tio.RandomFlip(axes=(0, 1, 2))])
    for sampler in (vt.UniformSampler(PATCH), tio.UniformSampler(PATCH)):
        found, expected = (
            patches_of(
                module.Queue(dataset, 8, 4, kind, num_workers=2, start_background=False), 12, 3
            )
            for module, dataset, kind in zip(
                (vt, tio),
                datasets(pair, transform),
                (sampler, tio.UniformSampler(PATCH)),
                strict=True,
            )
        )
        for a, b in zip(found, expected, strict=True):
            assert a.name == b.name
            assert torch.equal(a.ct.data, b.ct.data)
            assert torch.equal(a.seg.data, b.seg.data)


def test_the_documented_training_pipeline(pair: Pair) -> None:
    """As in TorchIO's guide to patches; only the module of the classes has changed."""
    for loader_class in (tio.SubjectsLoader, DataLoader):
        batches = []
        for module, subjects in (
            (vt, [ours(pair, n) for n in "abc"]),
            (tio, [theirs(pair, n) for n in "abc"]),
        ):
            torch.manual_seed(8)
            queue = module.Queue(
                tio.SubjectsDataset(subjects), 10, 4, module.UniformSampler(PATCH), num_workers=0
            )
            options = {"collate_fn": collate} if loader_class is DataLoader else {}
            batches.append(
                [
                    b
                    for _ in range(2)
                    for b in loader_class(queue, batch_size=5, num_workers=0, **options)
                ]
            )
        for found, expected in zip(*batches, strict=True):
            assert torch.equal(found["ct"][tio.DATA], expected["ct"][tio.DATA])
            assert torch.equal(found["seg"][tio.DATA].long(), expected["seg"][tio.DATA].long())
            assert torch.equal(found[tio.LOCATION], expected[tio.LOCATION])
            assert found["name"] == expected["name"]


def collate(subjects: list[tio.Subject]) -> dict:
    return tio.SubjectsLoader._collate(subjects)


@pytest.mark.parametrize("mode", ["crop", "average", "hann"])
def test_the_documented_inference_pipeline(pair: Pair, mode: str) -> None:
    volumes = []
    for module, subject in ((vt, ours(pair)), (tio, theirs(pair))):
        grid = module.GridSampler(subject, 16, 4)
        aggregator = module.GridAggregator(grid, overlap_mode=mode)
        for batch in tio.SubjectsLoader(grid, batch_size=4, num_workers=0):
            aggregator.add_batch(batch["ct"][tio.DATA].float() * 2, batch[tio.LOCATION])
        volumes.append(aggregator.get_output_tensor())
    assert torch.allclose(
        volumes[0], 2 * torch.from_numpy(pair.voxels["a"]["ct"].T[None]).float(), rtol=1e-5
    )
    assert torch.allclose(volumes[0], volumes[1], rtol=1e-5)


def test_num_samples_of_a_subject(pair: Pair) -> None:
    subjects = [ours(pair, "a"), ours(pair, "b")]
    subjects[1]["num_samples"] = 5
    subjects[1].update_attributes()
    queue = vt.Queue(tio.SubjectsDataset(subjects), 4, 2, vt.UniformSampler(PATCH))
    assert len(queue) == queue.iterations_per_epoch == 7
    names = [queue[0].name for _ in range(7)]
    assert sorted(names) == ["a", "a", "b", "b", "b", "b", "b"]


def test_no_more_patches_are_held_than_asked_for(pair: Pair) -> None:
    """TorchIO's fails where a subject has more patches than the queue is long."""
    queue = vt.Queue(tio.SubjectsDataset([ours(pair)]), 3, 20, vt.UniformSampler(PATCH))
    for n in range(40):
        queue[0]
        assert queue.num_patches == (2 - n) % 3 if n % 20 < 18 else queue.num_patches < 3


def test_subject_samplers(pair: Pair) -> None:
    dataset, _ = datasets(pair)
    sampler = vt.UniformSampler(PATCH)
    with pytest.raises(ValueError, match="shuffle"):
        vt.Queue(dataset, 3, 2, sampler, SequentialSampler(dataset))
    queue = vt.Queue(
        dataset,
        6,
        2,
        sampler,
        SequentialSampler(dataset),
        shuffle_subjects=False,
        shuffle_patches=False,
    )
    assert [queue[0].name for _ in range(6)] == ["a", "a", "b", "b", "c", "c"]
    few = RandomSampler(dataset, replacement=True, num_samples=1)
    assert len(vt.Queue(dataset, 6, 2, sampler, few, shuffle_subjects=False)) == 2
    endless = vt.Queue(dataset, 6, 2, sampler, iter([0]), shuffle_subjects=False)
    with pytest.raises(ValueError, match="__len__"):
        endless.num_subjects


def test_what_goes_wrong_reaches_the_training(pair: Pair) -> None:
    dataset = tio.SubjectsDataset([ours(pair)])
    with pytest.raises(RuntimeError, match="larger than image size"):
        vt.Queue(dataset, 4, 2, vt.UniformSampler(64))[0]
    broken = ours(pair)
    broken.ct.reader.volume = None
    with pytest.raises(AttributeError):
        vt.Queue(tio.SubjectsDataset([broken]), 4, 2, vt.UniformSampler(PATCH))[0]


def test_threads_end_with_the_queue(pair: Pair) -> None:
    queue = vt.Queue(tio.SubjectsDataset([ours(pair)]), 30, 30, vt.UniformSampler(PATCH))
    queue[0]
    threads = [t for t in threading.enumerate() if t.name.startswith("voxquarry-queue")]
    assert threads
    del queue
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_memory_is_told_as_torchio_does(pair: Pair) -> None:
    mine, other = (
        module.Queue(dataset, 7, 3, module.UniformSampler(PATCH))
        for module, dataset in zip((vt, tio), datasets(pair), strict=True)
    )
    assert repr(mine) == repr(other)
    assert mine.get_max_memory() == other.get_max_memory() == 7 * 4 * 3 * int(np.prod(PATCH))
    assert mine.get_max_memory_pretty() == other.get_max_memory_pretty()
