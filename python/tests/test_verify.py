"""``verify``: how far it is, and what ends it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import smooth

import voxquarry as vq
from voxquarry import __main__ as command


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "s.zarr"
    labels = (smooth((40, 48, 56)) % 5).astype("u1")
    voxels = {"ct": smooth((2, 40, 48, 56)), "seg": vq.Labels(labels)}
    vq.ingest({"a": voxels, "b": {"ct": smooth((30, 20, 10))}}, path, patch_size=16, levels=1)
    return path


def test_progress_counts_every_byte_of_all_levels(store: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    report = vq.verify(store, progress=lambda *call: calls.append(call))
    assert (report["subjects"], report["volumes"]) == (2, 3)
    volumes = [volume for subject in vq.open(store).values() for volume in subject.values()]
    levels = [volume.level(n) for volume in volumes for n in range(len(volume.levels))]
    assert len(levels) == 6
    total = sum(int(np.prod(level.shape)) * level.dtype.itemsize for level in levels)
    assert {call[2] for call in calls} == {total}
    done = [call[1] for call in calls]
    assert done == sorted(done) and done[-1] == total and done.count(total) == 1
    assert list(dict.fromkeys(call[0] for call in calls)) == ["a/ct", "a/seg", "b/ct"]


def test_a_bar_or_none(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (None, False):
        vq.verify(store, progress=progress)
        assert capsys.readouterr().err == ""
    vq.verify(store, progress=True)
    assert "b/ct" in capsys.readouterr().err


class OurOwnError(Exception):
    pass


def test_what_progress_raises_ends_it(store: Path) -> None:
    def fail(*_: object) -> None:
        raise OurOwnError

    with pytest.raises(OurOwnError):
        vq.verify(store, progress=fail)
    with pytest.raises(KeyboardInterrupt):
        vq.verify(store, progress=lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TypeError):
        vq.verify(store, progress=lambda: None)


def test_a_command_leaves_the_signals_of_its_caller(store: Path) -> None:
    """A test that called one was followed by others, of which Ctrl-C killed the process."""
    for arguments, code in [
        (["verify", str(store)], 0),
        (["report", str(store / "none")], 2),
        (["view", str(store), "--no-browser", "--window", "5,5"], 2),
    ]:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        assert command.main(arguments) == code
        after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        assert after == before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("progress", [None, lambda *_: None])
def test_ctrl_c_ends_it_inside_one_large_volume(tmp_path: Path, progress: object) -> None:
    store = tmp_path / "s.zarr"
    voxels = np.random.default_rng(3).integers(0, 300, (192, 320, 320)).astype("i2")
    vq.ingest({"a": {"ct": voxels}}, store, patch_size=32, codec="compact")
    begun = time.monotonic()
    vq.verify(store)
    whole = time.monotonic() - begun
    ready, sent = threading.Event(), []

    def interrupt() -> None:
        ready.wait()
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        # The thread goes on when the interpreter's lock is free, so when the work has begun.
        ready.set()
        vq.verify(store, progress=progress)
        raise AssertionError("it was not interrupted")
    heard = time.monotonic() - sent[0]
    thread.join()
    # In a fraction of the time that all chunks take: between them, and not at the end.
    assert heard < max(0.5 * whole, 0.2), (heard, whole)
