"""A page about a data set: extents, spacings, intensities and labels, and what is unusual in them.

Numbers come from documents and label counts; the histograms of images from blocks that are spread
over each volume. Memory is that of one volume's blocks and of a few numbers for each volume.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import prod

import numpy as np
from numpy.typing import NDArray

from ._native import Dataset, Volume
from ._paths import document
from ._values import real_range, real_values

_BINS = 64
_SIDE = 16
# A subject is unusual beyond this many deviations (scaled median absolute ones) from the median.
_UNUSUAL = 5.0
# More subjects are summed up, and not listed.
_MOST_LISTED = 500
_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 24px auto; max-width: 1000px; color: #1c222b; }
h1 { font-size: 22px; } h2 { font-size: 17px; margin-top: 32px; }
table { border-collapse: collapse; } td, th { padding: 3px 10px; text-align: right; }
th { border-bottom: 1px solid #9aa3b2; } td:first-child, th:first-child { text-align: left; }
.odd td { background: #fff1d6; } svg { display: block; margin: 6px 0; }
.row { display: flex; flex-wrap: wrap; gap: 32px; align-items: flex-start; margin-bottom: 12px; }
svg rect { fill: #4369b2; } svg text { font-size: 11px; fill: #5b6472; } p { max-width: 720px; }
"""


@dataclass(frozen=True)
class _Facts:
    """What the page says of a volume."""

    subject: str
    shape: tuple[int, ...]
    dtype: str
    spacing: tuple[float, ...]
    unit: str
    low: float | None
    high: float | None
    mean: float | None
    std: float | None
    not_finite: int
    counts: dict[int, int] | None
    names: dict[int, str]
    sample: NDArray[np.float64]


def page(dataset: Dataset, samples: int) -> str:
    """The page as HTML.

    Args:
        dataset: The store.
        samples: Blocks of 16³ voxels that are read of each image.
    """
    volumes: dict[tuple[str, str], list[_Facts]] = defaultdict(list)
    for name in dataset:
        for volume in dataset[name].values():
            volumes[volume.name, volume.kind].append(_facts(volume, samples))
    all_voxels = sum(prod(f.shape) for facts in volumes.values() for f in facts)
    parts = [
        f"<h1>{escape(dataset.path)}</h1>",
        f"<p>{len(dataset)} subjects, {sum(map(len, volumes.values()))} volumes,"
        f" {all_voxels:,} voxels.</p>",
        _splits(dataset),
        _missing(dataset, volumes),
    ]
    for (name, kind), facts in sorted(volumes.items()):
        parts.append(f"<h2>{escape(name)} ({kind}, {len(facts)} subjects)</h2>")
        parts.append(_extents(facts))
        parts.append(_intensities(facts) if kind == "image" else _labels(facts))
        parts.append(_listing(facts, kind))
    head = f"<meta charset='utf-8'><title>{escape(dataset.path)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"


def _facts(volume: Volume, samples: int) -> _Facts:
    stats, extent = volume.stats, real_range(volume)
    is_image = volume.kind == "image"
    scale, shift = (volume.slope, volume.intercept) if is_image else (1.0, 0.0)
    counts = None
    if not is_image and "summary_crc32c" in document(volume)["voxquarry"]:
        counts = volume.labels
    mean, std = stats["mean"], stats["std"]
    return _Facts(
        subject=volume.subject.name,
        shape=volume.shape,
        dtype=volume.dtype.name,
        spacing=volume.spacing,
        unit=volume.unit,
        low=extent[0] if extent else None,
        high=extent[1] if extent else None,
        mean=None if mean is None else mean * scale + shift,
        std=None if std is None else std * abs(scale),
        not_finite=stats["non_finite"],
        counts=counts,
        names=dict(volume.label_names),
        sample=_sample(volume, samples) if is_image else np.empty(0),
    )


