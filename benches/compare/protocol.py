"""The measuring protocol: all systems read the same patches, in rounds A B C A B C ….

The machine's speed drifts from minute to minute, so numbers of different rounds are never divided:
a ratio is the median of the ratios within each round, given with the least and the greatest.
Patches are compared with the volume before the first round and after every round.
"""

import os
import statistics
import zlib
from dataclasses import dataclass, field

import numpy as np

from .worker import Worker

POSITIONS = 4096
CHECKED_BEFORE = 8
CHECKED_EACH_ROUND = 2


def cores():
    """The first two cores that this process may use; the same one twice if there is only one."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[0], ours[1 % len(ours)]


@dataclass
class Contestant:
    """A system run in a certain way.

    `lanes` are its processes, each with its cores, its number of threads and of callers.
    """

    system: object
    way: str
    lanes: tuple
    rates: list = field(default_factory=list)
    patches: int = 0
    failure: str | None = None

    @property
    def name(self):
        return self.system.name


def one_thread(system):
    first, _ = cores()
    return Contestant(system, "1 thread", (({first}, 1, 1),))


def two_processes(system):
    first, second = cores()
    return Contestant(system, "2 processes", (({first}, 1, 1), ({second}, 1, 1)))


def two_threads(system):
    """The library's own threads share every patch."""
    return Contestant(system, "2 threads", ((set(cores()), 2, 1),))


def two_callers(system):
    """Two Python threads, a patch each; only a library that releases the GIL gains from them."""
    return Contestant(system, "2 Python threads", ((set(cores()), 1, 2),))


def positions(volume, patch):
    """Starts of patches anywhere in the volume, the same in every run."""
    seed = zlib.crc32(repr((volume.name, volume.shape, patch)).encode())
    spans = [n - p + 1 for n, p in zip(volume.shape, patch, strict=True)]
    drawn = np.random.default_rng(seed).integers(0, spans, (POSITIONS, 3))
    return [tuple(map(int, start)) for start in drawn]


def warm(systems):
    """Reads every file once, so that the page cache holds it."""
    for path in {path for system in systems for path in system.data_files()}:
        with open(path, "rb", buffering=0) as file:
            while file.read(8 << 20):
                pass


class Lanes:
    """A contestant's running processes."""

    def __init__(self, contestant):
        self.workers = []
        try:
            for cpus, threads, callers in contestant.lanes:
                self.workers.append(Worker(contestant.system, cpus, threads, callers))
            for worker in self.workers:
                worker.receive()
        except BaseException:
            self.close()
            raise

    def ask(self, command, starts):
        """The answers of all lanes, which share the starts and work at the same time."""
        n = len(self.workers)
        for k, worker in enumerate(self.workers):
            worker.send(command, starts[k::n])
        return [worker.receive() for worker in self.workers]

    def rate(self, starts):
        """Patches per second."""
        return len(starts) / max(self.ask("run", starts))

    def close(self):
        for worker in self.workers:
            worker.close()


def race(contestants, starts, rounds, seconds, say):
    """Runs all contestants in turn, `rounds` times, about `seconds` each; fills in their rates.

    Passes over the first of `starts` determine how many patches a contestant reads in a round, so
    when the rounds begin, everything that they read has been read before.
    """
    running = {}
    try:
        for contestant in contestants:
            try:
                lanes = Lanes(contestant)
                running[id(contestant)] = lanes
                least = 1 if contestant.system.slow else 2 * len(contestant.lanes)
                lanes.ask("check", starts[: least if contestant.system.slow else CHECKED_BEFORE])
                contestant.patches = _patches(contestant, lanes, starts, seconds, least)
            except RuntimeError as error:
                _fail(contestant, error, say)
        for number in range(rounds):
            for contestant in contestants:
                if contestant.failure or (contestant.system.slow and number > 1):
                    continue
                lanes = running[id(contestant)]
                try:
                    contestant.rates.append(lanes.rate(starts[: contestant.patches]))
                    if not contestant.system.slow:
                        first = (CHECKED_BEFORE + number * CHECKED_EACH_ROUND) % (
                            POSITIONS - CHECKED_EACH_ROUND
                        )
                        lanes.ask("check", starts[first : first + CHECKED_EACH_ROUND])
                except RuntimeError as error:
                    _fail(contestant, error, say)
    finally:
        for lanes in running.values():
            lanes.close()


def _patches(contestant, lanes, starts, seconds, least):
    if contestant.system.slow:
        return least
    count = least
    while True:
        rate = lanes.rate(starts[:count])
        if count / rate >= 0.7 * seconds or count == POSITIONS:
            return count
        count = min(POSITIONS, max(2 * count, int(rate * seconds)))


def _fail(contestant, error, say):
    contestant.failure = str(error)
    say(f"{contestant.name}, {contestant.way}: {error}")


def median_ratio(rates, reference):
    """Median, least and greatest ratio of the rounds that both took part in; None without any."""
    ratios = [a / b for a, b in zip(rates, reference, strict=False)]
    return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


def race_cold(contestants, starts, rounds, patches, say):
    """Like `race`, but files are evicted before each patch; each round has `patches` new patches.

    Returns the rows of `cold.run` for each contestant's name, a list for each round.
    """
    running, rows = {}, {contestant.name: [] for contestant in contestants}
    try:
        for contestant in contestants:
            try:
                running[id(contestant)] = lanes = Lanes(contestant)
                lanes.ask("check", starts[:2])
                # Evicts, so that no pages stay mapped for another contestant over the same files.
                lanes.ask("cold", [])
            except RuntimeError as error:
                _fail(contestant, error, say)
        for number in range(rounds):
            part = starts[number * patches : (number + 1) * patches]
            for contestant in contestants:
                if contestant.failure:
                    continue
                try:
                    (answer,) = running[id(contestant)].ask("cold", part)
                    rows[contestant.name].append(answer)
                    contestant.rates.append(len(part) / sum(row[0] for row in answer))
                    contestant.patches = patches
                except RuntimeError as error:
                    _fail(contestant, error, say)
    finally:
        for lanes in running.values():
            lanes.close()
    return rows
