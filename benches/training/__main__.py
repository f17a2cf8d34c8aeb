"""Compares training and inference with other libraries: `python -m benches.training`.

It runs from the project's root, in the environment with torch. A part is a module of this folder
with `measure(data, quick, say)`. It gets the folder for volumes and stores, whether this is a smoke
run, and `say(text)` for progress. It returns its record, a dictionary for JSON, and a list of
`benches.compare.targets.Verdict`.
"""

import argparse
import importlib
import os
import sys
import time
import traceback
from importlib.util import find_spec
from pathlib import Path

from benches.compare import machine

from . import report

# The parts that exist.
PARTS = tuple(
    name
    for name in ("sampling", "queueing", "endtoend", "aggregation")
    if find_spec(f"{__package__}.{name}")
)
PACKAGES = (
    "voxquarry",
    "torch",
    "torchio",
    "monai",
    "torchdata",
    "blosc2",
    "numpy",
    "nibabel",
    "nnunetv2",
)


def parse():
    parser = argparse.ArgumentParser(
        prog="python -m benches.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--part", nargs="+", choices=PARTS, default=PARTS, help="parts of the run (all)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small volumes, short rounds: a smoke run"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("bench-data"),
        help="where volumes and stores are kept (bench-data)",
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="where the record goes (benches/results; quick bench-data/results)",
    )
    arguments = parser.parse_args()
    arguments.results = arguments.results or (
        arguments.data / "results" if arguments.quick else Path("benches/results")
    )
    return arguments


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        self.began = time.monotonic()
        # Parts that are not run keep their earlier results.
        self.record = report.load(arguments.results)
        self.complete = False

    def say(self, text):
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", file=sys.stderr, flush=True)

    def everything(self):
        failed = False
        for name in self.arguments.part:
            self.say(name)
            part, began = machine.conditions(PACKAGES, {}), time.monotonic()
            try:
                part |= {**self.part(name), "complete": True}
            except Exception:  # Whatever one part raises, the others are measured.
                failed = True
                part |= {
                    "record": {},
                    "verdicts": [],
                    "failure": traceback.format_exc(limit=-4),
                    "complete": False,
                }
                self.say(part["failure"])
            part |= {
                "quick": self.arguments.quick,
                "load_end": os.getloadavg()[0],
                "seconds": round(time.monotonic() - began),
            }
            self.record["parts"][name] = part
        self.complete = not failed

    def part(self, name):
        module = importlib.import_module(f"{__package__}.{name}")
        self.arguments.data.mkdir(parents=True, exist_ok=True)
        found, verdicts = module.measure(
            self.arguments.data.resolve(), self.arguments.quick, self.say
        )
        return {
            "title": module.__doc__.splitlines()[0],
            "record": found,
            "verdicts": [vars(verdict) for verdict in verdicts],
        }

    def finish(self):
        path = report.save(self.record, self.arguments.results)
        for name in self.arguments.part:
            for verdict in self.record["parts"].get(name, {"verdicts": []})["verdicts"]:
                met = "met " if verdict["met"] else "MISS"
                print(f"{met}  {verdict['figure']}: {verdict['found']}, wanted {verdict['wanted']}")
        self.say(f"tables and record: {os.path.relpath(path)}")


def main():
    run = Run(parse())
    try:
        run.everything()
    except KeyboardInterrupt:
        run.say("interrupted: what was measured is kept")
    finally:
        run.finish()
    return 0 if run.complete else 1


if __name__ == "__main__":
    sys.exit(main())
