"""Measures turned patches on one core: ``python -m benches.augment``."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import monai.transforms
import numpy as np
import SimpleITK as sitk
import torch
import torchio
from scipy import ndimage

import voxquarry as vq

RESULTS = Path(__file__).parents[1] / "results"
VOLUME = (320, 384, 384)
#: Figure of ours, figure of theirs, and the least ratio that is wanted.
WANTED = [
    ("linear", "torch", 20),
    ("linear", "scipy 1", 20),
    ("linear", "SimpleITK", 10),
    ("linear", "TorchIO", 10),
    ("linear", "MONAI", 25),
    ("elastic", "TorchIO elastic", 150),
]
Transform = Callable[[np.ndarray], object]


def matrix(rng: np.random.Generator) -> np.ndarray:
    """Turns by up to 30° about three axes, and scales by 0.7 to 1.4."""
    c, s = [f(rng.uniform(-np.pi / 6, np.pi / 6, 3)) for f in (np.cos, np.sin)]
    about_z = [[1, 0, 0], [0, c[0], -s[0]], [0, s[0], c[0]]]
    about_y = [[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]]
    about_x = [[c[2], -s[2], 0], [s[2], c[2], 0], [0, 0, 1]]
    return np.array(about_z) @ about_y @ about_x / rng.uniform(0.7, 1.4)


def ours(subject: vq.Subject, size: int, rng: np.random.Generator) -> dict[str, Transform]:
    """Reads of patches that lie in the volume with their corners, or nearly."""
    half, knots = (size - 1) / 2, size // 16 + 1

    def placed(turn: np.ndarray) -> np.ndarray:
        margin = np.minimum(np.abs(turn).sum(1) * half + 8, np.array(VOLUME) / 2)
        centre = rng.uniform(margin, np.maximum(np.array(VOLUME) - margin, margin))
        return np.column_stack([turn, centre - turn.sum(1) * half])

    def read(volume: str, order: int, *, bent: bool = False) -> Transform:
        out = np.zeros((size,) * 3, np.float32 if volume == "ct" else np.uint8)

        def transform(turn: np.ndarray) -> object:
            bend = rng.uniform(-6, 6, (3, knots, knots, knots)) if bent else None
            return subject[volume].read_affine(
                placed(turn), size, order, out=out, displacement=bend
            )

        return transform

    return {
        "linear": read("ct", 1),
        "elastic": read("ct", 1, bent=True),
        "cubic": read("ct", 3),
        "nearest labels": read("seg", 0),
    }


def theirs(size: int, rng: np.random.Generator) -> dict[str, Transform]:
    """Transforms of a box in memory."""
    voxels = rng.normal(0, 300, (size,) * 3).astype(np.int16)
    tensor, image, half = torch.from_numpy(voxels)[None], sitk.GetImageFromArray(voxels), size / 2

    def with_torch(turn: np.ndarray) -> object:
        theta = torch.tensor(np.column_stack([turn[::-1, ::-1], np.zeros(3)]))[None].float()
        grid = torch.nn.functional.affine_grid(theta, [1, 1, *voxels.shape], align_corners=True)
        return torch.nn.functional.grid_sample(tensor.float()[None], grid, align_corners=True)

    def with_scipy(order: int) -> Transform:
        return lambda turn: ndimage.affine_transform(
            voxels,
            turn,
            half - turn.sum(1) * half,
            output=np.float32,
            order=order,
            mode="grid-constant",
        )

    def with_itk(turn: np.ndarray) -> object:
        affine = sitk.AffineTransform(turn[::-1, ::-1].ravel().tolist(), [0.0] * 3, [half] * 3)
        return sitk.Resample(image, affine, sitk.sitkLinear, 0.0, sitk.sitkFloat32)

    subject = torchio.ScalarImage(tensor=tensor)
    turned = torchio.RandomAffine(scales=(0.7, 1.4), degrees=30, isotropic=True)
    bent = torchio.RandomElasticDeformation()
    monai_turned = monai.transforms.RandAffine(
        prob=1, rotate_range=(np.pi / 6,) * 3, scale_range=(0.35,) * 3, padding_mode="zeros"
    )
    return {
        "torch": with_torch,
        "scipy 0": with_scipy(0),
        "scipy 1": with_scipy(1),
        "scipy 3": with_scipy(3),
        "SimpleITK": with_itk,
        "TorchIO": lambda _: turned(subject),
        "TorchIO elastic": lambda _: bent(subject),
        "MONAI": lambda _: monai_turned(tensor),
    }


def median_ms(transform: Transform, rounds: int, rng: np.random.Generator) -> float:
    """The median processor time of a transform."""
    times = []
    for _ in range(rounds + 1):
        turn = matrix(rng)
        begin = time.thread_time()
        transform(turn)
        times.append(time.thread_time() - begin)
    return float(np.median(times[1:]) * 1e3)


def store(folder: Path) -> vq.Subject:
    """An image with structure and noise, and labels."""
    rng, (z, y, x) = np.random.default_rng(0), np.ogrid[tuple(slice(n) for n in VOLUME)]
    waves = 300 * (np.sin(z / 9) + np.cos(y / 13) + np.sin(x / 7))
    ct = (waves + rng.normal(0, 20, VOLUME)).astype(np.int16)
    seg = ((z // 20 + y // 30 + x // 30) % 5).astype(np.uint8)
    volumes = {"ct": ct, "seg": vq.Labels(seg)}
    vq.ingest({"case": volumes}, folder / "store.zarr", patch_size=96)
    return vq.open(folder / "store.zarr", threads=1)["case"]


def table(record: dict[str, dict[str, float]]) -> str:
    """Markdown: all times, and the ratios that are wanted."""
    names = list(next(iter(record.values())))
    lines = ["| ms a patch | " + " | ".join(record) + " |", "|---" * (len(record) + 1) + "|"]
    for name in names:
        cells = " | ".join(f"{times[name]:.2f}" for times in record.values())
        lines.append(f"| {name} | {cells} |")
    lines += ["", "| times as fast | " + " | ".join(record) + " | wanted |"]
    lines.append("|---" * (len(record) + 2) + "|")
    for own, other, wanted in WANTED:
        cells = " | ".join(f"{times[other] / times[own]:.1f}" for times in record.values())
        lines.append(f"| {own} / {other} | {cells} | {wanted} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few transforms; record nothing")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    record: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        subject = store(Path(folder))
        for size in (96, 128):
            rng = np.random.default_rng(size)
            record[f"{size}³"] = {
                name: median_ms(transform, 1 if quick else rounds, rng)
                for contestants, rounds in ((ours(subject, size, rng), 50), (theirs(size, rng), 12))
                for name, transform in contestants.items()
            }
    text = table(record)
    print(text)
    if not quick:
        (RESULTS / "augment.json").write_text(json.dumps(record, indent=1, ensure_ascii=False))
        (RESULTS / "augment.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
