"""Draws the plots of the page on performance from the records in ``benches/results``.

A bar is the median of the rounds that were recorded, a line its least and greatest; each plot says
which run it shows. No number is written here.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt

_PAGE = """\
# Performance, measured

The plots are drawn from the records that `make bench` wrote into `benches/results`; no number is
written by hand.
A bar is the median of the recorded rounds, a line their least and greatest.
The machines are virtual and share their hosts with others: compare bars within a plot, not between
plots.
[Benchmarks](../docs/benchmarks.md) says how each number is taken.

## Random patches

![patches a second of many systems](plots/reading.svg)

## From files to batches

![patches a second of loaders](plots/loaders.svg)

## Turned patches

![milliseconds for a turned patch](plots/turning.svg)

## Blending a prediction

![seconds for blending](plots/blending.svg)

![memory for blending](plots/blending-memory.svg)
"""
OURS, OTHERS = "#00897b", "#90a4ae"
Bars = dict[str, Sequence[float]]


def write_performance(results: Path, page: Path) -> None:
    """Writes the page, and one SVG for each plot into ``plots`` beside it."""
    out = page.parent / "plots"
    out.mkdir(parents=True, exist_ok=True)
    page.write_text(_PAGE)
    # The same bytes at every build.
    plt.rcParams.update({"svg.hashsalt": "voxquarry", "font.size": 9, "svg.fonttype": "none"})
    _reading(_load(results / "avx2" / "record.json"), out / "reading.svg")
    training = _load(results / "training.json")["parts"]
    _loaders(training["endtoend"], out / "loaders.svg")
    _blending(training["aggregation"], out)
    _turning(_load(results / "augment.json"), out / "turning.svg")


def _reading(record: Any, path: Path) -> None:
    (part,) = [
        part for part in record["warm"] if part["volume"] == "int16" and part["patch"] == "96×96×96"
    ]
    rows = [row for row in part["rows"] if row["way"] == "1 thread" and row["rates"]]
    bars = {row["name"]: row["rates"] for row in rows}
    _draw(path, bars, "random 96³ patches of int16 a second, one thread, page cache warm", record)


def _loaders(part: Any, path: Path) -> None:
    bars = {row["loader"]: row["patches per second"] for row in part["record"]["loaders"]}
    _draw(path, bars, "96³ patches a second, from files to tensors in batches", part, log=True)


def _blending(part: Any, out: Path) -> None:
    rows = part["record"]["blending"]
    for key, name, what in (
        ("seconds", "blending", "seconds to blend 2,100 patches of 96³"),
        ("peak anonymous MiB", "blending-memory", "MiB of anonymous memory to blend them"),
    ):
        bars = {row["contestant"]: _numbers(row[key]) for row in rows}
        _draw(out / f"{name}.svg", bars, what, part)


def _turning(record: Any, path: Path) -> None:
    ours = ("linear", "elastic", "cubic", "nearest labels")
    bars = {
        (f"voxquarry {name}" if name in ours else name): [milliseconds]
        for name, milliseconds in record["128³"].items()
    }
    what = "milliseconds to turn and scale a patch of 128³, one core"
    _draw(path, bars, what, None, log=True)


def _draw(path: Path, bars: Bars, what: str, run: Any, log: bool = False) -> None:
    """Draws horizontal bars, the first above."""
    names = list(bars)[::-1]
    middles = [statistics.median(bars[name]) for name in names]
    below = [middle - min(bars[name]) for name, middle in zip(names, middles, strict=True)]
    above = [max(bars[name]) - middle for name, middle in zip(names, middles, strict=True)]
    figure, axes = plt.subplots(figsize=(7.5, 0.6 + 0.3 * len(names)), layout="constrained")
    colours = [OURS if name.startswith(("voxquarry", "vq")) else OTHERS for name in names]
    drawn = axes.barh(names, middles, xerr=[below, above], color=colours, ecolor="#37474f")
    axes.bar_label(drawn, labels=[f"{middle:,.4g}" for middle in middles], padding=6)
    if log:
        axes.set_xscale("log")
        axes.set_xlim(left=1)
        what += " (logarithmic)"
    axes.set_xmargin(0.15)
    axes.set_xlabel(what, loc="right")
    axes.spines[["top", "right"]].set_visible(False)
    if run is not None:
        machine = run["machine"]
        told = f"{run['date'][:10]}, commit {run['commit']}, {machine['cores']} cores"
        axes.set_title(f"{told}, {', '.join(machine['simd'])}", fontsize=7, loc="right")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _numbers(value: Any) -> Sequence[float]:
    return value if isinstance(value, list) else [value]


def _load(path: Path) -> Any:
    return json.loads(path.read_text())
