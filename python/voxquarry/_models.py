"""Models in files: TorchScript, ``torch.export`` and ONNX."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import PathNotFoundError, UsageError

_SUFFIXES = ".pt, .ts or .torchscript (TorchScript), .pt2 (torch.export), or .onnx"


def load(path: str, device: str | None) -> tuple[Any, bool]:
    """A model on a device, and whether it is torch's; otherwise it takes and gives arrays."""
    file = Path(path)
    if not file.is_file():
        raise PathNotFoundError(f"model {path!r}: there is no such file")
    suffix = file.suffix.lower()
    if suffix == ".onnx":
        return _onnx(file, device), False
    if suffix not in (".pt", ".pth", ".ts", ".torchscript", ".pt2"):
        raise UsageError(f"model {path!r}: expected {_SUFFIXES}")
    torch = _import("torch", "a model of torch")
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        if suffix == ".pt2":
            return torch.export.load(file).module().to(target), True
        return torch.jit.load(file, map_location=target).eval(), True
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise UsageError(
            f"model {path!r}: {str(error).splitlines()[0]}; expected {_SUFFIXES}; a state_dict has"
            " no network: save torch.jit.trace(network, patches)"
        ) from error


def _onnx(file: Path, device: str | None) -> Callable[[np.ndarray], Any]:
    runtime = _import("onnxruntime", "an ONNX model")
    on_gpu = device is None or device.startswith("cuda")
    known = runtime.get_available_providers()
    wanted = ["CUDAExecutionProvider"] if on_gpu else []
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in known]
    session = runtime.InferenceSession(str(file), providers=providers)
    first = session.get_inputs()[0]
    dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(
        first.type, np.float32
    )

    def answer(patches: np.ndarray) -> Any:
        answers = session.run(None, {first.name: np.ascontiguousarray(patches, dtype)})
        return answers[0] if len(answers) == 1 else list(answers)

    return answer


def _import(name: str, what: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(f"{what} needs {name}: pip install {name}") from error
