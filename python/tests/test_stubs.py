"""The stubs say what the compiled module has, and a strictly typed script of a user passes with
them.
"""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import stubs
import typed_script
from helpers import identical, smooth, store_of

import voxquarry as vq
from voxquarry import _native


def public(names) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def assert_passes(tmp_path: Path, *command: object) -> None:
    """In a folder of its own, where it leaves its cache; the package is found where it was
    installed from.
    """
    environment = {**os.environ, "MYPYPATH": str(Path(vq.__file__).parents[1])}
    command = [sys.executable, "-m", *map(str, command)]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_stubs_agree_with_the_module(tmp_path: Path) -> None:
    behind_python = {
        "byte_count",
        "discard_volume_parts",
        "finalize_volume",
        "ingest",
        "picture",
        "plan_ingest",
        "run_command",
        "run_ingest_plan",
        "write_components",
    }
    assert public(dir(_native)) - behind_python <= set(vq.__all__)
    allowed = tmp_path / "allowed"
    # What the stub lists is listed by it; `get` is the standard library's own, whose stub differs.
    allowed.write_text("voxquarry._native.__all__\nvoxquarry._native.(Dataset|Subject).get\n")
    assert_passes(
        tmp_path, "mypy.stubtest", "--concise", "--allowlist", allowed, "voxquarry._native"
    )


def test_stubs_have_the_modules_documentation() -> None:
    source = stubs.STUB.read_text(encoding="utf-8")
    assert stubs.written(source) == source, "run python/tests/stubs.py"


def test_the_package_and_strictly_typed_scripts_pass(tmp_path: Path) -> None:
    settings = Path(__file__).parents[1] / "pyproject.toml"
    assert_passes(tmp_path, "mypy", "--config-file", settings, "-p", "voxquarry")
    assert_passes(tmp_path, "mypy", "--strict", typed_script.__file__)


def test_the_typed_script_runs(tmp_path: Path) -> None:
    voxels = smooth((20, 18, 17))
    store_of(tmp_path, voxels, patch_size=16)
    mean, labels = typed_script.predict(
        tmp_path / "store.zarr", tmp_path / "pred.zarr/case01/labels"
    )
    assert identical(mean, voxels.astype(np.float32))
    assert np.array_equal(labels, voxels >= 0)


def test_everything_public_is_documented() -> None:
    for name in public(vq.__all__):
        value = getattr(vq, name)
        assert inspect.getdoc(value), name
        for member in public(vars(value)) if inspect.isclass(value) else ():
            assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"


def test_static_methods_are_documented_as_what_they_do() -> None:
    """Their wrapper has the documentation of Python's own ``staticmethod``."""
    assert "staticmethod(" not in stubs.STUB.read_text(encoding="utf-8")
