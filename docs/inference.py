"""Makes docs/inference.png, the picture of the guide: python docs/inference.py.

A model that errs near the border of its patches, as networks do: above what it says of a slice,
below its error, for patches without overlap and for four windows of overlapping ones.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from augmentation import phantom, write_png

import voxquarry as vq

PATCH, SPACE = 48, 6
WAYS = [
    ("crop", 0.0),
    ("average", 0.5),
    ("crop", 0.5),
    ("gaussian", 0.5),
    ("hann", 0.5),
]


def model(patches: np.ndarray) -> np.ndarray:
    """How bright each voxel is, 0 to 1; wrong towards the border of each patch."""
    bright = np.clip((patches.astype(np.float32) + 1000) / 1700, 0, 1)
    place = np.abs(np.linspace(-1, 1, PATCH, dtype=np.float32)) ** 6
    farthest = np.maximum.reduce(np.meshgrid(place, place, place, indexing="ij"))
    return bright * (1 - 0.6 * farthest)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ds = vq.ingest({"case": phantom()}, Path(folder) / "store.zarr", patch_size=PATCH)
        ct = ds["case"]["ct"]
        truth = np.clip((ct[64].astype(np.float32) + 1000) / 1700, 0, 1)
        columns = []
        for window, overlap in WAYS:
            found = vq.infer(model, ct, PATCH, overlap, window=window)[0, 64]
            error = np.abs(found - truth) * 2
            columns.append(np.stack([found, error]))
            print(f"{window:9} {overlap}  mean error {np.abs(found - truth).mean():.4f}")
    height, width = truth.shape
    picture = np.full(
        (2 * (height + SPACE) - SPACE, len(WAYS) * (width + SPACE) - SPACE, 3), 255, np.uint8
    )
    for j, column in enumerate(columns):
        for i, values in enumerate(column):
            top, left = i * (height + SPACE), j * (width + SPACE)
            grey = (np.clip(values, 0, 1) * 255).astype(np.uint8)
            picture[top : top + height, left : left + width] = grey[..., None]
    write_png(Path(__file__).with_suffix(".png"), picture)


if __name__ == "__main__":
    main()
