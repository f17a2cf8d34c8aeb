"""``voxquarry.monai``: patches with affine and location, in MONAI's loader; crops with MONAI's
distribution.
"""

from __future__ import annotations

import pickle
import warnings
from collections import Counter
from itertools import product
from pathlib import Path

import monai.transforms as mt
import numpy as np
import pytest
import torch
from conftest import AFFINE, Pair
from helpers import write_nifti
from monai.data import DataLoader, MetaTensor
from monai.data import Dataset as MonaiDataset

import voxquarry as vq
import voxquarry.monai as vm

PATCH = (12, 10, 8)


def assert_patch(item: dict, names: list[str], pair: Pair) -> None:
    z0, y0, x0, z1, y1, x1 = item["location"].tolist()
    assert (z1 - z0, y1 - y0, x1 - x0) == PATCH
    for name in names:
        patch, voxels = item[name], pair.voxels[item["subject"]][name]
        assert isinstance(patch, MetaTensor)
        expected = voxels[z0:z1, y0:y1, x0:x1]
        assert (
            patch.dtype
            == torch.from_numpy(expected.astype("i4") if expected.dtype == "u2" else expected).dtype
        )
        assert np.array_equal(patch[0].numpy(), expected)
        assert patch.meta["location"].tolist() == item["location"].tolist()
        assert patch.meta["subject"] == item["subject"]
        # Of any voxel the affine says where it is.
        index = np.array([3, 5, 7])
        found = patch.affine.numpy() @ [*index, 1]
        np.testing.assert_allclose(
            found, AFFINE @ [*np.add(index, (z0, y0, x0))[::-1], 1], atol=1e-6
        )


# Python 3.12 and later warn about any fork of a process with threads; that it works here is what is
# tested.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_dataset_in_the_loader(pair: Pair) -> None:
    dataset = vm.Dataset(pair.open(), vq.UniformSampler(PATCH), ["ct", "seg"], 4, seed=3)
    assert len(pickle.dumps(dataset)) < 1500
    for item in (dataset[n] for n in range(len(dataset))):
        assert_patch(item, ["ct", "seg"], pair)
    # Each iteration has other patches, the same ones in any processes.
    found = []
    for workers in (0, 2, 2, 0):
        if len(found) == 2:
            dataset = vm.Dataset(pair.open(), vq.UniformSampler(PATCH), ["ct", "seg"], 4, seed=3)
        batches = list(
            DataLoader(dataset, batch_size=4, num_workers=workers, timeout=60 * bool(workers))
        )
        assert [batch["ct"].shape for batch in batches] == [(4, 1, *PATCH)] * 3
        assert all(
            isinstance(batch["ct"], MetaTensor) and batch["location"].shape == (4, 6)
            for batch in batches
        )
        assert [name for batch in batches for name in batch["subject"]] == [*"aaaabbbbcccc"]
        voxels = torch.cat([batch["ct"] for batch in batches]).as_tensor()
        affines = torch.cat([batch["ct"].affine for batch in batches])
        found.append((voxels, affines))
    for n in range(2):
        assert all(map(torch.equal, found[n], found[n + 2]))
    assert not torch.equal(found[0][0], found[1][0])


def test_monais_transforms_follow(pair: Pair) -> None:
    """Turned to RAS, a patch is what MONAI's own loading and cropping gives."""
    turn = mt.Orientationd(["ct"], axcodes="RAS", labels=None)
    dataset = vm.Dataset(pair.open(), vq.UniformSampler(PATCH), ["ct"], 3, transform=turn)
    load = mt.Compose(
        [
            mt.LoadImage(image_only=True, reader="NibabelReader", dtype=np.int16),
            mt.EnsureChannelFirst(),
        ]
    )
    for n in range(len(dataset)):
        item = dataset[n]
        whole = load(pair.files[item["subject"]]["ct"])
        z0, y0, x0, z1, y1, x1 = item["location"].tolist()
        expected = mt.Orientation(axcodes="RAS", labels=None)(
            mt.SpatialCrop(roi_start=(x0, y0, z0), roi_end=(x1, y1, z1))(whole)
        )
        assert torch.equal(item["ct"].as_tensor(), expected.as_tensor())
        np.testing.assert_allclose(item["ct"].affine, expected.affine, atol=1e-4)


