"""# A data set of nnU-Net: training and predicting without nnU-Net

A folder in nnU-Net's layout becomes a store, a small network trains on it with nnU-Net's default
augmentation, and its labels go back to files that `nnUNetv2_evaluate_folder` takes.
This page is a program, `docs/tutorials/nnunet_data.py`: what it prints and shows stands below each
part, as it was when the page was built.

nnU-Net's own trainer reads from a store, too: [nnU-Net](../nnunet.md).
"""

# %% [markdown]
# ## The data set
#
# Six slabs of the MNI152 head stand for six patients: four to train on and two to be tried.
# `t1` and `grey` are a T1 and a map of grey matter, which the Python package nilearn contains.

# %%
import json
import sys
from pathlib import Path

import nibabel
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from demo import fetch_images

t1, grey = map(nibabel.load, fetch_images())
probability = grey.get_fdata()
label = (probability > probability.max() / 2).astype(np.uint8)
folder = Path("Dataset001_Head")
for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
    (folder / name).mkdir(parents=True, exist_ok=True)
first, last = np.flatnonzero(label.any(axis=(0, 1)))[[0, -1]]
slabs = np.array_split(np.arange(first, last + 1), 6)
for case, planes in enumerate(slabs):
    part = "Ts" if case in (2, 4) else "Tr"
    slab = t1.slicer[:, :, planes[0] : planes[-1] + 1]
    nibabel.save(slab, folder / f"images{part}" / f"head_{case}_0000.nii.gz")
    voxels = label[:, :, planes]
    image = nibabel.Nifti1Image(voxels, slab.affine)
    nibabel.save(image, folder / f"labels{part}" / f"head_{case}.nii.gz")
description = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "grey matter": 1},
    "numTraining": 4,
    "file_ending": ".nii.gz",
}
(folder / "dataset.json").write_text(json.dumps(description))
print(*sorted(str(path) for path in folder.rglob("*.gz")), sep="\n")

# %% [markdown]
# ## Into a store
#
# The layout is recognised by its `dataset.json`: cases, names of channels and labels, and what is
# for training and what for testing come from there.

# %%
import voxquarry as vq

ds = vq.ingest(folder, "store.zarr", patch_size=32)
print(ds, ds.splits, sep="\n")
print(ds["head_0"]["label"].label_names)

# %% [markdown]
# `voxquarry fingerprint` and `vq.fingerprint` measure what nnU-Net's planner asks of a data set.

# %%
found = vq.fingerprint(ds, volumes="image", labels="label")
print(*found["shapes_after_crop"], sep="\n")

# %% [markdown]
# ## Training
#
# nnU-Net's default augmentation runs on the queue's own threads, while patches are read.

# %%
import torch
import voxquarry.torch

queue = vq.Queue(
    ds,
    vq.LabelSampler(24, "label", {0: 2, 1: 1}),
    volumes=["image", "label"],
    subjects=ds.splits["train"],
    patches_per_subject=48,
    batch_size=8,
    seed=0,
    normalize="zscore",
    dtype="float32",
    augment=vq.Augment.nnunet(),
)
batches = voxquarry.torch.loader(queue)

# %% [markdown]
# A toy: three convolutions, on the CPU, for some seconds.

# %%
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Conv3d(1, 8, 3, padding=1),
    torch.nn.InstanceNorm3d(8),
    torch.nn.LeakyReLU(),
    torch.nn.Conv3d(8, 8, 3, padding=1),
    torch.nn.LeakyReLU(),
    torch.nn.Conv3d(8, 2, 1),
)
optimizer = torch.optim.SGD(network.parameters(), 5e-2, momentum=0.9, nesterov=True)
for epoch in range(8):
    losses = []
    for batch in batches:
        answer = network(batch["image"])
        loss = torch.nn.functional.cross_entropy(answer, batch["label"][:, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {np.mean(losses):.3f}")

# %% [markdown]
# ## Predictions, as nnU-Net names them
#
# Each case that is for testing is labelled by a sliding window, blended with nnU-Net's Gaussian,
# and written to the file that nnU-Net would write.

# %%
network.eval()
predictions = Path("predictions")
predictions.mkdir(exist_ok=True)
for name in ds.splits["test"]:
    image = ds[name]["image"]

    def model(patches, stats=image.stats):
        return network((patches.float() - stats["mean"]) / stats["std"])

    out = f"predicted.zarr/{name}/label"
    made = voxquarry.torch.infer(model, image, 24, window="gaussian", finish="argmax", out=out)
    vq.export(made, predictions / f"{name}.nii.gz", overwrite=True)
    truth = nibabel.load(folder / "labelsTs" / f"{name}.nii.gz").get_fdata() > 0
    labels = nibabel.load(predictions / f"{name}.nii.gz").get_fdata() > 0
    print(name, f"Dice {2 * np.sum(truth & labels) / (truth.sum() + labels.sum()):.3f}")

# %%
made.show(at="middle")

# %% [markdown]
# `nnUNetv2_evaluate_folder Dataset001_Head/labelsTs predictions -djfile … -pfile …` measures the
# same files.
# To train with nnU-Net itself, convert its preprocessed cases once; its commands stay the same:
# [nnU-Net](../nnunet.md).
