"""Uniform sampling against TorchIO's and MONAI's: the same places, each as often as expected."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
import torchio as tio
from helpers import smooth, write_nifti
from monai.transforms import RandSpatialCrop, SpatialCrop
from monai.transforms.utils import correct_crop_centers

import voxquarry as vq

SIZE = (4, 5, 3)
PATCHES = [(2, 3, 1), (1, 2, 3), (3, 4, 2), (4, 5, 3)]
DRAWS = 20_000
SEEDS = range(3)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> vq.Subject:
    folder = tmp_path_factory.mktemp("uniform")
    return vq.ingest(
        {"a": write_nifti(folder / "a.nii", smooth(SIZE[::-1]))}, folder / "store.zarr"
    )["a"]


def drawn(
    subject: vq.Subject, patch: tuple[int, ...], border: str, seed: int
) -> Counter[tuple[int, ...]]:
    starts = vq.UniformSampler(patch, border=border).locations(subject, DRAWS, seed=seed)
    return Counter(tuple(start) for start in starts.tolist())


def assert_distributed(
    found: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]
) -> None:
    """The same places, and a chi-square that a fair sampler passes once in ten thousand seeds
    (Wilson and Hilferty).
    """
    assert set(found) == set(expected)
    draws, degrees = found.total(), len(expected) - 1
    chi = sum(
        (found[place] - draws * part) ** 2 / (draws * part) for place, part in expected.items()
    )
    if degrees:
        limit = degrees * (1 - 2 / (9 * degrees) + 3.72 * (2 / (9 * degrees)) ** 0.5) ** 3
        assert chi < limit, (chi, limit)


@pytest.mark.parametrize("patch", PATCHES)
def test_exclude_is_torchios_and_monais(subject: vq.Subject, patch: tuple[int, int, int]) -> None:
    places = set(itertools.product(*(range(s - p + 1) for s, p in zip(SIZE, patch, strict=True))))
    # Sixty places at most: that one is missing after 1000 draws happens once in 300,000 seeds.
    torch.manual_seed(3)
    image = tio.ScalarImage(tensor=torch.zeros(1, *SIZE[::-1]))
    theirs = tio.UniformSampler(patch[::-1])(tio.Subject(image=image), num_patches=1000)
    assert {tuple(sample[tio.LOCATION].tolist()[2::-1]) for sample in theirs} == places

    crop = RandSpatialCrop(patch, random_size=False).set_random_state(3)
    monais = set()
    for _ in range(1000):
        crop.randomize(SIZE)
        monais.add(tuple(s.start for s in crop._slices))
    assert monais == places

    for seed in SEEDS:
        assert_distributed(
            drawn(subject, patch, "exclude", seed), dict.fromkeys(places, 1 / len(places))
        )


@pytest.mark.parametrize("patch", PATCHES)
def test_clamp_is_monais_correction_of_every_centre(
    subject: vq.Subject, patch: tuple[int, int, int]
) -> None:
    starts: Counter[tuple[int, ...]] = Counter()
    for centre in itertools.product(*map(range, SIZE)):
        corrected = correct_crop_centers(list(centre), patch, SIZE)
        starts[
            tuple(s.start for s in SpatialCrop(roi_center=corrected, roi_size=patch).slices)
        ] += 1
    expected = {start: count / starts.total() for start, count in starts.items()}
    for seed in SEEDS:
        assert_distributed(drawn(subject, patch, "clamp", seed), expected)


def test_the_comparison_sees_a_sampler_that_is_a_little_off(subject: vq.Subject) -> None:
    found = drawn(subject, (2, 3, 1), "exclude", 0)
    fair = dict.fromkeys(found, 1 / len(found))
    first, last = min(found), max(found)
    skewed = fair | {first: fair[first] * 1.3, last: fair[last] * 0.7}
    for other in (skewed, {**fair, (9, 9, 9): 0.1}):
        with pytest.raises(AssertionError):
            assert_distributed(found, other)
