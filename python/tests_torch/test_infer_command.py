"""``python -m voxquarry infer``: models in files, exit codes, and what it prints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import smooth

import voxquarry as vq
import voxquarry.torch as vt
from voxquarry.__main__ import main

SIZE = (22, 30, 26)


class Network(torch.nn.Module):
    """Two channels that depend on the voxel alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = torch.nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.conv(patches / 1000)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``in.zarr/a/ct``, ``net.pt`` and ``net.pt2``."""
    vq.ingest({"a": {"ct": smooth(SIZE, "i2")}}, tmp_path / "in.zarr", patch_size=8)
    network = Network().eval()
    torch.jit.trace(network, torch.zeros(2, 1, 8, 8, 8)).save(tmp_path / "net.pt")
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(
        network, (torch.zeros(2, 1, 8, 8, 8),), dynamic_shapes={"patches": batch}
    )
    torch.export.save(program, tmp_path / "net.pt2")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(**options: Any) -> np.ndarray:
    ct = vq.open("in.zarr")["a"]["ct"]
    return vt.infer(Network().eval(), ct, 8, **({"overlap": 0.5} | options))


def run(words: str) -> int:
    return main(["infer", "in.zarr/a/ct", *words.split()])


@pytest.mark.parametrize("model", ["net.pt", "net.pt2"])
def test_models_of_torch(folder: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    common = f"--model {model} --patch-size 8 --batch-size 3"
    assert run(f"{common} --out out.zarr/a/scores --json --quiet") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shape"] == [2, *SIZE] and told["kind"] == "image" and told["dtype"] == "float32"
    assert told["patches"] >= 210 and told["patches_per_second"] > 0
    assert 0 < told["model_busy"] <= 1
    found = vq.open("out.zarr")["a"]["scores"][...]
    np.testing.assert_allclose(found, expected(batch_size=3), atol=1e-5)
    assert run(f"{common} --out out.zarr/a/seg --argmax --overlap 4 --window gaussian") == 0
    told = capsys.readouterr().err
    assert "the model worked" in told and "patch" in told
    labels = vq.open("out.zarr")["a"]["seg"]
    assert labels.kind == "labels"
    same = labels[...] == expected(window="gaussian", finish="argmax", overlap=4)
    assert same.mean() > 0.999
    assert run(f"{common} --out out.zarr/a/own --argmax --spacing 2 --padding edge") == 0
    own = vq.open("out.zarr")["a"]["own"][...]
    assert np.array_equal(own, expected(spacing=2.0, padding="edge", finish="argmax"))


def test_a_model_of_onnx(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Session:
        def __init__(self, path: str, providers: list[str]) -> None:
            asked.append((path, providers))

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="patches", type="tensor(float)")]

        def run(self, outputs: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert given["patches"].dtype == np.float32
            return [given["patches"] * 2]

    runtime = SimpleNamespace(
        InferenceSession=Session, get_available_providers=lambda: ["CPUExecutionProvider"]
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    Path("net.onnx").write_bytes(b"onnx")
    assert run("--model net.onnx --patch-size 8 --out out.zarr/a/twice --quiet") == 0
    assert asked == [("net.onnx", ["CPUExecutionProvider"])]
    ct = vq.open("in.zarr")["a"]["ct"][...]
    assert np.array_equal(vq.open("out.zarr")["a"]["twice"][0], 2 * ct.astype("f4"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert run("--model net.onnx --patch-size 8 --out out.zarr/a/none") == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("--model none.pt --patch-size 8 --out o.zarr/a/p", 2, "no such file"),
        ("--model in.zarr --patch-size 8 --out o.zarr/a/p", 2, "no such file"),
        ("--model net.txt --patch-size 8 --out o.zarr/a/p", 2, "TorchScript"),
        ("--model state.pt --patch-size 8 --out o.zarr/a/p", 2, "state_dict"),
        ("--model net.pt --patch-size 80 --out o.zarr/a/p", 2, "padding"),
        ("--model net.pt --patch-size 8 --out o.zarr", 2, "STORE/SUBJECT/VOLUME"),
        ("--model net.pt --patch-size 8 --out o.zarr/a/p --padding many", 2, "padding"),
        ("--model net.pt --patch-size 8 --out o.zarr/a/p --finish best", 2, "finish"),
        ("--model net.pt --patch-size 8 --out full/o.zarr/a/p", 4, "full"),
    ],
)
def test_errors(
    folder: Path, words: str, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("net.txt").write_text("")
    Path("full").write_text("no folder")
    torch.save(Network().state_dict(), "state.pt")
    assert run(words) == code
    assert told in capsys.readouterr().err
    assert not Path("o.zarr/a").exists()


def test_errors_of_the_volume(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--model", "net.pt", "--patch-size", "8", "--out", "o.zarr/a/p"]
    assert main(["infer", "in.zarr", *common]) == 2
    assert main(["infer", "none.zarr/a/ct", *common]) == 2
    assert main(["infer", "in.zarr/a/none", *common]) == 2
    for shard in Path("in.zarr/a/ct").rglob("*"):
        if shard.is_file() and shard.stat().st_size > 1000 and "json" not in shard.name:
            shard.write_bytes(shard.read_bytes()[:100])
    assert main(["infer", "in.zarr/a/ct", *common]) == 3
    with pytest.raises(SystemExit) as usage:
        main(["infer", "in.zarr/a/ct", "--model", "net.pt", "--patch-size", "8,8"])
    assert usage.value.code == 2
    capsys.readouterr()


def test_an_interrupt_leaves_work_that_is_continued(folder: Path) -> None:
    """Ctrl-C ends with 4, nothing is visible, and the same command completes the result."""

    class Slow(torch.nn.Module):
        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            total = patches.clone()
            for _ in range(2000):
                total = total * 0.5 + patches * 0.5
            return total

    torch.jit.script(Slow()).save("slow.pt")
    words = "infer in.zarr/a/ct --model slow.pt --patch-size 8 --batch-size 1 --out o.zarr/a/p"
    command = [sys.executable, "-m", "voxquarry", *words.split()]
    package = str(Path(vq.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": package}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not Path("o.zarr").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 4, told
    assert "interrupted" in told and not Path("o.zarr/a/p").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ct = vq.open("in.zarr")["a"]["ct"][...]
    np.testing.assert_allclose(vq.open("o.zarr")["a"]["p"][0], ct, rtol=1e-5)
