"""Shows the progress of an ingest: a bar of tqdm where it is installed, lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

from ._types import VolumeProgress

#: Seconds between two lines.
EVERY = 5.0


def shown(progress: VolumeProgress | bool | None) -> VolumeProgress | None:
    """The function to call; ``True`` stands for a bar."""
    if progress is None or progress is False:
        return None
    return Bar() if progress is True else progress


class Bar:
    """Bytes encoded of bytes in all, and the volume."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._begun = self._last = time.monotonic()
        self._tqdm: Any = None
        with suppress(ImportError):
            self._tqdm = import_module("tqdm.auto").tqdm

    def __call__(self, volume: str, done: int, total: int) -> None:
        if self._tqdm is None:
            self._line(volume, done, total)
            return
        if self._bar is None:
            self._bar = self._tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024)
        self._bar.set_description(volume, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()

    def _line(self, volume: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < EVERY and done < total:
            return
        self._last = now
        rate = done / max(now - self._begun, 1e-9)
        left = (total - done) / max(rate, 1e-9)
        print(f"{volume}: {done >> 20} of {total >> 20} MiB, {left:.0f} s left", file=sys.stderr)
