"""Pages of ``vq.view`` in a real browser: they load without errors and show the right colours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import browser
import numpy as np
import pytest
from view_client import segmentation

import voxquarry as vq

SIDE = 64
# Of the client's panels, in a page of this size; margins hold its lists and lines.
WIDTH, HEIGHT = 1000, 800


@pytest.fixture
def page(tmp_path: Path) -> Iterator[browser.Page]:
    if browser.found() is None:
        pytest.skip("there is no Chromium")
    with browser.Page(tmp_path, WIDTH, HEIGHT) as opened:
        yield opened


def phantom(folder: Path) -> vq.Dataset:
    """A grey block in black, and a label in each middle slice: red (liver) to the right and up in
    the coronal one, ``#3df29f`` (tumour) to the left and in front in the axial one, and that of
    label 3 behind and down in the sagittal one.
    """
    image = np.zeros((SIDE,) * 3, "i2")
    image[4:60, 4:60, 4:60] = 500
    labels = np.zeros((SIDE,) * 3, "u1")
    labels[42:58, 24:40, 42:58] = 1
    labels[24:40, 42:58, 6:22] = 2
    labels[6:22, 6:22, 25:40] = 3
    # Voxels run to the left, to the back and down, and are 2 mm wide.
    affine = np.diag([-2.0, -2.0, -2.0, 1.0])
    affine[:3, 3] = SIDE - 1
    flipped = np.ascontiguousarray(np.flip(labels))
    mask = segmentation(folder / "seg.nrrd", flipped, -2, SIDE - 1)
    volumes = {"ct": np.ascontiguousarray(np.flip(image)), "seg": vq.Labels(mask)}
    return vq.ingest({"case01": volumes}, folder / "store.zarr", patch_size=16, affine=affine)


def assert_silent(page: browser.Page, url: str) -> None:
    """No error was logged, no answer was one, and nothing but the server was asked."""
    assert (page.logged, page.failed) == ([], [])
    foreign = [u for u in page.requested if urlsplit(u).netloc != urlsplit(url).netloc]
    assert [u for u in foreign if not u.startswith(("data:", "blob:", "about:"))] == []
    assert len(page.requested) > 10


def mixed(colour: str) -> np.ndarray:
    """A label's colour over the grey of the block."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return 0.4 * parts + 0.6 * 127.5


def middle(panel: np.ndarray, colour: np.ndarray) -> tuple[float, float]:
    """Where the pixels of a colour lie in a panel: parts of its height and width."""
    rows, columns = np.nonzero(np.abs(panel - colour).max(axis=-1) <= 3)
    # 16 of 64 voxels along both axes of a panel that shows a little more than the volume.
    assert 0.02 < len(rows) / panel[..., 0].size < 0.1
    return float(rows.mean() / panel.shape[0]), float(columns.mean() / panel.shape[1])


@pytest.mark.parametrize("convention", ["radiological", "neurological"])
def test_a_phantom_has_its_colours_and_sides(
    page: browser.Page, tmp_path: Path, convention: Any
) -> None:
    ds = phantom(tmp_path)
    with vq.view(ds, window=(0, 1000), convention=convention) as shown:
        page.open(shown.url)
        page.wait_for_viewer()
        pixels = page.screenshot(tmp_path / "screenshot.png").astype(float)
        listed = page.evaluate("document.body.innerText")
        assert_silent(page, shown.url)
    # Names stand in the panel on the right.
    assert "liver" in listed and "tumour" in listed and "label 3" in listed
    width, height = (WIDTH - 260) // 2, HEIGHT // 2
    quarters = [pixels[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
    if convention == "radiological":
        coronal, sagittal, axial, _ = quarters
    else:
        axial, coronal, _, sagittal = quarters
    right_is_left = convention == "radiological"
    grey = np.abs(pixels - 127.5).max(axis=-1) <= 1
    assert grey.mean() > 0.2
    down, across = middle(coronal, mixed("#ff0000"))
    assert down < 0.5 and (across < 0.5) == right_is_left
    down, across = middle(axial, mixed("#3df29f"))
    assert down < 0.5 and (across > 0.5) == right_is_left
    down, across = middle(sagittal, mixed("#d43df2"))
    assert down > 0.5 and across < 0.5


def test_several_subjects_have_a_list_that_is_searched(page: browser.Page, tmp_path: Path) -> None:
    bright = {name: np.full((SIDE,) * 3, n, "f8") for n, name in enumerate(["first", "<b>other"])}
    ds = vq.ingest({n: {"ct": v} for n, v in bright.items()}, tmp_path / "s.zarr", patch_size=16)
    frame = "document.getElementById('view').contentWindow"
    with vq.view(ds, window=(-1, 1)) as shown:
        page.open(shown.url)
        # The first by name: its value 1 is white.
        page.wait_for_viewer(frame)
        assert page.evaluate("document.title") == "<b>other – Voxquarry"
        white = page.screenshot().min(axis=-1) == 255
        assert white.mean() > 0.2
        names = "[...document.querySelectorAll('button')].map((b) => b.firstChild.textContent)"
        assert page.evaluate(names) == ["<b>other", "first"]
        page.evaluate("search.value = 'IRS'; search.dispatchEvent(new Event('input')); 'typed'")
        page.wait_for(f"JSON.stringify({names}) === '[\"first\"]'")
        assert page.evaluate("count.textContent") == "1 of 2 subjects"
        page.evaluate("document.querySelector('button').click()")
        page.wait_for(f"{frame}.location.pathname.endsWith('/v/1/')")
        page.wait_for_viewer(frame)
        # Its value 0 is the grey in the middle.
        grey = np.abs(page.screenshot().astype(float) - 127.5).max(axis=-1) <= 1
        assert grey.mean() > 0.2
        assert_silent(page, shown.url)


def test_the_page_tells_what_cannot_be_read(page: browser.Page, tmp_path: Path) -> None:
    ds = phantom(tmp_path)
    for file in Path(ds.path, "case01/ct/0/c").rglob("*"):
        if file.is_file():
            file.write_bytes(bytes(len(file.read_bytes())))
    with vq.view(vq.open(ds.path), window=(0, 1000)) as shown:
        page.open(shown.url)
        page.wait_for("document.body.innerText.includes('the file is damaged')")
        page.screenshot(tmp_path / "screenshot.png")


@pytest.mark.parametrize("dtype", ["f2", "f8", "i8", "u8", "i4", "u1"])
def test_values_of_every_kind_are_seen(page: browser.Page, tmp_path: Path, dtype: str) -> None:
    voxels = np.full((3, SIDE, SIDE, SIDE), 50, dtype)
    volumes = {"ct": voxels[0], "channels": voxels.astype("f4")}
    ds = vq.ingest({"a": volumes}, tmp_path / "s.zarr", patch_size=16)
    # Three channels, each at a quarter, are magenta, green, and a blue with green and red in it.
    for volume, colour in [("ct", (127.5,) * 3), ("channels", (76.5, 102.0, 127.5))]:
        with vq.view(ds["a"][volume], window=(0, 100) if volume == "ct" else (0, 200)) as shown:
            page.open(shown.url)
            page.wait_for_viewer()
            pixels = page.screenshot().astype(float)
            assert (np.abs(pixels - colour).max(axis=-1) <= 2).mean() > 0.2, volume
            assert_silent(page, shown.url)
