"""``predict``: a trained nnU-Net labels the images of a store, on their own grids."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from numpy.typing import NDArray

from .. import Array, Labels, Subject, UsageError, Volume, ingest
from .. import open as open_store
from .._paths import is_store
from .._types import Path as AnyPath
from .._values import real_values
from ..torch import infer
from .dataset import trainers_path

#: The variable with nnU-Net's folders of trainers.
_TRAINERS = "nnUNet_extTrainer"
#: Readers of nnU-Net that turn images; stores keep the axes of their files.
_TURNING = ("NibabelIOWithReorient",)


def predict(
    model: AnyPath,
    source: AnyPath,
    out: AnyPath,
    *,
    volumes: Sequence[str] | None = None,
    name: str = "prediction",
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    step: float = 0.5,
    mirror: bool = True,
    device: torch.device | str | None = None,
    batch_size: int = 1,
    progress: bool | None = None,
) -> list[Volume]:
    """Labels the images of a store with a model that ``nnUNetv2_train`` trained.

    nnU-Net's own code crops and normalises an image, as for ``nnUNetv2_predict``. The network
    slides over it at the spacing of its plans, its scores are blended and brought back to the
    image's own grid slab by slab, and only then become labels: memory is the image in float32 and
    the labels, whatever the number of classes. Images and scores are resampled linearly, where
    nnU-Net interpolates images by cubic splines; at the spacing of the plans nothing is resampled.

    Args:
        model: The folder with ``plans.json``, ``dataset.json`` and ``fold_0``.
        source: ``STORE`` or ``STORE/SUBJECT``.
        out: The store of the results, ``out/SUBJECT/name``; it may be the same store. Results
            that are there already stay, so that an interrupted run goes on behind its last.
        volumes: The volume of each channel. By default the only image of a subject, or the volumes
            that are named as the model's channels.
        name: The name of the results.
        folds: Folds whose scores are averaged, as ``[0, 1]`` or ``["all"]``; by default those that
            are there.
        checkpoint: The file in the folder of a fold.
        step: Distance of patches in parts of a patch.
        mirror: Also ask for mirrored patches, along the axes that training mirrored.
        device: ``"cuda"`` where there is one, by default, or the CPU.
        batch_size: Patches for each call of the network.
        progress: As for :func:`voxquarry.infer`.

    Returns:
        The label volumes, in the order of the subjects.

    Raises:
        UsageError: No such model; one for slices, of the second stage of a cascade, or whose images
            nnU-Net turns; subjects without its channels.
        DataError, StorageError: Volumes that cannot be read or written.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trained = _Trained(Path(model), folds, checkpoint, where)
    cases = list(_cases(Path(source)))
    chosen = {subject.name: trained.channels(subject, volumes) for subject in cases}
    results = []
    for subject in cases:
        if not _is_there(Path(out), subject.name, name):
            labels = trained.labels(
                chosen[subject.name],
                overlap=1 - step,
                mirror=mirror,
                batch_size=batch_size,
                progress=progress,
            )
            affine = chosen[subject.name][0].affine
            _write(Path(out), subject.name, name, labels, affine)
        results.append(open_store(out)[subject.name][name])
    return results


