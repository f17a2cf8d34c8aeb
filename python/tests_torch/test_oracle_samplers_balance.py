"""Weighted and label sampling: every voxel's probability is TorchIO's own, or what MONAI's and
nnU-Net's rules give it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torchio as tio
from helpers import write_nifti
from monai.transforms import RandCropByLabelClasses, RandCropByPosNegLabel, SpatialCrop
from monai.transforms.utils import correct_crop_centers

import voxquarry as vq

# Chunks have 16 voxels at least: several on each axis, the last ones cut off.
SIZE = (35, 38, 41)
PATCHES = [(8, 9, 11), (1, 16, 4), (35, 2, 40)]
DRAWS = 20_000


def nifti(path: Path, voxels: np.ndarray) -> Path:
    """``(z, y, x)`` or ``(c, z, y, x)`` as a file."""
    return write_nifti(path, voxels.T if voxels.ndim == 3 else voxels.transpose(3, 2, 1, 0))


@pytest.fixture(scope="module")
def maps() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    blocks = random.integers(0, 6, (5, 5, 6)).repeat(8, 0).repeat(8, 1).repeat(8, 2)[:35, :38, :41]
    labels = np.where(random.random(SIZE) < 0.02, 9, np.where(blocks == 5, 0, blocks)).astype("i4")
    labels[0, 0, 0], labels[17, 20, 20] = 12, 2**31 - 1
    classes = np.array([0, 1, 2, 9])
    weights = random.random(SIZE).astype("f4")
    weights[random.random(SIZE) < 0.5] = 0
    return {
        "labels": labels,
        "onehot": (labels == classes[:, None, None, None]).astype("u1"),
        "weights": weights,
        "counts": random.integers(0, 4, SIZE).astype("u2"),
    }


@pytest.fixture(scope="module")
def subject(maps: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> vq.Subject:
    folder = tmp_path_factory.mktemp("balance")
    paths = {name: nifti(folder / f"{name}.nii", voxels) for name, voxels in maps.items()}
    kinds = {
        name: vq.Labels(path) if name in ("labels", "onehot") else path
        for name, path in paths.items()
    }
    return vq.ingest({"a": kinds}, folder / "store.zarr", patch_size=16)["a"]


def torchios(sampler: tio.WeightedSampler, name: str, voxels: np.ndarray) -> np.ndarray:
    """TorchIO's probabilities of the centres, ``(z, y, x)``."""
    channels = voxels if voxels.ndim == 4 else voxels[None]
    # Its tensors are (c, x, y, z); labels of 32 bits are beyond its float32, which no probability
    # of these maps asks for.
    image = tio.LabelMap(
        tensor=torch.from_numpy(channels.transpose(0, 3, 2, 1).astype("f4").copy())
    )
    theirs = tio.Subject({name: image})
    probabilities = sampler.process_probability_map(sampler.get_probability_map(theirs), theirs)
    return np.asarray(probabilities).transpose(2, 1, 0)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("name", ["weights", "counts", "labels"])
def test_weights_are_torchios(
    subject: vq.Subject, maps: dict[str, np.ndarray], patch: tuple[int, int, int], name: str
) -> None:
    found = vq.WeightedSampler(patch, name).probability_map(subject)
    expected = torchios(tio.WeightedSampler(patch[::-1], name), name, maps[name])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)
    assert abs(found.sum() - 1) < 1e-9


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize(
    ("name", "probabilities"),
    [
        ("labels", None),
        ("labels", {1: 2.0, 2: 1.0}),
        ("labels", {0: 1, 1: 3, 9: 5, 12: 2, 77: 4}),
        ("labels", {9: 0.25, 3: 0}),
        ("onehot", {0: 1, 1: 2, 3: 4}),
        ("onehot", {2: 7}),
    ],
)
def test_labels_are_torchios(
    subject: vq.Subject,
    maps: dict[str, np.ndarray],
    patch: tuple[int, int, int],
    name: str,
    probabilities: dict[int, float] | None,
) -> None:
    ours, theirs = (
        vq.LabelSampler(patch, name, probabilities),
        tio.LabelSampler(patch[::-1], name, probabilities),
    )
    try:
        expected = torchios(theirs, name, maps[name])
    except RuntimeError as error:
        assert "Empty probability map" in str(error)
        with pytest.raises(vq.UsageError, match="no voxel of the labels .* pad the volume"):
            ours.probability_map(subject)
        return
    found = ours.probability_map(subject)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0)
    assert abs(found.sum() - 1) < 1e-9


@pytest.mark.parametrize("border", ["clamp", "pad"])
def test_other_borders_take_every_centre(
    subject: vq.Subject, maps: dict[str, np.ndarray], border: str
) -> None:
    """TorchIO with patches of one voxel excludes none: so do these borders, for any patch."""
    for patch in PATCHES[:2]:
        for probabilities in (None, {0: 1, 1: 3, 9: 5, 12: 2}):
            found = vq.LabelSampler(patch, "labels", probabilities, border).probability_map(subject)
            expected = torchios(
                tio.LabelSampler(1, "labels", probabilities), "labels", maps["labels"]
            )
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0)
        found = vq.WeightedSampler(patch, "weights", border).probability_map(subject)
        expected = torchios(tio.WeightedSampler(1, "weights"), "weights", maps["weights"])
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)


