"""Runs the fuzz targets under libFuzzer, each for some seconds, and prints what they did.

Each target begins with its committed seeds and with what earlier runs found (`fuzz/corpus`, not
committed). An input that breaks a promise is kept in `fuzz/artifacts`; once the fault is mended it
becomes a seed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "fuzz"

# What libFuzzer needs to see edges and comparisons.
COVERAGE = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
]

# Our own mistakes are panics, and link-time optimisation has no part in them.
PROFILE = {
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    "CARGO_PROFILE_RELEASE_DEBUG": "line-tables-only",
    "CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS": "true",
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS": "true",
}


def build(sanitizer: str) -> Path:
    """Builds the fuzzer and returns its path.

    Sanitizers are an unstable option of the compiler, which the stable toolchain has too.
    """
    flags = list(COVERAGE)
    if sanitizer != "none":
        flags.append(f"-Zsanitizer={sanitizer}")
    version = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    triple = re.search(r"^host: (.*)$", version, re.MULTILINE)
    assert triple, version
    folder = FUZZ / "target" / sanitizer
    environment = {
        **os.environ,
        **PROFILE,
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        "RUSTC_BOOTSTRAP": "1",
    }
    command = ["cargo", "build", "--locked", "--release", "--package", "voxquarry-fuzz"]
    # With a named target the flags do not reach build scripts.
    command += ["--features", "libfuzzer", "--target", triple[1], "--target-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return folder / triple[1] / "release" / "voxquarry-fuzz"


def targets() -> list[str]:
    """The names of the targets: the folders of their seeds."""
    return sorted(path.name for path in (FUZZ / "seeds").iterdir())


def fuzz(program: Path, target: str, limits: list[str]) -> dict[str, int]:
    """Runs one target; returns executions, seconds, edges and inputs of the corpus."""
    corpus, artifacts = FUZZ / "corpus" / target, FUZZ / "artifacts" / target
    corpus.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(parents=True, exist_ok=True)
    options = [*limits, "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1"]
    options += [f"-artifact_prefix={artifacts}/"]
    dictionary = FUZZ / "dictionaries" / f"{target}.dict"
    if dictionary.exists():
        options.append(f"-dict={dictionary}")
    begun = time.monotonic()
    run = subprocess.run(
        [program, *options, corpus, FUZZ / "seeds" / target],
        env={**os.environ, "FUZZ_TARGET": target},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if run.returncode != 0:
        sys.exit(f"{target} failed; the input is in {artifacts}\n{run.stderr[-8000:]}")
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", run.stderr)
    edges = re.findall(r" cov: (\d+)", run.stderr)
    assert executions and edges, run.stderr[-2000:]
    return {
        "executions": int(executions[1]),
        "seconds": round(time.monotonic() - begun),
        "edges": int(edges[-1]),
        "inputs": len(list(corpus.iterdir())),
    }


def main() -> None:
    """Reads the arguments, builds, and runs the targets one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help="all of them unless some are named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--runs", type=int, default=-1, help="at most, for each target")
    parser.add_argument("--max-len", type=int, default=4096, help="bytes of an input (4096)")
    parser.add_argument("--sanitizer", default="address", help="address (default) or none")
    arguments = parser.parse_args()
    known = targets()
    if unknown := set(arguments.targets) - set(known):
        parser.error(f"no target {sorted(unknown)[0]!r}; there are {', '.join(known)}")
    program = build(arguments.sanitizer)
    limits = [f"-max_total_time={arguments.seconds}", f"-runs={arguments.runs}"]
    limits.append(f"-max_len={arguments.max_len}")
    print(f"{'target':16} {'executions':>12} {'seconds':>8} {'edges':>7} {'inputs':>7}")
    total = {"executions": 0, "seconds": 0}
    for target in arguments.targets or known:
        found = fuzz(program, target, limits)
        total = {key: value + found[key] for key, value in total.items()}
        columns = f"{found['seconds']:8} {found['edges']:7} {found['inputs']:7}"
        print(f"{target:16} {found['executions']:12,} {columns}", flush=True)
    print(f"{'all':16} {total['executions']:12,} {total['seconds']:8}")


if __name__ == "__main__":
    main()
