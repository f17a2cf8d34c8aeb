"""Weights that training updates (issue 21, part 4): the draws that docs/determinism.md describes,
from a stated position on, on any number of threads and ranks, and after a resume.
"""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import smooth, write_nifti
from test_determinism import Draws, Space, epoch_of, location, numbers

import voxquarry as vq

NAMES = ["a", "b", "c"]
SIZE, PATCH = (18, 20, 22), (5, 6, 4)
COUNT = 6
Patches = list[tuple[str, tuple[int, ...]]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    voxels = write_nifti(folder / "v.nii", numbers(SIZE).T)
    volumes = {"ct": voxels, "seg": vq.Labels(voxels), "w": vq.Weights(voxels)}
    vq.ingest(dict.fromkeys(NAMES, volumes), folder / "store.zarr", patch_size=8)
    return folder / "store.zarr"


@pytest.fixture
def store(path: Path) -> vq.Dataset:
    return vq.open(path)


def queue_of(store: vq.Dataset, sampler: object = None, **options: object) -> vq.Queue:
    defaults = {"volumes": ["ct"], "patches_per_subject": COUNT, "batch_size": 4, "seed": 7}
    return vq.Queue(store, sampler or vq.UniformSampler(PATCH), **(defaults | options))


def patches(batches: object) -> Patches:
    return [
        (name, tuple(place[:3]))
        for batch in batches
        for name, place in zip(batch["subject"], batch["location"].tolist(), strict=True)
    ]


def chunk_weights(store: vq.Dataset, seed: int = 3) -> np.ndarray:
    """Weights of the chunks of ``ct``, some of which are 0."""
    chunk = store["a"]["ct"].chunks
    grid = [-(-s // c) for s, c in zip(SIZE, chunk, strict=True)]
    weights = np.random.default_rng(seed).uniform(0, 3, grid).round(2)
    weights.flat[::4] = 0
    assert weights.size > 8
    return weights


def oracle(space: Space, rule: dict | None, weights: np.ndarray, epoch: int, n: int) -> tuple:
    """A location under weights of chunks, as the page says."""
    draws, parts = Draws(7, epoch, "a", n), list(space.chunks())
    of = [weights[tuple(s.start // c for s, c in zip(p, space.chunk, strict=True))] for p in parts]

    def by_chunk(numbers: list[float]) -> int:
        return draws.pick([float(v * w) for v, w in zip(numbers, of, strict=True)])

    def voxel(mask: np.ndarray) -> tuple[int, ...]:
        counts = [int(mask[part].sum()) for part in parts]
        i = by_chunk(counts)
        at = np.argwhere(mask[parts[i]])[draws.below(counts[i])].tolist()
        return space.start(tuple(s.start + v for s, v in zip(parts[i], at, strict=True)))

    def has_weight(mask: np.ndarray) -> bool:
        return any(w > 0 and mask[part].any() for part, w in zip(parts, of, strict=True))

    def anywhere() -> tuple[int, ...]:
        part = parts[by_chunk([np.prod([s.stop - s.start for s in part]) for part in parts])]
        return space.start(tuple(s.start + draws.below(s.stop - s.start) for s in part))

    if rule is None:
        return anywhere()
    if "probabilities" in rule:
        classes = [(space.voxels == k, w) for k, w in sorted(rule["probabilities"].items())]
        classes = [(mask, w) for mask, w in classes if w > 0 and has_weight(mask)]
        return voxel(classes[draws.pick([w for _, w in classes])][0])
    if "foreground_fraction" in rule:
        part = round(rule["foreground_fraction"] * 2**32)
        phase = Draws(7, epoch, "a", 2**63).below(2**32)
        labels = [k for k in range(1, 5) if has_weight(space.voxels == k)]
        if (phase + n * part) % 2**32 + part >= 2**32:
            return voxel(space.voxels == labels[draws.below(len(labels))])
        return anywhere()
    return voxel(space.voxels > 0)


RULES = [None, {}, {"probabilities": {1: 2.0, 3: 1.0, 9: 4.0}}, {"foreground_fraction": 0.4}]


@pytest.mark.parametrize("border", ["exclude", "clamp", "pad"])
@pytest.mark.parametrize("rule", RULES)
def test_chunks_are_drawn_as_the_page_says(
    store: vq.Dataset, rule: dict | None, border: str
) -> None:
    sampler = (
        vq.UniformSampler(PATCH, border)
        if rule is None
        else vq.LabelSampler(PATCH, "seg", border=border, **rule)
    )
    weights = chunk_weights(store)
    queue = queue_of(store, sampler, subjects={"a": 40}, shuffle="none", padding=0)
    before = patches(queue)
    queue.update_weights(chunks={"a": weights})
    space = Space(numbers(SIZE), store["a"]["ct"].chunks, PATCH, border)
    found = [place for _, place in patches(queue)]
    assert found == [oracle(space, rule, weights, 1, n) for n in range(40)]
    # And nothing has changed before it.
    queue.set_epoch(0)
    assert patches(queue) == before


def test_weights_of_chunks_multiply_those_of_voxels(store: vq.Dataset) -> None:
    """The distribution of a ``WeightedSampler`` under weights, beside a dense map."""
    weights, n = chunk_weights(store), 4000
    queue = queue_of(store, vq.WeightedSampler(PATCH, "w"), subjects={"a": n}, batch_size=100)
    queue.update_weights(chunks={"a": weights})
    map_ = vq.WeightedSampler(PATCH, "w").probability_map(store["a"])
    chunk = store["a"]["ct"].chunks
    for at in np.ndindex(weights.shape):
        part = tuple(slice(i * c, (i + 1) * c) for i, c in zip(at, chunk, strict=True))
        map_[part] *= weights[at]
    map_ /= map_.sum()
    found = np.zeros(SIZE)
    for _, start in patches(queue):
        found[tuple(s + p // 2 for s, p in zip(start, PATCH, strict=True))] += 1
    assert not found[map_ == 0].any()
    # By blocks of voxels that are likely enough to count; seeds are fixed.
    order = np.argsort(map_.ravel())[::-1]
    groups = np.array_split(order[: np.count_nonzero(map_)], 40)
    expected = np.array([n * map_.ravel()[g].sum() for g in groups])
    counted = np.array([found.ravel()[g].sum() for g in groups])
    chi = ((counted - expected) ** 2 / expected).sum()
    assert chi < 73.4, chi  # 39 degrees of freedom, one seed in a thousand


@pytest.mark.parametrize("shuffle", ["global", "window", "none"])
def test_subjects_are_drawn_as_the_page_says(store: vq.Dataset, shuffle: str) -> None:
    counts, weights = [3, 8, 5], [2.0, 0.5, 1.0]
    subjects = dict(zip(NAMES, counts, strict=True))
    queue = queue_of(store, subjects=subjects, shuffle=shuffle, window_bytes=1)
    queue.update_weights(subjects={"a": 2.0, "b": 0.5}, epoch=2, position=5)

    def expected(epoch: int, p: int) -> tuple[str, tuple[int, ...]]:
        subject, number = epoch_of(counts, shuffle, 7, epoch, 0)[p]
        if (epoch, p) >= (2, 5):
            draws = Draws(7, epoch, "/weights", p)
            subject = draws.pick([c * w for c, w in zip(counts, weights, strict=True)])
            number = counts[subject] + p
        name = NAMES[subject]
        return name, location("exclude", SIZE, PATCH, 7, epoch, name, number)

    for epoch in range(4):
        assert patches(queue) == [expected(epoch, p) for p in range(16)], epoch


def test_a_grid_is_drawn_by_subjects(store: vq.Dataset) -> None:
    grid = vq.GridSampler(8, overlap=2)
    queue = queue_of(store, grid)
    queue.update_weights(subjects={"a": 0, "b": 3})
    found, each = patches(queue), len(grid.locations(store["a"]))
    assert len(found) == 3 * each
    names = Counter(name for name, _ in found)
    assert names["a"] == 0 and names["b"] > 2 * names["c"] > 0
    starts = {tuple(start) for start in grid.locations(store["b"]).tolist()}
    assert {start for _, start in found} <= starts


@pytest.mark.parametrize("threads", [1, 4])
def test_an_update_within_an_epoch_begins_at_its_position(store: vq.Dataset, threads: int) -> None:
    """Also on batches that were read ahead: the same as a queue that knew it from the beginning."""
    weights = {"subjects": {"a": 5.0}, "chunks": {"b": chunk_weights(store)}}
    first = queue_of(store, threads=threads)
    first.update_weights(**weights, epoch=0, position=9)
    expected = patches(first)
    plain = patches(queue_of(store))
    assert expected[:9] == plain[:9] and expected[9:] != plain[9:]
    later = queue_of(store, threads=threads)
    batches = iter(later)
    found = [next(batches)]
    later.update_weights(**weights, position=9)
    assert patches([*found, *batches]) == expected
    # Other updates of the same epoch, and of the next one, in the middle of it.
    batches = iter(later)
    found = [next(batches), next(batches)]
    later.update_weights(subjects={"c": 0})
    later.update_weights(epoch=1, position=8)
    second = [*patches([*found, *batches])]
    assert second[:8] == patches(first)[:8]
    again = queue_of(store)
    again.set_epoch(1)
    assert second[8:] == patches(again)[8:]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_position_can_be_resumed_from_on_any_rank(store: vq.Dataset, world: int) -> None:
    weights = {"subjects": {"a": 5.0}, "chunks": {"b": chunk_weights(store)}}

    def ranks(state: dict | None = None) -> list[vq.Queue]:
        made = [queue_of(store, rank=r, world_size=world, batch_size=2) for r in range(world)]
        for queue in made:
            if state is None:
                queue.update_weights(**weights, epoch=1, position=6)
            else:
                queue.load_state_dict(state)
        return made

    whole = queue_of(store)
    whole.update_weights(**weights, epoch=1, position=6)
    for epoch in range(2):
        plan = patches(whole)
        shares = [patches(queue) for queue in ranks()] if epoch == 0 else None
        if shares:
            assert [share[i] for i in range(len(shares[0])) for share in shares] == plan
    queues = ranks()
    for queue in queues:
        list(queue)
    expected = [patches(queue) for queue in queues]
    for taken in range(len(queues[0])):
        queues = ranks()
        for queue in queues:
            queue.set_epoch(1)
            batches = iter(queue)
            for _ in range(taken):
                next(batches)
        states = [json.loads(json.dumps(queue.state_dict())) for queue in queues]
        assert all(state == states[0] for state in states)
        found = [patches(queue) for queue in ranks(states[0])]
        assert found == [share[2 * taken :] for share in expected], taken


def test_a_pickle_and_another_state_take_the_weights_along(store: vq.Dataset) -> None:
    queue = queue_of(store)
    assert "weights" not in queue.state_dict()
    plain = queue.state_dict()
    queue.update_weights(subjects={"a": 5.0}, chunks={"b": chunk_weights(store)})
    expected = patches(pickle.loads(pickle.dumps(queue)))
    assert expected == patches(queue)
    queue.load_state_dict(plain)
    assert patches(queue) == patches(queue_of(store)) != expected
    # Later weights replace earlier ones; those that nothing can reach are forgotten.
    for epoch in range(5, 9):
        queue.set_epoch(epoch)
        queue.update_weights(subjects={"a": float(epoch)})
    (kept,) = queue.state_dict()["weights"]
    assert (kept["epoch"], kept["subjects"]) == (8, {"a": 8.0})


def test_none_are_no_weights(store: vq.Dataset) -> None:
    queue = queue_of(store)
    queue.update_weights(subjects={"a": 0.0})
    assert all(name != "a" for name, _ in patches(queue))
    queue.update_weights()
    plain = queue_of(store)
    plain.set_epoch(1)
    assert patches(queue) == patches(plain)


def test_background_is_drawn_by_the_first_volume(tmp_path: Path) -> None:
    """A subject without labels, whose patches are drawn anywhere."""
    voxels = write_nifti(tmp_path / "v.nii", smooth((16, 16, 16)))
    nothing = write_nifti(tmp_path / "n.nii", np.zeros((16, 16, 16), "u1"))
    sources = {"a": {"ct": voxels, "seg": vq.Labels(nothing)}}
    store = vq.ingest(sources, tmp_path / "store.zarr", patch_size=8)
    sampler = vq.LabelSampler(4, "seg")
    queue = queue_of(store, sampler, on_missing="background", patches_per_subject=50)
    weights = np.zeros([16 // c for c in store["a"]["ct"].chunks])
    weights[1, 0, 1] = 1
    queue.update_weights(chunks={"a": weights})
    centres = np.array([start for _, start in patches(queue)]) + 2
    assert (centres // store["a"]["ct"].chunks == [1, 0, 1]).all()


def test_what_cannot_be_is_refused(store: vq.Dataset) -> None:
    queue, good = queue_of(store), chunk_weights(store)
    bad = {
        "a subject that the queue reads": {"subjects": {"z": 1.0}},
        "a finite number, 0 or more": {"subjects": {"a": -1.0}},
        "weight of subject": {"subjects": {"a": float("nan")}},
        "sum of the weights": {"subjects": dict.fromkeys(NAMES, 0)},
        "a mapping from names to numbers": {"subjects": [1.0, 2.0]},
        "one for each chunk": {"chunks": {"a": np.ones((2, 2, 2))}},
        "weigh 0": {"chunks": {"a": np.zeros_like(good)}},
        r"weight of chunk \[0, 0, 1\]": {
            "chunks": {"a": np.where(np.arange(good.shape[2]) == 1, np.inf, np.ones_like(good))}
        },
        "an array": {"chunks": {"a": "x"}},
        "of shape": {"chunks": {"a": [1.0]}},
        "a mapping from names to arrays": {"chunks": good},
    }
    for message, arguments in bad.items():
        with pytest.raises(vq.UsageError, match=message):
            queue.update_weights(**arguments)
    assert "weights" not in queue.state_dict()
    batches = iter(queue)
    next(batches)
    with pytest.raises(vq.UsageError, match="at least 4 of epoch 0"):
        queue.update_weights(subjects={"a": 2.0}, position=3)
    with pytest.raises(vq.UsageError, match="grid sampler"):
        queue_of(store, vq.GridSampler(8)).update_weights(chunks={"a": good})
    with pytest.raises(vq.UsageError, match="whole objects"):
        sampler = vq.ObjectSampler(SIZE, "seg")
        queue_of(store, sampler).update_weights(chunks={"a": good})
    distant = vq.ConstrainedSampler(vq.UniformSampler(PATCH), min_distance=2)
    with pytest.raises(vq.UsageError, match="min_distance"):
        queue_of(store, distant).update_weights(subjects={"a": 2.0})
    state = {**queue.state_dict(), "weights": [{"epoch": 0}]}
    with pytest.raises(vq.UsageError, match="state_dict"):
        queue.load_state_dict(state)
