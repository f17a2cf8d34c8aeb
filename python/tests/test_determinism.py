"""Locations computed from docs/determinism.md alone, without Voxquarry: its golden values, and the package's."""

from __future__ import annotations

import re
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
    """Sixteen words of the key stream (Bernstein 2008, with eight rounds, 64 bits of counter and of nonce)."""

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


def location(
    border: str, size: tuple[int, ...], patch: tuple[int, ...], seed: int, epoch: int, subject: str, n: int
) -> tuple[int, ...]:
    draws, start = Draws(seed, epoch, subject, n), []
    for s, p in zip(size, patch, strict=True):
        if border == "exclude":
            start.append(draws.below(s - p + 1))
        else:
            at = draws.below(s) - p // 2
            start.append(min(max(at, 0), s - p) if border == "clamp" else at)
    return tuple(start)


def golden() -> dict[str, list[tuple[int, ...]]]:
    rows = re.findall(r"^\| (exclude|clamp|pad) \| (\(.*\)) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    triples = {border: re.findall(r"\(([^)]*)\)", cells) for border, cells in rows}
    return {b: [tuple(int(v) for v in t.replace("−", "-").split(",")) for t in ts] for b, ts in triples.items()}


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
        name: write_nifti(tmp_path / f"{i}.nii", smooth((17, 23, 9))) for i, name in enumerate(("case01", "Ünï"))
    }
    store = vq.ingest(sources, tmp_path / "store.zarr")
    size, patch = (9, 23, 17), (4, 5, 17)
    sampler = vq.UniformSampler(patch, border=border)
    streams = ((42, 3, 0), (0, 0, 7), (2**64 - 1, 2**64 - 1, 2**32 - 5), (1, 0, 2**31))
    for subject, (seed, epoch, first) in zip((*sources, *sources), streams, strict=True):
        found = sampler.locations(store[subject], 5, seed=seed, epoch=epoch, first=first)
        expected = [location(border, size, patch, seed, epoch, subject, first + i) for i in range(5)]
        assert found.tolist() == [list(start) for start in expected], (subject, seed, epoch, first)


def test_the_package_has_the_golden_values(tmp_path: Path) -> None:
    source = write_nifti(tmp_path / "a.nii", np.zeros((300, 200, 100), "u1"))
    subject = vq.ingest({"case01": source}, tmp_path / "store.zarr")["case01"]
    for border, expected in golden().items():
        found = vq.UniformSampler((10, 20, 30), border).locations(subject, 3, seed=42, epoch=3)
        assert [tuple(start) for start in found.tolist()] == expected
