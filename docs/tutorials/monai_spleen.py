"""# MONAI's spleen pipeline, from a store

MONAI's tutorial of spleen segmentation in 3-D loads a list of files, crops, resamples and
normalises, trains a UNet on balanced patches, and validates it with a sliding window.
Only its loading lines change; all others are the tutorial's, with a smaller network and smaller
numbers, so that a CPU takes seconds.
"""

# %% [markdown]
# ## Data
#
# Synthetic CTs with an organ to find, in place of the Decathlon's spleens.

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
# They become a store once, in Python as here or by `voxquarry ingest`, which takes folders of the
# Decathlon as they are:

# %%
sources = {
    f"case{case}": {"ct": image, "organ": voxquarry.Labels(label)}
    for case, (image, label) in enumerate(zip(image_paths, label_paths))
}
voxquarry.ingest(sources, "store.zarr", patch_size=16)["case1"]["ct"].show(
    at="labels", window="soft"
)

# %% [markdown]
# ## The lines that change
#
# Those with a minus are the tutorial's, those with a plus take their place.

# %% [diff]
# - from monai.transforms import LoadImaged
# -
# - data_dicts = [
# -     {"image": image_name, "label": label_name}
# -     for image_name, label_name in zip(image_paths, label_paths)
# - ]
from voxquarry.monai import LoadImaged, datalist

data_dicts = datalist(voxquarry.open("store.zarr"), {"image": "ct", "label": "organ"})

# %% [markdown]
# ## What stays
#
# Transforms, sets and loaders:

# %%
import torch
from monai.data import CacheDataset, DataLoader, decollate_batch
from monai.inferers import sliding_window_inference
from monai.losses import DiceLoss
from monai.metrics import DiceMetric
from monai.networks.layers import Norm
from monai.networks.nets import UNet
from monai.transforms import (
    AsDiscrete,
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    Orientationd,
    RandCropByPosNegLabeld,
    ScaleIntensityRanged,
    Spacingd,
)
from monai.utils import set_determinism

train_files, val_files = data_dicts[:-1], data_dicts[-1:]
set_determinism(seed=0)
val_transforms = Compose(
    [
        LoadImaged(keys=["image", "label"]),
        EnsureChannelFirstd(keys=["image", "label"]),
        ScaleIntensityRanged(keys=["image"], a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True),
        CropForegroundd(keys=["image", "label"], source_key="image", allow_smaller=True),
        Orientationd(keys=["image", "label"], axcodes="RAS", labels=None),
        Spacingd(keys=["image", "label"], pixdim=(1.5, 1.5, 2.0), mode=("bilinear", "nearest")),
    ]
)
train_transforms = Compose(
    [
        *val_transforms.transforms,
        RandCropByPosNegLabeld(
            keys=["image", "label"],
            label_key="label",
            spatial_size=(24, 24, 24),
            pos=1,
            neg=1,
            num_samples=4,
            image_key="image",
            image_threshold=0,
        ),
    ]
)
train_ds = CacheDataset(data=train_files, transform=train_transforms, progress=False)
train_loader = DataLoader(train_ds, batch_size=2, shuffle=True, num_workers=0)
val_ds = CacheDataset(data=val_files, transform=val_transforms, progress=False)
val_loader = DataLoader(val_ds, batch_size=1, num_workers=0)

# %% [markdown]
# Training and validation:

# %%
model = UNet(
    spatial_dims=3,
    in_channels=1,
    out_channels=2,
    channels=(8, 16),
    strides=(2,),
    num_res_units=1,
    norm=Norm.BATCH,
)
loss_function = DiceLoss(to_onehot_y=True, softmax=True)
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
dice_metric = DiceMetric(include_background=False, reduction="mean")
post_pred = Compose([AsDiscrete(argmax=True, to_onehot=2)])
post_label = Compose([AsDiscrete(to_onehot=2)])
losses, metric_values = [], []
for epoch in range(8):
    model.train()
    for batch_data in train_loader:
        inputs, labels = batch_data["image"], batch_data["label"]
        optimizer.zero_grad()
        loss = loss_function(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        for val_data in val_loader:
            val_inputs, val_labels = val_data["image"], val_data["label"]
            val_outputs = sliding_window_inference(val_inputs, (32, 32, 32), 4, model)
            predictions = [post_pred(i) for i in decollate_batch(val_outputs)]
            truths = [post_label(i) for i in decollate_batch(val_labels)]
            dice_metric(y_pred=predictions, y=truths)
    metric_values.append(dice_metric.aggregate().item())
    dice_metric.reset()
    print(f"epoch {epoch}: loss {np.mean(losses[-3:]):.3f}, Dice {metric_values[-1]:.3f}")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
axes[0].plot(losses)
axes[0].set(xlabel="batch", ylabel="Dice loss", ylim=(0, None))
axes[1].plot(metric_values)
axes[1].set(xlabel="epoch", ylabel="Dice of the validation", ylim=(0, 1))
figure

# %%
figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.6), layout="constrained")
panels = {"image": val_inputs[0, 0], "organ": truths[0][1], "found": predictions[0][1]}
middle = torch.nonzero(panels["organ"].as_tensor()).float().mean(0).round().int()[2].item()
for panel, (name, voxels) in zip(axes, panels.items()):
    panel.imshow(voxels[:, :, middle].as_tensor().T, cmap="gray", origin="lower")
    panel.set(title=name, xticks=[], yticks=[])
figure

# %% [markdown]
# Here whole volumes are loaded, as in the tutorial.
# [MONAI](../monai.md) says which lines more to change so that only patches are read.
