"""Shared by all tests: temporary files in memory, and a SIGINT that is not ignored."""

import os
from pathlib import Path

from helpers import hear_interrupts

# Writers flush every file to disk, which costs nothing in memory.
MEMORY = Path("/dev/shm")

if os.access(MEMORY, os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

hear_interrupts()
