"""Compares Voxquarry with other systems: `python -m benches.compare`, from the project's root.

Without options it measures everything, which takes about an hour the first time. Volumes and stores
are kept under bench-data/.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from . import (
    conversion,
    data,
    extras,
    nnunet,
    protocol,
    report,
    systems_blosc2,
    systems_files,
    systems_voxquarry,
    systems_zarr,
    targets,
)

PATCHES = ((64, 64, 64), (96, 96, 96), (128, 128, 128), (1, 512, 512), (24, 256, 256))
CUBES = PATCHES[:3]
SYSTEMS = (
    *systems_voxquarry.SYSTEMS,
    *systems_files.SYSTEMS,
    *systems_blosc2.SYSTEMS,
    *systems_zarr.SYSTEMS,
)
# Systems that load the whole file for each patch are measured with two patch sizes.
SLOW_PATCHES = PATCHES[:2]
COLD_SYSTEMS = (
    systems_voxquarry.Fast,
    systems_zarr.TensorStore,
    systems_zarr.TensorStoreParallel,
    systems_zarr.ZarrsCrate,
    systems_files.Wkw,
    systems_blosc2.NnUNet,
    systems_blosc2.NnUNetUnmapped,
    systems_files.Memmap,
)
PARTS = ("warm", "cold", "extras", "conversion")
COLD_PATCHES = 8


def patch_size(text):
    parts = [int(part) for part in text.replace("×", ",").replace("x", ",").split(",")]
    if len(parts) not in (1, 3) or min(parts) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 96 or 24,256,256")
    return tuple(parts * 3) if len(parts) == 1 else tuple(parts)


def parse():
    parser = argparse.ArgumentParser(
        prog="python -m benches.compare", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small volumes, 64³ of int16, short rounds: a smoke run",
    )
    parser.add_argument("--dtype", nargs="+", choices=data.NAMES, help="volumes (all)")
    parser.add_argument(
        "--patch",
        nargs="+",
        type=patch_size,
        help="patch sizes, 96 or 24,256,256 (the five of the tables)",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="SYSTEM", help="systems whose name contains one of these"
    )
    parser.add_argument(
        "--part", nargs="+", choices=PARTS, default=PARTS, help="parts of the run (all)"
    )
    parser.add_argument("--rounds", type=int, help="rounds of every race (5; quick 3)")
    parser.add_argument("--seconds", type=float, help="of each system in a round (0.4; quick 0.1)")
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
    arguments.rounds = (
        (3 if arguments.quick else 5) if arguments.rounds is None else arguments.rounds
    )
    if arguments.rounds < 1:
        parser.error("--rounds: expected at least 1")
    arguments.dtype = arguments.dtype or (["int16"] if arguments.quick else list(data.NAMES))
    arguments.patch = arguments.patch or ([(64, 64, 64)] if arguments.quick else list(PATCHES))
    arguments.seconds = arguments.seconds or (0.1 if arguments.quick else 0.4)
    arguments.results = arguments.results or (
        arguments.data / "results" if arguments.quick else Path("benches/results")
    )
    return arguments


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        self.began = time.monotonic()
        # Child processes run in other folders, where a relative path would mean something else.
        self.data = arguments.data.resolve()
        nnunet_version, *_ = nnunet.rules(self.data)
        shown = {
            name: value
            for name, value in vars(arguments).items()
            if name not in ("data", "results")
        }
        self.record = report.new_record(shown, nnunet_version)

    def say(self, text):
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", file=sys.stderr, flush=True)

    def chosen(self, kinds, volume, patch):
        """The systems that take part, their stores written, and rows for those that cannot."""
        ready, refused, stores = [], [], {}
        for kind in kinds:
            system = kind(volume, patch)
            if self.arguments.only and not any(part in system.name for part in self.arguments.only):
                continue
            try:
                seconds = system.prepare(self.say)
                ready.append(system)
                stored = system.stored_bytes()
                stores[system.name] = {
                    "bytes": stored,
                    "ratio": volume.raw_bytes / stored,
                    "write_seconds": seconds,
                }
            except Exception as error:  # Whatever one system raises, the others are measured.
                self.say(f"{system.name} does not take part: {error}")
                refused.append(
                    {
                        "name": system.name,
                        "way": "",
                        "rates": [],
                        "failure": f"{type(error).__name__}: {error}",
                    }
                )
        os.sync()
        return ready, refused, stores

    def cell(self, volume, patch, rows, **more):
        label = "×".join(map(str, patch))
        patch_bytes = patch[0] * patch[1] * patch[2] * volume.voxel_bytes
        return {
            "volume": volume.name,
            "patch": label,
            "shape": volume.shape,
            "patch_bytes": patch_bytes,
            "rows": rows,
            **more,
        }

    def warm(self, volume, patch):
        kinds = [kind for kind in SYSTEMS if patch in SLOW_PATCHES or not kind.slow]
        systems, refused, stores = self.chosen(kinds, volume, patch)
        contestants = [protocol.one_thread(system) for system in systems]
        pairs = []
        for system in systems if patch in CUBES else ():
            if isinstance(system, systems_voxquarry.Voxquarry):
                pairs += [protocol.two_threads(system), protocol.two_callers(system)]
            elif not system.slow:
                pairs.append(protocol.two_processes(system))
        starts = protocol.positions(volume, patch)
        protocol.warm(systems)
        self.say(f"warm {volume.name} {patch}: {len(systems)} systems")
        # Two races, because threads of an idle contestant may still spin on a core.
        for race in (contestants, pairs):
            protocol.race(race, starts, self.arguments.rounds, self.arguments.seconds, self.say)
        rows = [row(contestant) for contestant in (*contestants, *pairs)]
        self.record["warm"].append(self.cell(volume, patch, rows + refused, stores=stores))

    def cold(self, volume, patch):
        systems, refused, _ = self.chosen(COLD_SYSTEMS, volume, patch)
        contestants = [protocol.one_thread(system) for system in systems]
        self.say(f"cold {volume.name} {patch}: {len(systems)} systems")
        starts = protocol.positions(volume, patch)
        answers = protocol.race_cold(
            contestants, starts, self.arguments.rounds, COLD_PATCHES, self.say
        )
        rows = []
        for contestant in contestants:
            reads = [read for part in answers[contestant.name] for read in part]
            rows.append({**row(contestant), **filling(reads)})
        rows += [{**refusal, **filling([])} for refusal in refused]
        self.record["cold"].append(self.cell(volume, patch, rows))

    def extras(self, volume, patch):
        systems, _, _ = self.chosen(systems_voxquarry.SYSTEMS, volume, patch)
        if len(systems) < len(systems_voxquarry.SYSTEMS):
            return
        self.say("the cost of a call")
        self.record["call_microseconds"] = extras.call_microseconds(
            volume, patch, self.arguments.rounds
        )
        self.say("random reads of a volume four times the cache")
        plain, cached = extras.cache_race(
            volume, patch, self.arguments.rounds, self.arguments.seconds, self.say
        )
        label = "×".join(map(str, patch))
        self.record["cache"] = {
            "volume": volume.name,
            "patch": label,
            "plain": plain.rates,
            "cached": cached.rates,
        }
        self.record["opening"] = extras.opening(
            volume, patch, self.data, self.arguments.rounds, self.say
        )

    def conversion(self, volume):
        rows = conversion.race(volume, self.data, self.arguments.rounds, self.say)
        self.record["conversion"] = {"volume": volume.name, "shape": volume.shape, "rows": rows}

    def everything(self):
        arguments = self.arguments
        for name in arguments.dtype:
            volume = data.volume(name, self.data, arguments.quick, self.say)
            patches = [
                patch
                for patch in arguments.patch
                if all(p <= n for p, n in zip(patch, volume.shape, strict=True))
            ]
            for patch in patches if "warm" in arguments.part else ():
                self.warm(volume, patch)
            if name != "int16":
                continue
            for patch in (
                patch for patch in patches if patch in CUBES and "cold" in arguments.part
            ):
                self.cold(volume, patch)
            if "conversion" in arguments.part:
                self.conversion(volume)
            if "extras" in arguments.part:
                self.extras(volume, (96, 96, 96) if (96, 96, 96) in patches else patches[0])
        self.record["complete"] = True

    def finish(self):
        self.record["load_end"] = os.getloadavg()[0]
        self.record["seconds"] = round(time.monotonic() - self.began)
        path = report.save(self.record, self.arguments.results)
        for verdict in targets.verdicts(self.record):
            outcome = "met " if verdict.met else "MISS"
            print(f"{outcome}  {verdict.figure}: {verdict.found}, wanted {verdict.wanted}")
        self.say(f"tables, record and plot: {os.path.relpath(path)}")


def row(contestant):
    named = {"name": contestant.name, "way": contestant.way, "patches": contestant.patches}
    return {**named, "rates": contestant.rates, "failure": contestant.failure}


def filling(reads):
    """Means per patch of bytes that entered the page cache and of encoded bytes; the most left."""
    count = max(1, len(reads))
    return {
        "filled_bytes": sum(filled for _, filled, _, _ in reads) / count,
        "encoded_bytes": sum(encoded or 0 for _, _, encoded, _ in reads) / count,
        "left_bytes": max((left for _, _, _, left in reads), default=0),
    }


def main():
    run = Run(parse())
    try:
        run.everything()
    except KeyboardInterrupt:
        run.say("interrupted: what was measured is kept")
    finally:
        run.finish()
    return 0 if run.record["complete"] else 130


if __name__ == "__main__":
    sys.exit(main())
