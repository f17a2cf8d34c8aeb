"""Locations computed from docs/determinism.md alone, without Voxquarry: its golden values, and the
package's.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import smooth, write_nifti

import voxquarry as vq

PAGE = Path(__file__).parents[2] / "docs" / "determinism.md"
WORD = 2**32 - 1


def fnv1a_128(name: bytes) -> int:
    value = 0x6C62272E07BB014262B821756295C58D
    for byte in name:
        value = (value ^ byte) * 0x0000000001000000000000000000013B % 2**128
    return value


def chacha8_block(key: bytes, counter: int, nonce: int) -> list[int]:
    """Sixteen words of the key stream (Bernstein 2008, with eight rounds, 64 bits of counter and of
    nonce).
    """

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for one, two, three, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[one] = x[one] + x[two] & WORD
            mixed = x[three] ^ x[one]
            x[three] = (mixed << turn | mixed >> 32 - turn) & WORD

    words = [int.from_bytes(key[i : i + 4], "little") for i in range(0, 32, 4)]
    constants = [int.from_bytes(b"expand 32-byte k"[i : i + 4], "little") for i in range(0, 16, 4)]
    first = [*constants, *words, counter & WORD, counter >> 32, nonce & WORD, nonce >> 32]
    x = list(first)
    for _ in range(4):
        for column in range(4):
            quarter(column, column + 4, column + 8, column + 12)
        for column in range(4):
            quarter(column, (column + 1) % 4 + 4, (column + 2) % 4 + 8, (column + 3) % 4 + 12)
    return [a + b & WORD for a, b in zip(x, first, strict=True)]


class Draws:
    """The stream of one sample."""

    def __init__(self, seed: int, epoch: int, subject: str, n: int) -> None:
        parts = (seed, 8), (epoch, 8), (fnv1a_128(subject.encode()), 16)
        self.key = b"".join(value.to_bytes(length, "little") for value, length in parts)
        self.nonce, self.counter, self.words = n, 0, []

    def next64(self) -> int:
        if not self.words:
            self.words = chacha8_block(self.key, self.counter, self.nonce)
            self.counter += 1
        low, high = self.words.pop(0), self.words.pop(0)
        return high << 32 | low

    def below(self, bound: int) -> int:
        while True:
            product = self.next64() * bound
            if product % 2**64 >= 2**64 % bound:
                return product >> 64

    def unit(self) -> float:
        return (self.next64() >> 11) * 2.0**-53

    def pick(self, weights: list[float]) -> int:
        sums = list(itertools.accumulate(weights))
        r = self.unit() * sums[-1]
        return next(i for i, total in enumerate(sums) if total > r)


def location(
    border: str,
    size: tuple[int, ...],
    patch: tuple[int, ...],
    seed: int,
    epoch: int,
    subject: str,
    n: int,
) -> tuple[int, ...]:
    draws, start = Draws(seed, epoch, subject, n), []
    for s, p in zip(size, patch, strict=True):
        if border == "exclude":
            start.append(draws.below(s - p + 1))
        else:
            at = draws.below(s) - p // 2
            start.append(min(max(at, 0), s - p) if border == "clamp" else at)
    return tuple(start)


@dataclass
class Space:
    """The possible centres of one volume, ordered by chunk."""

    voxels: np.ndarray
    chunk: tuple[int, ...]
    patch: tuple[int, ...]
    border: str

    @property
    def box(self) -> list[range]:
        pairs = zip(self.voxels.shape, self.patch, strict=True)
        return [
            range(p // 2, s - (p - 1) // 2) if self.border == "exclude" else range(s)
            for s, p in pairs
        ]

    def chunks(self) -> Iterator[tuple[slice, ...]]:
        """The parts of chunks that lie in the box."""
        for at in itertools.product(
            *(range(-(-s // c)) for s, c in zip(self.voxels.shape, self.chunk, strict=True))
        ):
            ends = zip(at, self.chunk, self.box, strict=True)
            part = tuple(slice(max(i * c, b.start), min((i + 1) * c, b.stop)) for i, c, b in ends)
            if all(s.start < s.stop for s in part):
                yield part

    def ordered(self, mask: np.ndarray) -> list[tuple[int, ...]]:
        inside = ((part, np.argwhere(mask[part])) for part in self.chunks())
        return [
            tuple(s.start + v for s, v in zip(part, at, strict=True))
            for part, found in inside
            for at in found.tolist()
        ]

    def start(self, centre: tuple[int, ...]) -> tuple[int, ...]:
        start = [c - p // 2 for c, p in zip(centre, self.patch, strict=True)]
        if self.border == "clamp":
            rooms = (s - p for s, p in zip(self.voxels.shape, self.patch, strict=True))
            start = [min(max(v, 0), room) for v, room in zip(start, rooms, strict=True)]
        return tuple(start)

    def label_location(
        self, rule: dict[str, object], seed: int, epoch: int, subject: str, n: int
    ) -> tuple[int, ...]:
        draws = Draws(seed, epoch, subject, n)

        def voxel(mask: np.ndarray) -> tuple[int, ...]:
            places = self.ordered(mask)
            return self.start(places[draws.below(len(places))])

        if "probabilities" in rule:
            classes = [
                (mask, w)
                for mask, w in (
                    (self.voxels == k, w) for k, w in sorted(rule["probabilities"].items())
                )
            ]
            classes = [(mask, w) for mask, w in classes if w > 0 and self.ordered(mask)]
            return voxel(classes[draws.pick([w for _, w in classes])][0])
        if "pos_neg" in rule:
            sides = zip((self.voxels > 0, self.voxels <= 0), rule["pos_neg"], strict=True)
            sides = [(mask, w) for mask, w in sides if w > 0 and self.ordered(mask)]
            return voxel(sides[draws.pick([w for _, w in sides])][0])
        if "foreground_fraction" in rule:
            part = round(rule["foreground_fraction"] * 2**32)
            phase = Draws(seed, epoch, subject, 2**63).below(2**32)
            labels = [
                label
                for label in np.unique(self.voxels)
                if label > 0 and self.ordered(self.voxels == label)
            ]
            if labels and (phase + n * part) % 2**32 + part >= 2**32:
                return voxel(self.voxels == labels[draws.below(len(labels))])
            return self.start(tuple(axis.start + draws.below(len(axis)) for axis in self.box))
        return voxel(self.voxels > 0)

    def weighted_location(self, seed: int, epoch: int, subject: str, n: int) -> tuple[int, ...]:
        draws, parts = Draws(seed, epoch, subject, n), list(self.chunks())

        def total(values: Iterable[float]) -> float:
            return functools.reduce(lambda a, b: a + b, values, 0.0)

        def rows(part: tuple[slice, ...]) -> list[float]:
            weights = self.voxels[part].astype("f8")
            return [total(row) for row in weights.reshape(-1, weights.shape[2]).tolist()]

        part = parts[draws.pick([total(rows(part)) for part in parts])]
        sums = list(itertools.accumulate(rows(part)))
        r = draws.unit() * sums[-1]
        row = next(i for i, passed in enumerate(sums) if passed > r)
        r -= sums[row - 1] if row else 0.0
        weights = self.voxels[part].astype("f8")
        line = list(itertools.accumulate(weights.reshape(-1, weights.shape[2])[row].tolist()))
        at = np.unravel_index(
            row * len(line) + next(i for i, passed in enumerate(line) if passed > r), weights.shape
        )
        return self.start(tuple(int(s.start + v) for s, v in zip(part, at, strict=True)))


# The rows of the page's second table.
RULES = {
    "`labels`": {},
    "`labels, probabilities={0: 1, 2: 3, 9: 5}`": {"probabilities": {0: 1.0, 2: 3.0, 9: 5.0}},
    "`labels, pos_neg=(1, 2)`": {"pos_neg": (1.0, 2.0)},
    "`labels, foreground_fraction=0.33`": {"foreground_fraction": 0.33},
    "`weights`": None,
}


def triples(cells: str) -> list[tuple[int, ...]]:
    found = re.findall(r"\(([^)]*)\)", cells)
    return [tuple(int(v) for v in triple.replace("−", "-").split(",")) for triple in found]


def golden_balance() -> list[tuple[str, str, list[tuple[int, ...]]]]:
    rows = re.findall(
        r"^\| (`(?:labels|weights).*`) \| (\w+) \| (.*) \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [(rule, border, triples(cells)) for rule, border, cells in rows]


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return (np.arange(int(np.prod(shape))) * 7919 // 640 % 5).reshape(shape).astype("u1")


def golden() -> dict[str, list[tuple[int, ...]]]:
    rows = re.findall(
        r"^\| (exclude|clamp|pad) \| (\(.*\)) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {border: triples(cells) for border, cells in rows}


def test_chacha8_has_its_published_key_stream() -> None:
    # The zero key and nonce: test vector TC1 of draft-strombergson-chacha-test-vectors, 8 rounds.
    stream = b"".join(word.to_bytes(4, "little") for word in chacha8_block(bytes(32), 0, 0))
    assert stream[:16].hex() == "3e00ef2f895f40d67f5bb8e81f09a5a1"


@pytest.mark.parametrize("border", ["exclude", "clamp", "pad"])
def test_the_page_is_enough_for_its_golden_values(border: str) -> None:
    found = [location(border, (100, 200, 300), (10, 20, 30), 42, 3, "case01", n) for n in range(3)]
    assert found == golden()[border]


@pytest.mark.parametrize("border", ["exclude", "clamp", "pad"])
def test_the_package_draws_what_the_page_says(tmp_path: Path, border: str) -> None:
    sources = {
        name: write_nifti(tmp_path / f"{i}.nii", smooth((17, 23, 9)))
        for i, name in enumerate(("case01", "Ünï"))
    }
    store = vq.ingest(sources, tmp_path / "store.zarr")
    size, patch = (9, 23, 17), (4, 5, 17)
    sampler = vq.UniformSampler(patch, border=border)
    streams = ((42, 3, 0), (0, 0, 7), (2**64 - 1, 2**64 - 1, 2**32 - 5), (1, 0, 2**31))
    for subject, (seed, epoch, first) in zip((*sources, *sources), streams, strict=True):
        found = sampler.locations(store[subject], 5, seed=seed, epoch=epoch, first=first)
        expected = [
            location(border, size, patch, seed, epoch, subject, first + i) for i in range(5)
        ]
        assert found.tolist() == [list(start) for start in expected], (subject, seed, epoch, first)


def test_the_package_has_the_golden_values(tmp_path: Path) -> None:
    source = write_nifti(tmp_path / "a.nii", np.zeros((300, 200, 100), "u1"))
    subject = vq.ingest({"case01": source}, tmp_path / "store.zarr")["case01"]
    for border, expected in golden().items():
        found = vq.UniformSampler((10, 20, 30), border).locations(subject, 3, seed=42, epoch=3)
        assert [tuple(start) for start in found.tolist()] == expected


def test_the_page_is_enough_for_labels_and_weights() -> None:
    rows = golden_balance()
    assert len(rows) == 6
    for rule, border, expected in rows:
        space = Space(numbers((40, 36, 44)), (16, 16, 16), (10, 9, 8), border)
        draw = (
            space.weighted_location
            if RULES[rule] is None
            else functools.partial(space.label_location, RULES[rule])
        )
        assert [draw(42, 3, "case01", n) for n in range(3)] == expected, (rule, border)


@pytest.mark.parametrize("border", ["exclude", "clamp", "pad"])
def test_the_package_balances_as_the_page_says(tmp_path: Path, border: str) -> None:
    voxels = numbers((18, 35, 21))
    source = write_nifti(tmp_path / "a.nii", voxels.T)
    volumes = {"labels": vq.Labels(source), "weights": source}
    subject = vq.ingest({"case01": volumes}, tmp_path / "store.zarr", patch_size=16)["case01"]
    for rule in RULES.values():
        name, rest = ("weights", {}) if rule is None else ("labels", rule)
        sampler = (vq.WeightedSampler if rule is None else vq.LabelSampler)(
            (5, 6, 4), name, border=border, **rest
        )
        space = Space(voxels, subject[name].chunks, (5, 6, 4), border)
        draw = (
            space.weighted_location
            if rule is None
            else functools.partial(space.label_location, rule)
        )
        for seed, epoch, first in ((42, 3, 0), (0, 2**64 - 1, 2**32 - 5)):
            found = sampler.locations(subject, 5, seed=seed, epoch=epoch, first=first)
            assert found.tolist() == [
                list(draw(seed, epoch, "case01", first + i)) for i in range(5)
            ], (rule, border)


class Order:
    """The permutation of ``0 … n - 1`` that belongs to a stream of an epoch."""

    def __init__(self, n: int, seed: int, epoch: int, stream: int) -> None:
        draws = Draws(seed, epoch, "/queue", stream)
        self.n, self.keys = n, [draws.next64() for _ in range(8)]
        self.half = max(-(-max(n - 1, 0).bit_length() // 2), 4)

    def __call__(self, x: int) -> int:
        while True:
            left, right = x >> self.half, x & (1 << self.half) - 1
            for key in self.keys:
                z = (right + key) % 2**64
                z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
                z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
                left, right = right, left ^ (z ^ z >> 31) & (1 << self.half) - 1
            x = left << self.half | right
            if x < self.n:
                return x


def test_the_page_is_enough_for_its_golden_orders() -> None:
    (line,) = re.findall("the permutation of 10, stream 0, is .*", PAGE.read_text(encoding="utf-8"))
    ten, thousand = (json.loads(group) for group in re.findall(r"(\[[^]]*\])", line))
    assert [Order(10, 42, 3, 0)(i) for i in range(10)] == ten
    assert [Order(1000, 42, 3, 1)(i) for i in range(4)] == thousand


def epoch_of(
    counts: list[int], shuffle: str, seed: int, epoch: int, window: int
) -> list[tuple[int, int]]:
    """Subject and number of every patch of an epoch, as the page says; ``window`` is its ``w``."""

    def numbered(subjects: list[int]) -> list[tuple[int, int]]:
        return [(subject, number) for subject in subjects for number in range(counts[subject])]

    patches = numbered(list(range(len(counts))))
    if shuffle == "none":
        return patches
    if shuffle == "global":
        order = Order(len(patches), seed, epoch, 0)
        return [patches[order(p)] for p in range(len(patches))]
    turns = [Order(len(counts), seed, epoch, 1)(t) for t in range(len(counts))]
    patches, size = numbered(turns), max(window // 2, 1)
    turn_of = [turns.index(subject) for subject, _ in patches]

    def permute(p: int, begin: int, stream: int) -> int:
        block = (turn_of[p] - begin) // size
        first, last = begin + block * size, begin + (block + 1) * size
        members = [q for q, turn in enumerate(turn_of) if first <= turn < last]
        return members[Order(len(members), seed, epoch, stream + 2 * block)(p - members[0])]

    return [patches[permute(permute(p, -(size // 2), 3), 0, 2)] for p in range(len(patches))]


@pytest.mark.parametrize("shuffle", ["global", "window", "none"])
def test_the_queue_orders_as_the_page_says(tmp_path: Path, shuffle: str) -> None:
    names, counts, size = [f"s{i}" for i in range(7)], [3, 0, 4, 1, 5, 2, 6], (9, 8, 10)
    sources = {
        name: {"ct": write_nifti(tmp_path / f"{name}.nii", smooth(size[::-1]))} for name in names
    }
    store = vq.ingest(sources, tmp_path / "store.zarr", patch_size=4)
    for window, seed, epoch in ((1, 42, 3), (3, 0, 0), (4, 7, 2**63), (100, 2**64 - 1, 1)):
        subjects = dict(zip(names, counts, strict=True))
        queue = vq.Queue(
            store,
            vq.UniformSampler(4),
            "ct",
            subjects=subjects,
            shuffle=shuffle,
            seed=seed,
            window_bytes=window * 1440,
        )
        queue.set_epoch(epoch)
        batches = list(queue)
        found = [
            (subject, *start)
            for batch in batches
            for subject, start in zip(
                batch["subject"], batch["location"][:, :3].tolist(), strict=True
            )
        ]
        expected = [
            (names[s], *location("exclude", size, (4, 4, 4), seed, epoch, names[s], n))
            for s, n in epoch_of(counts, shuffle, seed, epoch, window)
        ]
        assert found == expected, (window, seed, epoch)
