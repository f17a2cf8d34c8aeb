"""Weighted, label and constrained samplers: what they draw, what they refuse, how they are shown
and pickled.
"""

from __future__ import annotations

import itertools
import pickle
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from helpers import write_nifti

import voxquarry as vq

sys.path.insert(0, str(Path(__file__).parents[2] / "format-spec"))
import reader

SIZE = (36, 40, 33)
PATCH = (6, 7, 4)
HALF = np.array([p // 2 for p in PATCH])


@pytest.fixture(scope="module")
def voxels() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    blocks = random.integers(0, 4, (9, 10, 9)).repeat(4, 0).repeat(4, 1).repeat(4, 2)[:36, :40, :33]
    heat = (random.random(SIZE) * (blocks > 1)).astype("f4")
    far = np.where(blocks == 3, 2**32 - 1, blocks).astype("u4")
    return {"seg": far, "heat": heat, "mask": (blocks < 3).astype("u1"), "ct": blocks.astype("i2")}


@pytest.fixture(scope="module")
def dataset(voxels: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> vq.Dataset:
    folder = tmp_path_factory.mktemp("balance")
    paths = {name: write_nifti(folder / f"{name}.nii", array.T) for name, array in voxels.items()}
    kinds = {"seg": vq.Labels, "heat": vq.Weights, "mask": vq.Labels, "ct": str}
    one = {name: kinds[name](path) for name, path in paths.items()}
    return vq.ingest({"a": one, "b": {"seg": one["seg"]}}, folder / "store.zarr", patch_size=16)


def centres(starts: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple((starts + HALF).T)


def test_centres_have_what_was_asked_for(
    dataset: vq.Dataset, voxels: dict[str, np.ndarray]
) -> None:
    subject, far = dataset["a"], 2**32 - 1
    starts = vq.LabelSampler(
        PATCH, labels="seg", probabilities={np.int64(1): 3, far: np.float32(1), 9: 5}
    ).locations(subject, 4000, seed=1)
    assert (starts.dtype, starts.shape) == (np.int64, (4000, 3))
    found, counts = np.unique(voxels["seg"][centres(starts)], return_counts=True)
    assert found.tolist() == [1, far]
    # 3000 expected, five standard deviations of a binomial.
    assert abs(counts[0] - 3000) < 5 * (4000 * 0.75 * 0.25) ** 0.5
    assert (voxels["seg"][centres(vq.LabelSampler(PATCH, "seg").locations(subject, 500))] > 0).all()
    assert (
        voxels["heat"][centres(vq.WeightedSampler(PATCH, weights="heat").locations(subject, 500))]
        > 0
    ).all()
    # The first label map in the order of names; an image of integers will do as well.
    first = vq.LabelSampler(PATCH).locations(subject, 500)
    assert (voxels["mask"][centres(first)] == 1).all()
    assert (
        voxels["ct"][centres(vq.LabelSampler(PATCH, "ct", [0, 0, 1]).locations(subject, 500))] == 2
    ).all()


def test_probabilities_are_the_weights(dataset: vq.Dataset, voxels: dict[str, np.ndarray]) -> None:
    for border in ("exclude", "clamp", "pad"):
        box = [
            slice(p // 2, s - (p - 1) // 2) if border == "exclude" else slice(0, s)
            for s, p in zip(SIZE, PATCH, strict=True)
        ]
        expected = np.zeros(SIZE)
        expected[tuple(box)] = voxels["heat"][tuple(box)]
        expected /= expected.sum()
        for name in ("heat", "ct"):
            weights = np.zeros(SIZE)
            weights[tuple(box)] = voxels[name][tuple(box)]
            found = vq.WeightedSampler(PATCH, name, border=border).probability_map(dataset["a"])
            np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-12)
        found = vq.LabelSampler(PATCH, "seg", pos_neg=(1, 3), border=border).probability_map(
            dataset["a"]
        )
        inside = np.zeros(SIZE, bool)
        inside[tuple(box)] = True
        for mask, part in (
            (inside & (voxels["seg"] > 0), 0.25),
            (inside & (voxels["seg"] == 0), 0.75),
        ):
            np.testing.assert_allclose(found[mask], part / mask.sum(), rtol=1e-12)
        assert (found[~inside] == 0).all()
        found = vq.UniformSampler(PATCH, border).probability_map(dataset["a"])
        np.testing.assert_allclose(found, inside / inside.sum(), rtol=1e-12)


def test_samples_do_not_depend_on_threads_or_order(dataset: vq.Dataset) -> None:
    one, eight = (vq.open(dataset.path, threads=threads)["a"] for threads in (1, 8))
    samplers = [
        vq.LabelSampler(PATCH, "seg", {1: 1, 2: 2}),
        vq.LabelSampler(PATCH, "seg", foreground_fraction=0.33, border="pad"),
        vq.WeightedSampler(PATCH, "heat", "clamp"),
        vq.ConstrainedSampler(vq.UniformSampler(PATCH), min_foreground=0.6, labels="seg"),
        vq.ConstrainedSampler(vq.UniformSampler(PATCH), min_distance=4),
    ]
    for sampler in samplers:
        whole = sampler.locations(one, 60, seed=5, epoch=2)
        assert np.array_equal(sampler.locations(eight, 60, seed=5, epoch=2), whole)
        parts = [
            sampler.locations(eight, 20, seed=5, epoch=2, first=first) for first in (40, 20, 0)
        ]
        assert np.array_equal(np.concatenate(parts[::-1]), whole)
        assert not np.array_equal(sampler.locations(one, 60, seed=5, epoch=3), whole)


def test_constraints_hold(dataset: vq.Dataset, voxels: dict[str, np.ndarray]) -> None:
    subject = dataset["a"]

    def patches(name: str, starts: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                voxels[name][tuple(slice(s, s + p) for s, p in zip(at, PATCH, strict=True))]
                for at in starts
            ]
        )

    uniform = vq.UniformSampler(PATCH)
    plain = uniform.locations(subject, 300)
    fractions = (patches("seg", plain) > 0).mean((1, 2, 3))
    limit = float(np.median(fractions))
    sampler = vq.ConstrainedSampler(uniform, min_foreground=limit, labels="seg")
    starts = sampler.locations(subject, 300)
    assert ((patches("seg", starts) > 0).mean((1, 2, 3)) >= limit).all()
    # What fulfils them already is the first attempt.
    kept = fractions >= limit
    assert np.array_equal(starts[kept], plain[kept]) and not kept.all()

    inside = vq.ConstrainedSampler(vq.LabelSampler(PATCH, "mask"), inside="mask", attempts=5000)
    assert (patches("mask", inside.locations(subject, 20)) == 1).all()

    distant = (
        vq.ConstrainedSampler(uniform, min_distance=7.5)
        .locations(subject, 40, seed=2)
        .astype(float)
    )
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(distant, 2)]
    assert min(distances) >= 7.5
    every = vq.UniformSampler(PATCH).locations(subject, 40, seed=2).astype(float)
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(every, 2)) < 7.5


def test_constraints_that_fail(dataset: vq.Dataset, voxels: dict[str, np.ndarray]) -> None:
    subject, uniform = dataset["a"], vq.UniformSampler(PATCH, "pad")
    limits = {"min_foreground": 1.0, "labels": "seg", "attempts": 3}
    refusing = vq.ConstrainedSampler(uniform, **limits, on_failure="error")
    with pytest.raises(
        vq.UsageError, match=r"sample \d of subject \"a\": none of 3 attempts .*on_failure=\"best\""
    ):
        refusing.locations(subject, 5)
    starts = vq.ConstrainedSampler(uniform, **limits, on_failure="best").locations(
        subject, 5, seed=9
    )
    padded = np.pad(voxels["seg"] > 0, 8)
    for n, start in enumerate(starts):
        # The attempts are those of the page: nonce n + 2**32 a; the first is the sampler's own.
        filled = padded[
            tuple(slice(s + 8, s + 8 + p) for s, p in zip(start, PATCH, strict=True))
        ].mean()
        own = uniform.locations(subject, 1, seed=9, first=n)[0]
        assert (
            filled
            >= padded[
                tuple(slice(s + 8, s + 8 + p) for s, p in zip(own, PATCH, strict=True))
            ].mean()
        )
    with pytest.raises(vq.UsageError, match="65536"):
        vq.ConstrainedSampler(uniform, min_distance=1).locations(subject, 1, first=70_000)


def test_subjects_are_drawn_by_their_weights(dataset: vq.Dataset) -> None:
    counts = vq.SubjectSampler(dataset, {"b": 3, "a": 1}).counts(4000, seed=7)
    assert sum(counts.values()) == 4000 and abs(counts["b"] - 3000) < 5 * 27.4
    assert vq.SubjectSampler(dataset, {"b": 1}).counts(10) == {"b": 10}
    for weights in ("equal", "volume"):
        sampler = vq.SubjectSampler(dataset, weights)
        drawn = [sampler.subject(k, seed=1, epoch=2) for k in range(1000)]
        assert sampler.counts(1000, seed=1, epoch=2) == {name: drawn.count(name) for name in "ab"}
        assert abs(drawn.count("a") - 500) < 5 * 15.8
    for weights, error in (
        ({"a": -1}, "-1"),
        ({"a": 0}, "0"),
        ("sizes", "equal"),
        ({"c": 1}, '"c"'),
        (3, "numbers"),
    ):
        with pytest.raises(vq.UsageError, match=error):
            vq.SubjectSampler(dataset, weights)


def test_sums_of_weights_are_what_the_specification_says(
    dataset: vq.Dataset, voxels: dict[str, np.ndarray]
) -> None:
    vq.WeightedSampler(PATCH, "ct").locations(dataset["a"], 1)
    store = reader.open_store(dataset.path)["a"]
    assert store["seg"].chunk_sums() is None
    for name in ("heat", "ct"):
        c, weights, expected = dataset["a"][name].chunks, voxels[name].astype("f8"), []
        for at in itertools.product(*(range(-(-s // n)) for s, n in zip(SIZE, c, strict=True))):
            chunk = weights[tuple(slice(i * n, (i + 1) * n) for i, n in zip(at, c, strict=True))]
            expected.append(
                in_order(in_order(row) for row in chunk.reshape(-1, chunk.shape[2]).tolist())
            )
        assert store[name].chunk_sums() == expected
    vq.verify(dataset.path)


def in_order(values: Iterable[float]) -> float:
    """Added one after the other; Python's own ``sum`` compensates."""
    total = 0.0
    for value in values:
        total += value
    return total


def test_places_in_another_spacing(tmp_path: Path) -> None:
    def place(header, spacing: float) -> None:
        header["sform_code"] = 1
        for i, axis in enumerate("xyz"):
            header[f"srow_{axis}"] = [*np.eye(3)[i] * spacing, spacing / 2]

    fine = np.arange(12 * 8 * 16).reshape(16, 8, 12).astype("i2")
    coarse = np.ascontiguousarray(fine[::2, ::2, ::2])
    paths = {
        name: write_nifti(
            tmp_path / f"{name}.nii", voxels.T, edit=lambda header, s=spacing: place(header, s)
        )
        for name, voxels, spacing in (("fine", fine, 1.0), ("coarse", coarse, 2.0))
    }
    store = vq.ingest(paths, tmp_path / "s.zarr", patch_size=4)
    scale = vq.Scale(store["fine"]["image"], store["coarse"]["image"])
    assert scale.ratios == [(1, 2)] * 3
    starts, size = scale.patches([(0, 2, 4), (8, 0, 6)], 4)
    assert (starts.tolist(), size) == ([[0, 1, 2], [4, 0, 3]], (2, 2, 2))
    there = store["coarse"]["image"].read_batch(starts, size)
    assert np.array_equal(
        there, store["fine"]["image"].read_batch([(0, 2, 4), (8, 0, 6)], 4)[:, ::2, ::2, ::2]
    )
    for starts, size in (([(1, 2, 4)], 4), ([(0, 2, 4)], 3)):
        with pytest.raises(vq.UsageError, match="multiples of 2"):
            scale.patches(starts, size)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vq.LabelSampler(0), "patch_size 0"),
        (lambda: vq.LabelSampler(4, border="wrap"), "wrap"),
        (lambda: vq.LabelSampler(4, probabilities={}), "at least one"),
        (lambda: vq.LabelSampler(4, probabilities={1: 0}), "at least one"),
        (lambda: vq.LabelSampler(4, probabilities={1: -1}), "-1"),
        (lambda: vq.LabelSampler(4, probabilities={"bone": 1}), "bone"),
        (lambda: vq.LabelSampler(4, probabilities=3), "3"),
        (lambda: vq.LabelSampler(4, probabilities={1: 1}, pos_neg=(1, 1)), "exclude each other"),
        (lambda: vq.LabelSampler(4, pos_neg=(0, 0)), "not both"),
        (lambda: vq.LabelSampler(4, foreground_fraction=1.5), "1.5"),
        (lambda: vq.WeightedSampler((1, 2), "w"), "patch_size"),
        (lambda: vq.ConstrainedSampler(vq.GridSampler(4)), "GridSampler"),
        (lambda: vq.ConstrainedSampler(vq.UniformSampler(4), min_foreground=2), "2"),
        (lambda: vq.ConstrainedSampler(vq.UniformSampler(4), min_distance=-1), "-1"),
        (lambda: vq.ConstrainedSampler(vq.UniformSampler(4), attempts=0), "attempts"),
        (lambda: vq.ConstrainedSampler(vq.UniformSampler(4), labels="seg"), "min_foreground"),
        (
            lambda: vq.ConstrainedSampler(vq.ConstrainedSampler(vq.UniformSampler(4))),
            "constraints already",
        ),
        (lambda: vq.ConstrainedSampler(vq.UniformSampler(4), on_failure="skip"), "skip"),
    ],
)
def test_impossible_samplers_are_refused(call, words: str) -> None:
    with pytest.raises(vq.UsageError, match=words):
        call()


def test_what_a_subject_cannot_give(dataset: vq.Dataset) -> None:
    subject = dataset["a"]
    for sampler in (vq.LabelSampler(PATCH, "none"), vq.WeightedSampler(PATCH, "none")):
        with pytest.raises(KeyError, match="none") as caught:
            sampler.locations(subject, 1)
        assert isinstance(caught.value, vq.UsageError)
    for sampler, words in [
        (vq.LabelSampler(PATCH, "seg", {77: 1, 78: 2}), r"labels \[77, 78\]: sample it by what"),
        (vq.LabelSampler((99, 1, 1), "seg"), "larger"),
        (vq.LabelSampler(PATCH, "seg", channel=1), "channel 1"),
        (vq.WeightedSampler(PATCH, "ct", channel=5), "channel 5"),
    ]:
        with pytest.raises(vq.UsageError, match=words):
            sampler.locations(subject, 1)
    for sampler in (vq.UniformSampler(PATCH), vq.LabelSampler(PATCH, "seg")):
        for wrong in (
            {"n": -1},
            {"n": 1, "seed": -1},
            {"n": 2, "first": 2**32 - 1},
            {"n": 1, "epoch": 2**64},
        ):
            with pytest.raises(vq.UsageError):
                sampler.locations(subject, **wrong)
    with pytest.raises(vq.DataError, match="label maps hold integers"):
        vq.LabelSampler(PATCH, "heat").locations(subject, 1)


def test_labels_that_no_subject_has_are_told(dataset: vq.Dataset) -> None:
    vq.LabelSampler(PATCH, "seg", {0: 1, 1: 1, 2**32 - 1: 2, 50: 0}).check(dataset)
    vq.LabelSampler(PATCH, "seg").check(dataset)
    with pytest.raises(vq.UsageError, match=r"no subject has a voxel of the labels \[-4, 50\]"):
        vq.LabelSampler(PATCH, "seg", {1: 1, 50: 1, -4: 2}).check(dataset)
    with pytest.raises(KeyError, match="mask"):
        vq.LabelSampler(PATCH, "mask", {7: 1}).check(dataset)


def test_weights_that_are_none_are_refused_at_ingest(tmp_path: Path) -> None:
    voxels = np.ones(SIZE, "f4")
    voxels[35, 3, 4] = voxels[35, 3, 3] = -2
    source = write_nifti(tmp_path / "w.nii", voxels.T)
    with pytest.raises(vq.DataError, match=r"\[35, 3, 3\] is -2"):
        vq.ingest({"a": {"w": vq.Weights(source)}}, tmp_path / "s.zarr", patch_size=16)
    assert not (tmp_path / "s.zarr").exists()
    # As an image the same file is welcome, until somebody draws by it.
    subject = vq.ingest({"a": {"w": source}}, tmp_path / "s.zarr", patch_size=16)["a"]
    with pytest.raises(vq.DataError, match=r"\[35, 3, 3\] is -2"):
        vq.WeightedSampler(4, "w").locations(subject, 1)


@pytest.mark.parametrize(
    "sampler",
    [
        vq.WeightedSampler((4, 3, 2), weights="it's"),
        vq.WeightedSampler(4, "w", "pad", 2),
        vq.LabelSampler(4),
        vq.LabelSampler(4, "seg", {2: 1.0, 1: 2.5}, "clamp"),
        vq.LabelSampler(4, pos_neg=(2, 1), channel=3),
        vq.LabelSampler(4, "ß", foreground_fraction=0.33, border="pad"),
        vq.ConstrainedSampler(vq.LabelSampler(4), 0.5, "seg", "mask", 10, 7, "best"),
        vq.ConstrainedSampler(vq.UniformSampler(4), min_distance=2.5),
    ],
    ids=repr,
)
def test_samplers_are_pickled_and_shown(sampler: vq.LabelSampler) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(sampler, protocol))
        assert type(copy) is type(sampler) and repr(copy) == repr(sampler)
    assert repr(eval(repr(sampler), {"voxquarry": vq})) == repr(sampler)
