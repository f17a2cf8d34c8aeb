"""The targets of the reading engine, and whether a run met them."""

import statistics
from dataclasses import dataclass

from .protocol import median_ratio

FAST, COMPACT, NONE = "voxquarry fast", "voxquarry compact", "voxquarry none"
BLOSC2, BLOSC2_ZSTD = "blosc2, nnU-Net's layout", "blosc2, same layout, zstd 8"
MEMMAP = "numpy memmap, uncompressed"
CUBES = ("64×64×64", "96×96×96", "128×128×128")
LIKEWISE = "96×96×96"

# Two ways to use two cores with Voxquarry: share each patch, or read two patches at a time.
TWO = ("2 threads", "2 Python threads")

# Our systems, theirs, our ways of running, theirs, and the least ratio.
WARM = (
    ((FAST,), (BLOSC2,), ("1 thread",), "1 thread", 2.5),
    ((FAST,), (BLOSC2,), TWO, "2 processes", 2.3),
    ((FAST,), (MEMMAP,), ("1 thread",), "1 thread", 1.0),
    ((NONE,), (MEMMAP,), ("1 thread",), "1 thread", 1.1),
    ((FAST,), ("tensorstore",), ("1 thread",), "1 thread", 4),
    ((FAST,), ("zarrs crate",), ("1 thread",), "1 thread", 6),
    ((FAST,), ("zarr-python, sharded 32³", "zarr-python, 64³"), ("1 thread",), "1 thread", 10),
    ((COMPACT,), (BLOSC2_ZSTD,), ("1 thread",), "1 thread", 1.5),
)


@dataclass
class Verdict:
    figure: str
    found: str
    wanted: str
    met: bool


def verdicts(record):
    """All targets for which the record has measurements."""
    cells = {(cell["volume"], cell["patch"]): cell for cell in record["warm"]}
    found = []
    for patch in CUBES:
        cell = cells.get(("int16", patch))
        if cell:
            for ours, theirs, our_ways, their_way, least in WARM:
                found += _ratio(cell, ours, theirs, our_ways, their_way, least)
            found += _compression(cell, FAST, BLOSC2, 0.97)
            found += _compression(cell, COMPACT, BLOSC2_ZSTD, 1.0)
    for volume in ("uint8", "float32"):
        if cell := cells.get((volume, LIKEWISE)):
            found += _ratio(cell, (FAST, COMPACT), (BLOSC2,), ("1 thread",), "1 thread", 2)
    for cell in record["cold"]:
        found += _cold(cell)
    found += _conversion(record)
    found += _extras(record)
    return found


def _row(cell, name, way):
    return next(
        (row for row in cell["rows"] if row["name"] == name and row["way"] == way and row["rates"]),
        None,
    )


def _best(cell, names, ways):
    rows = [row for name in names for way in ways if (row := _row(cell, name, way))]
    return max(rows, key=lambda row: statistics.median(row["rates"]), default=None)


def _ratio(cell, ours, theirs, our_ways, their_way, least):
    mine, other = _best(cell, ours, our_ways), _best(cell, theirs, (their_way,))
    if not mine or not other:
        return []
    middle, low, high = median_ratio(mine["rates"], other["rates"])
    way = their_way if mine["way"] == their_way else f"{mine['way']} / {their_way}"
    figure = f"{cell['volume']} {cell['patch']}: {mine['name']} / {other['name']}, {way}"
    return [
        Verdict(figure, f"{middle:.2f} ({low:.2f}–{high:.2f})", f"≥ {least:g}", middle >= least)
    ]


def _compression(cell, ours, theirs, least):
    mine, other = cell["stores"].get(ours), cell["stores"].get(theirs)
    if not mine or not other:
        return []
    ratio = mine["ratio"] / other["ratio"]
    figure = f"{cell['volume']} {cell['patch']}: compression ratio, {ours} / {theirs}"
    return [
        Verdict(
            figure,
            f"{ratio:.3f} ({mine['ratio']:.2f} / {other['ratio']:.2f})",
            f"≥ {least:g}",
            ratio >= least,
        )
    ]


def _cold(cell):
    mine = _row(cell, FAST, "1 thread")
    if not mine:
        return []
    found = []
    rivals = [
        n for n in ("tensorstore", "tensorstore, 32 reads in flight") if _row(cell, n, "1 thread")
    ]
    if rivals:
        found += [
            Verdict(f"cold {v.figure}", v.found, v.wanted, v.met)
            for v in _ratio(cell, (FAST,), rivals, ("1 thread",), "1 thread", 2)
        ]
    filled = mine["filled_bytes"] / mine["encoded_bytes"]
    figure = (
        f"cold {cell['volume']} {cell['patch']}: page cache filled / compressed bytes of the chunks"
    )
    return [*found, Verdict(figure, f"{filled:.2f}", "≤ 1.5", filled <= 1.5)]


def _conversion(record):
    if "conversion" not in record:
        return []
    rows = {row["name"]: row for row in record["conversion"]["rows"]}
    found, mine = [], rows[FAST]
    for other, most in (("tensorstore", 0.65), (BLOSC2, 1 / 3), (NONE, 1.15)):
        middle, low, high = median_ratio(mine["seconds"], rows[other]["seconds"])
        shown = f"{middle:.2f} ({low:.2f}–{high:.2f})"
        figure = f"converting a .nii.gz: time of {FAST} / {other}"
        found.append(Verdict(figure, shown, f"≤ {most:.2f}", middle <= most))
    bytes_ratio = rows[BLOSC2]["bytes"] / mine["bytes"]
    figure = f"converting a .nii.gz: compression ratio, {FAST} / {BLOSC2}"
    found.append(Verdict(figure, f"{bytes_ratio:.3f}", "≥ 1", bytes_ratio >= 1))
    peak = max(mine["peak_bytes"]) / 2**20
    figure = "converting a .nii.gz: memory of the process, Python and numpy included"
    return [*found, Verdict(figure, f"{peak:.0f} MiB", "≤ 300 MiB", peak <= 300)]


def _extras(record):
    found = []
    if cache := record.get("cache"):
        middle, low, high = median_ratio(cache["cached"], cache["plain"])
        cell = f"{cache['volume']} {cache['patch']}"
        figure = f"{cell}: random reads of 4 times the cache / without a cache"
        found.append(
            Verdict(figure, f"{middle:.3f} ({low:.3f}–{high:.3f})", "≥ 0.97", middle >= 0.97)
        )
    if call := record.get("call_microseconds"):
        microseconds = statistics.median(call["none"])
        found.append(
            Verdict(
                "one read call from Python", f"{microseconds:.2f} µs", "≤ 10 µs", microseconds <= 10
            )
        )
    if opening := record.get("opening"):
        milliseconds = opening["open_ms"]
        figure = "opening 4 TiB of 65,536 shards: time"
        found.append(Verdict(figure, f"{milliseconds:.2f} ms", "≤ 50 ms", milliseconds <= 50))
        figure = "opening 4 TiB of 65,536 shards: memory of the process, Python and numpy included"
        peak = opening["process_opened_mib"]
        found.append(Verdict(figure, f"{peak:.0f} MiB", "≤ 64 MiB", peak <= 64))
    return found
