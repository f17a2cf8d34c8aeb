"""Uses the installed package as a newcomer does: the command, and the program of the README."""

import re
import subprocess
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

import voxquarry as vq

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).with_name("voxquarry")


def run(*arguments: object, expected: int = 0) -> str:
    """What a command prints; it must end with the expected code."""
    found = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False)
    assert found.returncode == expected, (arguments, found)
    return found.stdout + found.stderr


with tempfile.TemporaryDirectory() as name:
    folder = Path(name).resolve()
    assert ROOT not in Path(vq.__file__).resolve().parents or "site-packages" in vq.__file__
    for command in ([COMMAND], [sys.executable, "-m", "voxquarry"]):
        assert run(*command, "--version") == f"voxquarry {vq.__version__}\n"
        assert "Usage: voxquarry" in run(*command, "ingest", "--help")
        assert "usage: voxquarry view" in run(*command, "view", "--help")
        assert "error: " in run(*command, "info", folder / "none.zarr", expected=2)
        assert "unrecognized" in run(*command, "nothing", expected=2)
    run(COMMAND, "demo", "--dir", folder / "demo")
    (program,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (folder / "program.py").write_text(program, encoding="utf-8")
    printed = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert printed.startswith("(4, 1, 64, 64, 64)"), printed
    assert (folder / "prediction.nii.gz").is_file()
    run(COMMAND, "verify", folder / "store.zarr")
    run(COMMAND, "report", folder / "store.zarr", folder / "report.html")
    picture = vq.open(folder / "store.zarr")["case01"]["t1"].show()
    assert picture.png[:4] == b"\x89PNG"
    licences = [str(file) for file in files("voxquarry") or [] if "LICENSE" in str(file)]
    assert len(licences) == 2, licences
    print("voxquarry", vq.__version__, "from", Path(vq.__file__).parent, "works")
