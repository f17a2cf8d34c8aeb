"""Measures stores behind a URL: ``python -m benches.remote``.

A link of 200 MB/s whose answers wait 20 ms: how much of it a sliding window, inference and training
use, how often they fetch a byte, and how much memory they take.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

import voxquarry as vq

RESULTS = Path(__file__).parents[1] / "results" / "remote"
LATENCY, RATE = 0.02, 200e6
PATCH, OVERLAP = 96, 48
SHAPE, QUICK_SHAPE = (400, 512, 512), (128, 192, 192)


def volume(shape: tuple[int, int, int]) -> np.ndarray:
    """Smooth structure and noise of a few bits, as a scanner has it."""
    random = np.random.default_rng(5)
    noise = random.normal(0, 12, (8, *shape[1:]))
    y, x = np.indices(shape[1:], np.float32)
    waves = 1000 + 500 * np.sin(y / 40) * np.cos(x / 60)
    planes = (waves * (1 + z / shape[0]) + noise[z % 8] for z in range(shape[0]))
    return np.stack([plane.astype("i2") for plane in planes])


def stored_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


class Memory:
    """The peak of this process's anonymous memory."""

    def __enter__(self) -> Memory:
        self.peak, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.005):
            status = Path("/proc/self/status").read_text()
            self.peak = max(self.peak, int(status.split("RssAnon:")[1].split()[0]) * 1024)


def counts(url: str) -> tuple[int, int]:
    with urllib.request.urlopen(f"{url}/__counts") as answer:
        requests, sent = json.load(answer)
    return requests, sent


# What is measured: each opens the store, calls `first()` when it has its first batch, and reads on.


def window_by_window(url: str, cache: str, first: Callable[[], None]) -> None:
    ct = vq.open(f"{url}/store.zarr", cache_dir=cache)["case"]["ct"]
    starts = vq.GridSampler(PATCH, OVERLAP).locations(ct)
    for i in range(0, len(starts), 4):
        ct.read_batch(starts[i : i + 4], PATCH)
        first()


def read_ahead(url: str, cache: str, first: Callable[[], None]) -> None:
    ct = vq.open(f"{url}/store.zarr", cache_dir=cache)["case"]["ct"]
    starts = vq.GridSampler(PATCH, OVERLAP).locations(ct)
    for i in range(0, len(starts), 4):
        if i % 64 == 0:
            ct.read_ahead(starts[i if i == 0 else i + 64 : i + 128], PATCH)
        ct.read_batch(starts[i : i + 4], PATCH)
        first()


def queue_of_a_grid(url: str, cache: str, first: Callable[[], None]) -> None:
    dataset = vq.open(f"{url}/store.zarr", cache_dir=cache)
    grid = vq.GridSampler(PATCH, OVERLAP)
    options = {"batch_size": 4, "buffer_bytes": "64MiB", "shuffle": "none"}
    for _ in vq.Queue(dataset, grid, volumes=["ct"], **options):
        first()


def inference(url: str, cache: str, first: Callable[[], None]) -> None:
    ct = vq.open(f"{url}/store.zarr", cache_dir=cache)["case"]["ct"]

    def model(patches: np.ndarray) -> np.ndarray:
        first()
        return patches

    vq.infer(model, ct, PATCH, 0.5, Path(cache) / "out.zarr" / "case" / "scores", dtype="float16")


def training(url: str, cache: str, first: Callable[[], None]) -> None:
    dataset = vq.open(f"{url}/store.zarr", cache_dir=cache)
    sampler = vq.UniformSampler(PATCH)
    options = {"patches_per_subject": 128, "batch_size": 4, "buffer_bytes": "64MiB"}
    for _ in vq.Queue(dataset, sampler, volumes=["ct"], seed=1, **options):
        first()


def tensorstore(url: str, cache: str, first: Callable[[], None]) -> None:
    import tensorstore as ts

    store = {"driver": "http", "base_url": f"{url}/store.zarr/case/ct/0/"}
    context = {"cache_pool": {"total_bytes_limit": int(cache)}}
    array = ts.open({"driver": "zarr3", "kvstore": store, "context": context}).result()
    for start in vq.GridSampler(PATCH, OVERLAP).locations(array.shape):
        array[tuple(slice(s, s + PATCH) for s in start)].read().result()
        first()


WAYS = {
    way.__name__: way
    for way in (window_by_window, read_ahead, queue_of_a_grid, inference, training, tensorstore)
}


def child(way: str, url: str, cache: str) -> None:
    """One way, and what it took, as JSON."""
    begin, seen = time.perf_counter(), []

    def first() -> None:
        if not seen:
            seen.append(time.perf_counter() - begin)

    before = counts(url)
    with Memory() as memory:
        begin = time.perf_counter()
        WAYS[way](url, cache, first)
        seconds = time.perf_counter() - begin
    requests, sent = (now - then for now, then in zip(counts(url), before, strict=True))
    figures = {"seconds": seconds, "first": seen[0], "requests": requests, "sent": sent}
    print(json.dumps({**figures, "memory": memory.peak}))


def measure(way: str, url: str, cache: Path | int) -> dict[str, float]:
    command = [sys.executable, "-m", __spec__.name, "--child", way, url, str(cache)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def run(data: Path, *, quick: bool) -> dict[str, dict[str, float]]:
    """Figures of each row, by its name."""
    store = data / "served" / "store.zarr"
    shape = QUICK_SHAPE if quick else SHAPE
    vq.ingest({"case": {"ct": volume(shape)}}, store, patch_size=PATCH, spacing=(1, 1, 1))
    stored = stored_bytes(store / "case" / "ct" / "0")
    command = [sys.executable, "-m", "benches.remote.server", store.parent, str(LATENCY), str(RATE)]
    found = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        cache = data / "cache"
        for name, way in (
            ("sliding window, batch after batch", "window_by_window"),
            ("sliding window, read ahead", "read_ahead"),
            ("sliding window, a queue", "queue_of_a_grid"),
            ("inference into a store", "inference"),
            ("training, first epoch", "training"),
        ):
            shutil.rmtree(cache, ignore_errors=True)
            found[name] = measure(way, url, cache)
        found["training, second epoch"] = measure("training", url, cache)
        for mib in (0, 8, 256):
            name = f"sliding window, tensorstore with {mib} MiB"
            found[name] = measure("tensorstore", url, mib << 20)
        server.kill()
    for figures in found.values():
        figures["fetched"] = figures["sent"] / stored
        figures["link"] = figures["sent"] / (figures["seconds"] * RATE)
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    lines = ["| | seconds | first | requests | fetched | link | memory |", "|---|" + "---|" * 6]
    lines += [
        f"| {name} | {f['seconds']:.2f} | {f['first']:.2f} | {f['requests']:,} | "
        f"{f['fetched']:.2f} | {f['link']:.2f} | {f['memory'] / 2**20:.0f} |"
        for name, f in found.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.remote", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small volume: a smoke run")
    parser.add_argument("--data", type=Path, default=Path("bench-data"), help="(bench-data)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    arguments.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.data) as folder:
        found = run(Path(folder), quick=arguments.quick)
    print(table(found))
    if not arguments.quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "record.json").write_text(json.dumps(found, indent=1) + "\n")
        (RESULTS / "tables.md").write_text(table(found))


if __name__ == "__main__":
    main()
