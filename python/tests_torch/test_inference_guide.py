"""The examples of the guide to inference run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Pair

GUIDE = Path(__file__).parents[2] / "docs" / "inference.md"


def test_examples(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store.zarr").symlink_to(pair.path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    for block in blocks[:3]:
        exec(compile(block, str(GUIDE), "exec"), names)
    voxels = pair.voxels["a"]["ct"]
    # What every patch agrees on comes out as it is.
    assert np.array_equal(names["probabilities"], [voxels < 0, voxels >= 0])
    assert np.array_equal(names["labels"][...], voxels >= 0)
    assert names["labels"].kind == "labels"
    assert np.array_equal(names["again"][...], names["probabilities"])
    assert names["scores"].shape == (2, *voxels.shape)
    exec(compile(blocks[3], str(GUIDE), "exec"), names)
    assert names["scores"].shape == (1, 2, *voxels.shape)
