"""Labels on a volume's own grid against nnU-Net's export of the same logits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape as export,
)
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager

import voxquarry as vq

CLASSES = 7


def logits(patches: np.ndarray) -> np.ndarray:
    """Class ``c`` is likely where the image is near ``c``."""
    return np.concatenate([-np.abs(patches - c) for c in range(CLASSES)], axis=1)


# The model's grid covers the volume exactly, as nnU-Net assumes of every grid.
@pytest.mark.parametrize(
    ("size", "spacing", "there"),
    [((48, 64, 60), (0.75, 0.75, 0.75), 1.5), ((30, 40, 36), (1.5, 1.5, 1.5), 1.0)],
)
def test_labels_equal_nnunets(
    tmp_path: Path, size: tuple[int, ...], spacing: tuple[float, ...], there: float
) -> None:
    random = np.random.default_rng(3)
    z, y, x = np.meshgrid(*map(np.arange, size), indexing="ij")
    image = 3 + 3 * np.sin(z / 7 + random.random()) * np.cos(y / 9) * np.sin(x / 8)
    source = {"a": {"ct": image.astype("f4")}}
    ct = vq.ingest(source, tmp_path / "in.zarr", spacing=spacing, patch_size=16)["a"]["ct"]
    # The window of one patch a voxel gives both the same logits.
    options = {"window": "crop", "padding": "edge", "spacing": there}
    found = vq.infer(logits, ct, 16, 0, finish="argmax", **options)

    view = ct.at(there)
    blended = logits(view.read((0, 0, 0), view.shape)[None, None])[0]
    labels = {"background": 0} | {f"class {c}": c for c in range(1, CLASSES)}
    managers = SimpleNamespace(
        transpose_forward=[0, 1, 2],
        transpose_backward=[0, 1, 2],
        spacing=[there] * 3,
        resampling_fn_probabilities=partial(
            resample_data_or_seg_to_shape, is_seg=False, order=1, order_z=0, force_separate_z=None
        ),
    )
    properties = {
        "spacing": list(spacing),
        "shape_after_cropping_and_before_resampling": list(size),
        "shape_before_cropping": list(size),
        "bbox_used_for_cropping": [[0, n] for n in size],
    }
    expected = export(
        torch.from_numpy(blended), managers, managers, LabelManager(labels, None), properties
    )
    assert (found == expected).mean() >= 0.9999
    assert len(np.unique(expected)) >= CLASSES - 1
