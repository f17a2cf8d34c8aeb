"""``voxquarry.torchio``'s samplers beside TorchIO's, on subjects of a store and on TorchIO's own:
the same patches in all they say.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchio as tio
from conftest import Pair
from helpers import smooth, write_nifti

import voxquarry as vq
import voxquarry.torchio as vt

PATCH = (12, 10, 8)


def theirs(pair: Pair, name: str = "a") -> tio.Subject:
    files = pair.files[name]
    images = {
        "ct": tio.ScalarImage(files["ct"]),
        "map": tio.ScalarImage(files["map"]),
        "seg": tio.LabelMap(files["seg"]),
    }
    return tio.Subject(name=name, age=40, **images)


def ours(pair: Pair, name: str = "a") -> vt.Subject:
    return vt.subject(pair.open()[name], age=40)


def assert_same_patch(found: tio.Subject, expected: tio.Subject) -> None:
    assert isinstance(found, tio.Subject)
    assert list(found) == list(expected)
    assert torch.equal(found[tio.LOCATION], expected[tio.LOCATION])
    assert found[tio.LOCATION].dtype == expected[tio.LOCATION].dtype
    assert [str(t) for t in found.history] == [str(t) for t in expected.history]
    for name, image in expected.items():
        if not isinstance(image, tio.Image):
            assert (
                torch.equal(found[name], image)
                if isinstance(image, torch.Tensor)
                else found[name] == image
            )
            continue
        assert type(found[name]) is type(image)
        assert found[name].data.dtype == image.data.dtype
        assert torch.equal(found[name].data, image.data), name
        np.testing.assert_allclose(found[name].affine, image.affine, rtol=0, atol=1e-4)
        assert getattr(found, name) is found[name]


def in_memory(pair: Pair) -> tuple[tio.Subject, tio.Subject]:
    subject = theirs(pair)
    subject.load()
    return copy.deepcopy(subject), subject


def stored(pair: Pair) -> tuple[tio.Subject, tio.Subject]:
    return ours(pair), theirs(pair)


@pytest.mark.parametrize("subjects", [stored, in_memory])
def test_uniform(pair: Pair, subjects: object) -> None:
    mine, other = subjects(pair)
    for patch in (PATCH, 9, (50, 37, 40), (50, 1, 7)):
        torch.manual_seed(5)
        found = list(vt.UniformSampler(patch)(mine, num_patches=6))
        after = torch.rand(1)
        torch.manual_seed(5)
        expected = list(tio.UniformSampler(patch)(other, num_patches=6))
        assert after == torch.rand(1), "both draw equally much"
        assert len(found) == len(expected) == 6
        for a, b in zip(found, expected, strict=True):
            assert_same_patch(a, b)


@pytest.mark.parametrize("subjects", [stored, in_memory])
@pytest.mark.parametrize(
    "padding", [None, 0, -3.7, "edge", "reflect", "minimum", "maximum", "mean", "symmetric"]
)
@pytest.mark.filterwarnings("ignore:The constant value computed:RuntimeWarning")
def test_grid(pair: Pair, subjects: object, padding: object) -> None:
    mine, other = subjects(pair)
    size, overlap = (16, 12, 10), (4, 2, 6)
    found, expected = (
        vt.GridSampler(mine, size, overlap, padding),
        tio.GridSampler(other, size, overlap, padding),
    )
    assert np.array_equal(found.locations, expected.locations)
    assert len(found) == len(expected) == len(list(found()))
    for n, (a, b) in enumerate(zip(found, found(), strict=True)):
        # By index: iterating, TorchIO pads the padded subject once more.
        assert_same_patch(a, expected[n])
        assert_same_patch(b, expected[n])


def test_nothing_is_loaded_unless_asked_for(pair: Pair) -> None:
    subject = ours(pair)
    images = subject.get_images(intensity_only=False)
    subject.load()
    for padding in (None, 1, "edge", "reflect", "minimum", "maximum"):
        grid = vt.GridSampler(subject, PATCH, 4, padding)
        assert grid[0].ct.data.shape == (1, *PATCH)
        assert not any(image._loaded for image in grid.subject.get_images(intensity_only=False))
    next(vt.UniformSampler(PATCH)(subject))
    assert subject.spatial_shape == subject.ct.spatial_shape == (50, 37, 40)
    assert subject.ct.num_channels == 1
    assert "path" in repr(subject.ct)
    copied, unpickled = copy.deepcopy(subject), pickle.loads(pickle.dumps(subject))
    assert not any(
        image._loaded for image in [*images, copied.ct, unpickled.ct, copy.copy(subject.ct)]
    )
    voxels = pair.voxels["a"]["ct"]
    for image in (copied.ct, unpickled.ct, subject.ct):
        assert np.array_equal(image.data[0].numpy(), voxels.T)
    # What was changed in memory is what patches are cut from.
    subject.ct.set_data(-subject.ct.data)
    patch = next(vt.UniformSampler(PATCH)(subject))
    i, j, k = patch[tio.LOCATION][:3].tolist()
    assert np.array_equal(patch.ct.data[0].numpy(), -voxels.T[i : i + 12, j : j + 10, k : k + 8])
    subject.ct.unload()
    assert np.array_equal(subject.ct.data[0].numpy(), voxels.T)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("scale", [(1, 0), (0.3, -1024.7), (2, 0)])
def test_values_are_the_real_ones(tmp_path: Path, dtype: str, scale: tuple[float, float]) -> None:
    def edit(header: object) -> None:
        header["scl_slope"], header["scl_inter"] = scale

    path = write_nifti(tmp_path / "ct.nii", smooth((9, 8, 7), dtype).T, edit=edit)
    image = vt.subject(vq.ingest({"a": {"ct": path}}, tmp_path / "store.zarr")["a"]).ct
    expected = tio.ScalarImage(path).data
    assert image.data.dtype == expected.dtype
    assert torch.allclose(image.data, expected, rtol=1e-6, atol=0)


def test_axes_over_65535() -> None:
    image = tio.ScalarImage(tensor=torch.arange(70_000, dtype=torch.int32).reshape(1, 70_000, 1, 1))
    subject = tio.Subject(image=image)
    grid = vt.GridSampler(subject, (66_000, 1, 1))
    assert grid.locations.tolist() == [[0, 0, 0, 66_000, 1, 1], [4000, 0, 0, 70_000, 1, 1]]
    assert torch.equal(grid[1].image.data.flatten(), torch.arange(4000, 70_000, dtype=torch.int32))
    last = vt.UniformSampler((2, 1, 1)).crop(subject, (69_998, 0, 0), (2, 1, 1))
    assert last.image.data.flatten().tolist() == [69_998, 69_999]


def outcome(call: object) -> type | None:
    try:
        call()
    except Exception as error:
        return type(error)
    return None


@pytest.mark.parametrize("size", [0, -1, 2.5, (3, 4), (8, 8, 0), "8", 51, (50, 38, 1)])
def test_sizes_that_cannot_be(pair: Pair, size: object) -> None:
    for subject in (ours(pair), in_memory(pair)[0]):
        expected = outcome(lambda: tio.UniformSampler(size)(theirs(pair)))
        assert expected is not None
        assert outcome(lambda: vt.UniformSampler(size)(subject)) is expected
        assert outcome(lambda: vt.GridSampler(subject, size)) is outcome(
            lambda: tio.GridSampler(theirs(pair), size)
        )


@pytest.mark.parametrize(
    ("overlap", "padding"),
    [(12, None), (3, None), (0, "none"), ((2, 2), None), (-2, None), ((8, 8, 8), None), (4, [1])],
)
def test_grids_that_cannot_be(pair: Pair, overlap: object, padding: object) -> None:
    expected = outcome(lambda: tio.GridSampler(theirs(pair), PATCH, overlap, padding))
    assert outcome(lambda: vt.GridSampler(ours(pair), PATCH, overlap, padding)) is expected
    with pytest.raises(ValueError, match="num_patches|number of patches"):
        list(vt.GridSampler(ours(pair), PATCH)(num_patches=3))


def test_subjects_that_cannot_be(pair: Pair) -> None:
    mixed = ours(pair)
    mixed.add_image(tio.ScalarImage(tensor=torch.zeros(1, 4, 4, 4)), "other")
    with pytest.raises(RuntimeError, match="same space"):
        vt.UniformSampler(2)(mixed)
    stored = pair.open()["a"]
    assert list(vt.subject(stored, ["seg"])) == ["name", "seg"]
    with pytest.raises(KeyError):
        vt.subject(stored, ["mr"])
    with pytest.raises(vq.UsageError, match="'ct'"):
        vt.subject(stored, ct=3)
