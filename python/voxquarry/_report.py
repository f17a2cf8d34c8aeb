"""A page about a data set: extents, spacings, intensities, labels, and what is unusual in them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from html import escape
from math import prod

import numpy as np

from ._native import Dataset
from ._report_drawing import histogram, table
from ._report_facts import AllFacts, Facts, numbers_of, reasons_of
from ._report_labels import labels_section

_BINS = 64
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


def page(dataset: Dataset, volumes: AllFacts) -> str:
    """The page as HTML."""
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


def _splits(dataset: Dataset) -> str:
    splits = dataset.splits
    if not splits:
        return ""
    rows = [(name, str(len(subjects))) for name, subjects in splits.items()]
    return table(("split", "subjects"), rows)


def _missing(dataset: Dataset, volumes: AllFacts) -> str:
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


def _extents(facts: Sequence[Facts]) -> str:
    """How often each shape and spacing comes, the commonest first."""
    shapes = Counter(" × ".join(map(str, f.shape)) for f in facts)
    spacings = Counter(" × ".join(f"{s:.4g}" for s in f.spacing) + f" {f.unit}" for f in facts)
    types = Counter(f.dtype for f in facts)
    tables = (("shape", shapes), ("spacing (z, y, x)", spacings), ("type", types))
    parts = (
        table(
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


def _intensities(facts: Sequence[Facts]) -> str:
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
    return f"<p>{title}</p>" + histogram(counts, (f"{edges[0]:.4g}", f"{edges[-1]:.4g}"))


def _labels(facts: Sequence[Facts]) -> str:
    unknown = sum(f.labels is None for f in facts)
    note = f"<p>{unknown} label maps have no label counts.</p>" if unknown else ""
    return note + labels_section([f.labels for f in facts if f.labels is not None])


def _listing(facts: Sequence[Facts], kind: str) -> str:
    """The subjects that are unusual first; those that are not only where all fit."""
    numbers = numbers_of(facts, kind)
    reasons = reasons_of(facts, kind, numbers)
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
    return title + table(("subject", *numbers, "unusual"), rows, odd) + rest


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
