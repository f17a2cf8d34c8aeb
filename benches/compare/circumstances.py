"""What the figures of a run depend on beside the code: the machine, the versions, the commit, the
load.
"""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def machine():
    """The processor, its cores and memory, and the system."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in cpu.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields.get("flags", "").split()
    pages = (
        Path("/proc/meminfo").read_text().split() if Path("/proc/meminfo").exists() else ["", "0"]
    )
    return {
        "cpu": fields.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "simd": [name for name in ("avx2", "avx512bw", "avx512vbmi") if name in flags],
        "memory_gib": round(int(pages[1]) / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions(packages, known):
    """The versions of installed packages, and those that are `known` otherwise."""
    found = dict(known)
    for name in packages:
        try:
            found.setdefault(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def commit():
    """The commit measured, marked if the working tree differs from it."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude", "*"],
            cwd=PROJECT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def of_run(packages, known):
    """The fields of a record that say all this, as the run begins."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(packages, known),
        "load_begin": os.getloadavg()[0],
    }


def sentence(record):
    """All this in a sentence; the record has `load_end` and `complete` too."""
    m = record["machine"]
    known = ", ".join(
        f"{name} {version}" for name, version in record["versions"].items() if version
    )
    cut = "" if record["complete"] else " The run was cut short."
    busy = f"load {record['load_begin']:.1f} before, {record['load_end']:.1f} after the run"
    processor = f"{m['cpu']} ({', '.join(m['simd'])}), {m['cores']} cores"
    place = f"{processor}, {m['memory_gib']} GiB, {m['system']}"
    return f"{record['date']}, commit {record['commit']}, {place}, {busy}; {known}.{cut}"
