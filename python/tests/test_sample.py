"""Samplers: locations in range and everywhere, grids against TorchIO's, MONAI's and nnU-Net's rules
written out.
"""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
from helpers import smooth, write_nifti

import voxquarry as vq

SIZE = (9, 7, 11)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> vq.Subject:
    folder = tmp_path_factory.mktemp("sample")
    return vq.ingest(
        {"a": write_nifti(folder / "a.nii", smooth(SIZE[::-1]))}, folder / "store.zarr"
    )["a"]


@pytest.mark.parametrize("border", ["exclude", "clamp", "pad"])
@pytest.mark.parametrize("patch", [(4, 3, 5), (9, 7, 11), (1, 1, 1)])
def test_every_place_is_drawn_equally_often(
    subject: vq.Subject, border: str, patch: tuple[int, int, int]
) -> None:
    n = 20_000
    starts = vq.UniformSampler(patch, border=border).locations(subject, n, seed=1)
    assert (starts.shape, starts.dtype) == ((n, 3), np.int64)
    for axis, (s, p) in enumerate(zip(SIZE, patch, strict=True)):
        if border == "exclude":
            expected = dict.fromkeys(range(s - p + 1), 1 / (s - p + 1))
        else:
            expected = {}
            for centre in range(s):
                at = centre - p // 2
                at = min(max(at, 0), s - p) if border == "clamp" else at
                expected[at] = expected.get(at, 0) + 1 / s
        values, counts = np.unique(starts[:, axis], return_counts=True)
        assert set(values) == set(expected)
        chi = sum(
            (count - n * expected[v]) ** 2 / (n * expected[v])
            for v, count in zip(values, counts, strict=True)
        )
        # Ten degrees of freedom at most: 29.6 is passed once in a thousand seeds.
        assert chi < 29.6, (axis, chi)


def test_samples_do_not_depend_on_how_they_are_asked_for(subject: vq.Subject) -> None:
    sampler = vq.UniformSampler(3, border="pad")
    whole = sampler.locations(subject, 100, seed=5, epoch=2)
    parts = [
        sampler.locations(subject, 10, seed=5, epoch=2, first=first) for first in range(0, 100, 10)
    ]
    assert np.array_equal(np.concatenate(parts), whole)
    assert sampler.locations(subject, 0).shape == (0, 3)
    for other in ({"seed": 6, "epoch": 2}, {"seed": 5, "epoch": 3}, {"seed": 2, "epoch": 5}):
        assert not np.array_equal(sampler.locations(subject, 100, **other), whole)


def test_patches_that_do_not_fit(subject: vq.Subject) -> None:
    for border in ("exclude", "clamp"):
        with pytest.raises(
            vq.UsageError,
            match=r"patch size \[10, 7, 11\] is larger than the volume of \[9, 7, 11\]",
        ):
            vq.UniformSampler((10, 7, 11), border=border).locations(subject, 1)
    assert len(vq.UniformSampler(50, border="pad").locations(subject, 4)) == 4
    with pytest.raises(vq.UsageError, match="larger"):
        vq.GridSampler(10).locations(subject)


def flush(s: int, p: int, stride: int) -> list[int]:
    return sorted({*range(0, s + 1 - p, stride), s - p})


def even(s: int, p: int, step: float) -> list[int]:
    n = math.ceil((s - p) / step) + 1
    return [round(i * (s - p) / max(n - 1, 1)) for i in range(n)]


def shifted(starts: list[int], margin: int) -> list[int]:
    return [start - margin for start in starts]


