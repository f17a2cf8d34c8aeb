"""Random patches from files to batches of tensors: Voxquarry, TorchIO, MONAI and nnU-Net.

Every loader has its own process and worker processes; only one loader works at a time, and rounds
go A B C A B C …. Before a round is timed, as many batches are dropped as the loader may have
prepared while others ran. Patches are compared with their volume. No model runs: the rate is an
upper bound for training.
"""

import json
import multiprocessing
import shutil
import time
import traceback

import numpy as np

from benches.compare import data
from benches.compare.protocol import median_ratio
from benches.compare.targets import Verdict

from . import loaders

SIDE, QUICK_SIDE = 256, 128
ROUNDS, QUICK_ROUNDS = 5, 3
SECONDS, QUICK_SECONDS = 3.0, 0.5
CHECKED = 8
OURS = "voxquarry.torch.loader, no worker"
# Theirs, and the least ratio of our rate to theirs.
TARGETS = (
    (loaders.TorchioQueue.name, 20),
    (loaders.MonaiPersistent.name, 5),
    (loaders.NnunetBlosc2.name, 2),
)
WITH_WORKERS = "voxquarry.torch.loader, 2 workers"


def measure(folder, quick, say):
    """Measures all loaders; subjects and stores are kept in `folder`."""
    patch = 48 if quick else 96
    cases = subjects(
        folder / f"endtoend-{'quick' if quick else 'full'}-{data.GENERATION}",
        QUICK_SIDE if quick else SIDE,
        say,
    )
    contestants = []
    for kind in loaders.LOADERS:
        loader = kind(cases, patch)
        try:
            loader.prepare(say)
            contestants.append(Contestant(loader))
        except Exception as error:  # Whatever one loader raises, the others are measured.
            say(f"{loader.name} does not take part: {error}")
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    race(contestants, rounds, seconds, say)
    rates = {c.loader.name: c.rates for c in contestants if c.rates}
    rows = []
    for name, found in sorted(rates.items(), key=lambda row: -np.median(row[1])):
        beside = list(median_ratio(rates[OURS], found)) if OURS in rates else []
        rows.append(
            {"loader": name, "patches per second": found, "ours without workers / this": beside}
        )
    failed = [
        {"loader": c.loader.name, "failure": c.failure.strip().splitlines()[-1]}
        for c in contestants
        if c.failure
    ]
    record = {
        "subjects": f"{loaders.SUBJECTS} of {cases.side}³ int16, CT-like",
        "patches": f"{patch}³, in batches of {loaders.BATCH}",
        "loaders": rows,
        **({"did not take part": failed} if failed else {}),
    }
    return record, verdicts(rates)


def verdicts(rates):
    """The targets for which both sides were measured."""
    found = []
    for theirs, least in TARGETS if OURS in rates else ():
        if theirs in rates:
            middle, low, high = median_ratio(rates[OURS], rates[theirs])
            figure = f"end to end: {OURS} / {theirs}"
            found.append(
                Verdict(
                    figure, f"{middle:.1f} ({low:.1f}–{high:.1f})", f"≥ {least}", middle >= least
                )
            )
    if OURS in rates and WITH_WORKERS in rates:
        middle, low, high = median_ratio(rates[OURS], rates[WITH_WORKERS])
        figure = "end to end: ours without workers / with 2"
        found.append(Verdict(figure, f"{middle:.2f} ({low:.2f}–{high:.2f})", "≥ 1", middle >= 1))
    return found


def subjects(folder, side, say):
    """The cases in `folder`; made if they do not exist."""
    cases = loaders.Cases(folder, side, tuple(f"case{n}" for n in range(loaders.SUBJECTS)))
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for n, name in enumerate(cases.names):
            say(f"making subject {name}")
            case = folder / name
            case.mkdir(parents=True)
            # Slabs of one tall volume: similar but different.
            tall = (loaders.SUBJECTS * side, side, side)
            data.save(case, data.ct(data.Frame(tall, n * side, (n + 1) * side)))
            data.gzip_copy(case / "volume.nii", case / "volume.nii.gz")
            (case / "volume.nii").unlink()
        (folder / "ready").write_text(json.dumps({"side": side}))
    return cases


class Contestant:
    """A loader and its process."""

    def __init__(self, loader):
        self.loader = loader
        self.rates = []
        self.failure = None
        self.pipe = None

    def start(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(self.loader, theirs))
        self.process.start()
        theirs.close()

    def ask(self, command, amount):
        """The answer to a command; None after a failure, which is recorded."""
        if self.failure:
            return None
        try:
            self.pipe.send((command, amount))
            done, answer = self.pipe.recv()
        except (EOFError, BrokenPipeError):
            done, answer = False, "its process ended"
        if not done:
            self.failure = answer
        return answer if done else None

    def stop(self):
        self.pipe.close()
        self.process.join(30)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def race(contestants, rounds, seconds, say):
    """Rounds of all contestants in turn; fills in their rates."""
    started = []
    try:
        for contestant in contestants:
            contestant.start()
            started.append(contestant)
            contestant.ask("check", CHECKED)
            outcome = contestant.failure or "its patches agree with the volumes"
            say(f"{contestant.loader.name}: {outcome}")
        for _ in range(rounds):
            for contestant in contestants:
                rate = contestant.ask("run", seconds)
                if rate is not None:
                    contestant.rates.append(rate)
                contestant.ask("check", 1)
    finally:
        for contestant in started:
            contestant.stop()


def serve(loader, pipe):
    """The process of a contestant: answers commands until the pipe closes."""
    batches = None
    while True:
        try:
            command, amount = pipe.recv()
        except EOFError:
            return
        try:
            batches = batches or loader.batches()
            work = check if command == "check" else run
            pipe.send((True, work(loader, batches, amount)))
        except Exception:
            pipe.send((False, traceback.format_exc(limit=-3)))


def run(loader, batches, seconds):
    """Patches per second over about `seconds`."""
    for _ in range(loader.in_flight):
        next(batches)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        # A queue that fills and then empties is measured over whole cycles.
        count += sum(loader.patches_in(next(batches)) for _ in range(loader.turn))
    return count / (time.perf_counter() - begin)


def check(loader, batches, count):
    """Compares the patches of some batches, voxel by voxel, with the volumes."""
    for _ in range(count):
        for name, start, voxels in loader.located(next(batches)):
            box = tuple(slice(a, a + n) for a, n in zip(start, voxels.shape, strict=True))
            if not np.array_equal(voxels, loader.cases.voxels(name)[box]):
                raise RuntimeError(f"{loader.name} returned wrong voxels at {start} of {name}")