class _Trained:
    """Networks of one or more folds, and what nnU-Net knows about their images."""

    def __init__(
        self,
        folder: Path,
        folds: Sequence[int | str] | None,
        checkpoint: str,
        device: torch.device,
    ) -> None:
        for file in ("plans.json", "dataset.json"):
            if not (folder / file).is_file():
                raise UsageError(f"{folder}: no {file}: expected the folder of a trained nnU-Net")
        for fold in folds or ():
            if not (folder / f"fold_{fold}" / checkpoint).is_file():
                raise UsageError(f"{folder}: no fold_{fold}/{checkpoint}")
        if folds is None and not list(folder.glob(f"fold_*/{checkpoint}")):
            raise UsageError(f"{folder}: no fold has {checkpoint}: train one, or name another file")
        # It prints what it chooses.
        with redirect_stdout(StringIO()), _own_trainers():
            predictor = nnUNetPredictor(device=device, perform_everything_on_device=False)
            predictor.initialize_from_trained_model_folder(
                str(folder), None if folds is None else tuple(folds), checkpoint
            )
        self._plans: Any = predictor.plans_manager
        self._plan: Any = predictor.configuration_manager
        self._labels: Any = predictor.label_manager
        self._mirror_axes = tuple(predictor.allowed_mirroring_axes or ())
        self._device = device
        self._check(folder)
        names = predictor.dataset_json.get("channel_names") or predictor.dataset_json["modality"]
        self._channel_names = [names[key] for key in sorted(names, key=int)]
        networks = []
        for weights in predictor.list_of_parameters:
            network = deepcopy(predictor.network)
            network.load_state_dict(weights)
            networks.append(network.eval())
        self._model = _Average(networks).to(device)

    def _check(self, folder: Path) -> None:
        """Refuses what would silently give other labels than nnU-Net's."""
        own = "predict with nnUNetv2_predict"
        if len(self._plan.patch_size) != 3:
            raise UsageError(f"{folder}: a model for slices: {own}")
        if self._plan.previous_stage_name is not None:
            raise UsageError(f"{folder}: the second stage of a cascade: {own}")
        reader = json.loads((folder / "plans.json").read_text()).get("image_reader_writer")
        if reader in _TURNING:
            raise UsageError(f"{folder}: {reader} turns its images: {own}")

    def channels(self, subject: Subject, names: Sequence[str] | None) -> list[Volume]:
        """The volumes that are the model's channels."""
        count = len(self._channel_names)
        images = [name for name in subject if subject[name].kind == "image"]
        if names is None and count == 1:
            if len(images) != 1:
                found = ", ".join(images) or "none"
                raise UsageError(
                    f"subject {subject.name!r} has these images: {found}; name the volume that"
                    f" is {self._channel_names[0]}"
                )
            names = images
        names = list(names or self._channel_names)
        missing = [name for name in names if name not in subject]
        if missing or len(names) != count:
            raise UsageError(
                f"subject {subject.name!r}: expected {count} volumes for the channels"
                f" {', '.join(self._channel_names)}; it has {', '.join(subject)}, not"
                f" {', '.join(missing) or names}"
            )
        return [subject[name] for name in names]

    def labels(
        self, volumes: list[Volume], *, mirror: bool, batch_size: int, **options: Any
    ) -> NDArray[Any]:
        """The labels of an image, in the axes of its volumes."""
        forward, backward = self._plans.transpose_forward, self._plans.transpose_backward
        image = np.stack([np.asarray(real_values(volume)[...], "f4") for volume in volumes])
        image = image.transpose(0, *(axis + 1 for axis in forward))
        spacing = [volumes[0].spacing[axis] for axis in forward]
        cropped, outside, box = crop_to_nonzero(image)
        normalise = self._plan.preprocessor_class(verbose=False)._normalize
        properties = self._plans.foreground_intensity_properties_per_channel
        cropped = normalise(cropped, outside, self._plan, properties)
        labels = np.zeros(image.shape[1:], np.uint8 if len(self._labels.all_labels) < 256 else "u2")
        del image, outside
        # nnU-Net's grid covers the image exactly: its spacing is that of the plans, or nearly.
        there = [
            mm * n / max(1, round(n * mm / target))
            for mm, n, target in zip(spacing, cropped.shape[1:], self._plan.spacing, strict=True)
        ]
        patch = tuple(self._plan.patch_size)
        pads = [_pads(*axis) for axis in zip(cropped.shape[1:], spacing, there, patch, strict=True)]
        size, cropped = cropped.shape[1:], np.pad(cropped, [(0, 0), *pads])
        with tempfile.TemporaryDirectory(prefix="voxquarry-") as scratch:
            store = Path(scratch) / "case.zarr"
            case = {"case": {"image": Array(cropped, dims="czyx", spacing=tuple(spacing))}}
            volume = ingest(case, store, patch)["case"]["image"]
            del cropped, case
            regions = self._labels.has_regions
            found = infer(
                self._model,
                volume,
                patch,
                out=store / "scores" / "scores" if regions else None,
                batch_size=batch_size,
                window="gaussian",
                placement="even",
                spacing=None if np.allclose(there, spacing) else there,
                device=self._device,
                autocast=self._device.type == "cuda",
                mirror_axes=self._mirror_axes if mirror else (),
                finish="none" if regions else "argmax",
                resume=False,
                **options,
            )
            inside = labels[tuple(slice(*ends) for ends in box)]
            first, *behind = (
                slice(before, before + n) for n, (before, _) in zip(size, pads, strict=True)
            )
            for z in range(0, first.stop - first.start, patch[0]):
                planes = slice(first.start + z, min(first.start + z + patch[0], first.stop))
                if regions:
                    scores = np.asarray(found[(slice(None), planes, *behind)])
                    part = self._labels.convert_logits_to_segmentation(scores)
                else:
                    part = found[(planes, *behind)]
                inside[z : z + patch[0]] = part
        return labels.transpose(backward)


class _Average(torch.nn.Module):
    """The mean answer of several networks."""

    def __init__(self, networks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        answers: Any = [network(patches) for network in self.networks]
        return answers[0] if len(answers) == 1 else torch.stack(answers).mean(0)


@contextmanager
def _own_trainers() -> Iterator[None]:
    """nnU-Net also finds the trainers of this package, whatever its variable says."""
    before = os.environ.get(_TRAINERS)
    os.environ[_TRAINERS] = os.pathsep.join(filter(None, [before, trainers_path()]))
    try:
        yield
    except RuntimeError as error:
        if _TRAINERS not in str(error):
            raise
        raise UsageError(
            f"the model's trainer is not found: state its folder in {_TRAINERS}, as for"
            " nnUNetv2_predict"
        ) from error
    finally:
        if before is None:
            del os.environ[_TRAINERS]
        else:
            os.environ[_TRAINERS] = before


def _pads(size: int, spacing: float, there: float, patch: int) -> tuple[int, int]:
    """Voxels before and behind an axis that make it as long as a patch, as nnU-Net places them."""
    short = max(0, patch - round(size * spacing / there))
    voxels = math.ceil(short * there / spacing)
    return voxels // 2, voxels - voxels // 2


def _cases(source: Path) -> Iterator[Subject]:
    if is_store(source):
        yield from open_store(source).values()
    else:
        yield open_store(source.parent)[source.name]


def _is_there(store: Path, subject: str, name: str) -> bool:
    return is_store(store) and subject in (there := open_store(store)) and name in there[subject]


def _write(store: Path, subject: str, name: str, labels: NDArray[Any], affine: Any) -> None:
    is_known = is_store(store) and subject in open_store(store)
    made = {subject: {name: Labels(np.ascontiguousarray(labels))}}
    ingest(made, store, affine=affine, add=is_known)
