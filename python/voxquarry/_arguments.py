"""What the arguments of several commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ._native import Volume


def numbers(kind: type) -> Any:
    """Parses a number, or three with commas, as of a patch size."""

    def parse(text: str) -> Any:
        parts = [kind(part) for part in text.split(",")]
        if len(parts) not in (1, 3):
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number, or three as in 8,16,16")
        return parts[0] if len(parts) == 1 else parts

    # For argparse's message about other text.
    parse.__name__ = kind.__name__
    return parse


def patch_size_of(volume: Volume, within: Sequence[int]) -> list[int]:
    """The patch size, ``(z, y, x)``, that a volume was ingested for, clipped to an extent."""
    asked = (*volume.patch_sizes, (96, 96, 96))[0]
    return [min(n, extent) for n, extent in zip(asked, within, strict=True)]
