"""# TorchIO's patch training, from a store

TorchIO's tutorial of patch-based training loads subjects, transforms them, draws patches with a
queue, trains, and puts a grid of predicted patches together.
Only its loading lines change; all others are the tutorial's, with a smaller network and smaller
numbers, so that a CPU takes seconds.
"""

# %% [markdown]
# ## Data
#
# Synthetic CTs with an organ to find, as NIfTI files.

# %%
from pathlib import Path

import nibabel as nib
import numpy as np
import voxquarry

size, affine = (64, 60, 48), np.diag([-1.5, -1.5, 2.0, 1.0])
grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
image_paths, label_paths = [], []
for case in range(6):
    random = np.random.default_rng(case)
    organ = np.linalg.norm(grid - random.uniform(0.35, 0.65, 3) * size, axis=-1) < 10
    body = np.linalg.norm((grid - np.array(size) / 2) / size, axis=-1) < 0.48
    ct = np.where(body, random.normal(20, 25, size) + 130 * organ, -1000).astype(np.int16)
    for kind, voxels, paths in (
        ("ct", ct, image_paths),
        ("organ", organ.astype(np.uint8), label_paths),
    ):
        paths.append(Path(f"case{case}_{kind}.nii.gz"))
        nib.save(nib.Nifti1Image(voxels, affine), paths[-1])

# %% [markdown]
# They become a store once, in Python as here or by `voxquarry ingest`:

# %%
sources = {
    f"case{case}": {"ct": image, "organ": voxquarry.Labels(label)}
    for case, (image, label) in enumerate(zip(image_paths, label_paths))
}
ds = voxquarry.ingest(sources, "store.zarr", patch_size=16)
ds["case0"]["ct"].show(at="labels", window="soft")

# %% [markdown]
# ## The lines that change
#
# Those with a minus are TorchIO's, those with a plus take their place.

# %% [diff]
# - import torchio as tio
# -
# - subjects = []
# - for image_path, label_path in zip(image_paths, label_paths):
# -     subject = tio.Subject(ct=tio.ScalarImage(image_path), organ=tio.LabelMap(label_path))
# -     subjects.append(subject)
import voxquarry.torchio as tio

subjects = []
for stored in voxquarry.open("store.zarr").values():
    subject = tio.subject(stored)
    subjects.append(subject)

# %% [markdown]
# ## What stays
#
# Transforms, sets and queues:

# %%
import random

import torch
import torch.nn.functional as F

torch.manual_seed(42)
random.seed(42)
CHANNELS_DIMENSION, patch_size, patch_overlap = 1, 24, 8
training_transform = tio.Compose(
    [
        tio.ToCanonical(),
        tio.CropOrPad((60, 60, 48)),
        tio.ZNormalization(masking_method=tio.ZNormalization.mean),
        tio.RandomNoise(p=0.5),
        tio.RandomFlip(),
        tio.OneHot(),
    ]
)
validation_transform = tio.Compose(
    [
        tio.ToCanonical(),
        tio.CropOrPad((60, 60, 48)),
        tio.ZNormalization(masking_method=tio.ZNormalization.mean),
        tio.OneHot(),
    ]
)
training_set = tio.SubjectsDataset(subjects[:-1], transform=training_transform)
validation_set = tio.SubjectsDataset(subjects[-1:], transform=validation_transform)
patches_training_set = tio.Queue(
    subjects_dataset=training_set,
    max_length=40,
    samples_per_volume=8,
    sampler=tio.sampler.LabelSampler(patch_size, "organ", {0: 1, 1: 1}),
    num_workers=0,
)
training_loader_patches = tio.SubjectsLoader(patches_training_set, batch_size=4)

# %% [markdown]
# Training:

# %%
model = torch.nn.Sequential(
    torch.nn.Conv3d(1, 8, 3, padding=1),
    torch.nn.PReLU(),
    torch.nn.Conv3d(8, 8, 3, padding=1),
    torch.nn.PReLU(),
    torch.nn.Conv3d(8, 2, 1),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
losses = []
for epoch in range(4):
    for batch in training_loader_patches:
        inputs, targets = batch["ct"][tio.DATA].float(), batch["organ"][tio.DATA]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets.float())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {np.mean(losses[-10:]):.3f}")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 2.5), layout="constrained")
axes.plot(losses)
axes.set(xlabel="batch", ylabel="cross-entropy", ylim=(0, None))
figure

# %% [markdown]
# Inference on the subject that was left out:

# %%
subject = validation_set[0]
grid_sampler = tio.inference.GridSampler(subject, patch_size, patch_overlap)
patch_loader = tio.SubjectsLoader(grid_sampler, batch_size=4)
aggregator = tio.inference.GridAggregator(grid_sampler, overlap_mode="hann")
model.eval()
with torch.no_grad():
    for patches_batch in patch_loader:
        inputs = patches_batch["ct"][tio.DATA].float()
        probabilities = model(inputs).softmax(dim=CHANNELS_DIMENSION)
        aggregator.add_batch(probabilities, patches_batch[tio.LOCATION])
found = aggregator.get_output_tensor()[1] > 0.5
truth = subject["organ"][tio.DATA][1] > 0
dice = 2 * (truth & found).sum().item() / (truth.sum() + found.sum()).item()
print(f"Dice {dice:.3f}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.6), layout="constrained")
middle = torch.nonzero(truth).float().mean(0).round().int()[2].item()
for panel, (name, voxels) in zip(
    axes,
    {"image": subject["ct"][tio.DATA][0], "organ": truth, "found": found}.items(),
):
    panel.imshow(voxels[:, :, middle].T, cmap="gray", origin="lower")
    panel.set(title=name, xticks=[], yticks=[])
figure

# %% [markdown]
# [TorchIO](../torchio.md) says which other lines may change, and what is faster then.
