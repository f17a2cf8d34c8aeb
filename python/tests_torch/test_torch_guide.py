"""The guide's examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Pair

GUIDE = Path(__file__).parents[2] / "docs" / "pytorch.md"


def test_examples(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store.zarr").symlink_to(pair.path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    assert names["images"].shape == (4, 1, 16, 16, 16)
    assert names["state"]["epoch"] == 1
    assert names["volume"].shape[1:] == names["subjects"][0].spatial_shape
    assert names["batch"]["ct"].shape == (4, 1, 16, 16, 16)
