"""Fixtures for the tests of the independent reader."""

import shutil
from pathlib import Path

import pytest
from golden_store import V1


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A golden store that a test may damage."""
    return Path(shutil.copytree(V1, tmp_path / "store"))
