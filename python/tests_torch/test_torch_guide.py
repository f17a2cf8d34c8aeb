"""The guide's examples run as they stand."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType


def test_examples(examples: Callable[[str], list[CodeType]]) -> None:
    blocks = examples("pytorch.md")
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert names["images"].shape == (4, 1, 16, 16, 16)
    assert names["state"]["epoch"] == 2
    assert names["volume"].shape[1:] == names["subjects"][0].spatial_shape
    assert names["batch"]["ct"].shape == (4, 1, 16, 16, 16)