def _sample(volume: Volume, samples: int) -> NDArray[np.float64]:
    """Real values of blocks that are spread over a volume."""
    if not samples:
        return np.empty(0)
    size = volume.shape[-3:]
    extent = [min(_SIDE, n) for n in size]
    # Places of a lattice without a common step: the fractional parts of multiples.
    steps = np.arange(1, samples + 1)[:, None] * [0.8191725134, 0.6710436067, 0.5497004779]
    room = np.array(size) - extent
    starts = np.floor(steps % 1.0 * (room + 1)).astype(np.int64)
    blocks = real_values(volume).read_batch(starts, extent)
    values = blocks.astype(np.float64).ravel()
    finite: NDArray[np.float64] = values[np.isfinite(values)]
    return np.quantile(finite, np.linspace(0, 1, 1001)) if finite.size else finite


def _splits(dataset: Dataset) -> str:
    splits = dataset.splits
    if not splits:
        return ""
    rows = [(name, str(len(subjects))) for name, subjects in splits.items()]
    return _table(("split", "subjects"), rows)


def _missing(dataset: Dataset, volumes: dict[tuple[str, str], list[_Facts]]) -> str:
    """Volumes that some subjects have and others lack."""
    having: dict[str, set[str]] = defaultdict(set)
    for (name, _), facts in volumes.items():
        having[name] |= {f.subject for f in facts}
    lines = []
    for name, subjects in sorted(having.items()):
        lacking = [subject for subject in dataset if subject not in subjects]
        if lacking:
            some = ", ".join(lacking[:10]) + (", …" if len(lacking) > 10 else "")
            lines.append(f"<li>{len(lacking)} lack {escape(name)}: {escape(some)}</li>")
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _extents(facts: Sequence[_Facts]) -> str:
    """How often each shape and spacing comes, the commonest first."""
    shapes = Counter(" × ".join(map(str, f.shape)) for f in facts)
    spacings = Counter(" × ".join(f"{s:.4g}" for s in f.spacing) + f" {f.unit}" for f in facts)
    types = Counter(f.dtype for f in facts)
    tables = (("shape", shapes), ("spacing (z, y, x)", spacings), ("type", types))
    parts = (
        _table(
            (name, "subjects"),
            [(value, str(count)) for value, count in found.most_common(12)]
            + (
                [("others", str(sum(found.values()) - sum(c for _, c in found.most_common(12))))]
                if len(found) > 12
                else []
            ),
        )
        for name, found in tables
    )
    return f"<div class=row>{''.join(parts)}</div>"


def _intensities(facts: Sequence[_Facts]) -> str:
    quantiles = [f.sample for f in facts if f.sample.size]
    if not quantiles:
        return ""
    # Each subject counts alike, whatever its size.
    values = np.concatenate(quantiles)
    low, high = np.percentile(values, [0.1, 99.9])
    if not low < high:
        low, high = values.min(), values.max() + 1.0
    counts, edges = np.histogram(values.clip(low, high), _BINS, (low, high))
    title = (
        "Real values of all subjects, from the percentile 0.1 to 99.9; the height of a bar is the"
        " logarithm of its share"
    )
    return f"<p>{title}</p>" + _histogram(counts, (f"{edges[0]:.4g}", f"{edges[-1]:.4g}"))


def _labels(facts: Sequence[_Facts]) -> str:
    totals: Counter[int] = Counter()
    having: Counter[int] = Counter()
    names: dict[int, str] = {}
    for f in facts:
        totals.update(f.counts or {})
        having.update((f.counts or {}).keys())
        names |= f.names
    unknown = sum(f.counts is None for f in facts)
    note = f"<p>{unknown} label maps have no label counts.</p>" if unknown else ""
    if not totals:
        return note
    known = sum(prod(f.shape) for f in facts if f.counts is not None)
    rows = [
        (
            f"{label} {names.get(label, '')}".strip(),
            str(having[label]),
            f"{voxels:,}",
            f"{voxels / known:.3%}",
        )
        for label, voxels in sorted(totals.items())[:100]
    ]
    more = f"<p>and {len(totals) - 100} more labels.</p>" if len(totals) > 100 else ""
    return note + _table(("label", "subjects", "voxels", "of all voxels"), rows) + more


