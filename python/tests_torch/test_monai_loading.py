"""``voxquarry.monai``: whole volumes by ``LoadImaged``, lazy ones that a transform meets, and the
versions that are supported.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

import monai
import monai.transforms as mt
import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import AFFINE, Pair
from helpers import write_nifti
from monai.data import DataLoader, MetaTensor
from monai.data import Dataset as MonaiDataset

import voxquarry as vq
import voxquarry.monai as vm

KEYS = ["ct", "seg", "map"]


def assert_same(found: MetaTensor, expected: MetaTensor) -> None:
    assert isinstance(found, MetaTensor)
    assert torch.equal(found.as_tensor(), expected.as_tensor())
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-6)
    np.testing.assert_allclose(
        found.meta["original_affine"], expected.meta["original_affine"], atol=1e-6
    )
    for key in ("space", "original_channel_dim", "spatial_shape"):
        np.testing.assert_array_equal(found.meta[key], expected.meta[key])


@pytest.mark.parametrize("load", [mt.LoadImaged, vm.LoadImaged])
@pytest.mark.parametrize("first", [False, True])
def test_paths_are_loaded_as_files_are(pair: Pair, load: type, first: bool) -> None:
    """``LoadImaged`` found no reader for a volume of a store."""
    for item in vm.datalist(pair.open()):
        name = item["subject"]
        found = load(KEYS, ensure_channel_first=first)(item)
        expected = mt.LoadImaged(KEYS, ensure_channel_first=first)(dict(pair.files[name]))
        for key in KEYS:
            assert_same(found[key], expected[key])
            assert found[key].meta["subject"] == name


def test_no_path_names_a_level(tmp_path: Path) -> None:
    """A path would be read as the whole volume without a word."""
    voxels = np.arange(20**3, dtype="i2").reshape(20, 20, 20)
    vq.ingest({"s": {"ct": voxels}}, tmp_path / "store.zarr", levels=1)
    coarse = vq.open(tmp_path / "store.zarr", level=1)
    (item,) = vm.subjects(coarse, ["ct"])
    assert vm.LoadImaged("ct")(item)["ct"].shape == (10, 10, 10)
    with pytest.raises(vq.UsageError, match="level 1"):
        vm.datalist(coarse, ["ct"])


@pytest.mark.parametrize("shape", [(9, 8, 7), (3, 9, 8, 7), (1, 9, 8, 7)])
def test_real_values_and_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    voxels = np.arange(np.prod(shape), dtype="i2").reshape(shape)
    image = nib.Nifti1Image(voxels.T if voxels.ndim == 3 else voxels.transpose(3, 2, 1, 0), AFFINE)
    image.header.set_slope_inter(0.5, -1024)
    nib.save(image, tmp_path / "ct.nii")
    vq.ingest({"s": {"ct": tmp_path / "ct.nii"}}, tmp_path / "store.zarr", patch_size=8)
    for options in ({}, {"ensure_channel_first": True}):
        load = mt.LoadImage(image_only=True, **options)
        assert_same(load(tmp_path / "store.zarr" / "s" / "ct"), load(tmp_path / "ct.nii"))
    # In the axes of the store, as patches.
    (item,) = vm.subjects(vq.open(tmp_path / "store.zarr"))
    whole = vm.LoadImaged(["ct"], ensure_channel_first=True)(item)["ct"]
    assert np.array_equal(whole.numpy(), voxels.reshape(-1, 9, 8, 7) * 0.5 - 1024)
    assert np.allclose(whole.affine, AFFINE[:, [2, 1, 0, 3]])


def test_whole_volumes_beside_patches(pair: Pair) -> None:
    crop = vm.RandCropByPosNegLabeld(["ct", "seg"], "seg", (12, 10, 8), num_samples=3)
    load = vm.LoadImaged(["ct", "seg"], ensure_channel_first=True, dtype=None)
    for item in vm.subjects(pair.open(), ["ct", "seg"]):
        whole = load(item)
        for patch in crop(item):
            z, y, x, *_ = patch["location"].tolist()
            box = (slice(None), slice(z, z + 12), slice(y, y + 10), slice(x, x + 8))
            for key in ("ct", "seg"):
                assert torch.equal(patch[key].as_tensor(), whole[key].as_tensor()[box])
                # MONAI shifts the affine of a crop, so both are of the same place.
                at = mt.SpatialCrop(roi_start=(z, y, x), roi_end=(z + 12, y + 10, x + 8))
                assert torch.allclose(patch[key].affine, at(whole[key]).affine)


@pytest.mark.parametrize("writer", ["NibabelWriter", "ITKWriter"])
@pytest.mark.parametrize("source", ["subjects", "datalist", "files"])
@pytest.mark.parametrize("resample", [False, True])
def test_predictions_have_the_name_of_the_subject(
    pair: Pair, tmp_path: Path, writer: str, source: str, resample: bool
) -> None:
    """Two subjects' results overwrote each other: ``filename_or_obj`` ended with the volume's name.
    Spacing and orientation change what is saved, not where (MONAI#4894).
    """
    ds = pair.open()
    items = vm.subjects(ds, ["ct"]) if source == "subjects" else vm.datalist(ds, ["ct"])
    load = mt.LoadImaged if source == "files" else vm.LoadImaged
    steps = [
        load(["ct"], ensure_channel_first=True),
        mt.Orientationd(["ct"], axcodes="RAS", labels=None),
        mt.Spacingd(["ct"], (2.0, 2.0, 2.0)),
    ]
    data = MonaiDataset(items, mt.Compose(steps))
    save = mt.SaveImaged(
        ["pred"],
        output_dir=tmp_path / "out",
        output_postfix="pred",
        print_log=False,
        resample=resample,
        writer=writer,
    )
    for batch in DataLoader(data, batch_size=1):
        batch["pred"] = torch.cat([batch["ct"], batch["ct"] * 2], dim=1)
        for item in monai.data.decollate_batch(batch):
            item["pred"].applied_operations = []
            save(item)
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("*.gz"))
    names = {"files": "ct/ct_pred_{0}.nii.gz"}.get(source, "{0}/{0}_pred.nii.gz")
    assert found == [names.format(name) for name in "abc"]
    for path, item, stored in zip(found, data, ds.values(), strict=True):
        back = mt.LoadImage(image_only=True, ensure_channel_first=True)(tmp_path / "out" / path)
        if writer == "ITKWriter":
            # MONAI loads the channels of its own file as an axis more.
            back = MetaTensor(back.as_tensor().reshape(2, *back.shape[-4:-1]), back.affine)
        if resample:
            affine = stored["ct"].affine
            assert set(stored.size) <= set(back.shape)
            assert np.allclose(abs(np.linalg.det(back.affine)), abs(np.linalg.det(affine)))
        else:
            assert torch.allclose(back[:1].as_tensor(), item["ct"].as_tensor(), atol=1e-3)
            np.testing.assert_allclose(back.affine, item["ct"].affine, atol=1e-5)


def test_slices_are_saved_as_pictures(pair: Pair, tmp_path: Path) -> None:
    """MONAI#2720 for the writer of pictures."""
    dataset = vm.Dataset(pair.open(), vq.UniformSampler((24, 20, 1)), ["seg"], 2)
    save = mt.SaveImaged(
        ["seg"], output_dir=tmp_path, output_ext=".png", print_log=False, writer="PILWriter"
    )
    for n in range(len(dataset)):
        item = dataset[n]
        save({"seg": item["seg"].to(torch.uint8)})
        name = f"{item['subject']}_trans_{n % 2}.png"
        back = mt.LoadImage(image_only=True)(tmp_path / item["subject"] / name)
        assert np.array_equal(back.numpy(), item["seg"][0, ..., 0].numpy())


@pytest.mark.filterwarnings("ignore:`data_array` is not of type .?MetaTensor:UserWarning")
@pytest.mark.filterwarnings("ignore:axcodes .* length is smaller:UserWarning")
@pytest.mark.parametrize(
    "transform",
    [
        mt.ScaleIntensityRanged(["ct"], -100, 100, 0, 1),
        mt.ScaleIntensityd(["ct"]),
        mt.NormalizeIntensityd(["ct"]),
        mt.Flipd(["ct"], 0),
        mt.Orientationd(["ct"], "RAS", labels=None),
        mt.Spacingd(["ct"], (2, 2, 2)),
        mt.CenterSpatialCropd(["ct"], 8),
        mt.RandSpatialCropd(["ct"], 8, random_size=False),
        mt.ToTensord(["ct"]),
        mt.CastToTyped(["ct"], np.float32),
        mt.Lambdad(["ct"], np.asarray),
        mt.Lambdad(["ct"], torch.as_tensor),
        mt.Lambdad(["ct"], lambda image: image.mean()),
        mt.Lambdad(["ct"], lambda image: 2 * image),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_a_transform_that_meets_a_lazy_volume(pair: Pair, transform: mt.Transform) -> None:
    """It failed with Python's words, or read stored values without a place."""
    item = vm.subjects(pair.open())[0]
    with pytest.raises(vm.NotLoadedError, match=r"'ct' of subject 'a'.*crop.*LoadImaged") as raised:
        transform(dict(item))
    assert isinstance(raised.value, vq.UsageError)
    loaded = vm.LoadImaged(["ct"], ensure_channel_first=True)(item)
    transform(loaded)


def test_lazy_volumes_are_volumes_otherwise(pair: Pair) -> None:
    ds = pair.open()
    lazy = vm.subjects(ds)[1]["ct"]
    assert isinstance(lazy, vm.LazyVolume)
    for copied in (lazy, pickle.loads(pickle.dumps(lazy))):
        assert (copied.shape, copied.name, copied.subject.name) == (ds["b"]["ct"].shape, "ct", "b")
        assert np.array_equal(copied.read((1, 2, 3), 5), ds["b"]["ct"].read((1, 2, 3), 5))
        assert copied.volume.content_id == ds["b"]["ct"].content_id
        assert repr(copied).startswith("LazyVolume(")
        assert np.array_equal(copied.volume[3], ds["b"]["ct"][3])
    with pytest.raises(vm.NotLoadedError, match="'ct' of subject 'a'"):
        next(iter(DataLoader(MonaiDataset(vm.subjects(ds, ["ct"])), batch_size=2)))


def test_keys_and_splits(pair: Pair, tmp_path: Path) -> None:
    names = {"image": "ct", "label": "seg"}
    for items in (vm.subjects(pair.open(), names), vm.datalist(pair.open(), names)):
        assert [set(item) for item in items] == [{"image", "label", "subject"}] * 3
    loaded = vm.LoadImaged(["image", "label"])(vm.datalist(pair.open(), names)[2])
    assert loaded["label"].meta["subject"] == "c"
    folder = tmp_path / "Task01_Toy"
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True)
        for name in ("x_1", "x_2") if part.endswith("Tr") else ("x_3",):
            write_nifti(folder / part / f"{name}.nii.gz", np.ones((8, 8, 8), "u1"))
    (folder / "dataset.json").write_text(
        '{"name": "Toy", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "toy"},'
        '"training": [{"image": "./imagesTr/x_1.nii.gz", "label": "./labelsTr/x_1.nii.gz"},'
        '{"image": "./imagesTr/x_2.nii.gz", "label": "./labelsTr/x_2.nii.gz"}],'
        '"test": ["./imagesTs/x_3.nii.gz"]}'
    )
    ds = vq.ingest(folder, tmp_path / "store.zarr", patch_size=8)
    assert len(ds.splits) == 2
    for split, members in ds.splits.items():
        assert [item["subject"] for item in vm.datalist(ds, split=split)] == members
        assert [item["subject"] for item in vm.subjects(ds, split=split)] == members
    with pytest.raises(vq.UsageError, match="no split 'nothing'; the store has: "):
        vm.datalist(ds, split="nothing")
    with pytest.raises(vq.UsageError, match="list of names"):
        vm.subjects(ds, "ct")
    with pytest.raises(KeyError, match='no volume "ct" in'):
        vm.datalist(ds, ["ct"])


def test_paths_that_are_no_volume(pair: Pair, tmp_path: Path) -> None:
    load = vm.LoadImaged(["ct"])
    with pytest.raises(KeyError, match='no volume "cT" in'):
        load({"ct": pair.path / "a" / "cT"})
    with pytest.raises(KeyError, match='"z"'):
        load({"ct": pair.path / "z" / "ct"})
    other = pair.files["a"]["ct"]
    assert not vm.StoreReader().verify_suffix(other)
    assert not vm.StoreReader().verify_suffix([pair.path / "a" / "ct", other])
    with pytest.raises(vq.UsageError, match="cannot be stacked"):
        load({"ct": [pair.path / "a" / "ct", pair.path / "b" / "ct"]})
    both = load({"ct": [pair.path / "a" / "ct", pair.path / "a" / "map"]})["ct"]
    assert torch.equal(both[0], load({"ct": pair.path / "a" / "ct"})["ct"])


@pytest.mark.parametrize("version", ["1.5.2", "2.0.0"])
def test_versions_that_are_not_supported(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """They failed somewhere inside, at the first name that had moved."""
    monkeypatch.setattr(monai, "__version__", version)
    monkeypatch.delitem(sys.modules, "voxquarry.monai")
    with pytest.raises(
        ImportError, match=rf"MONAI|monai 1\.6 or newer.*{version} is installed: pip install"
    ):
        importlib.import_module("voxquarry.monai")
