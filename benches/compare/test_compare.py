"""Tests of the benchmarks: `python -m unittest benches.compare.test_compare`, from the root."""

import tempfile
import unittest
from pathlib import Path

import numpy as np

from . import cold, data, extras, protocol, report, targets
from .system import System, box
from .systems_files import Memmap
from .systems_zarr import TensorStore

PATCH = (20, 33, 40)


class Shifted(Memmap):
    """Reads a neighbour of the requested patch."""

    name = "shifted"

    def read(self, start, size, out):
        return super().read((start[0] - 1 if start[0] else 1, *start[1:]), size, out)


class Measuring(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        folder = Path(cls.scratch.name)
        voxels = np.random.default_rng(3).integers(0, 90, (70, 300, 90), np.int16)
        voxels[:32] = 0
        data.save(folder, voxels)
        cls.voxels, cls.volume = voxels, data.Volume("noise", folder, voxels.shape, "int16")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def prepared(self, kind) -> System:
        system = kind(self.volume, PATCH)
        system.prepare(lambda _: None)
        return system

    def test_other_voxels_are_noticed(self):
        contestants = [protocol.one_thread(self.prepared(kind)) for kind in (Memmap, Shifted)]
        protocol.race(
            contestants, protocol.positions(self.volume, PATCH)[:100], 2, 0.01, lambda _: None
        )
        right, wrong = contestants
        self.assertIsNone(right.failure)
        self.assertEqual(len(right.rates), 2)
        self.assertIn("read wrong voxels", wrong.failure)
        self.assertEqual(wrong.rates, [])

    def test_positions_stay_inside_and_are_the_same_again(self):
        starts = protocol.positions(self.volume, PATCH)
        self.assertEqual(starts, protocol.positions(self.volume, PATCH))
        self.assertEqual(np.min(starts, axis=0).tolist(), [0, 0, 0])
        self.assertEqual(np.max(starts, axis=0).tolist(), [50, 267, 50])

    def test_encoded_bytes_are_those_of_the_chunks_that_are_met(self):
        system = self.prepared(TensorStore)
        # The first 32 planes have the fill value and take no space; the others are noise.
        self.assertEqual(cold.encoded_bytes(system.array, (0, 0, 0), (32, 300, 90)), 0)
        whole = cold.encoded_bytes(system.array, (0, 0, 0), self.voxels.shape)
        index_bytes = 2 * (16 * 8**3 + 4)
        files = sum(
            path.stat().st_size for path in (system.array / "c").rglob("*") if path.is_file()
        )
        self.assertEqual(whole, files - index_bytes)
        parts = [
            cold.encoded_bytes(system.array, (z, y, x), (1, 1, 1))
            for z in range(0, 70, 32)
            for y in range(0, 300, 32)
            for x in range(0, 90, 32)
        ]
        self.assertEqual(whole, sum(parts))
        two = cold.encoded_bytes(system.array, (40, 250, 10), (3, 10, 3))
        self.assertEqual(
            two, sum(cold.encoded_bytes(system.array, (40, y, 10), (1, 1, 1)) for y in (250, 256))
        )

    def test_eviction_leaves_nothing_and_reads_fill(self):
        system = self.prepared(Memmap)
        system.open()
        out = np.empty(PATCH, np.int16)
        system.read((0, 0, 0), PATCH, out)
        ((seconds, filled, encoded, left),) = cold.run(system, [(33, 100, 7)], out)
        self.assertTrue(np.array_equal(out, self.voxels[box((33, 100, 7), PATCH)]))
        self.assertGreater(seconds, 0)
        self.assertEqual(left, 0)
        self.assertGreaterEqual(filled, 2 * np.prod(PATCH))
        self.assertIsNone(encoded)

    def test_slabs_of_a_generator_fit_together(self):
        shape = (64, 40, 48)
        whole, upper = data.Frame(shape, 0, 64), data.Frame(shape, 32, 64)
        self.assertTrue(np.array_equal(whole.smooth(5, 7)[32:], upper.smooth(5, 7)))

    def test_a_ratio_is_of_the_same_round(self):
        self.assertEqual(protocol.median_ratio([10, 30, 80], [5, 10, 20]), (3, 2, 4))
        self.assertIsNone(protocol.median_ratio([], [1.0]))


class Reporting(unittest.TestCase):
    def test_targets_are_judged_by_what_was_found(self):
        def row(name, *rates, **more):
            return {"name": name, "way": "1 thread", "rates": list(rates), "failure": None, **more}

        warm = {
            "volume": "int16",
            "patch": "96×96×96",
            "patch_bytes": 2 * 96**3,
            "rows": [
                row(targets.FAST, 500, 600),
                row(targets.BLOSC2, 200, 200),
                row(targets.MEMMAP, 1000, 600),
            ],
            "stores": {targets.FAST: {"ratio": 2.3}, targets.BLOSC2: {"ratio": 2.4}},
        }
        chilled = {
            **warm,
            "rows": [
                row(targets.FAST, 100, 120, filled_bytes=150, encoded_bytes=100, left_bytes=0),
                row("tensorstore", 60, 60, filled_bytes=0, encoded_bytes=0, left_bytes=0),
            ],
        }
        opening = {"open_ms": 60.0, "process_opened_mib": 30.0}
        machine = {"cpu": "", "simd": ["avx2"], "cores": 2, "memory_gib": 1, "system": ""}
        record = {
            "warm": [warm],
            "cold": [chilled],
            "opening": opening,
            "date": "",
            "commit": "",
            "versions": {},
            "machine": machine,
            "complete": True,
            "load_begin": 0,
            "load_end": 0,
        }
        found = {verdict.figure: verdict for verdict in targets.verdicts(record)}

        def met(text):
            return next(v.met for figure, v in found.items() if text in figure)

        self.assertEqual(len(found), 7)
        self.assertTrue(met(f"fast / {targets.BLOSC2}, 1 thread"))
        self.assertFalse(met(f"fast / {targets.MEMMAP}, 1 thread"))
        self.assertFalse(met("compression ratio"))
        self.assertFalse(met("cold int16 96×96×96: voxquarry fast / tensorstore"))
        self.assertTrue(met("page cache filled"))
        self.assertFalse(met("shards: time"))
        self.assertTrue(met("shards: memory"))
        tables = report.markdown(record)
        self.assertIn(
            "| voxquarry fast | 1 thread | 550 | 973 | 2.30"
            " | 2.75 (2.50–3.00) | 0.75 (0.50–1.00) |",
            tables,
        )

    def test_the_huge_volume_is_four_tebibytes_in_65536_shards(self):
        shards = np.divide(extras.HUGE_SHAPE, extras.HUGE_SHARD)
        self.assertEqual(np.prod(shards), 65536)
        self.assertEqual(2 * np.prod(extras.HUGE_SHAPE), 4 << 40)


if __name__ == "__main__":
    unittest.main()
