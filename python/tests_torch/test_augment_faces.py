"""Augmented patches as tensors, ``MetaTensor`` and TorchIO's subjects: their affines lead to the
right places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchio as tio
from monai.data import MetaTensor, decollate_batch
from scipy import ndimage

import voxquarry as vq
import voxquarry.monai
import voxquarry.torch
import voxquarry.torchio

AFFINE = np.array([[0, -1.5, 0, 20], [0.75, 0, 0, -30], [0, 0, 2.5, 7], [0, 0, 0, 1]])
SHAPE = (40, 37, 50)
TURN = vq.Augment(rotation_degrees=25, scale=(0.8, 1.3), flip=True, shear=0.1, translation=2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> vq.Dataset:
    """Each voxel holds a coordinate of its own position, which interpolation keeps."""
    path: Path = tmp_path_factory.mktemp("faces") / "store.zarr"
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)[..., ::-1]
    place = (index @ AFFINE[:3, :3].T + AFFINE[:3, 3]).astype("f4")
    noise = np.random.default_rng(3).normal(0, 1, SHAPE).astype("f4")
    seg = np.random.default_rng(2).integers(0, 4, SHAPE).astype("u2")
    volumes = {"place": np.moveaxis(place, -1, 0), "noise": noise, "seg": vq.Labels(seg)}
    return vq.ingest({"case": volumes}, path, patch_size=12, affine=AFFINE.tolist())


def queue(dataset: vq.Dataset, augment: vq.Augment | None) -> vq.Queue:
    sampler, padding = vq.UniformSampler((10, 12, 14)), {"place": float("nan"), "seg": 0}
    return vq.Queue(
        dataset, sampler, ["place", "seg"], 8, 4, augment=augment, dtype="float32", padding=padding
    )


def check(place: np.ndarray, affine: np.ndarray) -> int:
    """Compares voxels ``(3, z, y, x)`` with their positions; returns how many lie inside."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in place.shape[1:]), indexing="ij"), -1)
    expected = index @ affine[:3, :3].T + affine[:3, 3]
    inside = np.isfinite(place).all(0)
    np.testing.assert_allclose(np.moveaxis(place, 0, -1)[inside], expected[inside], atol=1e-3)
    return int(inside.sum())


@pytest.mark.parametrize("augment", [TURN, None], ids=["turned", "plain"])
def test_affines_lead_to_the_voxels(dataset: vq.Dataset, augment: vq.Augment | None) -> None:
    q, inside = queue(dataset, augment), 0
    for batch in voxquarry.torch.loader(q):
        assert ("transform" in batch) == (augment is not None)
        metas = voxquarry.monai.meta_batch(batch, q)
        subjects = voxquarry.torchio.patch_subjects(batch, q)
        items = decollate_batch({name: metas[name] for name in ("place", "seg")})
        for n, (item, subject) in enumerate(zip(items, subjects, strict=True)):
            assert isinstance(item["place"], MetaTensor) and item["seg"].dtype == torch.int32
            inside += check(item["place"].numpy(), item["place"].affine.numpy())
            if augment is not None:
                np.testing.assert_array_equal(item["seg"].affine, batch["transform"][n])
            image: Any = subject["place"]
            turned = image.affine[:, [2, 1, 0, 3]]
            check(image.data.permute(0, 3, 2, 1).numpy(), turned)
            assert isinstance(subject["seg"], tio.LabelMap) and subject["name"] == "case"
            assert subject.spatial_shape == (14, 12, 10)
            assert image.data.data_ptr() == batch["place"][n].data_ptr()
    assert inside > 5000


def test_a_turned_patch_is_what_scipy_gives(dataset: vq.Dataset) -> None:
    """From the transform of the batch alone, by scipy, in the coordinates of the volume."""
    case = dataset["case"]
    q = vq.Queue(dataset, vq.UniformSampler(13), ["noise", "seg"], 20, 20, augment=TURN, padding=7)
    back = np.linalg.inv(case["noise"].affine[:, [2, 1, 0, 3]])
    for batch in q:
        for n, transform in enumerate(batch["transform"]):
            matrix = (back @ transform)[:3]
            for name, order in (("noise", 1), ("seg", 0)):
                expected = ndimage.affine_transform(
                    case[name][:].astype("f8"),
                    matrix[:, :3],
                    matrix[:, 3],
                    (13, 13, 13),
                    order=order,
                    mode="grid-constant",
                    cval=7,
                )
                wrong = np.abs(batch[name][n, 0] - expected) > 1e-4
                assert wrong.mean() <= (0 if order else 1e-3)


@pytest.mark.parametrize(
    ("augment", "sigma"), [(vq.Augment(blur=((1.2, 1.2), (0, 0), (0.7, 0.7))), (1.2, 0, 0.7))]
)
def test_blur_is_scipys_gaussian(
    dataset: vq.Dataset, augment: vq.Augment, sigma: tuple[float, ...]
) -> None:
    q = vq.Queue(dataset, vq.UniformSampler(16), ["noise"], 4, augment=augment)
    for batch in q:
        for n, at in enumerate(batch["location"]):
            plain = dataset["case"]["noise"].read(at[:3], 16).astype("f8")
            expected = ndimage.gaussian_filter(plain, sigma, mode="mirror", truncate=3)
            np.testing.assert_allclose(batch["noise"][n, 0], expected, atol=2e-6)


def test_a_coarser_image_is_torchs(dataset: vq.Dataset) -> None:
    augment = vq.Augment(low_resolution=(0.5, 0.5))
    for batch in vq.Queue(dataset, vq.UniformSampler((16, 12, 14)), ["noise"], 4, augment=augment):
        for n, at in enumerate(batch["location"]):
            plain = dataset["case"]["noise"].read(at[:3], (16, 12, 14))
            coarse = torch.nn.functional.interpolate(
                torch.from_numpy(plain)[None, None], (8, 6, 7), mode="nearest-exact"
            )
            expected = torch.nn.functional.interpolate(coarse, (16, 12, 14), mode="trilinear")
            np.testing.assert_allclose(batch["noise"][n, 0], expected[0, 0], atol=1e-6)
