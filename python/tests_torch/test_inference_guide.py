"""The examples of the guide to inference run as they stand."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any

import numpy as np
from conftest import Pair


def test_examples(pair: Pair, examples: Callable[[str], list[CodeType]]) -> None:
    blocks = examples("inference.md")
    assert len(blocks) == 10
    names: dict[str, Any] = {}
    for block in blocks[:8]:
        exec(block, names)
    voxels = pair.voxels["a"]["ct"]
    # What every patch agrees on comes out as it is.
    assert np.array_equal(names["probabilities"], [voxels < 0, voxels >= 0])
    assert np.array_equal(names["labels"][...], voxels >= 0)
    assert names["labels"].kind == "labels"
    assert np.array_equal(names["again"][...], names["probabilities"])
    assert names["scores"].shape == (2, *voxels.shape)
    assert names["lesions"].kind == names["cells"].kind == "labels"
    assert np.array_equal(names["largest"] > 0, names["largest"] == 1)
    assert np.array_equal(names["cells"][...] > 0, voxels > 0)
    assert (names["own"][...] == (voxels >= 0)).mean() > 0.8
    exec(blocks[8], names)
    infer, given = names["voxquarry"].torch.infer, (names["network"], names["ct"], 16, 0.5)
    expected = infer(*given, finish="argmax", blend="host")
    # Scores of which two are equal but for rounding.
    assert (names["labels"] == expected).mean() > 0.999
    exec(blocks[9], names)
    assert names["scores"].shape == (1, 2, *voxels.shape)
