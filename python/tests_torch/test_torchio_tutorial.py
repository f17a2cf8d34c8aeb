"""TorchIO's tutorial of patch-based training and dense inference, on files with TorchIO and on a
store with ``voxquarry.torchio``: only the import and the loading lines differ.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchio
from synthetic import make

import voxquarry as vq
import voxquarry.torchio as vt

FROM_FILES = """
import torchio as tio

subjects = []
for image_path, label_path in zip(image_paths, label_paths):
    subject = tio.Subject(ct=tio.ScalarImage(image_path), organ=tio.LabelMap(label_path))
    subjects.append(subject)
"""

FROM_PATHS = """
import voxquarry.torchio as tio

subjects = []
for image_path, label_path in zip(image_paths, label_paths):
    subject = tio.Subject(ct=tio.ScalarImage(image_path), organ=tio.LabelMap(label_path))
    subjects.append(subject)
"""

FROM_STORE = """
import voxquarry
import voxquarry.torchio as tio

subjects = []
for stored in voxquarry.open(store).values():
    subject = tio.Subject(ct=tio.subject(stored)["ct"], organ=tio.subject(stored)["seg"])
    subjects.append(subject)
"""

# What follows is the tutorial's, with a smaller network: whole volumes are transformed, patches are
# drawn by a queue, and a grid of patches is predicted and put together.
TUTORIAL = """
import random

import torch
import torch.nn.functional as F

torch.manual_seed(42)
random.seed(42)
CHANNELS_DIMENSION, patch_size, patch_overlap = 1, 16, 4

training_transform = tio.Compose([
    tio.ToCanonical(),
    tio.CropOrPad((40, 40, 36)),
    tio.ZNormalization(masking_method=tio.ZNormalization.mean),
    tio.RandomNoise(p=0.5),
    tio.RandomFlip(),
    tio.RandomAffine(p=0.3),
    tio.OneHot(),
])
validation_transform = tio.Compose([
    tio.ToCanonical(),
    tio.CropOrPad((40, 40, 36)),
    tio.ZNormalization(masking_method=tio.ZNormalization.mean),
    tio.OneHot(),
])
num_training_subjects = len(subjects) - 1
training_set = tio.SubjectsDataset(
    subjects[:num_training_subjects], transform=training_transform
)
validation_set = tio.SubjectsDataset(
    subjects[num_training_subjects:], transform=validation_transform
)

sampler = tio.data.UniformSampler(patch_size)
patches_training_set = tio.Queue(
    subjects_dataset=training_set,
    max_length=12,
    samples_per_volume=4,
    sampler=tio.sampler.LabelSampler(patch_size, "organ", {0: 1, 1: 1}),
    num_workers=0,
    shuffle_subjects=True,
    shuffle_patches=True,
)
patches_validation_set = tio.Queue(
    subjects_dataset=validation_set,
    max_length=12,
    samples_per_volume=4,
    sampler=sampler,
    num_workers=0,
    shuffle_subjects=False,
    shuffle_patches=False,
)
training_loader_patches = tio.SubjectsLoader(patches_training_set, batch_size=4)
validation_loader_patches = tio.SubjectsLoader(patches_validation_set, batch_size=4)

model = torch.nn.Sequential(
    torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.PReLU(), torch.nn.Conv3d(8, 2, 3, padding=1)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)


def prepare_batch(batch):
    return batch["ct"][tio.DATA].float(), batch["organ"][tio.DATA]


losses = []
for epoch in range(2):
    for loader, training in ((training_loader_patches, True), (validation_loader_patches, False)):
        model.train(training)
        for batch in loader:
            inputs, targets = prepare_batch(batch)
            optimizer.zero_grad()
            with torch.set_grad_enabled(training):
                loss = F.cross_entropy(model(inputs), targets.float())
                if training:
                    loss.backward()
                    optimizer.step()
                losses.append(loss.item())

subject = random.choice(validation_set)
grid_sampler = tio.inference.GridSampler(subject, patch_size, patch_overlap)
patch_loader = tio.SubjectsLoader(grid_sampler, batch_size=4)
aggregator = tio.inference.GridAggregator(grid_sampler)
model.eval()
with torch.no_grad():
    for patches_batch in patch_loader:
        inputs = patches_batch["ct"][tio.DATA].float()
        locations = patches_batch[tio.LOCATION]
        probabilities = model(inputs).softmax(dim=CHANNELS_DIMENSION)
        aggregator.add_batch(probabilities, locations)
foreground = aggregator.get_output_tensor()
prediction = tio.ScalarImage(tensor=foreground, affine=subject.ct.affine)
"""


def run(loading: str, **names: Any) -> dict[str, Any]:
    exec(compile(loading + TUTORIAL, "the tutorial", "exec"), names)
    return names


def test_training_and_inference(tmp_path: Path) -> None:
    """Labels are drawn from transformed subjects, which are in memory: all patches are the same, so
    losses and predictions are.
    """
    images, labels, ds = make(tmp_path)
    expected = run(FROM_FILES, image_paths=images, label_paths=labels)
    paths = [[f"{ds.path}/{name}/{volume}" for name in ds] for volume in ("ct", "seg")]
    for found in (
        run(FROM_PATHS, image_paths=paths[0], label_paths=paths[1]),
        run(FROM_STORE, store=ds.path),
    ):
        assert len(found["losses"]) == 2 * (3 + 1)
        np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-4)
        assert torch.allclose(found["prediction"].data, expected["prediction"].data, atol=1e-4)
        assert np.allclose(found["prediction"].affine, expected["prediction"].affine)
    assert np.mean(expected["losses"][4:7]) < np.mean(expected["losses"][:3])


def test_every_name_of_torchio_is_there() -> None:
    """Scripts import transforms, loaders and constants as well."""
    assert {"DATA", "LOCATION", "Compose", "SubjectsLoader", *torchio.__all__} <= set(dir(torchio))
    for name in dir(torchio):
        assert name.startswith("__") or hasattr(vt, name), name
    assert vt.RandomFlip is torchio.RandomFlip
    assert vt.SubjectsDataset is torchio.SubjectsDataset
    for module in ("data", "sampler", "inference"):
        theirs, ours = getattr(torchio, module), getattr(vt, module)
        for name in theirs.__all__:
            expected = getattr(vt, name, None) or getattr(ours, name)
            assert getattr(ours, name) is expected
            assert issubclass(getattr(ours, name), getattr(theirs, name))
    with pytest.raises(AttributeError, match="RandomFlop"):
        vt.RandomFlop


def test_versions_that_are_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchio, "__version__", "0.19.2")
    monkeypatch.delitem(sys.modules, "voxquarry.torchio")
    with pytest.raises(ImportError, match=r"torchio 1\.2 or newer.*0\.19\.2 is installed: pip"):
        importlib.import_module("voxquarry.torchio")


def test_paths_of_a_store(tmp_path: Path) -> None:
    images, _, ds = make(tmp_path, 1)
    image = vt.ScalarImage(f"{ds.path}/case0/ct")
    assert image.box is not None
    assert np.array_equal(image.affine, torchio.ScalarImage(images[0]).affine)
    assert torch.equal(image.data.float(), torchio.ScalarImage(images[0]).data.float())
    assert torch.equal(vt.ScalarImage(images[0]).data, torchio.ScalarImage(images[0]).data)
    with pytest.raises(KeyError, match="no volume"):
        vt.ScalarImage(f"{ds.path}/case0/pet")
    with pytest.raises(vq.UsageError, match="no subject"):
        vt.ScalarImage(f"{ds.path}/case7/ct")
