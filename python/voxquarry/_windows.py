"""Windows: the values that are shown as black and as white."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._errors import UsageError

#: Of CT, in Hounsfield units: width 1500 at -600, 2000 at 400, 400 at 40, 80 at 40.
PRESETS = {
    "lung": (-1350.0, 150.0),
    "bone": (-600.0, 1400.0),
    "soft": (-160.0, 240.0),
    "brain": (0.0, 80.0),
}
_PERCENTILES = (0.5, 99.5)


def window_of(given: str | tuple[float, float]) -> tuple[float, float]:
    """A window by its name, or of two numbers; as text also ``"-160,240"``.

    Raises:
        UsageError: Neither, or a second number that is not above the first.
    """
    numbers: list[float]
    try:
        if isinstance(given, str):
            if given in PRESETS:
                return PRESETS[given]
            numbers = [float(part) for part in given.split(",")]
        else:
            numbers = [float(number) for number in given]
        low, high = numbers
    except (TypeError, ValueError):
        low = high = 0.0
    if not (np.isfinite([low, high]).all() and low < high):
        names = ", ".join(PRESETS)
        raise UsageError(f"window {given!r}: expected {names}, or LOW,HIGH as in -160,240")
    return low, high


def robust(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Percentiles that leave out extremes; None where no value is finite or all are equal."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = np.percentile(finite, _PERCENTILES)
    if not low < high:
        low, high = finite.min(), finite.max()
    return (float(low), float(high)) if low < high else None
