"""``voxquarry report``: one page whose numbers are those of the data set."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import smooth
from view_client import segmentation

import voxquarry as vq
from voxquarry import __main__ as command
from voxquarry._report_facts import unusual
from voxquarry._report_labels import label_facts, labels_section


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
        # Voxels have 2 mm³.
        ["1", "5", "11,550", "23,100", "25.000%"],
        ["7", "5", "2,310", "4,620", "5.000%"],
    ):
        assert row in found.rows, row
    # A histogram of images, a picture of labels.
    assert found.tags.count("svg") == 2
    rows = {row[0]: row for row in found.rows}
    stats = vq.open(store)["case0"]["ct"].stats
    ct = next(row for row in found.rows if row[0] == "case0")
    assert ct[1:7] == ["20", "21", "22", "2", "1", "1"]
    assert ct[7:9] == [f"{stats['min']:.5g}", f"{stats['max']:.5g}"] and ct[-1] == ""
    assert rows["<odd>&"][-1] == (
        "extent z, spacing z, least, greatest, mean, deviation, all voxels are equal"
    )
    assert report(store, "--samples", "0").tags.count("svg") == 1


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


def facts(store: Path, capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    """What ``--json`` prints."""
    capsys.readouterr()
    assert command.main(["report", str(store), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_facts_as_json(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(store, capsys)
    assert (found["store"], found["subjects"], found["splits"]) == (str(store), 6, {})
    volumes = {(v["subject"], v["volume"]): v for v in found["volumes"]}
    assert len(volumes) == 11
    case = vq.open(store)["case3"]
    ct, seg = volumes["case3", "ct"], volumes["case3", "seg"]
    assert (ct["shape"], ct["dtype"], ct["spacing"]) == ([20, 21, 22], "int16", [2, 1, 1])
    assert (ct["min"], ct["std"]) == (case["ct"].stats["min"], case["ct"].stats["std"])
    assert (ct["labels"], ct["unusual"]) == (None, [])
    assert "all voxels are equal" in volumes["<odd>&", "ct"]["unusual"]
    counts = case["seg"].labels
    assert seg["labels"] == {
        "largest": [
            {"label": n, "name": None, "subjects": 1, "voxels": counts[n], "mm3": 2 * counts[n]}
            for n in (1, 7)
        ],
        "others": {"labels": 0, "voxels": 0, "mm3": 0},
        "voxels": 20 * 21 * 22,
    }
    assert [n["voxels"] for n in found["labels"]["seg"]["largest"]] == [11550, 2310]
    # With a page, too.
    page = store.with_name("both.html")
    assert facts(store, capsys, str(page)) == found
    assert page.read_text().startswith("<!doctype html>")
    assert command.main(["report", str(store)]) == 2
    assert "--json" in capsys.readouterr().err


def test_labels_of_every_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Voxels of a sheared grid have the volume of their edges' determinant."""
    affine = np.array([[2.0, 1, 0, 0], [0, 3, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]])
    labels = np.zeros((9, 9, 9), "i8")
    labels[0], labels[1, 0], labels[2, 0, 0] = 5, -4, 2**40
    for name, unit in [("big", "meter"), ("small", "micrometer")]:
        mask = vq.Labels(vq.Array(labels, affine=affine, unit=unit))
        vq.ingest({name: {"seg": mask}}, tmp_path / f"{name}.zarr", patch_size=8)
    for name, unit, millimetres in [("big", "m³", 1e9), ("small", "µm³", 1e-9)]:
        out = tmp_path / f"{name}.html"
        found = facts(tmp_path / f"{name}.zarr", capsys, str(out))
        largest = found["labels"]["seg"]["largest"]
        assert [n["label"] for n in largest] == [5, -4, 2**40]
        expected = [81 * 24 * millimetres, 9 * 24 * millimetres, 24 * millimetres]
        assert [n["mm3"] for n in largest] == pytest.approx(expected)
        rows = Tables(out.read_text()).rows
        assert ["label", "subjects", "voxels", unit, "of all voxels"] in rows
        assert ["5", "1", "81", "1,944", f"{81 / 729:.3%}"] in rows
    # Of volumes in several units all are in mm³.
    both = {n: vq.open(tmp_path / f"{n}.zarr")[n]["seg"] for n in ("big", "small")}
    sections = labels_section([label_facts(volume) for volume in both.values()])
    assert ["5", "2", "162", "1.944e+12"] in [row[:4] for row in Tables(sections).rows]


def test_labels_have_their_names_and_colours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros((10, 10, 10), "u1")
    labels[:4], labels[4] = 1, 2
    mask = segmentation(tmp_path / "seg.nrrd", labels)
    vq.ingest({"a": {"seg": vq.Labels(mask)}}, tmp_path / "s.zarr", patch_size=8)
    out = tmp_path / "r.html"
    found = facts(tmp_path / "s.zarr", capsys, str(out))
    assert [n["name"] for n in found["labels"]["seg"]["largest"]] == ["liver", "tumour"]
    text = out.read_text()
    assert "1 liver</text>" in text and "fill: #ff0000" in text
    assert "<title>a: 400</title>" in text


def test_very_many_labels_stay_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The largest labels are named, and all others told in one row; every voxel counts."""
    boxes = np.arange(100_000).reshape(50, 50, 40)
    blocks = boxes.repeat(4, 0).repeat(4, 1).repeat(5, 2).astype("u4")
    blocks[:20, :20, :20] = 7
    store = tmp_path / "s.zarr"
    maps = {"a": vq.Labels(blocks), "b": vq.Labels(blocks[:100, ::2, ::2])}
    ds = vq.ingest({n: {"cells": m} for n, m in maps.items()}, store, patch_size=32)
    assert ds["a"]["cells"].has_label_counts
    out = tmp_path / "r.html"
    found = facts(store, capsys, str(out))
    assert out.stat().st_size < 200_000
    assert len(json.dumps(found)) < 100_000
    (cells,) = (v["labels"] for v in found["volumes"] if v["subject"] == "a")
    counts = ds["a"]["cells"].labels
    assert len(counts) > 99_000
    assert len(cells["largest"]) == 100
    assert cells["largest"][0] == {
        "label": 7,
        "name": None,
        "subjects": 1,
        "voxels": counts[7],
        "mm3": counts[7],
    }
    assert cells["others"]["labels"] == len(counts) - 100
    listed = sum(n["voxels"] for n in cells["largest"])
    assert listed + cells["others"]["voxels"] == sum(counts.values())
    text = out.read_text()
    assert "the others are" in text and "Sizes of labels, up to" in text
    assert text.count("<rect") < 30 + 64 + 64


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