@pytest.mark.parametrize("writer", ["NibabelWriter", "ITKWriter"])
@pytest.mark.parametrize("crops", [False, True])
def test_monais_writers_save_every_patch(
    pair: Pair, tmp_path: Path, crops: bool, writer: str
) -> None:
    """A writer needs what MONAI's loader puts into ``meta`` (MONAI#4894, MONAI#2720); with MONAI
    1.6.1 none could save a single channel. Files are named after the subject; two subjects' files
    overwrote each other, and so did patches.
    """
    if crops:
        crop = vm.RandCropByPosNegLabeld(["ct"], "seg", PATCH, num_samples=2)
        items = [patch for subject in vm.subjects(pair.open()) for patch in crop(subject)]
    else:
        dataset = vm.Dataset(pair.open(), vq.UniformSampler(PATCH), ["ct"], 2)
        items = [dataset[n] for n in range(len(dataset))]
    turned = mt.Compose(
        [
            mt.Orientationd(["ct"], axcodes="RAS", labels=None),
            mt.Spacingd(["ct"], (2.0, 2.0, 2.0)),
        ]
    )
    load = mt.LoadImage(image_only=True, ensure_channel_first=True, dtype=np.int16)
    for folder, transform in (("plain", None), ("turned", turned)):
        save = mt.SaveImaged(
            ["ct"],
            output_dir=tmp_path / folder,
            output_postfix="pred",
            print_log=False,
            resample=False,
            writer=writer,
            output_dtype=np.int16,
        )
        for item in items:
            save(dict(item) if transform is None else transform(dict(item)))
        found = sorted(path.name for path in (tmp_path / folder).rglob("*.nii.gz"))
        assert found == [f"{name}_pred_{n}.nii.gz" for name in "abc" for n in (0, 1)]
    for n, item in enumerate(items):
        name = item["subject"]
        back = load(tmp_path / "plain" / name / f"{name}_pred_{n % 2}.nii.gz")
        assert torch.equal(back.as_tensor(), item["ct"].as_tensor())
        np.testing.assert_allclose(back.affine, item["ct"].affine, atol=1e-5)
    meta = items[0]["ct"].meta
    assert meta["spatial_shape"].tolist() == list(PATCH)
    assert torch.equal(meta["original_affine"], items[0]["ct"].affine)


def test_patches_hold_no_whole_volume(pair: Pair) -> None:
    """A label map that only chooses the places stayed in the patches (MONAI#7851)."""
    for crop, options in CROPS:
        subjects = MonaiDataset(
            vm.subjects(pair.open()),
            crop(["ct"], spatial_size=PATCH, num_samples=2, **options),
        )
        (batch,) = DataLoader(subjects, batch_size=3)
        assert set(batch) == {"ct", "subject", "location"}
        assert batch["ct"].shape == (6, 1, *PATCH)


@pytest.mark.parametrize("image", [{}, {"image_key": "ct", "image_threshold": -1e9}])
def test_empty_classes_are_told_if_asked(small: tuple[dict, dict], image: dict) -> None:
    def crop(warn: bool) -> vm.RandCropByLabelClassesd:
        return vm.RandCropByLabelClassesd(
            ["ct"], "seg", SMALL, [1, 1, 0, 0, 9], 5, 4, warn=warn, **image
        ).set_random_state(seed=1)

    stored, _ = small
    with pytest.warns(UserWarning, match="class 4 has no voxel to crop around in a/seg"):
        expected = crop(True)(stored)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = crop(False)(stored)
    assert [p["location"].tolist() for p in found] == [p["location"].tolist() for p in expected]