def assert_drawn(
    sampler: vq.LabelSampler, subject: vq.Subject, expected: dict[tuple[int, ...], float]
) -> None:
    """Starts come as often as expected: chi-square passed once in ten thousand seeds, rare places
    pooled.
    """
    starts = Counter(map(tuple, sampler.locations(subject, DRAWS, seed=3).tolist()))
    assert set(starts) <= set(expected)
    common = {place for place, part in expected.items() if part * DRAWS >= 5}
    pools = [(starts[place], expected[place] * DRAWS) for place in common]
    rest = (DRAWS - sum(found for found, _ in pools), DRAWS - sum(wanted for _, wanted in pools))
    pools += [rest] if rest[1] >= 5 else []
    chi, degrees = sum((found - wanted) ** 2 / wanted for found, wanted in pools), len(pools) - 1
    assert degrees >= 1
    limit = degrees * (1 - 2 / (9 * degrees) + 3.72 * (2 / (9 * degrees)) ** 0.5) ** 3
    assert chi < limit, (chi, limit)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[vq.Subject, np.ndarray]:
    folder = tmp_path_factory.mktemp("small")
    labels = np.zeros((4, 6, 5), "u1")
    labels[1, 2:5, 1:4], labels[3, 5, 4], labels[0, 0, :2] = 1, 2, 3
    return vq.ingest(
        {"a": {"seg": vq.Labels(nifti(folder / "seg.nii", labels))}}, folder / "s.zarr"
    )["a"], labels


def starts_of(
    centres: np.ndarray, patch: tuple[int, ...], size: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """Where MONAI's crops about these centres begin."""
    corrected = (correct_crop_centers(list(map(int, centre)), patch, size) for centre in centres)
    return [
        tuple(s.start for s in SpatialCrop(roi_center=c, roi_size=patch).slices) for c in corrected
    ]


def blend(parts: list[tuple[float, list[tuple[int, ...]]]]) -> dict[tuple[int, ...], float]:
    total, blended = sum(part for part, _ in parts), Counter()
    for part, starts in parts:
        for start in starts:
            blended[start] += part / total / len(starts)
    return dict(blended)


def test_clamped_classes_and_sides_are_monais(small: tuple[vq.Subject, np.ndarray]) -> None:
    subject, labels = small
    patch = (2, 3, 4)

    def of(mask: np.ndarray) -> list[tuple[int, ...]]:
        return starts_of(np.argwhere(mask), patch, labels.shape)

    expected = blend([(2.0, of(labels > 0)), (1.0, of(labels == 0))])
    assert_drawn(vq.LabelSampler(patch, border="clamp", pos_neg=(2, 1)), subject, expected)
    theirs = RandCropByPosNegLabel(
        patch, pos=2, neg=1, num_samples=1, label=labels[None]
    ).set_random_state(1)
    drawn = Counter()
    for _ in range(3000):
        theirs.randomize(labels[None])
        drawn.update(starts_of(np.array(theirs.centers), patch, labels.shape))
    assert set(drawn) == set(expected)
    assert all(
        abs(drawn[s] / 3000 - part) < 5 * (part / 3000) ** 0.5 for s, part in expected.items()
    )

    ratios = [1.0, 2.0, 3.0, 0.0]
    expected = blend([(ratio, of(labels == i)) for i, ratio in enumerate(ratios) if ratio])
    assert_drawn(vq.LabelSampler(patch, "seg", ratios, "clamp"), subject, expected)
    theirs = RandCropByLabelClasses(
        patch, ratios=ratios, num_classes=4, num_samples=1
    ).set_random_state(1)
    drawn = Counter()
    for _ in range(3000):
        theirs.randomize(labels[None])
        drawn.update(starts_of(np.array(theirs.centers), patch, labels.shape))
    assert set(drawn) == set(expected)
    assert all(
        abs(drawn[s] / 3000 - part) < 5 * (part / 3000) ** 0.5 for s, part in expected.items()
    )


def test_forced_foreground_is_nnunets(small: tuple[vq.Subject, np.ndarray]) -> None:
    """A class of those there, a voxel of it, the patch about it; the other samples anywhere."""
    subject, labels = small
    patch, half = (2, 3, 4), np.array((1, 1, 2))
    centres = {
        value: [tuple(v - half) for v in np.argwhere(labels == value)] for value in (1, 2, 3)
    }
    everywhere = [tuple(v - half) for v in np.argwhere(labels >= 0)]
    expected = blend([*((0.33 / 3, starts) for starts in centres.values()), (0.67, everywhere)])
    sampler = vq.LabelSampler(patch, border="pad", foreground_fraction=0.33)
    assert_drawn(sampler, subject, expected)
    always = vq.LabelSampler(patch, border="pad", foreground_fraction=1).locations(subject, 300)
    assert {labels[tuple(start + half)] for start in always} == {1, 2, 3}
    # What is forced is known of every sample: those of label 0 never are.
    background = [
        labels[tuple(start + half)] == 0 for start in sampler.locations(subject, 300, seed=8)
    ]
    assert 100 <= sum(background) <= 201
