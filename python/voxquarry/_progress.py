"""Shows the progress of long calls: a bar of tqdm where it is installed, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeAlias

from ._types import VolumeProgress

#: ``True`` for a bar, ``None`` for one on a terminal, or a function of what is done and of all.
Progress: TypeAlias = bool | Callable[[int, int], None] | None

#: Seconds between two lines.
EVERY = 5.0


def shown(progress: VolumeProgress | bool | None) -> VolumeProgress | None:
    """The function to call with a volume, its bytes done and all; ``True`` stands for a bar."""
    if progress is None or progress is False:
        return None
    if callable(progress):
        return progress
    bar = Bar("MiB")
    return lambda volume, done, total: bar(done, total, volume)


def steps(progress: Progress, unit: str) -> Callable[[int, int], None]:
    """The function to call with the steps done and all steps."""
    if callable(progress):
        return progress
    if progress is None:
        progress = sys.stderr.isatty()
    return Bar(unit) if progress else lambda done, total: None


class Bar:
    """What is done of all, with the rate and the time left; bytes if the unit is MiB."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None
        self._begun = self._last = time.monotonic()
        self._first: int | None = None
        self._tqdm: Any = None
        with suppress(ImportError):
            self._tqdm = import_module("tqdm.auto").tqdm

    def __call__(self, done: int, total: int, name: str = "") -> None:
        # What an earlier run has done says nothing about the rate.
        if self._first is None:
            self._first = done
        if self._tqdm is None:
            self._line(done, total, name)
            return
        if self._bar is None:
            unit: dict[str, Any] = {"unit": self._unit}
            if self._unit == "MiB":
                unit = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
            self._bar = self._tqdm(total=total, initial=done, **unit)
        if name:
            self._bar.set_description(name, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()

    def _line(self, done: int, total: int, name: str) -> None:
        now = time.monotonic()
        if now - self._last < EVERY and done < total:
            return
        self._last = now
        one = 1 << 20 if self._unit == "MiB" else 1
        rate = (done - (self._first or 0)) / max(now - self._begun, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
        print(
            f"{name + ': ' if name else ''}{done // one} of {total // one},"
            f" {rate / one:.1f} {self._unit}/s{left}",
            file=sys.stderr,
            flush=True,
        )
