"""Weighted and label samplers over a store: TorchIO's distribution, without loading the map; over
its own subjects, its draws.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torchio as tio
from conftest import Pair
from helpers import write_nifti
from test_torchio_patches import PATCH, assert_same_patch, in_memory, ours, theirs

import voxquarry as vq
import voxquarry.torchio as vt

SMALL = (3, 4, 2)
DRAWS = 4000
SAMPLERS = [
    ("WeightedSampler", ("map",)),
    ("LabelSampler", ()),
    ("LabelSampler", ("seg", {0: 1, 1: 2, 2: 0, 3: 5, 9: 4})),
]


@pytest.mark.parametrize(("name", "arguments"), SAMPLERS)
def test_draws_are_torchios_in_memory(pair: Pair, name: str, arguments: tuple) -> None:
    mine, other = in_memory(pair)
    torch.manual_seed(6)
    found = list(getattr(vt, name)(PATCH, *arguments)(mine, 12))
    torch.manual_seed(6)
    expected = list(getattr(tio, name)(PATCH, *arguments)(other, 12))
    assert len(found) == len(expected) == 12
    for a, b in zip(found, expected, strict=True):
        assert_same_patch(a, b)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[vt.Subject, tio.Subject]:
    """A subject of few places, so that each can be counted."""
    folder, random = tmp_path_factory.mktemp("small"), np.random.default_rng(2)
    voxels = {
        "map": random.gamma(0.5, 1, (7, 6, 5)).astype("f4") * (random.random((7, 6, 5)) < 0.5),
        "seg": random.choice(4, (7, 6, 5), p=[0.5, 0.3, 0.15, 0.05]).astype("u1"),
    }
    files = {name: write_nifti(folder / f"{name}.nii", array) for name, array in voxels.items()}
    ds = vq.ingest(
        {"a": {"map": files["map"], "seg": vq.Labels(files["seg"])}},
        folder / "store.zarr",
        patch_size=4,
    )
    images = {
        "map": tio.ScalarImage(tensor=voxels["map"][None]),
        "seg": tio.LabelMap(tensor=voxels["seg"][None]),
    }
    return vt.subject(ds["a"]), tio.Subject(**images)


@pytest.mark.parametrize(("name", "arguments"), SAMPLERS)
def test_distribution_is_torchios_in_a_store(
    small: tuple[vt.Subject, tio.Subject], name: str, arguments: tuple
) -> None:
    mine, other = small
    sampler = getattr(tio, name)(SMALL, *arguments)
    weights = sampler.process_probability_map(sampler.get_probability_map(other), other)
    half = np.array(SMALL) // 2
    expected = {
        tuple((np.array(centre) - half).tolist()): weights[centre]
        for centre in zip(*np.nonzero(weights), strict=True)
    }
    torch.manual_seed(9)
    found = Counter(islice(getattr(vt, name)(SMALL, *arguments).places(mine), DRAWS))
    assert set(found) <= set(expected)
    chi = sum(
        (found[place] - DRAWS * part) ** 2 / (DRAWS * part) for place, part in expected.items()
    )
    # Wilson and Hilferty: a fair sampler passes in all but one of ten thousand seeds.
    degrees = len(expected) - 1
    assert chi < degrees * (1 - 2 / (9 * degrees) + 3.72 * (2 / (9 * degrees)) ** 0.5) ** 3
    assert not any(image._loaded for image in mine.get_images(intensity_only=False))


def test_patches_lie_where_they_say(pair: Pair) -> None:
    subject, seg = ours(pair), pair.voxels["a"]["seg"].T
    for patch in vt.LabelSampler(PATCH, "seg", {3: 1})(subject, 20):
        i, j, k = patch[tio.LOCATION][:3].tolist()
        expected = seg[i : i + PATCH[0], j : j + PATCH[1], k : k + PATCH[2]]
        assert np.array_equal(patch.seg.data[0].numpy(), expected)
        assert patch.seg.data[0, PATCH[0] // 2, PATCH[1] // 2, PATCH[2] // 2] == 3
    assert not subject.seg._loaded


def test_a_seed_repeats(pair: Pair) -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append([p[tio.LOCATION].tolist() for p in vt.LabelSampler(PATCH)(ours(pair), 10)])
    assert draws[0] == draws[1] != draws[2]


def test_in_a_queue(pair: Pair) -> None:
    queue = vt.Queue(
        tio.SubjectsDataset([ours(pair, n) for n in "abc"]), 10, 4, vt.LabelSampler(PATCH, "seg")
    )
    for batch in tio.SubjectsLoader(queue, batch_size=4, num_workers=0):
        assert (batch["seg"][tio.DATA][:, 0, PATCH[0] // 2, PATCH[1] // 2, PATCH[2] // 2] > 0).all()


def subject_of(folder: Path, weights: np.ndarray) -> tuple[vt.Subject, tio.Subject]:
    path = write_nifti(folder / "map.nii", weights)
    ds = vq.ingest({"a": {"map": path}}, folder / "store.zarr", patch_size=4)
    return vt.subject(ds["a"]), tio.Subject(map=tio.ScalarImage(path))


@pytest.mark.parametrize("weights", ["zero", "negative", "at the border"])
@pytest.mark.filterwarnings("ignore:Error loading:UserWarning")
def test_maps_that_cannot_be(tmp_path: Path, weights: str) -> None:
    voxels = np.zeros((9, 9, 9), "f4")
    if weights == "negative":
        voxels[4, 4, 4], voxels[4, 4, 5] = 2, -1
    elif weights == "at the border":
        voxels[0, 4, 4] = 1
    mine, other = subject_of(tmp_path, voxels)
    errors = []
    for module, subject in ((vt, mine), (tio, other)):
        with pytest.raises(Exception) as info:
            next(module.WeightedSampler(4, "map")(subject))
        errors.append(info)
    assert errors[0].type is errors[1].type
    assert str(errors[0].value)[:20] == str(errors[1].value)[:20]


def test_maps_that_are_not_there(pair: Pair) -> None:
    for sampler, error in (
        (vt.WeightedSampler(4, "mr"), KeyError),
        (vt.LabelSampler(4, "mr"), KeyError),
    ):
        for subject in (ours(pair), theirs(pair)):
            with pytest.raises(error, match="mr"):
                next(sampler(subject))
    without = vt.subject(pair.open()["a"], ["ct"])
    with pytest.raises(RuntimeError, match="No label maps"):
        next(vt.LabelSampler(4)(without))


def test_a_distribution_needs_its_map(pair: Pair) -> None:
    """The one of TorchIO 1.2.1's own tests that failed with this class in place of its own (issue
    21); they expect these words.
    """
    sampler = vt.WeightedSampler(5, "map")
    with pytest.raises(TypeError, match="NumPy array"):
        sampler.extract_patch(in_memory(pair)[0], (1, 1, 1), cdf=np.array([0.5, 1.0]))
