"""MONAI's tutorial of spleen segmentation, on files with MONAI and on a store: only the loading
lines differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import make

FROM_FILES = """
from monai.transforms import LoadImaged

data_dicts = [
    {"image": str(image_name), "label": str(label_name)}
    for image_name, label_name in zip(train_images, train_labels)
]
"""

FROM_STORE = """
import voxquarry
from voxquarry.monai import LoadImaged, datalist

data_dicts = datalist(voxquarry.open(store), {"image": "ct", "label": "seg"})
"""

# The tutorial's transforms, training, validation and inference, with smaller numbers.
TUTORIAL = """
import torch
from monai.data import CacheDataset, DataLoader, Dataset, decollate_batch
from monai.inferers import sliding_window_inference
from monai.losses import DiceLoss
from monai.metrics import DiceMetric
from monai.networks.layers import Norm
from monai.networks.nets import UNet
from monai.transforms import (
    AsDiscrete,
    AsDiscreted,
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    Invertd,
    Orientationd,
    RandCropByPosNegLabeld,
    SaveImaged,
    ScaleIntensityRanged,
    Spacingd,
)
from monai.utils import set_determinism

train_files, val_files = data_dicts[:-1], data_dicts[-1:]
set_determinism(seed=0)
train_transforms = Compose(
    [
        LoadImaged(keys=["image", "label"]),
        EnsureChannelFirstd(keys=["image", "label"]),
        ScaleIntensityRanged(
            keys=["image"], a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True
        ),
        CropForegroundd(keys=["image", "label"], source_key="image", allow_smaller=True),
        Orientationd(keys=["image", "label"], axcodes="RAS", labels=None),
        Spacingd(keys=["image", "label"], pixdim=(1.5, 1.5, 2.0), mode=("bilinear", "nearest")),
        RandCropByPosNegLabeld(
            keys=["image", "label"],
            label_key="label",
            spatial_size=(16, 16, 16),
            pos=1,
            neg=1,
            num_samples=4,
            image_key="image",
            image_threshold=0,
        ),
    ]
)
val_transforms = Compose(
    [
        LoadImaged(keys=["image", "label"]),
        EnsureChannelFirstd(keys=["image", "label"]),
        ScaleIntensityRanged(
            keys=["image"], a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True
        ),
        CropForegroundd(keys=["image", "label"], source_key="image", allow_smaller=True),
        Orientationd(keys=["image", "label"], axcodes="RAS", labels=None),
        Spacingd(keys=["image", "label"], pixdim=(1.5, 1.5, 2.0), mode=("bilinear", "nearest")),
    ]
)

train_ds = CacheDataset(data=train_files, transform=train_transforms, progress=False)
train_loader = DataLoader(train_ds, batch_size=2, shuffle=True, num_workers=0)
val_ds = CacheDataset(data=val_files, transform=val_transforms, progress=False)
val_loader = DataLoader(val_ds, batch_size=1, num_workers=0)

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

max_epochs, losses, metric_values = 2, [], []
post_pred = Compose([AsDiscrete(argmax=True, to_onehot=2)])
post_label = Compose([AsDiscrete(to_onehot=2)])
for epoch in range(max_epochs):
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
            val_outputs = sliding_window_inference(val_inputs, (24, 24, 24), 4, model)
            val_outputs = [post_pred(i) for i in decollate_batch(val_outputs)]
            val_labels = [post_label(i) for i in decollate_batch(val_labels)]
            dice_metric(y_pred=val_outputs, y=val_labels)
        metric_values.append(dice_metric.aggregate().item())
        dice_metric.reset()