CROPS = [
    (vm.RandCropByPosNegLabeld, {"label_key": "seg", "pos": 2, "neg": 1}),
    (vm.RandCropByLabelClassesd, {"label_key": "seg", "num_classes": 5, "ratios": [1, 0, 2, 1, 3]}),
    (vm.RandWeightedCropd, {"w_key": "map"}),
]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("crop", "options"), CROPS)
def test_crops_in_monais_pipeline(pair: Pair, crop: type, options: dict) -> None:
    transform = mt.Compose(
        [
            crop(["ct", "seg", "map"], spatial_size=PATCH, num_samples=3, **options),
            mt.ToDeviced(["ct"], "cpu"),
        ]
    )
    runs = []
    for workers in (0, 2):
        # MONAI's loader seeds the transforms from torch, and resets torch to its last seed.
        torch.manual_seed(workers)
        transform.set_random_state(seed=5)
        dataset = MonaiDataset(vm.subjects(pair.open()), transform)
        if workers == 0:
            for items in dataset:
                assert len(items) == 3
                for item in items:
                    assert_patch(item, ["ct", "seg", "map"], pair)
        loader = DataLoader(dataset, batch_size=3, num_workers=workers, shuffle=False)
        batches = list(loader)
        assert [batch["ct"].shape for batch in batches] == [(9, 1, *PATCH)]
        runs.append(batches[0]["location"])
    # Each crop draws anew, and the same after the same seed.
    assert not torch.equal(*runs)
    once, again = (
        crop(["ct"], spatial_size=PATCH, num_samples=4, **options).set_random_state(seed=1)(
            vm.subjects(pair.open())[0]
        )
        for _ in range(2)
    )
    assert [p["location"].tolist() for p in once] == [p["location"].tolist() for p in again]


SIZE = (5, 6, 4)
SMALL = (3, 2, 2)
DRAWS = 1500


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    """One subject of few places, in a store and as tensors."""
    folder, random = tmp_path_factory.mktemp("small"), np.random.default_rng(2)
    arrays = {
        "ct": random.integers(-50, 50, SIZE).astype("i2"),
        "seg": random.choice(4, SIZE, p=[0.5, 0.3, 0.15, 0.05]).astype("u1"),
        "map": (random.random(SIZE) * (random.random(SIZE) < 0.7)).astype("f4"),
    }
    files = {name: write_nifti(folder / f"{name}.nii", array.T) for name, array in arrays.items()}
    ds = vq.ingest(
        {"a": files | {"seg": vq.Labels(files["seg"])}}, folder / "store.zarr", patch_size=4
    )
    return vm.subjects(ds)[0], {name: MetaTensor(array[None]) for name, array in arrays.items()}


def assert_alike(found: Counter, expected: Counter) -> None:
    """Two samples of one distribution: a chi-square that fails once in ten thousand seeds (Wilson
    and Hilferty).
    """
    places = sorted(set(found) | set(expected))
    chi = sum((found[p] - expected[p]) ** 2 / (found[p] + expected[p]) for p in places)
    degrees = len(places) - 1
    assert chi < degrees * (1 - 2 / (9 * degrees) + 3.72 * (2 / (9 * degrees)) ** 0.5) ** 3, (
        chi,
        degrees,
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("RandCropByPosNegLabeld", {"label_key": "seg", "pos": 3, "neg": 1}),
        (
            "RandCropByPosNegLabeld",
            {"label_key": "seg", "pos": 1, "neg": 1, "image_key": "ct", "image_threshold": 20},
        ),
        ("RandCropByPosNegLabeld", {"label_key": "seg", "pos": 1, "neg": 0}),
        ("RandCropByLabelClassesd", {"label_key": "seg", "num_classes": 4, "ratios": [1, 2, 0, 5]}),
        (
            "RandCropByLabelClassesd",
            {"label_key": "seg", "num_classes": 4, "image_key": "ct", "image_threshold": 5},
        ),
    ],
)
def test_crops_have_monais_distribution(small: tuple[dict, dict], name: str, options: dict) -> None:
    stored, tensors = small
    counts = []
    for module, data in ((vm, stored), (mt, tensors)):
        crop = getattr(module, name)(
            ["ct"], spatial_size=SMALL, num_samples=DRAWS, **options
        ).set_random_state(seed=8)
        # Voxels are as good as places: no two patches here have the same.
        counts.append(Counter(patch["ct"].numpy().tobytes() for patch in crop(data)))
    assert_alike(*counts)


