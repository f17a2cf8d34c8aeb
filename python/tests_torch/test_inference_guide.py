"""The examples of the guide to inference run as they stand."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any

import numpy as np
from conftest import Pair


def test_examples(pair: Pair, examples: Callable[[str], list[CodeType]]) -> None:
    blocks = examples("inference.md")
    assert len(blocks) == 6
    names: dict[str, Any] = {}
    for block in blocks[:4]:
        exec(block, names)
    voxels = pair.voxels["a"]["ct"]
    # What every patch agrees on comes out as it is.
    assert np.array_equal(names["probabilities"], [voxels < 0, voxels >= 0])
    assert np.array_equal(names["labels"][...], voxels >= 0)
    assert names["labels"].kind == "labels"
    assert np.array_equal(names["again"][...], names["probabilities"])
    assert names["scores"].shape == (2, *voxels.shape)
    scores = names["scores"].argmax(0)
    exec(blocks[4], names)
    # The scores were computed in bfloat16, and mirrored.
    assert (names["labels"] == scores).mean() > 0.9
    exec(blocks[5], names)
    assert names["scores"].shape == (1, 2, *voxels.shape)
