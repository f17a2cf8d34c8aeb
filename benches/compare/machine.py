"""The conditions of a run: the machine, package versions, the commit and the load."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def machine():
    """The processor, its cores and memory, and the operating system."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in cpu.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields.get("flags", "").split()
    info = Path("/proc/meminfo")
    memory = info.read_text().split() if info.exists() else ["", "0"]
    return {
        "cpu": fields.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "simd": [name for name in ("avx2", "avx512bw", "avx512vbmi") if name in flags],
        "memory_gib": round(int(memory[1]) / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions(packages, known):
    """The versions of installed packages, and those in `known`."""
    found = dict(known)
    for name in packages:
        try:
            found.setdefault(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def commit():
    """The measured commit, marked if the working tree differs from it."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude", "*"],
            cwd=PROJECT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def conditions(packages, known):
    """The fields of a record that describe the conditions at the start of a run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(packages, known),
        "load_begin": os.getloadavg()[0],
    }


def sentence(record):
    """The conditions in one sentence; the record has `load_end` and `complete` too."""
    m = record["machine"]
    known = ", ".join(
        f"{name} {version}" for name, version in record["versions"].items() if version
    )
    cut = "" if record["complete"] else " The run was cut short."
    busy = f"load {record['load_begin']:.1f} before, {record['load_end']:.1f} after the run"
    processor = f"{m['cpu']} ({', '.join(m['simd'])}), {m['cores']} cores"
    place = f"{processor}, {m['memory_gib']} GiB, {m['system']}"
    return f"{record['date']}, commit {record['commit']}, {place}, {busy}; {known}.{cut}"