test_org_transforms = Compose(
    [
        LoadImaged(keys="image"),
        EnsureChannelFirstd(keys="image"),
        Orientationd(keys=["image"], axcodes="RAS", labels=None),
        Spacingd(keys=["image"], pixdim=(1.5, 1.5, 2.0), mode="bilinear"),
        ScaleIntensityRanged(
            keys=["image"], a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True
        ),
        CropForegroundd(keys=["image"], source_key="image", allow_smaller=True),
    ]
)
test_org_ds = Dataset(data=data_dicts, transform=test_org_transforms)
test_org_loader = DataLoader(test_org_ds, batch_size=1, num_workers=0)
post_transforms = Compose(
    [
        Invertd(
            keys="pred",
            transform=test_org_transforms,
            orig_keys="image",
            meta_keys="pred_meta_dict",
            orig_meta_keys="image_meta_dict",
            meta_key_postfix="meta_dict",
            nearest_interp=False,
            to_tensor=True,
        ),
        AsDiscreted(keys="pred", argmax=True),
        SaveImaged(
            keys="pred",
            meta_keys="pred_meta_dict",
            output_dir=out,
            output_postfix="seg",
            resample=False,
            print_log=False,
        ),
    ]
)
with torch.no_grad():
    for test_data in test_org_loader:
        test_data["pred"] = sliding_window_inference(test_data["image"], (24, 24, 24), 4, model)
        test_data = [post_transforms(i) for i in decollate_batch(test_data)]
"""


def run(loading: str, **names: Any) -> dict[str, Any]:
    exec(compile(loading + TUTORIAL, "the tutorial", "exec"), names)
    return names


@pytest.mark.filterwarnings("ignore")
def test_training_and_inference(tmp_path: Path) -> None:
    """Losses, metrics and saved predictions are the same; from a store they are named after the
    subject.
    """
    images, labels, ds = make(tmp_path)
    expected = run(FROM_FILES, train_images=images, train_labels=labels, out=tmp_path / "files")
    found = run(FROM_STORE, store=ds.path, out=tmp_path / "store")
    assert len(found["losses"]) == 4
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-4)
    np.testing.assert_allclose(found["metric_values"], expected["metric_values"], rtol=1e-3)
    assert found["losses"][-1] < found["losses"][0]
    import nibabel as nib

    for case, image in enumerate(images):
        pair = [
            nib.load(tmp_path / "store" / f"case{case}" / f"case{case}_seg.nii.gz"),
            nib.load(tmp_path / "files" / f"case{case}_ct" / f"case{case}_ct_seg.nii.gz"),
        ]
        assert pair[0].shape == nib.load(image).shape
        assert np.allclose(pair[0].affine, pair[1].affine)
        assert np.mean(pair[0].get_fdata() == pair[1].get_fdata()) > 0.999


@pytest.mark.filterwarnings("ignore")
def test_patches_read_alone(tmp_path: Path) -> None:
    """The tutorial's crop on lazy volumes: `LoadImaged`, `EnsureChannelFirstd` and `CacheDataset`
    are not needed, and no whole volume is read.
    """
    _, _, ds = make(tmp_path)
    names: dict[str, Any] = {"ds": ds}
    exec(
        """
import monai.transforms as mt
import voxquarry.monai as vm
from monai.data import DataLoader, Dataset
steps = mt.Compose([
    vm.RandCropByPosNegLabeld(
        keys=["image", "label"], label_key="label", spatial_size=(16, 16, 16), pos=1, neg=1,
        num_samples=4, image_key="image", image_threshold=0,
    ),
    mt.ScaleIntensityRanged(["image"], a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True),
    mt.Orientationd(["image", "label"], axcodes="RAS", labels=None),
    mt.Spacingd(["image", "label"], (1.5, 1.5, 2.0), mode=("bilinear", "nearest")),
    mt.SpatialPadd(["image", "label"], 16),
])
items = Dataset(vm.subjects(ds, {"image": "ct", "label": "seg"}), steps)
batches = list(DataLoader(items, batch_size=2, shuffle=True))
""",
        names,
    )
    batches = names["batches"]
    assert len(batches) == 2
    for batch in batches:
        assert batch["image"].shape == (8, 1, 16, 16, 16)
        inside = batch["label"].as_tensor() > 0
        assert batch["image"].as_tensor()[inside].mean() > 0.7
        assert torch.any(inside)
