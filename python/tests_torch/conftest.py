"""The same subjects twice: in a store, and as the NIfTI files that TorchIO and MONAI load."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import nibabel as nib
import numpy as np
import pytest
from helpers import hear_interrupts, smooth, write_nifti

import voxquarry as vq

# Turned, flipped and anisotropic, so that no wrong affine looks right; without shear, which
# SimpleITK refuses.
AFFINE = np.array([[0, -1.5, 0, 20], [0.75, 0, 0, -30], [0, 0, 2.5, 7], [0, 0, 0, 1]])
SIZES = {"a": (40, 37, 50), "b": (33, 48, 36), "c": (45, 36, 41)}

hear_interrupts()


@dataclass(frozen=True)
class Pair:
    """``files[subject][volume]`` became the store at ``path``; ``voxels`` are ``(z, y, x)``."""

    path: Path
    files: dict[str, dict[str, Path]]
    voxels: dict[str, dict[str, np.ndarray]]

    def open(self, **options: object) -> vq.Dataset:
        return vq.open(self.path, **options)


def place(header: nib.Nifti1Header) -> None:
    header.set_sform(AFFINE, 1)
    header.set_qform(AFFINE, 1)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Three subjects with an image ``ct``, labels ``seg`` (five of them) and weights ``map``."""
    folder = tmp_path_factory.mktemp("pair")
    random = np.random.default_rng(4)
    voxels = {
        name: {
            "ct": smooth(size),
            "seg": blocks(random, size),
            "map": random.gamma(0.3, 1, size).astype("f4") * (random.random(size) < 0.2),
        }
        for name, size in SIZES.items()
    }
    files = {
        name: {
            volume: write_nifti(folder / f"{name}-{volume}.nii", array.T, edit=place)
            for volume, array in volumes.items()
        }
        for name, volumes in voxels.items()
    }
    sources = {name: paths | {"seg": vq.Labels(paths["seg"])} for name, paths in files.items()}
    vq.ingest(sources, folder / "store.zarr", patch_size=16)
    return Pair(folder / "store.zarr", files, voxels)


def blocks(random: np.random.Generator, size: tuple[int, int, int]) -> np.ndarray:
    """Labels 0 to 4 in blocks of five voxels, most of them 0."""
    coarse = random.choice(5, [n // 5 + 1 for n in size], p=[0.7, 0.15, 0.1, 0.04, 0.01]).astype(
        "u2"
    )
    return np.ascontiguousarray(
        np.kron(coarse, np.ones((5, 5, 5), "u2"))[tuple(slice(n) for n in size)]
    )


@pytest.fixture
def examples(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[CodeType]]:
    """The Python examples of a guide in ``docs``, ready to run in a folder that has the guides'
    ``store.zarr``.
    """
    (tmp_path / "store.zarr").symlink_to(pair.path)
    monkeypatch.chdir(tmp_path)

    def of(name: str) -> list[CodeType]:
        guide = Path(__file__).parents[2] / "docs" / name
        blocks = re.findall(r"^```python\n(.*?)^```", guide.read_text(), re.MULTILINE | re.DOTALL)
        return [compile(block, str(guide), "exec") for block in blocks]

    return of
