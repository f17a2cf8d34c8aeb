"""How large labels are: of one volume, and of all subjects; a table and pictures.

Of a volume the largest ``_MOST_KEPT`` labels are kept, of whatever else there is how many labels
and voxels they are: a map of 100,000 objects costs no more than one of organs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._native import Volume
from ._report_drawing import histogram, table

# Labels of a volume that are kept, that are listed, and that have a row of the picture.
_MOST_KEPT, _MOST_LISTED, _MOST_DRAWN = 1000, 100, 30
#: Millimetres in a unit, and what a cubic one is called.
_UNITS = {"millimeter": (1.0, "mm³"), "micrometer": (1e-3, "µm³"), "meter": (1e3, "m³")}
# Of the picture, in pixels: the names, the axis, a row. A subject's mark is one part of the axis.
_LEFT, _AXIS, _ROW, _PARTS = 190, 480, 20, 240


@dataclass(frozen=True)
class LabelFacts:
    """How large the labels of a volume are."""

    subject: str
    #: The largest labels, ascending, and their voxels.
    labels: NDArray[np.int64]
    voxels: NDArray[np.int64]
    #: Of all labels.
    count: int
    all_voxels: int
    #: How many labels have ``2**k`` to ``2**(k + 1) - 1`` voxels.
    sizes: NDArray[np.int64]
    #: Voxels of the volume, those of label 0 too.
    volume_voxels: int
    #: Of one voxel, in cubic ``unit``.
    voxel_volume: float
    unit: str
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)

    @property
    def voxel_mm3(self) -> float:
        """The volume of a voxel in mm³."""
        return self.voxel_volume * _UNITS[self.unit][0] ** 3


@dataclass
class _Total:
    """A label in all subjects: its voxels and volume, and that of each subject."""

    label: int
    voxels: int = 0
    volumes: list[float] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Rest:
    """The labels that are not listed."""

    labels: int
    voxels: int
    mm3: float


def label_facts(volume: Volume) -> LabelFacts:
    """Measures the labels of a label map by the counts that the store holds."""
    counts = volume.labels
    labels = np.fromiter(counts.keys(), np.int64, len(counts))
    voxels = np.fromiter(counts.values(), np.int64, len(counts))
    del counts
    # The largest, the first of equal ones.
    kept = np.sort(np.lexsort((labels, -voxels))[:_MOST_KEPT])
    chosen = labels[kept].tolist()
    names, colours = volume.label_names, volume.label_colors
    return LabelFacts(
        subject=volume.subject.name,
        labels=labels[kept],
        voxels=voxels[kept],
        count=len(labels),
        all_voxels=int(voxels.sum()),
        # Exact: a voxel count has less than the 53 bits of the fraction.
        sizes=np.bincount(np.frexp(voxels.astype(np.float64))[1] - 1, minlength=1),
        volume_voxels=int(np.prod(volume.shape)),
        voxel_volume=abs(float(np.linalg.det(volume.affine[:3, :3]))),
        unit=volume.unit,
        names={n: names[n] for n in chosen if n in names},
        colours={n: colours[n] for n in chosen if n in colours},
    )


def listed(facts: Sequence[LabelFacts]) -> dict[str, Any]:
    """The largest labels of one or several volumes, and what the others are together, for JSON."""
    totals, rest = _totals(facts, "millimeter")
    names = _names(facts)
    largest = [
        {
            "label": total.label,
            "name": names.get(total.label),
            "subjects": len(total.subjects),
            "voxels": total.voxels,
            "mm3": sum(total.volumes),
        }
        for total in totals
    ]
    others = {"labels": rest.labels, "voxels": rest.voxels, "mm3": rest.mm3}
    return {"largest": largest, "others": others, "voxels": sum(f.volume_voxels for f in facts)}


def labels_section(facts: Sequence[LabelFacts]) -> str:
    """The table of labels and their pictures, as HTML; nothing where no volume has a label."""
    if not any(f.count for f in facts):
        return ""
    units = {f.unit for f in facts}
    unit = units.pop() if len(units) == 1 else "millimeter"
    totals, rest = _totals(facts, unit)
    names, called = _names(facts), _UNITS[unit][1]
    all_voxels = sum(f.volume_voxels for f in facts)
    rows = [
        (
            f"{total.label} {names.get(total.label, '')}".strip(),
            str(len(total.subjects)),
            f"{total.voxels:,}",
            f"{sum(total.volumes):,.6g}",
            f"{total.voxels / all_voxels:.3%}",
        )
        for total in sorted(totals, key=lambda total: total.label)
    ]
    note = ""
    if rest.labels:
        share = f"{rest.voxels / all_voxels:.3%}"
        size = rest.mm3 / _UNITS[unit][0] ** 3
        rows.append(("all others", "", f"{rest.voxels:,}", f"{size:,.6g}", share))
        note = (
            f"<p>These are the {len(totals)} largest labels; the others are {rest.labels:,} labels"
            " of subjects.</p>"
        )
    head = ("label", "subjects", "voxels", called, "of all voxels")
    return _picture(totals, facts, called) + _sizes(facts) + table(head, rows) + note


def _totals(facts: Sequence[LabelFacts], unit: str) -> tuple[list[_Total], _Rest]:
    """The largest labels of all volumes, the largest first, with volumes in ``unit``; the rest."""
    totals: dict[int, _Total] = {}
    labels = voxels = 0
    mm3 = 0.0
    for f in facts:
        scale = f.voxel_mm3 / _UNITS[unit][0] ** 3
        for label, count in zip(f.labels.tolist(), f.voxels.tolist(), strict=True):
            total = totals.setdefault(label, _Total(label))
            total.voxels += count
            total.volumes.append(count * scale)
            total.subjects.append(f.subject)
        labels += f.count - len(f.labels)
        left = f.all_voxels - int(f.voxels.sum())
        voxels, mm3 = voxels + left, mm3 + left * f.voxel_mm3
    ordered = sorted(totals.values(), key=lambda total: (-total.voxels, total.label))
    for total in ordered[_MOST_LISTED:]:
        labels, voxels = labels + len(total.subjects), voxels + total.voxels
        mm3 += sum(total.volumes) * _UNITS[unit][0] ** 3
    return ordered[:_MOST_LISTED], _Rest(labels, voxels, mm3)


def _names(facts: Sequence[LabelFacts]) -> dict[int, str]:
    names: dict[int, str] = {}
    for f in facts:
        names |= f.names
    return names


def _picture(totals: Sequence[_Total], facts: Sequence[LabelFacts], unit: str) -> str:
    """A row for each of the largest labels: a bar to the median of the subjects that have it, and
    a mark for each of them, on a logarithmic axis.
    """
    drawn = sorted(totals[:_MOST_DRAWN], key=lambda total: total.label)
    volumes = np.array([size for total in drawn for size in total.volumes])
    if not (volumes > 0).all():
        # Of a grid whose voxels have no volume.
        return ""
    sizes = np.log10(volumes)
    low = int(np.floor(sizes.min()))
    decades = max(1, int(np.ceil(sizes.max())) - low)
    names = _names(facts)
    colours: dict[int, str] = {}
    for f in facts:
        colours |= f.colours
    rows = [
        _row(n, total, names.get(total.label, ""), colours.get(total.label, ""), (low, decades))
        for n, total in enumerate(drawn)
    ]
    bottom = len(drawn) * _ROW
    every = -(-decades // 12)
    ticks = "".join(
        f'<path d="M{_at(k, 0, decades)} 0V{bottom}" stroke="#d5dae2"/>'
        f'<text x="{_at(k, 0, decades)}" y="{bottom + 14}" text-anchor="middle">{_power(low + k)}'
        "</text>"
        for k in range(0, decades + 1, every)
    )
    more = f", of the {len(drawn)} largest labels" if len(drawn) < len(totals) else ""
    title = f"{unit} of each label{more}: a mark for each subject, and a bar to their median"
    return (
        f'<p>{title}.</p><svg class="labels" width="{_LEFT + _AXIS + 90}" height="{bottom + 20}">'
        f"{ticks}{''.join(rows)}</svg>"
    )


def _row(n: int, total: _Total, name: str, colour: str, axis: tuple[int, int]) -> str:
    low, decades = axis
    sizes = np.log10(total.volumes)
    median = float(np.median(total.volumes))
    fill = colour if re.fullmatch(r"#[0-9a-fA-F]{6}", colour) else "#4369b2"
    text = f"{total.label} {name}".strip()
    text = text if len(text) <= 26 else f"{text[:25]}…"
    top, end = n * _ROW, _at(float(np.log10(median)), low, decades)
    marks: dict[int, list[int]] = {}
    for k, part in enumerate(((sizes - low) / decades * _PARTS).astype(int).tolist()):
        marks.setdefault(part, []).append(k)
    drawn = []
    for part, subjects in marks.items():
        few = "; ".join(f"{total.subjects[k]}: {total.volumes[k]:.6g}" for k in subjects[:3])
        more = f"; and {len(subjects) - 3} more" if len(subjects) > 3 else ""
        x = _LEFT + part * _AXIS // _PARTS
        drawn.append(
            f'<path d="M{x} {top + 3}v{_ROW - 6}" stroke="#1c222b" stroke-opacity="0.7">'
            f"<title>{escape(few + more)}</title></path>"
        )
    return (
        f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(text)}</text>'
        f'<rect x="{_LEFT}" y="{top + 5}" width="{max(end - _LEFT, 1)}" height="{_ROW - 10}"'
        f' style="fill: {fill}; fill-opacity: 0.6"/>{"".join(drawn)}'
        f'<text x="{_LEFT + _AXIS + 8}" y="{top + 14}">{median:,.4g}</text>'
    )


def _at(size: float, low: int, decades: int) -> int:
    """Where a decimal logarithm lies on the axis."""
    return round(_LEFT + (size - low) / decades * _AXIS)


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}"


def _sizes(facts: Sequence[LabelFacts]) -> str:
    """How many labels are how large; only where a volume has more than the picture has rows."""
    most = max(f.count for f in facts)
    if most <= _MOST_DRAWN:
        return ""
    counts = np.zeros(max(len(f.sizes) for f in facts), np.int64)
    for f in facts:
        counts[: len(f.sizes)] += f.sizes
    first = int(np.flatnonzero(counts)[0])
    ends = (f"{2**first:,} voxels", f"{2 ** len(counts) - 1:,}")
    title = (
        f"Sizes of labels, up to {most:,} in a subject: each bar has labels of up to twice the"
        " voxels of the one before; its height is the logarithm of their number"
    )
    return f"<p>{title}.</p>" + histogram(counts[first:], ends)
