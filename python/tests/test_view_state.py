"""What a page of ``vq.view`` shows: layers, places, windows, names, patches and subjects."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import smooth, write_nifti
from view_client import ask, read_by_tensorstore, segmentation, state

import voxquarry as vq
from voxquarry._viewer import page

OBLIQUE = np.array(
    [[0.0, -1.8, 0.6, 10.0], [1.9, 0.0, 0.1, -20.0], [0.1, 0.7, 2.5, 30.0], [0.0, 0.0, 0.0, 1.0]]
)


def layers(url: str, number: int = 0) -> dict[str, Any]:
    """The layers by their names, the lowest first."""
    return {layer["name"]: layer for layer in state(url, number)["layers"]}


def world(layer: Any, index: tuple[float, ...]) -> np.ndarray:
    """Where the client puts an index ``(z, y, x)``."""
    source = layer["source"][0] if isinstance(layer["source"], list) else layer["source"]
    rows = np.array(source["transform"]["matrix"])[-3:, -4:]
    return rows @ [*index, 1]


def test_layers_lie_where_their_affine_says(tmp_path: Path) -> None:
    voxels = smooth((20, 21, 22))
    store = tmp_path / "store.zarr"
    shifted = OBLIQUE.copy()
    shifted[:3, 3] += 7
    ds = vq.ingest({"a": {"ct": voxels}}, store, patch_size=16, affine=OBLIQUE)
    other = vq.ingest({"a": {"p": voxels}}, tmp_path / "p.zarr", patch_size=16, affine=shifted)
    sampler = vq.UniformSampler(8)
    with vq.view(ds, other, sampler=sampler, patches=3) as shown:
        found, opened = layers(shown.url), state(shown.url)
        group = json.loads(ask(shown.url, "arrays/0/v0/zarr.json")[2])
    for index in [(0, 0, 0), (3, 4, 5), (19, 20, 21)]:
        at = np.array([*index[::-1], 1.0])
        assert np.allclose(world(found["ct"], index), (OBLIQUE @ at)[:3])
        assert np.allclose(world(found["p"], index), (shifted @ at)[:3])
    centre = OBLIQUE @ [10.5, 10, 9.5, 1]
    assert np.allclose(opened["position"], centre[:3])
    assert opened["dimensions"] == {axis: [0.001, "m"] for axis in "xyz"}
    # OME's place of a voxel is that of its centre, from which the client takes half a voxel.
    (scale,) = group["attributes"]["ome"]["multiscales"]
    assert scale["datasets"][0]["coordinateTransformations"][1]["translation"] == [0, 0, 0]
    assert [axis["unit"] for axis in scale["axes"]] == ["millimeter"] * 3
    # Boxes begin and end at the faces of voxels.
    (boxes,) = [layer for layer in opened["layers"] if layer["type"] == "annotation"]
    starts = sampler.locations(ds["a"], 3)
    assert len(boxes["annotations"]) == 3
    for box, start in zip(boxes["annotations"], starts, strict=True):
        assert box["pointA"] == (start - 0.5).tolist()
        assert box["pointB"] == (start + 7.5).tolist()
    assert np.allclose(world(boxes, (3, 4, 5)), (OBLIQUE @ [5, 4, 3, 1])[:3])


def test_units_of_microscopes(tmp_path: Path) -> None:
    voxels = smooth((20, 21, 22))

    def in_micrometres(header: Any) -> None:
        header.set_xyzt_units("micron")

    source = write_nifti(tmp_path / "em.nii", voxels.T, edit=in_micrometres)
    ds = vq.ingest({"a": {"em": source}}, tmp_path / "store.zarr", patch_size=16)
    assert ds["a"]["em"].unit == "micrometer"
    with vq.view(ds, voxels.astype("f4")) as shown:
        opened = state(shown.url)
    assert opened["dimensions"]["x"] == [1e-6, "m"]
    assert opened["layers"][0]["source"][0]["transform"]["inputDimensions"]["z"] == [1e-6, "m"]


def test_of_several_volumes_the_first_image_and_labels_are_seen(tmp_path: Path) -> None:
    voxels = smooth((20, 21, 22))
    labels = vq.Labels((voxels > 0).astype("u1"))
    volumes = {"a_seg": labels, "b": voxels, "c": voxels, "d_seg": labels}
    ds = vq.ingest({"case01": volumes}, tmp_path / "store.zarr", patch_size=16)
    prediction = voxels > 5
    with vq.view(ds, overlay=[prediction, voxels.astype("f4")]) as shown:
        found = layers(shown.url)
        mask = read_by_tensorstore(shown.url, "arrays/0/o0-0/0/")
    assert {name: layer["visible"] for name, layer in found.items()} == {
        "b": True,
        "c": False,
        "a_seg": True,
        "d_seg": False,
        "overlay": True,
        "overlay (overlay 2)": True,
    }
    assert [found[name]["type"] for name in ("b", "a_seg")] == ["image", "segmentation"]
    assert [found[f"overlay{n}"]["type"] for n in ("", " (overlay 2)")] == ["segmentation", "image"]
    assert mask.dtype == np.uint8 and np.array_equal(mask, prediction)
    assert found["overlay (overlay 2)"]["opacity"] < 1 == found["b"]["opacity"]


def test_overlays_of_a_store_are_those_of_the_subject(tmp_path: Path) -> None:
    voxels = smooth((20, 21, 22))
    ds = vq.ingest({n: {"ct": voxels} for n in "ab"}, tmp_path / "s.zarr", patch_size=16)
    vq.ingest({"b": {"pred": vq.Labels(voxels % 3 > 0)}}, tmp_path / "p.zarr", patch_size=16)
    for overlay in (tmp_path / "p.zarr", str(tmp_path / "p.zarr/b"), vq.open(tmp_path / "p.zarr")):
        with vq.view(ds, overlay) as shown:
            expected = {"ct", "pred"} if str(overlay).endswith("b") else {"ct"}
            assert set(layers(shown.url, 0)) == expected
            assert set(layers(shown.url, 1)) == {"ct", "pred"}


def test_names_and_colours_of_labels(tmp_path: Path) -> None:
    labels = np.zeros((20, 20, 20), "u1")
    labels[2:9], labels[9:12], labels[12:14] = 1, 2, 9
    mask = segmentation(tmp_path / "seg.nrrd", labels)
    ds = vq.ingest({"case01": {"seg": vq.Labels(mask)}}, tmp_path / "store.zarr")
    with vq.view(ds) as shown:
        (layer,) = layers(shown.url).values()
        names = json.loads(ask(shown.url, "names/0/v0/info")[2])["inline"]
        assert state(shown.url)["selectedLayer"] == {"visible": True, "layer": "seg", "size": 260}
    assert layer["segments"] == names["ids"] == ["1", "2", "9"]
    assert layer["segmentColors"]["1"] == "#ff0000"
    # Those of pictures: hues at the golden angle.
    assert layer["segmentColors"]["2"] == "#3df29f"
    assert layer["source"][1]["url"].endswith("/names/0/v0/|neuroglancer-precomputed:")
    assert names["properties"] == [
        {"id": "label", "type": "label", "values": ["liver", "tumour", "label 9"]},
        {"id": "voxels", "type": "number", "data_type": "uint32", "values": [2800, 1200, 800]},
    ]


def test_the_default_window_leaves_out_extremes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    voxels = random.normal(40, 100, (64, 64, 64)).astype("i2")
    voxels[::4, ::4, ::4], voxels[1, 1, 1] = 3000, -30000
    ds = vq.ingest({"a": {"ct": voxels}}, tmp_path / "s.zarr", patch_size=32)
    flat = np.full((9, 9, 9), 7, "i2")
    constant = vq.ingest({"a": {"ct": flat}}, tmp_path / "c.zarr", patch_size=16)
    empty = np.full((9, 9, 9), np.nan, "f4")
    nothing = vq.ingest({"a": {"ct": empty}}, tmp_path / "n.zarr", patch_size=16)
    with vq.view(ds) as shown:
        low, high = layers(shown.url)["ct"]["shaderControls"]["normalized"]["range"]
    assert -260 < low < -180 and high == 3000
    for item, expected in [(constant, [7, 8]), (nothing, [0, 1])]:
        with vq.view(item) as shown:
            control = layers(shown.url)["ct"]["shaderControls"]["normalized"]
        assert control["range"] == expected


def test_coverage_counts_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxquarry._viewer.scene._COVERAGE_CELLS", 16)
    monkeypatch.setattr("voxquarry._viewer.scene.COVERAGE_PATCHES", 200)
    voxels = smooth((20, 40, 15))
    ds = vq.ingest({"a": {"ct": voxels}}, tmp_path / "s.zarr", patch_size=16, affine=OBLIQUE)
    sampler = vq.UniformSampler((7, 8, 6), border="pad")
    with vq.view(ds, sampler=sampler, patches=2, seed=5) as shown:
        found = read_by_tensorstore(shown.url, "arrays/0/coverage/0/")
        layer = layers(shown.url)["coverage of 200 patches"]
    starts = sampler.locations(ds["a"], 200, 5)
    counts = np.zeros(voxels.shape)
    for start in starts:
        box = [slice(max(s, 0), s + n) for s, n in zip(start, (7, 8, 6), strict=True)]
        counts[tuple(box)] += 1
    # Two voxels of z and three of y make a cell.
    assert np.array_equal(found, counts[1::2, 1::3, :]) or np.array_equal(
        found[:, :-1], counts[1::2, 1::3, :]
    )
    assert np.allclose(world(layer, (1, 2, 3)), (OBLIQUE @ [3, 7, 3, 1])[:3])
    assert not layer["visible"] and counts.max() > 1


def test_patches_of_a_grid(tmp_path: Path) -> None:
    ds = vq.ingest({"a": {"ct": smooth((32, 32, 48))}}, tmp_path / "s.zarr", patch_size=16)
    for count, expected in [(3, 3), (99, 12)]:
        with vq.view(ds, sampler=vq.GridSampler(16), patches=count) as shown:
            found = layers(shown.url)
        assert list(found) == ["ct", f"{expected} patches of 16 × 16 × 16"]
        boxes = found[f"{expected} patches of 16 × 16 × 16"]["annotations"]
        assert len({tuple(box["pointA"]) for box in boxes}) == expected


def test_both_conventions(tmp_path: Path) -> None:
    ds = vq.ingest({"a": {"ct": smooth((20, 21, 22))}}, tmp_path / "s.zarr", patch_size=16)
    with vq.view(ds) as shown:
        assert state(shown.url)["layout"] == "4panel-alt"
    with vq.view(ds, convention="neurological") as shown:
        layout = state(shown.url)["layout"]
    panels = [viewer for row in layout["children"] for viewer in row["children"]]
    assert [panel["layers"] for panel in panels] == [["ct"]] * 4
    turned = [panel["crossSectionOrientation"] for panel in panels if panel["layout"] == "xy"]
    assert [turn["link"] for turn in turned] == ["unlinked"] * 3


def test_views_at_another_spacing_are_shown(tmp_path: Path) -> None:
    labels = vq.Labels((smooth((20, 21, 22)) > 0).astype("u1"))
    volumes = {"ct": smooth((20, 21, 22)), "seg": labels}
    ds = vq.ingest({"a": volumes}, tmp_path / "s.zarr", patch_size=16, affine=OBLIQUE)
    for item in (ds.at(3.0), ds["a"].at(3.0), ds["a"]["ct"].at(3.0)):
        with vq.view(item) as shown:
            found = read_by_tensorstore(shown.url, "arrays/0/v0/0/")
            layer = layers(shown.url)["ct"]
        expected = ds["a"]["ct"].at(3.0)
        assert np.array_equal(found, expected.read((0, 0, 0), expected.shape))
        assert np.allclose(world(layer, (1, 2, 3)), (expected.affine @ [3, 2, 1, 1])[:3])


def test_subjects_are_found_by_the_words_of_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"case{n:02}" for n in range(9)] + ["Brain <b>&1"]
    voxels = smooth((5, 6, 7))
    ds = vq.ingest({n: {"ct": voxels} for n in names}, tmp_path / "s.zarr", patch_size=16)
    monkeypatch.setattr(page, "_MOST_LISTED", 4)
    with vq.view(ds) as shown:
        assert not shown.url.endswith("/v/0/")
        assert ask(shown.url, "")[2].startswith(b"<!doctype html>")

        def found(search: str) -> Any:
            return json.loads(ask(shown.url, f"subjects?search={search}")[2])

        everything = found("")
        assert (everything["found"], everything["all"], len(everything["subjects"])) == (10, 10, 4)
        assert found("BRAIN+%261")["subjects"] == [
            {
                "number": sorted(names).index("Brain <b>&1"),
                "name": "Brain <b>&1",
                "size": "5 × 6 × 7",
            }
        ]
        assert [s["name"] for s in found("7")["subjects"]] == ["case07"]
        assert found("case+brain")["subjects"] == []
        number = found("case07")["subjects"][0]["number"]
        assert "ct" in layers(shown.url, number)
    with vq.view(ds["case03"]) as shown:
        assert shown.url.endswith("/v/0/")


def test_the_guides_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    voxels = smooth((20, 21, 22))
    vq.ingest({"case01": {"ct": voxels}}, "store.zarr", patch_size=16)
    guide = Path(__file__).parents[2] / "docs/viewer.md"
    (example,) = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"prediction": voxels > 5}
    exec(compile(example, str(guide), "exec"), names)
    assert "closed" in repr(names["shown"])
