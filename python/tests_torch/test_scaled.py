"""No module differs silently: queue, dataset, inference, TorchIO and MONAI give the same values."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import torchio as tio
from helpers import smooth, write_nifti

import voxquarry as vq
import voxquarry.monai as vm
import voxquarry.torch as vt
import voxquarry.torchio as vtio

SIZE = (20, 18, 17)
SCALES = {"a": (1.0, 0.0), "b": (0.5, -1024.0)}


@pytest.fixture
def store(tmp_path: Path) -> vq.Dataset:
    """Subject ``a`` has neither slope nor intercept, ``b`` both."""
    sources = {}
    for name, scale in SCALES.items():

        def edit(header: nib.Nifti1Header) -> None:
            header["scl_slope"], header["scl_inter"] = scale

        sources[name] = write_nifti(tmp_path / f"{name}.nii", smooth(SIZE).T, edit=edit)
    return vq.ingest({n: {"ct": p} for n, p in sources.items()}, tmp_path / "store.zarr", 8)


def real(name: str) -> np.ndarray:
    slope, intercept = SCALES[name]
    return (smooth(SIZE).astype("f8") * slope + intercept).astype("f4")


def assert_real(patch: torch.Tensor, name: str, location: torch.Tensor) -> None:
    z, y, x = location.tolist()[:3]
    expected = real(name)[z : z + 8, y : y + 8, x : x + 8]
    assert np.array_equal(np.asarray(patch).reshape(8, 8, 8), expected)


def test_training_gives_real_values(store: vq.Dataset) -> None:
    sampler, seen = vq.UniformSampler(8), set()
    for batch in vt.loader(vq.Queue(store, sampler, "ct", 6), num_workers=0):
        assert batch["ct"].dtype == torch.float32
        for item in zip(batch["ct"], batch["subject"], batch["location"], strict=True):
            assert_real(*item)
            seen.add(item[1])
    for patches in (
        vt.PatchDataset(store, sampler, ["ct"], 6),
        vm.Dataset(store, sampler, ["ct"], 6),
    ):
        # Also of the subject without a slope, so that batches of both can be collated.
        items = [patches[n] for n in range(len(patches))]
        assert {item["ct"].dtype for item in items} == {torch.float32}
        for item in items:
            assert_real(item["ct"], item["subject"], item["location"])
            seen.add(item["subject"])
    assert seen == set(SCALES)
    image = vtio.subject(store["b"]).ct
    assert np.array_equal(image.data[0].numpy(), real("b").T)
    patch = next(vtio.UniformSampler(8)(vtio.subject(store["b"])))
    assert_real(patch.ct.data[0].permute(2, 1, 0), "b", patch[tio.LOCATION][:3].flip(0))


def test_stored_values_where_they_are_asked_for(store: vq.Dataset) -> None:
    sampler = vq.UniformSampler(8)
    (batch,) = vt.loader(vq.Queue(store, sampler, "ct", 2, batch_size=4, scaled=False))
    assert batch["ct"].dtype == torch.int16
    patches = vt.PatchDataset(store, sampler, ["ct"], scaled=False)
    for n, name in enumerate(SCALES):
        z, y, x = patches[n]["location"].tolist()[:3]
        assert patches[n]["ct"].dtype == torch.int16
        assert np.array_equal(patches[n]["ct"][0], store[name]["ct"].read((z, y, x), 8))


def test_padding_has_real_units(store: vq.Dataset) -> None:
    sampler = vq.UniformSampler(8, border="pad")
    around = {name: np.pad(real(name), 8, constant_values=-1000) for name in SCALES}
    patches = vt.PatchDataset(store, sampler, ["ct"], 6, padding=-1000)
    for n in range(len(patches)):
        item = patches[n]
        z, y, x = (item["location"][:3] + 8).tolist()
        box = around[item["subject"]][z : z + 8, y : y + 8, x : x + 8]
        assert np.array_equal(item["ct"][0], box)


def test_inference_gives_real_values(store: vq.Dataset) -> None:
    seen: set[torch.dtype] = set()

    def model(patches: torch.Tensor) -> torch.Tensor:
        seen.add(patches.dtype)
        return patches.double()

    for options, values in (({}, real("b")), ({"scaled": False}, smooth(SIZE))):
        found = vt.infer(model, store["b"]["ct"], 8, dtype="float64", window="average", **options)
        np.testing.assert_allclose(found[0], values, rtol=1e-12)
    vt.infer(model, store["b"]["ct"], 8, input_dtype=None, scaled=False)
    assert seen == {torch.float32, torch.int16}
