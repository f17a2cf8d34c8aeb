"""An aggregation that was interrupted continues where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import identical

import voxquarry as vq


def test_work_that_was_left_is_continued(tmp_path: Path) -> None:
    """Several shards: those that are whole need no patch again, and the result is the undisturbed
    one.
    """
    size, out = (160, 40, 40), tmp_path / "p.zarr" / "case" / "pred"
    grid = vq.GridSampler(16, overlap=8)
    starts = grid.locations(size)
    patches = np.random.default_rng(4).normal(0, 1, (len(starts), 16, 16, 16)).astype("f4")

    def begin(at: Path, **options: object) -> vq.Aggregator:
        arguments = {"resume": True, "memory_bytes": "34MiB", **options}
        return vq.Aggregator(grid, size, channels=None, out=at, **arguments)

    whole = begin(tmp_path / "whole.zarr" / "case" / "pred")
    whole.add(patches, starts)
    expected = whole.finish()
    first = begin(out)
    assert len(first.needed()) == len(starts)
    half = len(starts) * 2 // 3
    for n in range(half):
        first.add(patches[n], starts[n])
    with pytest.raises(
        vq.UsageError, match=r"another process, or an unfinished aggregator of this one.*close\(\)"
    ):
        begin(out)
    del first
    for other in ({"window": "average"}, {"dtype": "f8"}, {"resume": "another model"}):
        with pytest.raises(vq.UsageError, match="begun with other arguments"):
            begin(out, **other)
    second = begin(out)
    needed = second.needed()
    assert 0 < len(needed) < len(starts) and second.missing == len(needed)
    assert identical(needed, starts[len(starts) - len(needed) :])
    assert second.has(starts[0])
    second.add(patches[len(starts) - len(needed) :], needed)
    found = second.finish()
    assert identical(found[...], expected[...])
    assert found.stats == expected.stats
    assert not (tmp_path / "p.zarr" / ".voxquarry-partial").exists()
    vq.verify(tmp_path / "p.zarr")
