"""Shared by all tests: temporary files in memory, and a SIGINT that is not ignored."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# Writers flush every file to disk, which costs nothing in memory.
MEMORY = Path("/dev/shm")

if os.access(MEMORY, os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt here and in child processes.

    A shell starts background jobs with SIGINT ignored, and children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
