"""What notebooks show: tables of a store, and pictures of a volume that any PNG reader opens."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import smooth, store_of, write_nifti

import voxquarry as vq
from voxquarry import _html


def decoded(png: bytes) -> np.ndarray:
    """Pixels ``(height, width, channels)`` of an 8-bit PNG without row filters."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (length,), kind = struct.unpack_from(">I", png, at), png[at + 4 : at + 8]
        content = png[at + 8 : at + 8 + length]
        (check,) = struct.unpack_from(">I", png, at + 8 + length)
        assert check == zlib.crc32(kind + content)
        chunks[kind], at = content, at + 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, list(chunks)) == (8, [b"IHDR", b"IDAT", b"IEND"])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, {0: 1, 2: 3}[colour])


def pictures(html: str) -> list[np.ndarray]:
    return [
        decoded(base64.b64decode(data))
        for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    ]


def test_a_volume_shows_its_middle_slices(tmp_path: Path) -> None:
    voxels = smooth((20, 300, 17))
    volume = store_of(tmp_path, voxels)
    html = volume._repr_html_()
    across_z, across_y, across_x = pictures(html)
    # Axes of more than 256 voxels are thinned.
    assert (across_z.shape, across_y.shape, across_x.shape) == (
        (150, 17, 1),
        (20, 17, 1),
        (20, 150, 1),
    )
    for found, plane in (
        (across_z, voxels[10, ::2]),
        (across_y, voxels[:, 150]),
        (across_x, voxels[:, ::2, 8]),
    ):
        low, high = np.percentile(plane, [0.5, 99.5])
        grey = np.clip((plane - low) / (high - low), 0, 1) * 255
        assert np.abs(found[..., 0] - grey).max() <= 1
    for fact in ("case01", "ct", "20 × 300 × 17", "int16", "199 KiB"):
        assert fact in html
    assert volume.scaled._repr_html_() == html


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_labels_channels_and_what_is_not_finite(tmp_path: Path, dtype: str) -> None:
    labels = store_of(tmp_path, (smooth((6, 5, 4)) % 3).astype("u1"), kind=vq.Labels)
    red, green, blue = np.moveaxis(pictures(labels._repr_html_())[0], -1, 0)
    background = labels[3] == 0
    assert background.any() and not (red + green + blue)[background].any()
    assert len(np.unique(np.stack([red, green, blue], -1).reshape(-1, 3), axis=0)) == 3
    voxels = np.full((2, 6, 5, 4), 7, dtype)
    if dtype == "f4":
        voxels[:] = np.nan
    channels = store_of(tmp_path, voxels, name="channels.zarr")
    assert [p.shape for p in pictures(channels._repr_html_())] == [(5, 4, 1), (6, 4, 1), (6, 5, 1)]
    assert ("stored values" in channels._repr_html_()) == (dtype == "u1")


def test_a_store_shows_a_table(tmp_path: Path) -> None:
    image = write_nifti(
        tmp_path / "a.nii", smooth((5, 6, 7)), edit=lambda h: h.set_zooms((1, 2, 3))
    )
    sources = {f"case{n:02}": {"ct": image, "t&1": image} for n in range(3)}
    store = vq.ingest(sources, tmp_path / "store.zarr")
    html = store._repr_html_()
    assert html.count("<tr>") == 7
    for cell in ("case02", "t&amp;1", "7 × 6 × 5", "3 × 2 × 1", "int16", "420 B", "image"):
        assert f"<td>{cell}</td>" in html
    assert "3 subjects</p>" in html
    assert store["case01"]._repr_html_().count("<tr>") == 3


def test_a_large_store_shows_its_first_subjects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_nifti(tmp_path / "a.nii", smooth((5, 6, 7)))
    store = vq.ingest({f"case{n}": image for n in range(4)}, tmp_path / "store.zarr")
    monkeypatch.setattr(_html, "_MOST_SUBJECTS", 2)
    html = store._repr_html_()
    assert "4 subjects, the first 2 of them" in html
    assert html.count("<tr>") == 3 and "case2" not in html