def test_weighted_crop_is_by_weight(small: tuple[dict, dict]) -> None:
    """MONAI leaves out the last place of each axis; the others are drawn in proportion."""
    stored, tensors = small
    crop = {
        m: m.RandWeightedCropd(["ct"], "map", SMALL, DRAWS).set_random_state(seed=4)
        for m in (vm, mt)
    }
    patches = crop[vm](stored)
    last = [n - p for n, p in zip(SIZE, SMALL, strict=True)]
    inner = [
        p for p in patches if all(a < b for a, b in zip(p["location"].tolist(), last, strict=False))
    ]
    assert len(inner) < len(patches)
    places = Counter(tuple(p["location"].tolist()[:3]) for p in patches)
    weights = tensors["map"][0].numpy()
    every = list(product(*(range(n + 1) for n in last)))
    total = sum(weights[z + 1, y + 1, x + 1] for z, y, x in every)
    for z, y, x in every:
        expected = DRAWS * weights[z + 1, y + 1, x + 1] / total
        assert abs(places[z, y, x] - expected) <= 5 * expected**0.5 + 1
    theirs = Counter(p["ct"].numpy().tobytes() for p in crop[mt](tensors))
    scale = DRAWS / len(inner)
    ours = Counter(p["ct"].numpy().tobytes() for p in inner)
    assert set(theirs) == set(ours)
    for patch, count in theirs.items():
        assert abs(count - scale * ours[patch]) <= 6 * (scale * count) ** 0.5 + 6


@pytest.mark.filterwarnings("ignore:no available indices of class 4")
def test_arrays_are_left_to_monai(small: tuple[dict, dict]) -> None:
    _, tensors = small
    for crop, options in CROPS:
        mine = crop(["ct", "seg"], spatial_size=SMALL, num_samples=5, **options).set_random_state(
            seed=2
        )
        theirs = getattr(mt, crop.__name__)(
            ["ct", "seg"], spatial_size=SMALL, num_samples=5, **options
        ).set_random_state(seed=2)
        for a, b in zip(mine(tensors), theirs(tensors), strict=True):
            assert torch.equal(a["ct"], b["ct"])
            assert torch.equal(a["seg"], b["seg"])


def test_sizes(small: tuple[dict, dict]) -> None:
    stored, _ = small
    crop = vm.RandCropByPosNegLabeld(["ct"], "seg", (3, -1, 2), num_samples=2)
    assert [p["ct"].shape for p in crop(stored)] == [(1, 3, 6, 2)] * 2
    with pytest.raises(ValueError, match="larger than the volume"):
        vm.RandCropByPosNegLabeld(["ct"], "seg", 5)(stored)
    large = vm.RandCropByPosNegLabeld(["ct"], "seg", 5, allow_smaller=True)
    assert large(stored)[0]["ct"].shape == (1, 5, 5, 4)
    with pytest.raises(ValueError, match="2 ratios for 4 classes"):
        vm.RandCropByLabelClassesd(["ct"], "seg", 2, [1, 2], 4)(stored)
    with pytest.raises(ValueError, match="num_classes"):
        vm.RandCropByLabelClassesd(["ct"], "seg", 2)(stored)


def test_a_mixture_of_stored_and_loaded(small: tuple[dict, dict]) -> None:
    stored, tensors = small
    data = {**stored, "other": tensors["ct"].clone()}
    for patch in vm.RandCropByPosNegLabeld(["ct", "other"], "seg", SMALL, num_samples=6)(data):
        assert torch.equal(patch["ct"].as_tensor(), patch["other"].as_tensor())


def test_real_values(tmp_path: Path) -> None:
    def edit(header: object) -> None:
        header["scl_slope"], header["scl_inter"] = 0.5, -1024

    voxels = np.arange(512, dtype="i2").reshape(8, 8, 8)
    ds = vq.ingest(write_nifti(tmp_path / "ct.nii", voxels.T, edit=edit), tmp_path / "store.zarr")
    item = vm.Dataset(ds, vq.UniformSampler(4))[0]
    z, y, x = item["location"].tolist()[:3]
    assert item["image"].dtype == torch.float32
    assert np.array_equal(
        item["image"][0].numpy(), voxels[z : z + 4, y : y + 4, x : x + 4] * 0.5 - 1024
    )