@pytest.mark.parametrize("padding", [None, 0, "edge", "reflect"])
@pytest.mark.parametrize("patch", [(4, 3, 5), (1, 7, 11), (2, 2, 2)])
def test_grids_of_voxels(subject: vq.Subject, patch: tuple[int, int, int], padding: object) -> None:
    for overlap in itertools.product(*(range(min(p, 3)) for p in patch)):
        margins = [o // 2 if padding is not None else 0 for o in overlap]
        for placement, rule in (("flush", flush), ("even", even)):
            axes = [
                shifted(rule(s + 2 * m, p, p - o), m)
                for s, p, o, m in zip(SIZE, patch, overlap, margins, strict=True)
            ]
            grid = vq.GridSampler(patch, overlap=overlap, padding=padding, placement=placement)
            assert grid.locations(subject).tolist() == [
                list(start) for start in itertools.product(*axes)
            ]


@pytest.mark.parametrize("placement", ["flush", "even"])
def test_without_a_margin_only_short_axes_are_padded(placement: str) -> None:
    rule = {"flush": flush, "even": even}[placement]
    for size, p, overlap in itertools.product(range(1, 14), range(1, 12), (0, 1, 2, 3, 0.25, 0.5)):
        if overlap >= p:
            continue
        step = p - overlap if isinstance(overlap, int) else max(p * (1 - overlap), 1)
        step = int(step) if placement == "flush" else step
        expected = rule(size, p, step) if size >= p else [-((p - size) // 2)]
        for axis in range(3):
            patch, extents = [1, 1, 1], [1, 1, 1]
            patch[axis], extents[axis] = p, size
            voxels = (
                overlap
                if isinstance(overlap, float)
                else [overlap if a == axis else 0 for a in range(3)]
            )
            grid = vq.GridSampler(patch, voxels, padding=0, placement=placement, margin="none")
            starts = grid.locations(extents)
            assert starts[:, axis].tolist() == expected, (size, p, overlap)
            assert not np.delete(starts, axis, 1).any()
            # Without a padding there is no margin, whatever is asked for.
            if size >= p:
                for margin in ("none", "half-overlap"):
                    bare = vq.GridSampler(patch, voxels, placement=placement, margin=margin)
                    assert bare.locations(extents).tolist() == starts.tolist()
    with pytest.raises(vq.UsageError, match="larger"):
        vq.GridSampler(4, margin="none").locations((3, 4, 4))


def test_fractions_are_monais_and_nnunets() -> None:
    for size, p, part in itertools.product((8, 33, 100), (3, 8), (0.0, 0.25, 0.5, 0.625, 0.99)):
        interval = p if p == size else max(int(p * (1 - part)), 1)
        monai = [
            k * interval - max(k * interval + p - size, 0)
            for k in range(math.ceil((size - p) / interval) + 1)
        ]
        grid = vq.GridSampler((1, 1, p), overlap=part).locations((1, 1, size))
        assert grid[:, 2].tolist() == sorted(set(monai)), (size, p, part)
        if part == 0.5:
            nnunet = vq.GridSampler((1, 1, p), overlap=part, placement="even").locations(
                (1, 1, size)
            )
            assert nnunet[:, 2].tolist() == even(size, p, p * 0.5), (size, p)


def test_an_int_is_voxels_and_a_float_a_part() -> None:
    assert vq.GridSampler(4, overlap=1).overlap == (1, 1, 1)
    assert vq.GridSampler(4, overlap=np.int16(1)).overlap == (1, 1, 1)
    assert vq.GridSampler(4).overlap == vq.GridSampler(4, overlap=0).overlap == (0, 0, 0)
    assert vq.GridSampler(4, overlap=np.float64(0.5)).overlap == 0.5
    # A fraction of 0 has MONAI's stride, an overlap of 0 voxels TorchIO's: the same.
    assert (
        vq.GridSampler(4, overlap=0.0).locations((9, 9, 9)).tolist()
        == vq.GridSampler(4).locations((9, 9, 9)).tolist()
    )


def test_grids_are_laid_over_subjects_volumes_and_extents(subject: vq.Subject) -> None:
    grid = vq.GridSampler(4, overlap=2)
    expected = grid.locations(subject).tolist()
    assert grid.locations(subject["image"]).tolist() == grid.locations(SIZE).tolist() == expected
    for wrong in ("a", 5, (1, 2), None, (1, 0, 2)):
        with pytest.raises(vq.UsageError, match="extents"):
            grid.locations(wrong)


@pytest.mark.parametrize(
    "call",
    [
        lambda: vq.UniformSampler(0),
        lambda: vq.UniformSampler((1, 2)),
        lambda: vq.UniformSampler(2.5),
        lambda: vq.UniformSampler(4, border="wrap"),
        lambda: vq.GridSampler(4, overlap=4),
        lambda: vq.GridSampler(4, overlap=-1),
        lambda: vq.GridSampler(4, overlap=1.0),
        lambda: vq.GridSampler(4, overlap=float("nan")),
        lambda: vq.GridSampler(4, overlap="half"),
        lambda: vq.GridSampler(4, padding="wrap"),
        lambda: vq.GridSampler(4, placement="middle"),
        lambda: vq.GridSampler(4, padding=0, margin="half"),
        lambda: vq.GridSampler((4, 4, 2), overlap=(0, 0, 2)),
    ],
)
def test_impossible_samplers_are_refused(call) -> None:
    with pytest.raises(vq.UsageError):
        call()


@pytest.mark.parametrize(
    "sampler",
    [
        vq.UniformSampler((4, 3, 2), border="clamp"),
        vq.GridSampler((4, 3, 2), overlap=(2, 1, 0)),
        vq.GridSampler(4, overlap=0.5, padding="reflect", placement="even"),
        vq.GridSampler(4, padding=-1.5),
        vq.GridSampler(4, overlap=2, padding="edge", margin="none"),
    ],
    ids=repr,
)
def test_samplers_are_pickled_and_shown(sampler: vq.UniformSampler | vq.GridSampler) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(sampler, protocol))
        assert type(copy) is type(sampler)
        assert repr(copy) == repr(sampler)
        assert copy.patch_size == sampler.patch_size
        assert getattr(copy, "margin", None) == getattr(sampler, "margin", None)
    assert repr(eval(repr(sampler), {"voxquarry": vq})) == repr(sampler)
