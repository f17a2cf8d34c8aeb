"""``volume.show``: pictures as ``voxquarry preview`` draws them, and the command inside Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from helpers import smooth, write_nifti

import voxquarry as vq


@pytest.fixture
def subject(tmp_path: Path) -> vq.Subject:
    """Values 10 times z, and a label about the voxel z, y, x = 15, 7, 4."""
    voxels = np.repeat(np.arange(20, dtype="i2") * 10, 400).reshape(20, 20, 20)
    labels = np.zeros((20, 20, 20), "u1")
    labels[14:17, 6:9, 3:6] = 1
    volumes = {"ct": voxels, "seg": vq.Labels(labels)}
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-20, 5, 100]
    store = tmp_path / "s.zarr"
    return vq.ingest({"case01": volumes}, store, patch_size=16, affine=affine)["case01"]


def pixels(picture: vq.Picture) -> np.ndarray:
    return np.asarray(imagecodecs.png_decode(picture.png))


def axial(picture: vq.Picture) -> int:
    """The grey near the corner of the first panel."""
    drawn = pixels(picture)
    inside = (drawn[..., 0] > 20) & (np.ptp(drawn, axis=-1) == 0)
    rows, columns = np.nonzero(inside[:, 28:128])
    return int(drawn[rows.min() + 40, 28 + columns.min() + 8, 0])


def test_pictures_show_the_place_and_window(subject: vq.Subject) -> None:
    ct = subject["ct"]
    assert axial(ct.show(window=(0, 255))) == 100
    assert axial(ct.show(window=(0, 510))) == 50
    position = (ct.affine @ [4, 7, 15, 1])[:3]
    assert axial(ct.show(at=position.tolist(), window="0,255")) == 150
    assert 140 <= axial(ct.show(at="labels", window=(0, 255))) <= 160
    coloured = [np.ptp(pixels(ct.show("labels", labels=on)), axis=-1).max() for on in (True, False)]
    assert coloured[0] > 100 > 60 > coloured[1]
    sides = [ct.show("labels", convention=c).png for c in ("radiological", "neurological")]
    assert sides[0] != sides[1]
    assert pixels(subject["seg"].show()).shape[-1] == 3


def test_pictures_are_files_and_shown_by_notebooks(subject: vq.Subject, tmp_path: Path) -> None:
    picture = subject["ct"].show()
    picture.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == picture.png == picture._repr_png_()
    height, width, _ = pixels(picture).shape
    assert repr(picture) == f"<voxquarry.Picture of {width} × {height} pixels>"
    # The same as the command draws.
    out = tmp_path / "b.png"
    found = run("preview", f"{tmp_path}/s.zarr/case01", str(out), "--patches", "0")
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{out}\n", "")
    assert out.read_bytes() == picture.png
    with pytest.raises(vq.UsageError, match=r"\.png"):
        picture.save(tmp_path / "a.jpg")


def test_other_choices_are_refused(subject: vq.Subject) -> None:
    for choice, expected in [
        ({"at": "here"}, "middle, labels"),
        ({"at": (1, 2)}, "middle, labels"),
        ({"at": (0, 0, 0)}, "outside"),
        ({"window": "liver"}, "lung"),
        ({"window": (2, 1)}, "LOW,HIGH"),
        ({"convention": "left"}, "radiological"),
    ]:
        with pytest.raises(vq.UsageError, match=expected):
            subject["ct"].show(**choice)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "voxquarry", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(vq.__file__).parents[1])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_the_command_of_python_is_that_of_rust(tmp_path: Path) -> None:
    source = write_nifti(tmp_path / "a.nii", smooth((20, 21, 22)))
    store = str(tmp_path / "s.zarr")
    assert run("ingest", str(source), "--out", store, "--quiet").returncode == 0
    told = run("info", f"{store}/a")
    assert told.returncode == 0 and "22 × 21 × 20" in told.stdout.replace("x", "×")
    assert run("--version").stdout == f"voxquarry {vq.__version__}\n"
    assert "Usage: voxquarry [OPTIONS]" in run("--help").stdout or "Usage: voxquarry" in (
        run("--help").stdout
    )
    for arguments, code, expected in [
        ((), 2, "Usage: voxquarry"),
        (("inges",), 2, "unrecognized subcommand 'inges'"),
        (("info", f"{store}/b"), 2, "error: "),
        (("verify", store, "--json"), 0, ""),
    ]:
        found = run(*arguments)
        assert found.returncode == code and expected in found.stderr, found


def test_an_interrupt_ends_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "voxquarry", "bench", str(tmp_path / "s.zarr")]
    vq.ingest({"a": {"ct": smooth((64, 64, 64))}}, tmp_path / "s.zarr", patch_size=16)
    process = subprocess.Popen(
        [*command, "--seconds", "60"],
        env={**os.environ, "PYTHONPATH": str(Path(vq.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) in (4, -signal.SIGINT, 130)
    assert process.stdout is not None
    process.stdout.close()
