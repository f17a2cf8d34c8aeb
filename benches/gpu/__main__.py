"""Measures inference on whole volumes beside the model alone: ``python -m benches.gpu``."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet

import voxquarry as vq
import voxquarry.torch as vt
from voxquarry.torch._stage import HostBlender
from voxquarry.torch._streams import Lane

RESULTS = Path(__file__).parents[1] / "results"
#: Times the model alone that ours may take.
WANTED = 1.15


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    size: tuple[int, int, int]
    patch: int
    batch: int
    features: tuple[int, ...]
    device: torch.device
    #: Bytes a second of a simulated link to the device; None: the link is real.
    link: float | None

    @property
    def strides(self) -> tuple[int, ...]:
        return (2,) * (len(self.features) - 1)


GPU = Setting((320, 512, 512), 128, 4, (32, 64, 128, 256), torch.device("cuda"), None)
#: Answers of a small network on two cores, over a link that is as slow beside it as that of a GPU.
CPU = Setting((64, 96, 128), 48, 4, (8, 16), torch.device("cpu"), 0.2e9)


def crosses(setting: Setting, stack: ExitStack) -> None:
    """Makes whatever would leave a device take its time on the simulated link."""
    if setting.link is None:
        return
    link = setting.link
    send_home, add = Lane.send_home, HostBlender.add

    def wait(tensor: torch.Tensor) -> None:
        time.sleep(tensor.numel() * tensor.element_size() / link)

    def slow_home(lane: Lane, voxels: torch.Tensor) -> Any:
        sent, arrived = send_home(lane, voxels)
        return sent, lambda: (arrived(), wait(voxels))[0]

    def slow_add(blender: HostBlender, patches: torch.Tensor, starts: np.ndarray) -> None:
        wait(patches)
        add(blender, patches, starts)

    stack.enter_context(patch.object(Lane, "send_home", slow_home))
    stack.enter_context(patch.object(HostBlender, "add", slow_add))


def waited(setting: Setting) -> None:
    """Waits for the device."""
    if setting.device.type == "cuda":
        torch.cuda.synchronize()


def contestants(
    setting: Setting, network: torch.nn.Module, ct: vq.Volume, folder: Path
) -> dict[str, Callable[[], object]]:
    """Each way to predict the volume, by name; each call begins anew."""
    count = len(vq.GridSampler(setting.patch, overlap=0.5).locations(ct))
    patches = torch.zeros(setting.batch, 1, *[setting.patch] * 3, device=setting.device)
    cast = {"device_type": setting.device.type, "dtype": torch.bfloat16}
    numbers = iter(range(1000))

    def alone() -> None:
        with torch.inference_mode(), torch.autocast(**cast):
            for first in range(0, count, setting.batch):
                network(patches[: min(setting.batch, count - first)])

    def ours(blend: str, *, stored: bool, finish: str) -> Callable[[], object]:
        def run() -> object:
            out = folder / "out.zarr" / "a" / f"p{next(numbers)}" if stored else None
            options = {"finish": finish, "blend": blend, "autocast": torch.bfloat16}
            return vt.infer(network, ct, setting.patch, 0.5, out, setting.batch, **options)

        return run

    def monai(place: torch.device) -> Callable[[], object]:
        def run() -> object:
            image = torch.from_numpy(ct[...].astype(np.float32))[None, None]
            with torch.inference_mode(), torch.autocast(**cast):
                return sliding_window_inference(
                    image.to(place),
                    setting.patch,
                    setting.batch,
                    network,
                    overlap=0.5,
                    mode="gaussian",
                    sw_device=setting.device,
                    device=place,
                )

        return run

    ways: dict[str, Callable[[], object]] = {"model alone": alone}
    for blend in ("device", "host"):
        ways[f"ours, {blend}: array"] = ours(blend, stored=False, finish="none")
        ways[f"ours, {blend}: store"] = ours(blend, stored=True, finish="none")
        ways[f"ours, {blend}: labels into a store"] = ours(blend, stored=True, finish="argmax")
    ways["MONAI on the device"] = monai(setting.device)
    if setting.device.type == "cuda":
        ways["MONAI stitched on the CPU"] = monai(torch.device("cpu"))
    return ways


def measured(setting: Setting, rounds: int) -> dict[str, Any]:
    """Seconds of each way, the best of the rounds, and the device's memory beside the model."""
    torch.manual_seed(0)
    network = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        channels=setting.features,
        strides=setting.strides,
    )
    network = network.to(setting.device).eval()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        voxels = np.random.default_rng(0).normal(0, 300, setting.size).astype("i2")
        store = vq.ingest({"a": {"ct": voxels}}, folder / "in.zarr", patch_size=setting.patch)
        crosses(setting, stack)
        ways = contestants(setting, network, store["a"]["ct"], folder)
        # The first calls of a model choose its algorithms.
        ways["model alone"]()
        waited(setting)
        for way, run in ways.items():
            if setting.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds = []
            for _ in range(rounds):
                begun = time.perf_counter()
                run()
                waited(setting)
                seconds.append(time.perf_counter() - begun)
            figures[way] = {"seconds": min(seconds)}
            if setting.device.type == "cuda":
                figures[way]["device_bytes"] = torch.cuda.max_memory_allocated()
            print(f"{way:36} {min(seconds):8.3f} s", flush=True)
    return figures


def table(setting: Setting, figures: dict[str, Any]) -> str:
    """The figures as a table."""
    alone = figures["model alone"]["seconds"]
    link = "" if setting.link is None else f", simulated link of {setting.link / 1e9:g} GB/s"
    lines = [
        f"{setting.size} int16, patches of {setting.patch}³, half overlapping, 3 classes, bfloat16,"
        f" {setting.device.type}{link}; torch {torch.__version__}, {platform.machine()}",
        "",
        "| | seconds | times the model |",
        "|---|---|---|",
    ]
    for way, figure in figures.items():
        lines.append(f"| {way} | {figure['seconds']:.2f} | {figure['seconds'] / alone:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, and records the figures unless the run is a quick one."""
    parser = argparse.ArgumentParser(prog="python -m benches.gpu")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="a simulated link, GPU or not")
    parser.add_argument("--quick", action="store_true", help="one round that records nothing")
    chosen = parser.parse_args()
    setting = GPU if torch.cuda.is_available() and not chosen.cpu else CPU
    figures = measured(setting, 1 if chosen.quick else chosen.rounds)
    text = table(setting, figures)
    print(text)
    worst = max(f["seconds"] for way, f in figures.items() if way.startswith("ours, device"))
    ratio = worst / figures["model alone"]["seconds"]
    print(f"ours at most {ratio:.2f} times the model alone, {WANTED} wanted")
    if not chosen.quick:
        (RESULTS / "gpu.json").write_text(json.dumps(figures, indent=2) + "\n")
        (RESULTS / "gpu.md").write_text(text)


if __name__ == "__main__":
    main()