def _listing(facts: Sequence[_Facts], kind: str) -> str:
    """The subjects that are unusual first; those that are not only where all fit."""
    numbers: dict[str, list[float | None]] = {
        "extent z": [float(f.shape[-3]) for f in facts],
        "extent y": [float(f.shape[-2]) for f in facts],
        "extent x": [float(f.shape[-1]) for f in facts],
        "spacing z": [f.spacing[0] for f in facts],
        "spacing y": [f.spacing[1] for f in facts],
        "spacing x": [f.spacing[2] for f in facts],
    }
    if kind == "image":
        numbers |= {
            "least": [f.low for f in facts],
            "greatest": [f.high for f in facts],
            "mean": [f.mean for f in facts],
            "deviation": [f.std for f in facts],
        }
    else:
        numbers["labelled"] = [
            None if f.counts is None else sum(f.counts.values()) / prod(f.shape) for f in facts
        ]
    reasons: dict[int, list[str]] = defaultdict(list)
    for name, values in numbers.items():
        for n in unusual(values):
            reasons[n].append(name)
    for n, f in enumerate(facts):
        if f.not_finite:
            reasons[n].append(f"{f.not_finite} voxels that are not finite")
        if kind == "image" and f.low is not None and f.low == f.high:
            reasons[n].append("all voxels are equal")
        if kind == "labels" and f.counts == {}:
            reasons[n].append("no label")
    order = sorted(range(len(facts)), key=lambda n: (n not in reasons, facts[n].subject))
    shown = order if len(order) <= _MOST_LISTED else [n for n in order if n in reasons]
    shown = shown[:_MOST_LISTED]
    rows = [
        (
            facts[n].subject,
            *(_number(values[n]) for values in numbers.values()),
            ", ".join(reasons.get(n, [])),
        )
        for n in shown
    ]
    left = len(order) - len(shown)
    rest = f"<p>{left} more subjects are not listed.</p>" if left else ""
    count = sum(n in reasons for n in order)
    title = f"<p>{count} of {len(facts)} subjects are unusual.</p>"
    odd = {row for row, n in enumerate(shown) if n in reasons}
    return title + _table(("subject", *numbers, "unusual"), rows, odd) + rest


def unusual(values: Sequence[float | None]) -> list[int]:
    """The numbers far from the median: more than five deviations, by the median of deviations.

    Where more than half are equal, every other one that differs by more than a tenth is.
    """
    known = np.array([np.nan if value is None else value for value in values])
    finite = known[np.isfinite(known)]
    if finite.size < 3:
        return []
    middle = np.median(finite)
    deviations = np.abs(known - middle)
    scale = 1.4826 * np.median(np.abs(finite - middle))
    limit = _UNUSUAL * scale if scale > 0 else 0.1 * abs(middle)
    with np.errstate(invalid="ignore"):
        return [int(n) for n in np.flatnonzero(deviations > limit)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _histogram(counts: NDArray[np.int64], ends: tuple[str, str]) -> str:
    """Bars of logarithmic height, down to a ten thousandth of the tallest, and both ends."""
    width, height = 10, 120
    shares = counts / max(int(counts.max()), 1)
    heights = height * (1 + np.log10(np.maximum(shares, 1e-4)) / 4)
    bars = "".join(
        f'<rect x="{n * width}" y="{height - tall:.1f}" width="{width - 1}" height="{tall:.1f}"/>'
        for n, tall in enumerate(heights.tolist())
    )
    right = len(counts) * width
    return (
        f'<svg width="{right}" height="{height + 16}">{bars}'
        f'<text x="0" y="{height + 13}">{escape(ends[0])}</text>'
        f'<text x="{right}" y="{height + 13}" text-anchor="end">{escape(ends[1])}</text></svg>'
    )


def _table(head: Iterable[str], rows: Sequence[Sequence[str]], odd: Iterable[int] = ()) -> str:
    marked = set(odd)
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr{' class=odd' if n in marked else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for n, row in enumerate(rows)
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
