"""Somebody who pans and zooms for long: the memory of ``vq.view``'s server stays where it was.

``view_walk.py`` walks 10,000 steps by hand; ``docs/viewer.md`` has its figures.
"""

from __future__ import annotations

from pathlib import Path

import browser
import numpy as np
import pytest
from view_walk import Viewed, Walker, memory

import voxquarry as vq

# What a process holds is read from /proc.
pytestmark = pytest.mark.linux

SIDE = 256
MIB = 1 << 20
# In the page: pans, zooms and jumps by a seed, each drawn before the next.
STEPS = """
(async () => {
  const nav = viewer.navigationState;
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  for (let step = 0; step < 200; step++) {
    const kind = random();
    const move = kind < 0.6 ? (v) => v + (random() - 0.5) * 60 : () => random() * 256;
    if (kind < 0.6 || kind > 0.9) nav.position.value = Float32Array.from(nav.position.value, move);
    else nav.zoomFactor.value *= 2 ** (random() * 2 - 1);
    nav.zoomFactor.value = Math.min(Math.max(nav.zoomFactor.value, 0.2), 2);
    await new Promise(requestAnimationFrame);
  }
  return 'walked';
})()
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A volume with two coarser levels, whose chunks do not compress."""
    voxels = np.random.default_rng(0).integers(0, 256, (SIDE,) * 3, dtype=np.uint8)
    vq.ingest({"a": {"ct": voxels}}, tmp_path / "s.zarr", patch_size=64, levels=2)
    return tmp_path / "s.zarr"


def test_the_servers_memory_does_not_grow(store: Path) -> None:
    with Viewed(f"{store}/a/ct") as viewed:
        walker = Walker(viewed.url, kept=8)
        assert [level.size[0] for level in walker.levels] == [256, 128, 64]
        for _ in range(100):
            walker.step()
        before, asked = memory(viewed.process.pid)["RssAnon"], walker.requests
        for _ in range(200):
            walker.step()
        after = memory(viewed.process.pid)["RssAnon"]
        walker.close()
    # A server that kept a tenth of these chunks would fail.
    assert (walker.requests - asked) * SIDE**3 / 64 > 10 * 16 * MIB
    assert after - before < 16 * MIB
    assert after < 128 * MIB


def test_pans_and_zooms_of_a_page(store: Path, tmp_path: Path) -> None:
    if browser.found() is None:
        pytest.skip("there is no Chromium")
    with Viewed(f"{store}/a/ct") as viewed, browser.Page(tmp_path, 500, 400) as page:
        page.open(viewed.url)
        page.wait_for_viewer()
        before = memory(viewed.process.pid)["RssAnon"]
        first = len(page.requested)
        assert page.evaluate(STEPS) == "walked"
        page.wait_for("viewer.isReady()")
        assert (page.logged, page.failed) == ([], [])
        assert len(page.requested) - first > 20
        assert memory(viewed.process.pid)["RssAnon"] - before < 32 * MIB
        # It is still drawn: noise, and not one colour.
        assert page.screenshot().std() > 20
