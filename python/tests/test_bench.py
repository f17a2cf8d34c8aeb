"""``voxquarry bench --against``: loaders side by side on a store's own images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers import smooth

import voxquarry as vq


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "s.zarr"
    case = {"ct": smooth((20, 40, 30)), "seg": vq.Labels(smooth((20, 40, 30)) > 0)}
    return Path(vq.ingest({f"case{i}": case for i in range(3)}, path, patch_size=16).path)


def bench(*arguments: object, against: str = "nibabel") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "voxquarry", "bench", *map(str, arguments)]
    command += ["--against", against]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_loaders_are_compared_and_drawn(store: Path, tmp_path: Path) -> None:
    picture = tmp_path / "gain.svg"
    run = bench(store, "--seconds", 0.3, "--subjects", 2, "--json", "--picture", picture)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["subjects"] == ["case0", "case1"]
    assert (found["volume"], found["patch_size"]) == ("ct", [16, 16, 16])
    ours, naive = found["loaders"]
    assert (ours["loader"], naive["loader"]) == ("voxquarry", "nibabel")
    for loader in (ours, naive):
        assert loader["patches"] > 0 and loader["seconds"] >= 0.3
        assert loader["patches_per_second"] == loader["patches"] / loader["seconds"]
    assert naive["times_as_fast"] == ours["patches_per_second"] / naive["patches_per_second"]
    if sys.platform == "linux":
        assert ours["memory_bytes"] > 10 << 20
    bars = ElementTree.parse(picture).getroot().findall("{*}rect")
    assert len(bars) == 3  # The background and two loaders.
    again = bench(store, "--picture", picture)
    assert again.returncode == 2 and "exists" in again.stderr


def test_a_table_for_one_volume(store: Path) -> None:
    run = bench(f"{store}/case1/seg", "--seconds", 0.2, "--patch-size", "8,16,24")
    assert run.returncode == 0, run.stderr
    title, head, *rows = run.stdout.splitlines()
    assert title == "seg: random patches of 8 × 16 × 24 uint8 from 1 subject"
    assert head.split()[:2] == ["loader", "patches/s"]
    assert [row.split()[0] for row in rows[:2]] == ["voxquarry", "nibabel"]


@pytest.mark.parametrize(
    ("arguments", "against", "told"),
    [
        ([], "nobody", "'nobody': expected some of monai, torchio, nnunet, nibabel"),
        ([], "", "nothing to compare with"),
        (["--patch-size", "99"], "nibabel", "expected 1 to [20, 40, 30]"),
        (["--patch-size", "8,8"], "nibabel", "expected a number, or three"),
        (["--subjects", "0"], "nibabel", "expected at least 1"),
        (["--picture", "gain.png"], "nibabel", "ends in .svg"),
        (["--picture", "no/gain.svg"], "nibabel", "does not exist"),
    ],
)
def test_wrong_arguments(store: Path, arguments: list[str], against: str, told: str) -> None:
    run = bench(store, *arguments, against=against)
    assert run.returncode == 2 and told in run.stderr, run.stderr


def test_a_loader_that_is_not_installed_is_named(store: Path) -> None:
    program = (
        "import sys; sys.modules['nibabel'] = None; from voxquarry.__main__ import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "bench", str(store), "--against", "nibabel"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2 and "nibabel needs nibabel: pip install nibabel" in run.stderr


def test_a_loader_that_fails_is_named(store: Path) -> None:
    """Volumes with channels are refused before; here a worker's own error is told."""
    run = bench(f"{store}/case0/ct", "--threads", 0)
    assert run.returncode == 4 and "voxquarry failed: " in run.stderr, run.stderr
