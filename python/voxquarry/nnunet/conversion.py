"""``convert``: a preprocessed folder of nnU-Net becomes one with a store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from .. import UsageError
from .._types import Path as AnyPath
from .dataset import STORE, StoreDataset


def convert(folder: AnyPath, out: AnyPath, *, overwrite: bool = False) -> Path:
    """Copies the preprocessed cases of one configuration into a store, which nnU-Net trains from
    when ``nnUNet_preprocessed`` is ``out``. The original folder stays as it is.

    Interrupted, it goes on behind the last case when it is called again. One case at a time is
    read, slab by slab.

    Args:
        folder: ``nnUNet_preprocessed/Dataset001_Name/nnUNetPlans_3d_fullres``, written by
            ``nnUNetv2_preprocess`` in either of nnU-Net's formats.
        out: Another folder for preprocessed data sets. Plans, splits and ground truth are copied
            there, too.
        overwrite: Convert cases again that are there already.

    Returns:
        The new folder, ``out/Dataset001_Name/nnUNetPlans_3d_fullres``.

    Raises:
        UsageError: A folder that is not nnU-Net's, and an ``out`` that is its own.
        DataError, StorageError: Cases that cannot be read or written.
    """
    source = Path(folder).resolve()
    base, root = source.parent, Path(out).resolve()
    if not source.is_dir():
        raise UsageError(f"{source}: no such folder; expected one of nnUNetv2_preprocess")
    if root == base.parent:
        raise UsageError(f"out {root} is where the data set lies: expected another folder")
    patch_size, spacing = _plan_of(base, source.name)
    target = root / base.name / source.name
    target.mkdir(parents=True, exist_ok=True)
    _copy_beside(base, target.parent)
    try:
        cases = infer_dataset_class(str(source))(str(source))
    except (AssertionError, KeyError) as error:
        raise UsageError(f"{source}: no preprocessed cases of nnU-Net: {error}") from error
    if isinstance(cases, StoreDataset):
        raise UsageError(f"{source}: its cases are in a store already")
    is_begun = (target / STORE).is_dir() and not overwrite
    done = set(StoreDataset.get_identifiers(str(target))) if is_begun else set()
    for name in cases.identifiers:
        if name not in done:
            data, seg, _, properties = cases.load_case(name)
            StoreDataset.save_case(data, seg, properties, str(target / name), patch_size, spacing)
    return target


def _plan_of(base: Path, identifier: str) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """Patch size ``(z, y, x)`` and spacing of the configuration whose cases lie in a folder; a
    configuration of slices has no spacing of its own along z.
    """
    for path in sorted(base.glob("*.json")):
        plans: Any = json.loads(path.read_text())
        choices = plans.get("configurations", {}) if isinstance(plans, dict) else {}
        for plan in choices.values():
            if plan.get("data_identifier") == identifier and "patch_size" in plan:
                size = tuple(int(n) for n in plan["patch_size"])
                spacing = tuple(float(mm) for mm in plan["spacing"])
                return (1, *size)[-3:], spacing if len(spacing) == 3 else None
    raise UsageError(
        f"{base}: no plans with the data_identifier {identifier!r}: expected a folder that"
        " nnUNetv2_preprocess wrote"
    )


def _copy_beside(base: Path, target: Path) -> None:
    """Copies plans, splits, fingerprint and ground truth."""
    for path in base.iterdir():
        if path.is_file():
            shutil.copy2(path, target / path.name)
    if (base / "gt_segmentations").is_dir():
        shutil.copytree(base / "gt_segmentations", target / "gt_segmentations", dirs_exist_ok=True)
