"""``voxquarry report``: one page whose numbers are those of the data set."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import smooth

import voxquarry as vq
from voxquarry import __main__ as command
from voxquarry._report import unusual


class Tables(HTMLParser):
    """The cells of all tables, row by row, and every address in the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self._cell: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        self._cell = "" if tag in ("td", "th") else self._cell

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.rows[-1].append(self._cell)
            self._cell = None


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Five subjects alike, and one of another spacing, extent and brightness, without labels."""
    mask = np.zeros((20, 21, 22), "u1")
    mask[:5], mask[5:6] = 1, 7
    for n in range(5):
        volumes = {"ct": smooth((20, 21, 22)) // 100, "seg": vq.Labels(mask)}
        vq.ingest({f"case{n}": volumes}, tmp_path / "s.zarr", patch_size=16, spacing=(2, 1, 1))
    odd = {"ct": np.full((40, 21, 22), 9000, "i2")}
    vq.ingest({"<odd>&": odd}, tmp_path / "s.zarr", patch_size=16, spacing=(8, 1, 1))
    return tmp_path / "s.zarr"


def report(store: Path, *options: str) -> Tables:
    out = store.with_name("report.html")
    assert command.main(["report", str(store), str(out), "--overwrite", *options]) == 0
    text = out.read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script", text)
    return Tables(text)


def test_the_page_has_the_numbers_of_the_store(store: Path) -> None:
    found = report(store)
    assert found.addresses == []
    for row in (
        ["20 × 21 × 22", "5"],
        ["40 × 21 × 22", "1"],
        ["2 × 1 × 1 millimeter", "5"],
        ["8 × 1 × 1 millimeter", "1"],
        ["int16", "6"],
        ["1", "5", "11,550", "25.000%"],
        ["7", "5", "2,310", "5.000%"],
    ):
        assert row in found.rows, row
    # A histogram of images, none of labels.
    assert found.tags.count("svg") == 1
    rows = {row[0]: row for row in found.rows}
    stats = vq.open(store)["case0"]["ct"].stats
    ct = next(row for row in found.rows if row[0] == "case0")
    assert ct[1:7] == ["20", "21", "22", "2", "1", "1"]
    assert ct[7:9] == [f"{stats['min']:.5g}", f"{stats['max']:.5g}"] and ct[-1] == ""
    assert rows["<odd>&"][-1] == (
        "extent z, spacing z, least, greatest, mean, deviation, all voxels are equal"
    )
    assert report(store, "--samples", "0").tags.count("svg") == 0


def test_subjects_that_lack_a_volume_are_named(store: Path) -> None:
    report(store)
    assert "1 lack seg: &lt;odd&gt;&amp;" in store.with_name("report.html").read_text()


def test_real_values_and_voxels_that_are_not_finite(tmp_path: Path) -> None:
    voxels = np.linspace(0, 1, 8000, dtype="f4").reshape(20, 20, 20)
    broken = voxels.copy()
    broken[0, 0, :3] = np.nan
    empty = np.full((20, 20, 20), np.inf, "f4")
    volumes = {"a": voxels, "b": broken, "c": empty}
    vq.ingest({n: {"ct": v} for n, v in volumes.items()}, tmp_path / "s.zarr", patch_size=16)
    reasons = {row[0]: row[-1] for row in report(tmp_path / "s.zarr").rows}
    assert reasons["a"] == ""
    assert reasons["b"] == "3 voxels that are not finite"
    assert reasons["c"] == "8000 voxels that are not finite"


def test_what_is_unusual() -> None:
    assert unusual([1.0, 1.0]) == []
    assert unusual([1.0] * 5 + [1.05, 1.2, None]) == [6]
    random = np.random.default_rng(0).normal(10, 1, 100)
    assert unusual([*random.tolist(), 30.0, -10.0]) == [100, 101]
    assert unusual([0.0, 0.0, 0.0, float("nan")]) == []


def test_files_are_replaced_on_request_alone(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = store.with_name("mine.html")
    out.write_text("mine")
    for arguments, expected in [
        ([str(out)], "--overwrite"),
        ([str(out.with_suffix(".txt"))], ".html"),
        ([str(out), "--overwrite", "--samples", "-1"], "0 to 1000"),
    ]:
        assert command.main(["report", str(store), *arguments]) == 2
        told = capsys.readouterr()
        assert told.err.startswith("error: ") and expected in told.err and not told.out
    assert command.main(["report", str(store / "none"), str(out), "--overwrite"]) == 2
    assert out.read_text() == "mine"
    assert sorted(p.name for p in store.parent.iterdir()) == ["mine.html", "s.zarr"]
