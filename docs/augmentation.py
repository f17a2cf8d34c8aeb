"""Makes docs/augmentation.png, the picture of the guide: python docs/augmentation.py.

Above are patches as they are, below the same ones augmented, with the outlines of their labels.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np

import voxquarry as vq

SIDE, SPACE = 96, 6
OUTLINE = (232, 131, 58)


def phantom() -> dict[str, object]:
    """A body of ellipsoids, with noise, and labels of two of them."""
    shape = (128, 160, 160)
    z, y, x = (
        np.linspace(-1, 1, n).reshape(s)
        for n, s in zip(shape, [(-1, 1, 1), (-1, 1), (-1,)], strict=True)
    )

    def ellipsoid(cz: float, cy: float, cx: float, rz: float, ry: float, rx: float) -> np.ndarray:
        return ((z - cz) / rz) ** 2 + ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1

    image = np.full(shape, -1000.0)
    body = ellipsoid(0, 0, 0, 1.2, 0.8, 0.9)
    image[body] = -80
    image[ellipsoid(0, 0, 0, 1.1, 0.72, 0.82)] = 40
    for side in (-1, 1):
        image[ellipsoid(0.1, -0.05, 0.45 * side, 0.8, 0.45, 0.28)] = -800
    heart, spine = ellipsoid(0.1, -0.2, 0.1, 0.35, 0.3, 0.25), ellipsoid(0, 0.55, 0, 2, 0.13, 0.13)
    image[heart], image[spine] = 150, 600
    image += 60 * np.sin(z * 25) * np.sin(y * 31) * np.sin(x * 28) * body
    image += np.random.default_rng(0).normal(0, 25, shape)
    labels = np.where(heart, 1, np.where(spine, 2, 0)).astype(np.uint8)
    return {"ct": image.astype(np.int16), "seg": vq.Labels(labels)}


def tile(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The middle slice in grey, with outlines."""
    grey, label = image[SIDE // 2], labels[SIDE // 2]
    tile = np.repeat((np.clip(grey, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)
    edge = np.zeros(label.shape, bool)
    edge[:-1] |= label[:-1] != label[1:]
    edge[:, :-1] |= label[:, :-1] != label[:, 1:]
    tile[edge] = OUTLINE
    return tile


def write_png(path: Path, pixels: np.ndarray) -> None:
    """A picture ``(y, x, 3)`` uint8, in the format's fewest parts."""

    def part(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(part(*p) for p in parts))


def main() -> None:
    augment = vq.Augment(
        rotation_degrees=30,
        scale=(0.7, 1.4),
        flip=True,
        elastic=(0, 6),
        noise=(0, 0.03),
        blur=(0, 0.7),
        contrast=(0.7, 1.3),
        gamma=(0.6, 1.6),
        p={"blur": 0.5},
    )
    with tempfile.TemporaryDirectory() as folder:
        ds = vq.ingest({"case": phantom()}, Path(folder) / "store.zarr", patch_size=SIDE)
        rows = []
        for changes in (None, augment):
            sampler = vq.LabelSampler(SIDE, "seg", border="clamp")
            queue = vq.Queue(
                ds, sampler, ["ct", "seg"], 7, 7, augment=changes, normalize=(-1000, 700), seed=4
            )
            batch = next(iter(queue))
            rows.append(
                [tile(ct[0], seg[0]) for ct, seg in zip(batch["ct"], batch["seg"], strict=True)]
            )
    step = SIDE + SPACE
    picture = np.full((2 * step - SPACE, 7 * step - SPACE, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, pixels in enumerate(row):
            picture[i * step : i * step + SIDE, j * step : j * step + SIDE] = pixels
    write_png(Path(__file__).with_suffix(".png"), picture)


if __name__ == "__main__":
    main()
