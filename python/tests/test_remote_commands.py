"""``view`` and ``report`` of stores behind URLs: as of those on a disk, with their errors."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import smooth
from remote_server import RemoteServer
from view_client import ask, read_by_tensorstore, state

import voxquarry as vq
from voxquarry import __main__ as command
from voxquarry._paths import is_url, item_at


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with levels in the folder of a bucket."""
    store = tmp_path_factory.mktemp("served") / "bucket" / "store.zarr"
    store.parent.mkdir()
    ct = smooth((70, 60, 50))
    cases = {n: {"ct": ct + n, "seg": vq.Labels((ct > 9000).astype("u1"))} for n in range(3)}
    vq.ingest({f"case{n}": v for n, v in cases.items()}, store, patch_size=16, levels=1)
    return store


@pytest.fixture
def server(server: RemoteServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteServer:
    """The server, which is a bucket too, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ENDPOINT", server.url)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    return server


def places(server: RemoteServer) -> list[str]:
    """The store as an HTTP server and as a bucket have it."""
    return [f"{server.url}/bucket/store.zarr", "s3://bucket/store.zarr"]


def test_urls_are_told_from_paths() -> None:
    """As the library does it."""
    urls = ["s3://bucket/a", "HTTPS:/host/store", "gs:/b/c", "ftp://host/store"]
    assert all(map(is_url, [*urls, Path("https://host/store")]))
    paths = ["store.zarr", "/data/s3:/x", "a:b", "C:/store", "./http://x", ""]
    assert not any(map(is_url, paths))


def test_a_url_names_a_store_a_subject_or_a_volume(server: RemoteServer, local: Path) -> None:
    for place in places(server):
        found = item_at(place)
        assert isinstance(found, vq.Dataset) and found.path == place
        assert isinstance(item_at(f"{place}/case1/"), vq.Subject)
        volume = item_at(f"{place}/case1/ct")
        assert isinstance(volume, vq.Volume)
        assert np.array_equal(volume[3:9], vq.open(local)["case1"]["ct"][3:9])
    # pathlib makes one slash of two.
    assert isinstance(item_at(Path(f"{places(server)[0]}/case1")), vq.Subject)


def test_a_token_goes_to_every_request_and_is_not_shown(server: RemoteServer) -> None:
    url = f"{server.url}/bucket/store.zarr/case2/seg?token=a/b/SECRET"
    with vq.view(url) as shown:
        read_by_tensorstore(shown.url, "arrays/0/v0/0/")
        documents = [state(shown.url), ask(shown.url, "arrays/0/v0/zarr.json")[2].decode()]
    assert "SECRET" not in f"{documents} {item_at(url)!r}"
    assert server.requests() and all(p.endswith("?token=a/b/SECRET") for p, *_ in server.requests())


def test_a_token_goes_with_other_commands(
    server: RemoteServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """They took a token behind a store alone, and none with a slash."""
    for below in ("", "/case2", "/case2/seg"):
        place = f"{server.url}/bucket/store.zarr{below}?token=a/b/SECRET"
        assert command.main(["info", place]) == 0
        assert "SECRET" not in "".join(capfd.readouterr())
    assert all(p.endswith("?token=a/b/SECRET") for p, *_ in server.requests())


def test_pages_show_what_lies_on_the_disk(server: RemoteServer, local: Path) -> None:
    for place in places(server):
        with vq.view(f"{place}/case1", overlay=f"{place}/case0/seg") as shown:
            expected = vq.open(local)
            for key, volume in [("v0", "ct"), ("v1", "seg")]:
                found = read_by_tensorstore(shown.url, f"arrays/0/{key}/0/")
                assert np.array_equal(found, expected["case1"][volume][...])
            level = read_by_tensorstore(shown.url, "arrays/0/v0/1/")
            assert np.array_equal(level, expected["case1"]["ct"].level(1)[...])
            overlay = read_by_tensorstore(shown.url, "arrays/0/o0-0/0/")
            assert np.array_equal(overlay, expected["case0"]["seg"][...])
            layers = state(shown.url)["layers"]
            # Files are on the server, which asks for a right to them.
            assert ask(shown.url, "store/zarr.json")[0] == 404
        with vq.view(vq.open(local)["case1"], overlay=local / "case0/seg") as near:
            for ours, theirs in zip(layers, state(near.url)["layers"], strict=True):
                assert ours["name"] == theirs["name"]
                assert ours.get("shaderControls") == theirs.get("shaderControls")
                assert ours.get("segments") == theirs.get("segments")


def test_a_list_of_subjects_asks_for_none_of_them(server: RemoteServer) -> None:
    with vq.view(vq.open(places(server)[0])) as shown:
        server.reset()
        listed = json.loads(ask(shown.url, "subjects")[2])
        assert [s["name"] for s in listed["subjects"]] == ["case0", "case1", "case2"]
        assert server.requests() == []
        assert len(state(shown.url, 1)["layers"]) == 2


def test_a_first_look_does_not_wait_for_block_after_block(server: RemoteServer) -> None:
    """64 blocks give the window; one after the other they would take 20 s and more."""
    server.faults(latency_s=0.5)
    begin = time.monotonic()
    with vq.view(f"{places(server)[0]}/case1/ct") as shown:
        assert state(shown.url)["layers"]
    assert time.monotonic() - begin < 15


def test_the_command_serves_a_url(server: RemoteServer) -> None:
    place = f"{places(server)[0]}/case1/ct"
    arguments = ["view", place, "--no-browser", "--patches", "3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "voxquarry", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr:
        opened = state(process.stdout.readline().strip())
        assert opened["layers"][-1]["name"] == "3 patches of 16 × 16 × 16"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


def test_reports_are_those_of_the_disk(
    server: RemoteServer, local: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def report(place: str) -> tuple[str, str]:
        out = tmp_path / "report.html"
        assert command.main(["report", place, str(out), "--overwrite", "--json"]) == 0
        return (
            out.read_text().replace(place, "STORE"),
            capsys.readouterr().out.replace(place, "STORE"),
        )

    expected = report(str(local))
    for place in places(server):
        assert report(place) == expected


def test_errors_are_those_of_other_commands(
    server: RemoteServer, local: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = places(server)[0]
    with pytest.raises(KeyError, match="no subject"):
        vq.view(f"{place}/nobody")
    with pytest.raises(KeyError, match="no volume"):
        vq.view(f"{place}/case1/nothing")
    for wrong in (f"{server.url}/bucket/none.zarr", f"{server.url}/bucket/none.zarr/a/b"):
        for attempt in (vq.view, vq.open):
            with pytest.raises(FileNotFoundError, match="there is nothing") as error:
                attempt(wrong)
            assert isinstance(error.value, vq.UsageError) and wrong in str(error.value)
    with pytest.raises(vq.UsageError, match="http://, https://"):
        vq.view("ftp://host/store.zarr")
    out = str(tmp_path / "r.html")
    assert command.main(["report", f"{server.url}/bucket/none.zarr", out]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    server.faults(status=403, code="AccessDenied")
    with pytest.raises(vq.StorageError, match="403"):
        vq.view(f"{place}/case1")
    assert command.main(["view", f"{place}/case1", "--no-browser"]) == 4
    assert command.main(["report", place, out]) == 4
    assert "403" in capsys.readouterr().err
    # A damaged chunk is told, and no zeros are shown.
    server.faults(damage_rate=1.0)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    seg = np.zeros((8, 8, 8), "u1")
    with vq.view(seg, overlay=f"{place}/case0/seg") as shown:
        status, _, body = ask(shown.url, "arrays/0/o0-0/0/c/0/0/0")
        assert status == 500 and b"case0/seg" in body
