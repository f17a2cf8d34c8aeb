"""Subjects in which a sampler can draw no patch: known when a queue is made, from label counts and
sums of weights.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import voxquarry as vq

PATCH = 8
NAMES = [f"s{i:02}" for i in range(6)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> vq.Dataset:
    """Six subjects. ``s03`` has no label 1 (only 2, near the border), and no weight."""
    subjects = {}
    for i, name in enumerate(NAMES):
        seg = np.zeros((24, 24, 24), "u1")
        seg[10:14, 10:14, 10:14] = 1
        weights = np.zeros((24, 24, 24), "f4")
        weights[12, 12, 12] = 1
        if i == 3:
            seg[:], weights[:] = 0, 0
            seg[0, 0, 0] = 2
        subjects[name] = {
            "ct": np.full((24, 24, 24), i, "i2"),
            "seg": vq.Labels(seg),
            "map": vq.Weights(weights),
        }
    path = tmp_path_factory.mktemp("missing") / "store.zarr"
    return vq.ingest(subjects, path, patch_size=PATCH)


SAMPLERS = [
    (vq.LabelSampler(PATCH, "seg", {1: 1.0, 2: 0.0, 7: 0.0}), "no voxel of the labels [1]"),
    (vq.LabelSampler(PATCH, "seg", {2: 1.0}), None),
    (vq.LabelSampler(PATCH, "seg"), "label above 0 lie so near the border"),
    (vq.WeightedSampler(PATCH, "map"), "no voxel of a weight above 0"),
    (
        vq.ConstrainedSampler(vq.LabelSampler(PATCH, "seg", {1: 1.0}), min_foreground=0.01),
        "no voxel of the labels [1]",
    ),
    (
        vq.ConstrainedSampler(vq.UniformSampler(PATCH), min_foreground=0.01, labels="seg"),
        'no patch has more than 1 voxels above 0 in "seg", min_foreground 0.01 asks for 6',
    ),
    (vq.ConstrainedSampler(vq.UniformSampler(PATCH), inside="seg"), "no patch fits inside"),
]


def queue_of(store: vq.Dataset, sampler: object, **options: object) -> vq.Queue:
    return vq.Queue(store, sampler, ["ct"], patches_per_subject=10, batch_size=1, **options)


@pytest.mark.parametrize(("sampler", "reason"), SAMPLERS)
def test_a_subject_without_the_label_is_told_when_the_queue_is_made(
    store: vq.Dataset, sampler: object, reason: str | None
) -> None:
    """Training died after 60 of 61 batches, with advice that could not help and a list of labels of
    probability 0 (MONAI#6576).
    """
    if reason is None or "inside" in reason:
        with pytest.raises(vq.UsageError, match="sample by labels or weights|padd|pad the vol"):
            subjects = NAMES if reason else [name for name in NAMES if name != "s03"]
            queue_of(store, sampler, subjects=subjects)
        return
    with pytest.raises(vq.UsageError) as raised:
        queue_of(store, sampler)
    message = str(raised.value)
    assert "1 of 6 subjects (s03: " in message and reason in message, message
    assert "7" not in message
    if "near the border" in reason:
        assert 'border="clamp"' in message
    else:
        assert 'on_missing="skip"' in message and "pad" not in message
    assert list(sampler.missing(store)) == ["s03"]
    assert sampler.missing(store, ["s00", "s01"]) == {}


def test_skip_leaves_the_subject_out(store: vq.Dataset) -> None:
    sampler = vq.LabelSampler(PATCH, "seg", {1: 1.0})
    queue = queue_of(store, sampler, on_missing="skip")
    assert queue.missing == {"s03": "no voxel of the labels [1]"}
    for _ in range(3):
        names = [batch["subject"][0] for batch in queue]
        assert sorted(names) == sorted([name for name in NAMES if name != "s03"] * 10)
    again = pickle.loads(pickle.dumps(queue))
    assert (len(again), again.missing) == (50, queue.missing)
    # The others' patches are those of a queue that never had it.
    others = queue_of(store, sampler, subjects=[name for name in NAMES if name != "s03"])
    queue.set_epoch(0)
    for found, expected in zip(queue, others, strict=True):
        assert found["subject"] == expected["subject"]
        assert (found["location"] == expected["location"]).all()


def test_background_draws_anywhere(store: vq.Dataset) -> None:
    sampler = vq.LabelSampler(PATCH, "seg", {1: 1.0}, border="clamp")
    queue = queue_of(store, sampler, on_missing="background")
    found = {name: [] for name in NAMES}
    for batch in queue:
        found[batch["subject"][0]].append(batch["location"][0, :3].tolist())
    anywhere = vq.UniformSampler(PATCH, border="clamp")
    for name in NAMES:
        drawn = (anywhere if name == "s03" else sampler).locations(store[name], 10)
        assert sorted(found[name]) == sorted(drawn.tolist())
    state = queue.state_dict()
    for other in ("error", "skip"):
        with pytest.raises(vq.UsageError, match="another queue"):
            subjects = [name for name in NAMES if name != "s03"]
            options = {"on_missing": other} | ({"subjects": subjects} if other == "error" else {})
            queue_of(store, sampler, **options).load_state_dict(state)


def test_nothing_is_left(store: vq.Dataset) -> None:
    sampler = vq.LabelSampler(PATCH, "seg", {9: 1.0})
    for on_missing in ("error", "skip"):
        with pytest.raises(vq.UsageError, match="sample by labels or weights that they have"):
            queue_of(store, sampler, on_missing=on_missing)
    assert len(queue_of(store, sampler, on_missing="background")) == 60
    with pytest.raises(
        vq.UsageError, match=r"no voxel of the labels \[9\]: sample it by what it has"
    ):
        sampler.locations(store["s00"], 1)
    with pytest.raises(vq.UsageError, match='"error", "skip" or "background"'):
        queue_of(store, sampler, on_missing="ignore")


def test_what_no_batch_can_hold_is_told_when_the_queue_is_made(tmp_path: Path) -> None:
    """Siblings: a volume that is not there, another dtype, a patch that is too large."""
    zeros = np.zeros((16, 16, 16), "i2")
    subjects = {
        "a": {"ct": zeros, "seg": vq.Labels(zeros.astype("u1"))},
        "b": {"ct": zeros.astype("f4"), "seg": vq.Labels(zeros.astype("u1"))},
        "c": {"ct": zeros[:8, :8, :8]},
        "d": {"seg": vq.Labels(zeros.astype("u1"))},
    }
    store = vq.ingest(subjects, tmp_path / "store.zarr", patch_size=8)
    uniform = vq.UniformSampler(12)
    with pytest.raises(vq.UsageError, match=r"subject \"b\": .*float32"):
        vq.Queue(store, uniform, ["ct"], subjects=["a", "b"])
    with pytest.raises(vq.UsageError, match=r"subject \"c\": patch size"):
        vq.Queue(store, uniform, ["ct"], subjects=["a", "c"])
    with pytest.raises(KeyError, match='no volume "ct"'):
        vq.Queue(store, uniform, ["ct"], subjects=["a", "d"])
    with pytest.raises(vq.UsageError, match=r"c: no label map"):
        vq.Queue(store, vq.LabelSampler(4, pos_neg=(1, 1)), ["ct"], subjects=["a", "c"])
    with pytest.raises(vq.UsageError, match=r"2 errors[\s\S]*\"c\"[\s\S]*\"d\""):
        vq.Queue(store, uniform, ["ct"], subjects=["a", "c", "d"])


def test_rejection_never_dies_in_the_middle_of_training(tmp_path: Path) -> None:
    """``min_foreground`` on a rare object died in the third epoch: after the attempts that find
    nothing, others are centred on the object.
    """
    seg = np.zeros((60, 60, 60), "u1")
    seg[3:6, 50:53, 30:33] = 1
    whole = np.zeros((60, 60, 60), "u1")
    whole[0, 0, 0] = 1
    store = vq.ingest(
        {"a": {"ct": seg, "seg": vq.Labels(seg)}, "b": {"ct": seg, "seg": vq.Labels(whole)}},
        tmp_path / "store.zarr",
        patch_size=PATCH,
    )
    for border in ("exclude", "clamp", "pad"):
        sampler = vq.ConstrainedSampler(
            vq.UniformSampler(PATCH, border=border), min_foreground=0.02, labels="seg", attempts=5
        )
        queue = queue_of(store, sampler, on_missing="skip", padding=0)
        assert list(queue.missing) == ["b"]
        for _ in range(5):
            assert len(list(queue)) == 10
        for n, start in enumerate(sampler.locations(store["a"], 50)):
            patch = store["a"]["seg"].read(start, PATCH, padding=0)
            assert patch.sum() >= np.ceil(0.02 * PATCH**3), (border, start)
            assert (sampler.locations(store["a"], 1, first=n)[0] == start).all()
    with pytest.raises(vq.UsageError, match="relax the constraints, or leave it out"):
        sampler.locations(store["b"], 1)
    best = vq.ConstrainedSampler(
        vq.UniformSampler(PATCH), min_foreground=0.02, labels="seg", attempts=5, on_failure="best"
    )
    assert len(queue_of(store, best)) == 20
    assert best.locations(store["b"], 3).shape == (3, 3)


def test_the_bound_of_a_patch_is_no_guess(tmp_path: Path) -> None:
    """A subject is refused only where no patch at all meets the constraint."""
    random = np.random.default_rng(5)
    for case in range(12):
        seg = (random.random((20, 23, 17)) < random.choice([0.001, 0.05, 0.9])).astype("u1")
        store = vq.ingest({"a": {"seg": vq.Labels(seg)}}, tmp_path / f"{case}.zarr", patch_size=5)
        for size in ((3, 5, 4), (20, 1, 6), (12, 12, 12)):
            windows = np.lib.stride_tricks.sliding_window_view(seg, size)
            most = windows.sum((3, 4, 5), dtype=int).max() / np.prod(size)
            uniform = vq.UniformSampler(size)
            met = vq.ConstrainedSampler(uniform, min_foreground=float(most))
            assert met.missing(store) == {}, (case, size)
            total = seg.sum() / np.prod(size)
            if total < 0.9:
                unmet = vq.ConstrainedSampler(uniform, min_foreground=float(total + 0.01))
                assert list(unmet.missing(store)) == ["a"], (case, size)
