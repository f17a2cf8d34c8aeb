"""Shared by all tests: temporary files in memory, a SIGINT that is not ignored, and a server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import hear_interrupts
from remote_server import RemoteServer

# Writers flush every file to disk, which costs nothing in memory.
MEMORY = Path("/dev/shm")

if os.access(MEMORY, os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

hear_interrupts()


@pytest.fixture(scope="module")
def running(local: Path) -> Iterator[RemoteServer]:
    """Serves the folder of the bucket in which the module's store ``local`` lies."""
    with RemoteServer(local.parent.parent) as server:
        yield server


@pytest.fixture
def server(running: RemoteServer) -> RemoteServer:
    """The server, which does nothing wrong yet."""
    running.faults()
    running.reset()
    return running
