"""The server of ``vq.view``: what it hands out, to whom, and what it never does."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import zarr
from helpers import NUMBERS, noise, smooth, store_of, write_nifti
from view_client import ask, events, read_by_tensorstore, state

import voxquarry as vq
from voxquarry._viewer import arrays


@pytest.fixture
def volume(tmp_path: Path) -> vq.Volume:
    return store_of(tmp_path, smooth((70, 40, 33)), patch_size=16)


def shards(volume: vq.Volume) -> list[Path]:
    folder = Path(volume.subject.dataset.path, volume.subject.name, volume.name, "0/c")
    return sorted(file for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("dtype", [*NUMBERS, "f2"])
def test_every_dtype_of_images_reads_back(tmp_path: Path, dtype: str) -> None:
    voxels = noise((70, 65, 131), dtype)
    ds = vq.ingest({"case01": {"ct": voxels}}, tmp_path / "store.zarr", patch_size=32)
    assert ds["case01"]["ct"].dtype == voxels.dtype
    with vq.view(ds["case01"]["ct"]) as shown:
        found = read_by_tensorstore(shown.url, "arrays/0/v0/0/")
    served = {"i8": "f4", "u8": "f4", "f2": "f4", "f8": "f4"}.get(dtype, dtype)
    assert found.dtype == np.dtype(served)
    assert np.array_equal(found, voxels.astype(served), equal_nan=served == "f4")


@pytest.mark.parametrize(
    ("dtype", "served"),
    [
        ("u1", "u1"),
        ("i1", "u4"),
        ("u2", "u2"),
        ("i4", "u4"),
        ("u4", "u4"),
        ("i8", "u4"),
        ("u8", "u4"),
        ("f4", "u4"),
    ],
)
def test_labels_read_back_as_ids(tmp_path: Path, dtype: str, served: str) -> None:
    labels = (smooth((40, 41, 42), "i4") % 100).astype(dtype)
    store = tmp_path / "store.zarr"
    ds = vq.ingest({"case01": {"seg": vq.Labels(labels)}}, store, patch_size=32)
    with vq.view(ds) as shown:
        found = read_by_tensorstore(shown.url, "arrays/0/v0/0/")
    assert found.dtype == np.dtype(served)
    assert np.array_equal(found, labels.astype(served))


def test_labels_below_zero_and_beyond_32_bits_keep_their_ids(tmp_path: Path) -> None:
    labels = np.zeros((20, 20, 20), "i8")
    labels[:5], labels[5:9], labels[9:12] = -3, 2**40, 7
    ds = vq.ingest({"case01": {"seg": vq.Labels(labels)}}, tmp_path / "store.zarr")
    with vq.view(ds) as shown:
        found = read_by_tensorstore(shown.url, "arrays/0/v0/0/")
        assert np.array_equal(found, labels.astype("u8"))
        (layer,) = state(shown.url)["layers"]
        names = json.loads(ask(shown.url, "names/0/v0/info")[2])["inline"]
    ids = [str(2**64 - 3), "7", str(2**40)]
    assert layer["segments"] == names["ids"] == ids
    assert names["properties"][0]["values"] == ["label -3", "label 7", f"label {2**40}"]
    assert names["properties"][1]["values"] == [2000, 1200, 1600]


def test_images_show_real_values(tmp_path: Path) -> None:
    voxels = smooth((20, 21, 22))

    def scale(header: Any) -> None:
        header["scl_slope"], header["scl_inter"] = 0.5, -1024

    source = write_nifti(tmp_path / "a.nii", voxels.T, edit=scale)
    ds = vq.ingest({"case01": {"ct": source}}, tmp_path / "store.zarr", patch_size=16)
    with vq.view(ds, window="soft") as shown:
        found = read_by_tensorstore(shown.url, "arrays/0/v0/0/")
        (layer,) = state(shown.url)["layers"]
    expected = ds["case01"]["ct"].scaled[...]
    assert np.array_equal(found, expected)
    control = layer["shaderControls"]["normalized"]
    assert control["range"] == [-160, 240]
    assert control["window"] == [expected.min(), expected.max()]


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_channels_read_back(tmp_path: Path, channels: int) -> None:
    voxels = smooth((channels, 30, 31, 32), "i2")
    ds = vq.ingest({"case01": {"ct": voxels}}, tmp_path / "store.zarr", patch_size=16)
    with vq.view(ds) as shown:
        found = read_by_tensorstore(shown.url, "arrays/0/v0/0/")
        document = json.loads(ask(shown.url, "arrays/0/v0/0/zarr.json")[2])
        (layer,) = state(shown.url)["layers"]
    assert np.array_equal(found, voxels)
    # The client blends channels only where a chunk has them all.
    together = channels <= 4
    assert document["chunk_grid"]["configuration"]["chunk_shape"][0] == (
        channels if together else 1
    )
    dimension = "c^" if together else "c'"
    assert dimension in layer["source"][0]["transform"]["outputDimensions"]
    assert layer.get("localDimensions") == (None if together else {"c'": [1, ""]})
    assert len(layer["shaderControls"]) == (channels if together else 1)


def test_coarse_levels_take_the_middle_voxels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_LEVEL_VOXELS", 2000)
    monkeypatch.setattr(arrays, "_BAND_BYTES", 1000)
    voxels = smooth((19, 70, 67))
    ds = vq.ingest({"a": {"ct": voxels}}, tmp_path / "s.zarr", patch_size=16, spacing=(3, 1, 1))
    with vq.view(ds) as shown:
        group = json.loads(ask(shown.url, "arrays/0/v0/zarr.json")[2])
        datasets = group["attributes"]["ome"]["multiscales"][0]["datasets"]
        factors = [d["coordinateTransformations"][0]["scale"] for d in datasets]
        assert factors == [[1, 1, 1], [1, 2, 2], [1, 4, 4], [2, 8, 8]]
        for level, steps in enumerate(factors):
            found = read_by_tensorstore(shown.url, f"arrays/0/v0/{level}/")
            at = [
                np.minimum(np.arange(0, n, f) + f // 2, n - 1)
                for n, f in zip(voxels.shape, steps, strict=True)
            ]
            assert np.array_equal(found, voxels[np.ix_(*at)])


@pytest.mark.parametrize(
    "path",
    [
        "",
        "v/0/",
        "v/0/index.html",
        "subjects",
        "events/0?gc=&gs=",
        "arrays/0/v0/zarr.json",
        "arrays/0/v0/0/c/0/0/0",
        "names/0/v0/info",
        "store/zarr.json",
    ],
)
def test_only_who_has_the_token_is_answered(volume: vq.Volume, path: str) -> None:
    with vq.view(volume) as shown, vq.view(volume) as other:
        token = urlsplit(shown.url).path.split("/")[1]
        others = urlsplit(other.url).path.split("/")[1]
        assert token != others and len(token) >= 22
        wrong = ["", "x", others, token[:-1], token + "x", token.swapcase(), "%00", "%ff", ".."]
        for guess in wrong:
            status, headers, body = ask(shown.url, f"/{guess}/{path}")
            assert status == 403 and b"token" in body, guess
            assert headers["cache-control"] == "no-store"
        for method in ("HEAD", "POST"):
            assert (
                ask(shown.url, f"/x/{path}", method, b"{}" if method == "POST" else None)[0] == 403
            )
        assert ask(shown.url, "/favicon.ico")[0] == 204


@pytest.mark.parametrize(
    "path",
    [
        "store/..",
        "store/../secret",
        "store/case01/../../secret",
        "store/case01/%2e%2e/%2e%2e/secret",
        "store/..%2fsecret",
        "store/case01%2f..%2f..%2fsecret",
        "store//secret",
        "store/./zarr.json",
        "store/case01/ct/",
        "store/case01/ct",
        "store",
        "store/",
        "store/case01/link",
        "store/case01/linked/secret",
        "store/case01/pipe",
        "store/.voxquarry-partial/secret",
        "store/case01/zarr.json%00",
        "store/case01\\zarr.json",
        "v/0/../secret",
        "v/0/%2e%2e%2fsecret",
        "v/0/..%2f..%2fserver.py",
        "arrays/0/v0/../v0/zarr.json",
        "arrays/0/v0/1/zarr.json",
        "arrays/0/v0/00/zarr.json",
        "arrays/0/v0/0/c/9/0/0",
        "arrays/0/v0/0/c/0/0",
        "arrays/0/v0/0/c/-1/0/0",
        "arrays/0/v0/0/c/0/0/0/0",
        "arrays/0/v1/zarr.json",
        "arrays/1/v0/zarr.json",
        "arrays/9999999999/v0/zarr.json",
        "arrays/%D9%A0/v0/zarr.json",
        "names/0/nothing/info",
        "nothing",
    ],
)
def test_no_path_leaves_the_store(volume: vq.Volume, path: str) -> None:
    store = Path(volume.subject.dataset.path)
    for secret in (store.parent / "secret", store / ".voxquarry-partial" / "secret"):
        secret.parent.mkdir(exist_ok=True)
        secret.write_text("secret")
    (store / "case01/link").symlink_to(store.parent / "secret")
    (store / "case01/linked").symlink_to(store.parent)
    os.mkfifo(store / "case01/pipe")
    with vq.view(volume) as shown:
        assert ask(shown.url, path)[0] == 404
        assert ask(shown.url, "store/case01/zarr.json")[0] == 200


def test_only_files_of_what_is_shown_are_handed_out(tmp_path: Path) -> None:
    voxels = smooth((20, 21, 22))
    subjects = {name: {"ct": voxels, "pet": voxels} for name in ("a", "b")}
    ds = vq.ingest(subjects, tmp_path / "store.zarr", patch_size=16)
    paths = [f"store/{s}/{v}/zarr.json" for s in "ab" for v in ("ct", "pet")]
    expected = [(ds, [1, 1, 1, 1]), (ds["a"], [1, 1, 0, 0]), (ds["b"]["pet"], [0, 0, 0, 1])]
    for item, found in expected:
        with vq.view(item) as shown:
            assert [ask(shown.url, path)[0] == 200 for path in paths] == found
            assert ask(shown.url, "store/zarr.json")[0] == 200
    with vq.view(voxels) as shown:
        assert ask(shown.url, "store/zarr.json")[0] == 404


@pytest.mark.parametrize(
    ("header", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-99", 5, 100),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=-99999999999", 0, None),
        ("bytes=10-99999999999", 10, None),
    ],
)
def test_ranges_are_the_bytes_of_the_file(
    volume: vq.Volume, header: str, begin: int, end: int | None
) -> None:
    file = shards(volume)[0]
    content = file.read_bytes()
    path = "store/" + file.relative_to(volume.subject.dataset.path).as_posix()
    with vq.view(volume) as shown:
        status, headers, body = ask(shown.url, path, Range=header)
        assert (status, body) == (206, content[begin:end])
        first = begin if begin >= 0 else len(content) + begin
        span = f"bytes {first}-{first + len(body) - 1}/{len(content)}"
        assert headers["content-range"] == span
        status, headers, body = ask(shown.url, path, "HEAD", Range=header)
        assert (status, body) == (206, b"")


def test_other_ranges(volume: vq.Volume) -> None:
    path, file = (
        "store/case01/ct/zarr.json",
        Path(volume.subject.dataset.path, "case01/ct/zarr.json"),
    )
    content = file.read_bytes()
    with vq.view(volume) as shown:
        for header in (
            "bytes=4-2",
            "bytes=a-b",
            "bytes=-",
            "bytes=0-1,4-5",
            "lines=0-1",
            "bytes=\u0660-",
        ):
            status, _, body = ask(shown.url, path, Range=header.encode().decode("latin-1"))
            assert (status, body) == (200, content), header
        for header in (f"bytes={len(content)}-", "bytes=-0"):
            status, headers, _ = ask(shown.url, path, Range=header)
            assert (status, headers["content-range"]) == (416, f"bytes */{len(content)}")
        status, headers, body = ask(shown.url, path, "HEAD")
        assert (status, headers["content-length"], body) == (200, str(len(content)), b"")
        # What is computed has ranges, too.
        whole = ask(shown.url, "arrays/0/v0/0/c/0/0/0")[2]
        part = ask(shown.url, "arrays/0/v0/0/c/0/0/0", Range="bytes=3-10")
        assert (part[0], part[2]) == (206, whole[3:11])


def test_damage_is_told_and_never_zeros(
    volume: vq.Volume, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(volume.subject.dataset.path)
    for file in shards(volume):
        content = bytearray(file.read_bytes())
        content[: len(content) // 2] = bytes(len(content) // 2)
        file.write_bytes(content)
    with (
        caplog.at_level(logging.ERROR, "voxquarry.view"),
        vq.view(vq.open(folder), window=(0, 1)) as shown,
    ):
        stream = events(shown.url)
        assert next(stream)["k"] == "s"
        for _ in range(2):
            status, _, body = ask(shown.url, "arrays/0/v0/0/c/0/0/0")
            assert status == 500 and b"chunk" in body
        told = next(stream)
        assert told["k"] == "c" and told["s"]["statusMessages"]["problem"] == body.decode()
    assert [record.getMessage() for record in caplog.records] == [body.decode()]


def test_the_client_keeps_its_state_when_it_connects_again(volume: vq.Volume) -> None:
    with vq.view(volume) as shown:
        posted = json.dumps({"k": "s", "c": "me", "g": "5", "pg": "", "s": {}}).encode()
        status, _, body = ask(shown.url, "state/0", "POST", posted)
        assert (status, json.loads(body)) == (200, {"g": "me/5"})
        assert next(events(shown.url, query="gc=&gs="))["k"] == "s"
        for path, sent, expected in [
            ("state/0", b"{", 400),
            ("state/0", b"[]", 400),
            ("state/7", posted, 404),
            ("store/zarr.json", posted, 404),
            ("action/0", b"{}", 200),
        ]:
            assert ask(shown.url, path, "POST", sent)[0] == expected
        status = ask(shown.url, "state/0", "POST", None, **{"Content-Length": str(10**12)})[0]
        assert status == 413


def test_connections_are_bounded(volume: vq.Volume) -> None:
    with vq.view(volume) as shown:
        place = urlsplit(shown.url)
        address = place.hostname, place.port
        idle = [socket.create_connection(address) for _ in range(64)]
        deadline = time.monotonic() + 60
        closed = b"x"
        while closed and time.monotonic() < deadline:
            with socket.create_connection(address) as one_more:
                one_more.sendall(b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n")
                try:
                    closed = one_more.recv(10)
                except ConnectionResetError:
                    closed = b""
        assert closed == b""
        for connection in idle:
            connection.close()
        while ask_or_none(shown.url) != 200:
            assert time.monotonic() < deadline


def ask_or_none(url: str) -> int | None:
    try:
        return ask(url, "store/zarr.json")[0]
    except (http.client.HTTPException, OSError):
        return None


def test_a_closed_view_answers_nothing(volume: vq.Volume) -> None:
    shown = vq.view(volume)
    kept = http.client.HTTPConnection(urlsplit(shown.url).netloc, timeout=60)
    kept.request("GET", urlsplit(shown.url).path)
    assert kept.getresponse().read()
    assert shown.url in repr(shown) and f'src="{shown.url}"' in shown._repr_html_()
    with shown:
        stream = events(shown.url)
        assert next(stream)["k"] == "s"
    shown.close()
    assert list(stream) == []
    assert "closed" in repr(shown) and "iframe" not in shown._repr_html_()
    with pytest.raises(ConnectionRefusedError):
        ask(shown.url, "store/zarr.json")
    kept.request("GET", urlsplit(shown.url).path)
    assert kept.getresponse().status == 503
    kept.close()


def test_what_cannot_be_shown_is_told_at_once(tmp_path: Path, volume: vq.Volume) -> None:
    for arguments, expected in [
        ({"volume_or_path": tmp_path / "none.zarr"}, "none.zarr"),
        ({"volume_or_path": 3}, "expected a path"),
        ({"volume_or_path": np.zeros((2, 3))}, "expected a path"),
        ({"volume_or_path": np.zeros((0, 3, 4))}, "expected a path"),
        ({"volume_or_path": volume, "overlay": np.zeros((3, 4, 5))}, r"\(70, 40, 33\)"),
        ({"volume_or_path": volume, "window": "liver"}, "lung, bone"),
        ({"volume_or_path": volume, "window": (3, 3)}, "LOW,HIGH"),
        ({"volume_or_path": volume, "convention": "other"}, "radiological"),
        ({"volume_or_path": volume, "port": 70000}, "65535"),
        ({"volume_or_path": volume, "patches": -1}, "at least 0"),
        ({"volume_or_path": volume, "sampler": vq.UniformSampler(99)}, "99"),
        ({"volume_or_path": np.zeros((9, 9, 9)), "sampler": vq.UniformSampler(3)}, "store"),
    ]:
        with pytest.raises(vq.UsageError, match=expected):
            vq.view(**arguments)
    with pytest.raises(KeyError, match="nobody"):
        vq.view(f"{volume.subject.dataset.path}/nobody")
    with vq.view(volume) as shown, pytest.raises(vq.StorageError, match="choose another"):
        vq.view(volume, port=urlsplit(shown.url).port)


@pytest.fixture
def without_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the client's name that lacks the client, found before the real one."""
    (tmp_path / "lacking/neuroglancer").mkdir(parents=True)
    (tmp_path / "lacking/neuroglancer/__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "lacking")
    return tmp_path / "lacking"


def test_a_missing_client_has_a_remedy(volume: vq.Volume, without_client: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pip install voxquarry\[view\]"):
        vq.view(volume)
    found = run_command(volume, path=without_client)
    assert found.wait(timeout=60) == 4
    assert found.stderr is not None
    assert "error: voxquarry.view needs neuroglancer" in found.stderr.read()
    close(found)


def run_command(
    volume: vq.Volume, *arguments: str, path: Path | None = None
) -> subprocess.Popen[str]:
    where = [*([str(path)] if path else []), str(Path(vq.__file__).parents[1])]
    command = [sys.executable, "-m", "voxquarry", "view", volume.subject.dataset.path]
    return subprocess.Popen(
        [*command, "--no-browser", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(where)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def close(command: subprocess.Popen[str]) -> None:
    for pipe in (command.stdout, command.stderr):
        assert pipe is not None
        pipe.close()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted(
    volume: vq.Volume, ending: signal.Signals
) -> None:
    options = ("--patches", "5", "--sampler", "grid", "--window", "-100,100")
    command = run_command(volume, *options, "--convention", "neurological")
    assert command.stdout is not None and command.stderr is not None
    url = command.stdout.readline().strip()
    opened = state(url)
    assert opened["layers"][-1]["name"] == "5 patches of 16 × 16 × 16"
    assert opened["layers"][0]["shaderControls"]["normalized"]["range"] == [-100, 100]
    assert isinstance(opened["layout"], dict)
    command.send_signal(ending)
    assert command.wait(timeout=60) == 0
    assert (command.stdout.read(), command.stderr.read()) == ("", "")
    close(command)


def test_open_volumes_are_shown_under_their_new_names(volume: vq.Volume, tmp_path: Path) -> None:
    """Documents were looked for where a volume of a store of these names would lie."""
    mask = (smooth((70, 40, 33)) > 0).astype("u1")
    made = vq.ingest({"b": {"seg": vq.Labels(mask)}}, tmp_path / "other.zarr", patch_size=16)
    zarr.create_array(tmp_path / "array.zarr", data=mask)
    foreign = vq.open_zarr(tmp_path / "array.zarr", kind="labels")
    subjects = {"c": {"image": volume}, "d": {"mask": made["b"]["seg"]}, "e": {"array": foreign}}
    with vq.view(vq.dataset(subjects)) as shown:
        for number, volumes in enumerate(subjects.values()):
            (layer,) = state(shown.url, number)["layers"]
            assert [layer["name"]] == list(volumes)
            assert ask(shown.url, f"arrays/{number}/v0/0/c/0/0/0")[0] == 200


def test_the_command_says_what_is_wrong(volume: vq.Volume) -> None:
    for arguments, code, expected in [
        (("--window", "liver"), 2, "lung, bone, soft, brain"),
        (("--patches", "3", "--sampler", "weighted"), 2, "--weights"),
        (("--patches", "3", "--sampler", "label"), 2, "label map"),
        (("--overlay", "nowhere.zarr"), 2, "nowhere.zarr"),
    ]:
        command = run_command(volume, *arguments)
        assert command.wait(timeout=60) == code
        assert command.stderr is not None and command.stdout is not None
        assert command.stdout.read() == ""
        told = command.stderr.read()
        assert told.startswith("error: ") and expected in told
        close(command)


def test_a_loader_pays_nothing_for_the_viewer() -> None:
    """A worker of a training imports the package, and never a web server with it."""
    program = "import sys, voxquarry; sys.exit('http.server' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
