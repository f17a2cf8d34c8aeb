"""Patches that hold whole objects (issue 21, part 4), beside boxes that numpy finds."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import write_nifti
from test_determinism import Draws

import voxquarry as vq

SHAPE, PATCH = (30, 28, 26), (9, 10, 11)
Box = tuple[int, ...]


def instances(seed: int) -> np.ndarray:
    """Boxes of random extents and places, with holes, some at the border and some over others."""
    random, voxels = np.random.default_rng(seed), np.zeros(SHAPE, "i4")
    for label in random.permutation(np.arange(1, 40)) * 1000:
        size = random.integers(1, 13, 3)
        start = [random.integers(0, s - n + 1) for s, n in zip(SHAPE, size, strict=True)]
        part = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        voxels[part] = np.where(random.random(size) < 0.6, label, voxels[part])
    voxels[random.random(SHAPE) < 0.001] = -7
    return voxels


def boxes(voxels: np.ndarray) -> dict[int, Box]:
    found = {}
    for label in np.unique(voxels[voxels > 0]).tolist():
        at = np.argwhere(voxels == label)
        found[label] = (*at.min(0).tolist(), *(at.max(0) + 1).tolist())
    return found


def fits(box: Box) -> bool:
    return all(box[a + 3] - box[a] <= PATCH[a] for a in range(3))


@pytest.fixture(scope="module", params=["counted", "plain"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> vq.Dataset:
    """With label counts, and without."""
    folder = tmp_path_factory.mktemp("objects")
    kind = vq.Labels if request.param == "counted" else str
    sources = {
        name: {"seg": kind(write_nifti(folder / f"{name}.nii", instances(seed).T))}
        for seed, name in enumerate(("a", "b"))
    }
    return vq.ingest(sources, folder / "store.zarr", patch_size=8)


def test_boxes_are_those_of_numpy(store: vq.Dataset) -> None:
    sampler = vq.ObjectSampler(PATCH, "seg")
    for seed, name in enumerate(store):
        expected = boxes(instances(seed))
        assert sampler.objects(store[name]) == [(k, b, fits(b)) for k, b in expected.items()]
        assert sampler.counts(store)[name] == sum(map(fits, expected.values()))
        assert any(map(fits, expected.values())) and not all(map(fits, expected.values()))


@pytest.mark.parametrize("border", ["exclude", "clamp", "pad"])
@pytest.mark.parametrize("order", ["random", "each"])
def test_patches_are_drawn_as_the_page_says(store: vq.Dataset, order: str, border: str) -> None:
    sampler = vq.ObjectSampler(PATCH, "seg", border, order)
    objects = [box for box in boxes(instances(0)).values() if fits(box)]
    found = sampler.locations(store["a"], 60, seed=3, epoch=5, first=2).tolist()
    for n, start in enumerate(found, 2):
        draws = Draws(3, 5, "a", n)
        i = n % len(objects) if order == "each" else draws.below(len(objects))
        expected = []
        for a in range(3):
            low, high = objects[i][a + 3] - PATCH[a], objects[i][a]
            if border != "pad":
                low, high = max(low, 0), min(high, SHAPE[a] - PATCH[a])
            expected.append(low + draws.below(high - low + 1))
            assert start[a] <= objects[i][a] and objects[i][a + 3] <= start[a] + PATCH[a]
        assert start == expected, (n, order, border)


def test_an_epoch_has_one_patch_of_each_object(store: vq.Dataset) -> None:
    sampler = vq.ObjectSampler(PATCH, "seg", order="each")
    queue = vq.Queue(store, sampler, ["seg"], subjects=sampler.counts(store), batch_size=3)
    wholes: Counter[tuple[str, int]] = Counter()
    objects = {
        name: [(label, box) for label, box, fitting in sampler.objects(store[name]) if fitting]
        for name in store
    }
    voxels = {name: instances(seed) for seed, name in enumerate(store)}
    drawn = []
    for batch in queue:
        for name, place, patch in zip(
            batch["subject"], batch["location"].tolist(), batch["seg"], strict=True
        ):
            drawn.append((name, tuple(place)))
            for label, _ in objects[name]:
                if (patch == label).sum() == (voxels[name] == label).sum():
                    wholes[name, label] += 1
    assert len(drawn) == sum(sampler.counts(store).values())
    assert all(wholes[name, label] >= 1 for name in store for label, _ in objects[name])


def test_probabilities_sum_up(store: vq.Dataset) -> None:
    sampler = vq.ObjectSampler(PATCH, "seg")
    found = sampler.probability_map(store["a"])
    assert found.sum() == pytest.approx(1)
    starts = sampler.locations(store["a"], 300)
    assert (found[tuple((starts + np.array(PATCH) // 2).T)] > 0).all()


def test_what_no_patch_can_hold_is_known_before(tmp_path: Path) -> None:
    large, none = np.full((12, 12, 12), 3, "i2"), np.zeros((12, 12, 12), "i2")
    sources = {
        name: {"seg": vq.Labels(write_nifti(tmp_path / f"{name}.nii", voxels))}
        for name, voxels in (("large", large), ("none", none))
    }
    store = vq.ingest(sources, tmp_path / "store.zarr", patch_size=8)
    sampler = vq.ObjectSampler(8)
    assert sampler.missing(store) == {
        "large": "no box of its 1 labels fits into [8, 8, 8] voxels",
        "none": "no voxel of a label above 0",
    }
    assert sampler.counts(store) == {}
    with pytest.raises(vq.UsageError, match="take larger patches"):
        sampler.locations(store["large"], 1)
    with pytest.raises(vq.UsageError, match="large: no box"):
        vq.Queue(store, sampler, ["seg"])
    with pytest.raises(vq.UsageError, match=r"large: no box.*: take larger patches"):
        vq.Queue(store, sampler, ["seg"], subjects=["large"])
    with pytest.raises(vq.UsageError, match="channel"):
        vq.ObjectSampler(8, channel=1).objects(store["large"])
    with pytest.raises(vq.UsageError, match="order"):
        vq.ObjectSampler(8, order="all")


def test_it_is_pickled_and_shown() -> None:
    sampler = vq.ObjectSampler((4, 5, 6), "seg", "pad", "each", 1)
    shown = (
        'voxquarry.ObjectSampler((4, 5, 6), labels=\'seg\', border="pad", order="each", channel=1)'
    )
    assert repr(pickle.loads(pickle.dumps(sampler))) == repr(sampler) == shown
    assert (sampler.labels, sampler.order, sampler.channel) == ("seg", "each", 1)
