"""Walks through a page of ``vq.view`` as somebody who pans and zooms, and measures its server.

``python python/tests/view_walk.py STORE/SUBJECT --steps 10000`` prints the memory of the server
before, every tenth of the steps, and at its most. Each step asks for the chunks that three panels
show, as the client does: of the level that suits the zoom, six at a time, and none that it has.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

# What a browser opens to one server, and the pixels of a panel.
_CONNECTIONS, _PANEL = 6, (160, 200)
# A connection serves so many requests; then the browser opens another.
_PER_CONNECTION = 500


@dataclass(frozen=True)
class Level:
    """A level of a volume as the server describes it; axes ``(z, y, x)``."""

    place: str
    factors: np.ndarray
    size: np.ndarray
    chunk: np.ndarray
    #: The ids of a chunk before those along z, y and x.
    lead: tuple[int, ...]


class Walker:
    """Somebody who looks at the first layer of a page, by a seed, and keeps so many chunks."""

    def __init__(self, url: str, seed: int = 0, kept: int = 200) -> None:
        place = urlsplit(url)
        self._netloc, self._base = place.netloc, f"/{place.path.split('/')[1]}/arrays/0/v0"
        self._local = threading.local()
        self._opened: list[http.client.HTTPConnection] = []
        self._pool = ThreadPoolExecutor(_CONNECTIONS)
        self._kept = kept
        self._random = np.random.default_rng(seed)
        self._had: OrderedDict[str, None] = OrderedDict()
        self.requests = 0
        group = json.loads(self._ask("zarr.json"))["attributes"]["ome"]["multiscales"][0]
        self.levels = [self._level(dataset) for dataset in group["datasets"]]
        extents = self.levels[0].size
        # The middle voxel, and voxels for each pixel.
        self._at, self._scale = extents / 2, float(max(extents)) / min(_PANEL)

    def _level(self, dataset: dict[str, Any]) -> Level:
        document = json.loads(self._ask(f"{dataset['path']}/zarr.json"))
        chunk = document["chunk_grid"]["configuration"]["chunk_shape"]
        return Level(
            dataset["path"],
            np.array(dataset["coordinateTransformations"][0]["scale"][-3:]),
            np.array(document["shape"][-3:]),
            np.array(chunk[-3:]),
            (0,) * (len(chunk) - 3),
        )

    def _ask(self, path: str) -> bytes:
        left = getattr(self._local, "left", 0)
        if left == 0:
            if hasattr(self._local, "connection"):
                self._local.connection.close()
            self._local.connection = http.client.HTTPConnection(self._netloc, timeout=120)
            self._opened.append(self._local.connection)
            left = _PER_CONNECTION
        self._local.left = left - 1
        self._local.connection.request("GET", f"{self._base}/{path}")
        answer = self._local.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (path, answer.status, body[:200])
        return bytes(body)

    def step(self) -> None:
        """Pans, zooms or jumps, and fetches what is seen then."""
        extents, what = self.levels[0].size, self._random.random()
        if what < 0.6:
            self._at = self._at + self._random.normal(0, 40 * self._scale, 3)
        elif what < 0.9:
            self._scale *= float(2 ** self._random.uniform(-1, 1))
        else:
            self._at = self._random.uniform(0, extents)
        self._scale = float(np.clip(self._scale, 0.25, max(extents) / min(_PANEL)))
        self._at = np.clip(self._at, 0, extents - 1)
        wanted = [path for axis in range(3) for path in self._seen(axis)]
        new = [path for path in dict.fromkeys(wanted) if path not in self._had]
        list(self._pool.map(self._ask, new))
        self.requests += len(new)
        for path in wanted:
            self._had[path] = None
            self._had.move_to_end(path)
        while len(self._had) > self._kept:
            self._had.popitem(last=False)

    def _seen(self, axis: int) -> list[str]:
        """The chunks that a panel across an axis shows."""
        fine = [level for level in self.levels if max(level.factors) <= max(self._scale, 1)]
        level = fine[-1]
        half = np.insert(np.array(_PANEL) * self._scale / 2, axis, 0.0)
        first, last = ((self._at + side * half) / level.factors for side in (-1, 1))
        low = np.clip(first, 0, level.size - 1).astype(int) // level.chunk
        high = np.clip(last, 0, level.size - 1).astype(int) // level.chunk
        boxes = np.ndindex(*(high - low + 1))
        return [
            "/".join(map(str, (level.place, "c", *level.lead, *(low + box).tolist())))
            for box in boxes
        ]

    def close(self) -> None:
        """Ends the threads and the connections."""
        self._pool.shutdown()
        for connection in self._opened:
            connection.close()


def memory(pid: int) -> dict[str, int]:
    """Bytes of a process: ``VmRSS`` of all pages, ``RssAnon`` without those of mapped files, and
    ``VmHWM``, the most that the former ever was.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = (line.split() for line in lines if line.startswith(("VmRSS", "RssAnon", "VmHWM")))
    return {words[0].rstrip(":"): int(words[1]) << 10 for words in found}


class Viewed:
    """``voxquarry view`` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "voxquarry", "view", "--no-browser", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the server did not start"

    def __enter__(self) -> Viewed:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def main() -> None:
    """Walks and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", help="STORE/SUBJECT or STORE/SUBJECT/VOLUME")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with Viewed(chosen.path) as viewed:
        walker = Walker(viewed.url, seed=chosen.seed)
        print("levels", [level.size.tolist() for level in walker.levels], flush=True)
        for done in range(chosen.steps + 1):
            if done % max(1, chosen.steps // 10) == 0:
                of = {k: f"{v >> 20} MiB" for k, v in memory(viewed.process.pid).items()}
                print(f"{done} steps, {walker.requests} chunks:", of, flush=True)
            walker.step()
        walker.close()


if __name__ == "__main__":
    main()
