"""What the arguments of several commands have in common."""

from __future__ import annotations

import argparse
from typing import Any


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
