"""Tables and histograms of a page about a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray


def histogram(counts: NDArray[np.int64], ends: tuple[str, str]) -> str:
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


def table(head: Iterable[str], rows: Sequence[Sequence[str]], odd: Iterable[int] = ()) -> str:
    marked = set(odd)
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr{' class=odd' if n in marked else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for n, row in enumerate(rows)
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
