"""``voxquarry.nnunet``: nnU-Net's own commands plan, preprocess, train and predict on a toy data
set, from a store.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import (
    infer_dataset_class,
    nnUNetDatasetBlosc2,
    nnUNetDatasetNumpy,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

import voxquarry as vq
from voxquarry.nnunet import StoreDataset, convert, predict, trainers_path
from voxquarry.nnunet.__main__ import main

NAME, CONFIGURATION = "Dataset001_Toy", "nnUNetPlans_3d_fullres"
SIZE = (40, 36, 33)
TRAINER = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class ToyTrainer(nnUNetTrainer):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 3, 1


ToyTrainer.__init__.__signature__ = __import__("inspect").signature(nnUNetTrainer.__init__)
"""


@dataclass(frozen=True)
class Toy:
    """Folders of nnU-Net, and those with a store."""

    root: Path

    @property
    def cases(self) -> Path:
        return self.root / "preprocessed" / NAME / CONFIGURATION

    @property
    def stored(self) -> Path:
        return self.root / "stores" / NAME / CONFIGURATION

    def run(self, *command: str, preprocessed: str = "preprocessed", workers: int = 1) -> str:
        environment = os.environ | {
            "nnUNet_raw": str(self.root / "raw"),
            "nnUNet_preprocessed": str(self.root / preprocessed),
            "nnUNet_results": str(self.root / "results"),
            "nnUNet_extTrainer": os.pathsep.join([trainers_path(), str(self.root / "trainers")]),
            "nnUNet_n_proc_DA": str(workers),
            "nnUNet_def_n_proc": "1",
            "OMP_NUM_THREADS": "2",
        }
        program = Path(sys.executable).parent / command[0]
        done = subprocess.run(
            [program, *command[1:]],
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def image_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A synthetic CT with a sphere in it, ``(x, y, z)``, and the sphere."""
    random = np.random.default_rng(seed)
    centre = random.uniform(0.3, 0.7, 3) * SIZE
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SIZE), indexing="ij"), -1)
    sphere = np.linalg.norm(grid - centre, axis=-1) < 8
    return (random.normal(-50, 30, SIZE) + 300 * sphere).astype("i2"), sphere.astype("u1")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    root = tmp_path_factory.mktemp("nnunet")
    raw = root / "raw" / NAME
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (raw / folder).mkdir(parents=True)
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    for case in range(5):
        image, label = image_of(case)
        nib.save(nib.Nifti1Image(image, affine), raw / "imagesTr" / f"toy_{case}_0000.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), raw / "labelsTr" / f"toy_{case}.nii.gz")
    nib.save(nib.Nifti1Image(image_of(9)[0], affine), raw / "imagesTs" / "toy_9_0000.nii.gz")
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "sphere": 1},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    (root / "trainers").mkdir()
    (root / "trainers" / "toy_trainer.py").write_text(TRAINER)
    made = Toy(root)
    made.run(
        *("nnUNetv2_plan_and_preprocess", "-d", "1", "-c", "3d_fullres", "-np", "1", "-npfp", "1")
    )
    assert convert(made.cases, root / "stores") == made.stored
    return made


def test_cases_are_those_of_nnunet(toy: Toy) -> None:
    assert infer_dataset_class(str(toy.stored)) is StoreDataset
    stored, theirs = StoreDataset(str(toy.stored)), nnUNetDatasetBlosc2(str(toy.cases))
    assert (
        sorted(stored.identifiers) == sorted(theirs.identifiers) == [f"toy_{n}" for n in range(5)]
    )
    for name in stored.identifiers:
        for found, expected in zip(stored[name][:2], theirs[name][:2], strict=True):
            assert found.shape == expected.shape
            assert found[:].dtype == expected.dtype
            assert np.array_equal(found[:], expected[:])
            assert np.array_equal(found[:, 2:5, -4:, 1:], expected[:][:, 2:5, -4:, 1:])
        assert str(stored[name][3]) == str(theirs[name][3])
    plans = PlansManager(str(toy.stored.parent / "nnUNetPlans.json"))
    patch = plans.get_configuration("3d_fullres").patch_size
    chunks = vq.open(toy.stored / "store.zarr")["toy_0"]["data"].chunks
    assert all(c <= p for c, p in zip(chunks, patch, strict=True))


def test_batches_are_those_of_nnunet(toy: Toy) -> None:
    """Also where a patch leaves the case, which nnU-Net pads."""
    plans = PlansManager(str(toy.stored.parent / "nnUNetPlans.json"))
    labels = plans.get_label_manager(json.loads((toy.stored.parent / "dataset.json").read_text()))
    batches = []
    for dataset in (StoreDataset(str(toy.stored)), nnUNetDatasetBlosc2(str(toy.cases))):
        np.random.seed(3)
        loader = nnUNetDataLoader(dataset, 4, (48, 32, 32), (40, 24, 24), labels, 0.33)
        batches.append([next(loader) for _ in range(3)])
    for found, expected in zip(*batches, strict=True):
        assert found["keys"].tolist() == expected["keys"].tolist()
        assert np.array_equal(found["data"], expected["data"])
        assert np.array_equal(found["target"], expected["target"])


def test_batches_of_a_cascade_are_those_of_nnunet(toy: Toy, tmp_path: Path) -> None:
    """The second stage reads the predictions of the first beside its cases (issue 21)."""
    folders = {kind: tmp_path / kind.__name__ for kind in (StoreDataset, nnUNetDatasetBlosc2)}
    cases = {StoreDataset: toy.stored, nnUNetDatasetBlosc2: toy.cases}
    plans = PlansManager(str(toy.stored.parent / "nnUNetPlans.json"))
    labels = plans.get_label_manager(json.loads((toy.stored.parent / "dataset.json").read_text()))
    batches = []
    for kind, folder in folders.items():
        folder.mkdir()
        for name in kind(str(cases[kind])).identifiers:
            voxels = StoreDataset(str(toy.stored))[name][1][:][0]
            predicted = (np.roll(voxels, 3, axis=1) > 0).astype("u1")
            kind.save_seg(predicted, str(folder / name))
        dataset = kind(str(cases[kind]), folder_with_segs_from_previous_stage=str(folder))
        assert np.array_equal(dataset[name][2][:], predicted)
        np.random.seed(3)
        loader = nnUNetDataLoader(dataset, 4, (48, 32, 32), (40, 24, 24), labels, 0.33)
        batches.append([next(loader) for _ in range(3)])
    for found, expected in zip(*batches, strict=True):
        assert found["keys"].tolist() == expected["keys"].tolist()
        assert np.array_equal(found["data"], expected["data"])
        assert found["target"].shape[1] == 2
        assert np.array_equal(found["target"], expected["target"])
    assert any(found["target"][:, 1].any() for found in batches[0])


def test_training_from_a_store(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of nnU-Net's trainer, its validation, and a prediction; only the folder and the
    name of the trainer say that there is a store.
    """
    assert not list(toy.stored.glob("*.b2nd"))
    log = toy.run(
        *("nnUNetv2_train", "1", "3d_fullres", "0"),
        *("-tr", "ToyTrainerVoxquarry", "-device", "cpu"),
        preprocessed="stores",
        workers=2,
    )
    assert "Epoch 1" in log
    assert "Mean Validation Dice" in log
    model = toy.root / "results" / NAME / "ToyTrainerVoxquarry__nnUNetPlans__3d_fullres"
    fold = model / "fold_0"
    assert (fold / "checkpoint_final.pth").is_file()
    validated = {path.name for path in (fold / "validation").glob("*.nii.gz")}
    splits = json.loads((toy.stored.parent / "splits_final.json").read_text())
    assert validated == {f"{name}.nii.gz" for name in splits[0]["val"]}
    toy.run(
        *("nnUNetv2_predict", "-i", str(toy.root / "raw" / NAME / "imagesTs")),
        *("-o", str(toy.root / "out"), "-d", "1", "-c", "3d_fullres", "-f", "0"),
        *("-tr", "ToyTrainerVoxquarry", "-device", "cpu", "-npp", "1", "-nps", "1"),
        *("--disable_tta", "--save_probabilities"),
        preprocessed="stores",
    )
    expected = nib.load(toy.root / "out" / "toy_9.nii.gz")
    assert expected.shape == SIZE
    (background, sphere) = np.load(toy.root / "out" / "toy_9.npz")["probabilities"]
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    with pytest.raises(vq.UsageError, match="trainer is not found"):
        predict(model, toy.root / "in.zarr", toy.root / "o.zarr")
    monkeypatch.setenv("nnUNet_extTrainer", str(toy.root / "trainers"))
    check_prediction(toy, model, np.asarray(expected.dataobj).T, np.abs(background - sphere))


def check_prediction(toy: Toy, model: Path, expected: np.ndarray, margin: np.ndarray) -> None:
    """From a store: the labels of ``nnUNetv2_predict``, by the command and from Python.

    ``margin`` is the distance of nnU-Net's two probabilities, ``(z, y, x)`` like its labels.
    """
    image = toy.root / "raw" / NAME / "imagesTs" / "toy_9_0000.nii.gz"
    vq.ingest({"toy_9": {"ct": image}}, toy.root / "in.zarr")
    command = ["predict", str(model), str(toy.root / "in.zarr"), "--out", str(toy.root / "o.zarr")]
    assert main([*command, "--no-mirror", "--device", "cpu", "--quiet"]) == 0
    found = vq.open(toy.root / "o.zarr")["toy_9"]["prediction"]
    assert (found.kind, found.spacing) == ("labels", (2, 1.5, 1))
    # nnU-Net blends in float16, where the weights of a patch's corners have few bits: both classes
    # are as likely, up to rounding, where the labels may differ.
    same = expected == found[...]
    assert margin[~same].max(initial=0) < 0.02
    assert (margin >= 0.02).mean() > 0.5
    assert same.mean() > 0.95
    # Into the store of the images, at a spacing that nobody trained for.
    coarse = vq.Array(np.asarray(nib.load(image).dataobj).T[:, ::2], spacing=(2, 3, 1))
    vq.ingest({"coarse": {"ct": coarse}}, toy.root / "in.zarr")
    made = predict(model, toy.root / "in.zarr", toy.root / "in.zarr", name="p", mirror=False)
    again = {volume.subject.name: volume[...] for volume in made}
    assert np.array_equal(again["toy_9"], found[...])
    assert again["coarse"].shape == found[:, ::2].shape
    assert set(np.unique(again["coarse"])) <= {0, 1}
    with pytest.raises(vq.UsageError, match="no fold_3"):
        predict(model, toy.root / "in.zarr", toy.root / "o.zarr", folds=[3])
    with pytest.raises(vq.UsageError, match="expected the folder of a trained"):
        predict(toy.cases, toy.root / "in.zarr", toy.root / "o.zarr")
    with pytest.raises(vq.UsageError, match="name the volume that is CT"):
        vq.ingest({"toy_9": {"pet": image}}, toy.root / "in.zarr", add=True)
        predict(model, toy.root / "in.zarr" / "toy_9", toy.root / "o.zarr")


def test_conversion_goes_on_where_it_stopped(toy: Toy, tmp_path: Path) -> None:
    first = tmp_path / NAME / CONFIGURATION
    first.mkdir(parents=True)
    (data, seg, _, properties) = nnUNetDatasetBlosc2(str(toy.cases))["toy_2"]
    StoreDataset.save_case(data, seg, properties, str(first / "toy_2"))
    kept = vq.open(first / "store.zarr")["toy_2"]["data"].content_id
    assert main(["convert", str(toy.cases), str(tmp_path)]) == 0
    store = vq.open(first / "store.zarr")
    assert len(store) == 5
    assert store["toy_2"]["data"].content_id == kept
    assert {path.name for path in first.glob("*.pkl")} == {f"toy_{n}.pkl" for n in range(5)}
    assert (tmp_path / NAME / "gt_segmentations" / "toy_1.nii.gz").is_file()


def test_nnunets_older_format(toy: Toy, tmp_path: Path) -> None:
    source = tmp_path / "from" / NAME / CONFIGURATION
    source.mkdir(parents=True)
    plans = toy.cases.parent / "nnUNetPlans.json"
    (source.parent / plans.name).write_bytes(plans.read_bytes())
    (data, seg, _, properties) = nnUNetDatasetBlosc2(str(toy.cases))["toy_0"]
    nnUNetDatasetNumpy.save_case(data[:], seg[:], properties, str(source / "toy_0"))
    stored = StoreDataset(str(convert(source, tmp_path / "to")))["toy_0"]
    assert np.array_equal(stored[0][:], data[:])
    assert np.array_equal(stored[1][:], seg[:])


def test_folders_that_cannot_be_converted(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(vq.UsageError, match="expected another folder"):
        convert(toy.cases, toy.root / "preprocessed")
    with pytest.raises(vq.UsageError, match="in a store already"):
        convert(toy.stored, tmp_path)
    with pytest.raises(vq.UsageError, match="no plans with the data_identifier 'imagesTr'"):
        convert(toy.root / "raw" / NAME / "imagesTr", tmp_path)
    assert main(["convert", str(tmp_path / "nothing"), str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert main(["trainers"]) == 0
    assert capsys.readouterr().out.strip() == trainers_path()
