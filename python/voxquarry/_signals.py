"""Signal handlers for a while."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


@contextmanager
def handled(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Sets the handler of some signals, and sets what was there before when the block ends.

    A program that calls a command goes on after it, with its own Ctrl-C.
    """
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, earlier in before:
            # A handler that Python did not set cannot be set again by it.
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
