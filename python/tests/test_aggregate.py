"""Aggregation against the definitions written out voxel by voxel, in every order and from several
threads.
"""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, smooth, write_nifti

import voxquarry as vq

WINDOWS = ["crop", "average", "hann", "gaussian", "gaussian-nnunet", "custom"]
SIZE = (13, 9, 16)
GRIDS = {
    "even overlap": vq.GridSampler((6, 4, 5), overlap=(2, 2, 4)),
    "padded": vq.GridSampler((6, 4, 5), overlap=(4, 2, 2), padding="edge"),
    "padded, patch larger": vq.GridSampler((6, 12, 5), overlap=(2, 2, 0), padding=0),
    "padded without margin": vq.GridSampler(
        (16, 4, 6), overlap=(4, 2, 2), padding=0, margin="none"
    ),
    "fraction, padded without margin": vq.GridSampler(
        (8, 14, 12), overlap=0.5, padding=0, margin="none"
    ),
    "evenly placed": vq.GridSampler((5, 4, 7), overlap=(2, 0, 4), placement="even"),
    "one patch": vq.GridSampler(SIZE, overlap=0),
    "odd overlap": vq.GridSampler((5, 4, 7), overlap=(3, 1, 3)),
    "padded, odd overlap": vq.GridSampler((5, 4, 7), overlap=(3, 1, 3), padding="reflect"),
    "fraction": vq.GridSampler((8, 4, 12), overlap=0.5),
}


def profile(window: str, p: int) -> np.ndarray:
    n = np.arange(p)
    match window:
        case "hann":
            return 0.5 * (1 - np.cos(2 * np.pi * (n + 1) / (p + 1)))
        case "gaussian":
            return np.exp(-((n - (p - 1) / 2) ** 2) / (2 * (0.125 * p) ** 2))
        case "gaussian-nnunet":
            return np.exp(-((n - p // 2) ** 2) / (2 * (p / 8) ** 2))
        case "custom":
            return 0.1 + (n * 7 % 5)
    return np.ones(p)


def weights(window: str, patch: tuple[int, int, int]) -> np.ndarray:
    z, y, x = (profile(window, p) for p in patch)
    volume = z[:, None, None] * y[:, None] * x
    return np.maximum(volume, max(volume.min(), 1e-3)) if window == "gaussian" else volume


def oracle(
    grid: vq.GridSampler, window: str, starts: np.ndarray, patches: np.ndarray
) -> np.ndarray:
    """A dense volume with room for what lies outside, cut off in the end; ``patches`` is ``(n, c,
    z, y, x)``.
    """
    patch, room = grid.patch_size, 32
    shape = [s + 2 * room for s in SIZE]
    sums, totals = np.zeros((patches.shape[1], *shape)), np.zeros(shape)
    overlap = [p // 2 for p in patch] if isinstance(grid.overlap, float) else grid.overlap
    margins = [o // 2 if window == "crop" else 0 for o in overlap]
    alone = [len(set(starts[:, axis])) == 1 for axis in range(3)]
    outer = grid.padding is not None and grid.margin == "half-overlap"
    for start, values in zip(starts, patches, strict=True):
        cut = [
            (
                m * (not one and (at > 0 or outer)),
                p - m * (not one and (at + p < s or outer)),
            )
            for at, p, s, m, one in zip(start, patch, SIZE, margins, alone, strict=True)
        ]
        inner = tuple(slice(low, high) for low, high in cut)
        box = tuple(
            slice(room + at + low, room + at + high)
            for at, (low, high) in zip(start, cut, strict=True)
        )
        if window == "crop":
            sums[:, *box], totals[box] = values[:, *inner], 1
        else:
            sums[:, *box] += weights(window, patch)[inner] * values[:, *inner]
            totals[box] += weights(window, patch)[inner]
    inside = tuple(slice(room, room + s) for s in SIZE)
    return sums[:, *inside] / totals[inside]


def aggregator(
    grid: vq.GridSampler, window: str, subject: object = SIZE, **options: object
) -> vq.Aggregator:
    profiles = [profile(window, p) for p in grid.patch_size] if window == "custom" else window
    return vq.Aggregator(grid, subject, window=profiles, **options)


def random_patches(
    grid: vq.GridSampler, channels: int, dtype: str = "f4"
) -> tuple[np.ndarray, np.ndarray]:
    starts = grid.locations(SIZE)
    values = np.random.default_rng(len(starts)).normal(
        0, 100, (len(starts), channels, *grid.patch_size)
    )
    return starts, values.astype(dtype)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", GRIDS)
def test_blending_is_its_definition(name: str, window: str) -> None:
    grid = GRIDS[name]
    if window == "crop" and "odd" in name:
        with pytest.raises(vq.UsageError, match="odd"):
            aggregator(grid, window)
        return
    starts, patches = random_patches(grid, 2)
    expected = oracle(grid, window, starts, patches)
    result = aggregator(grid, window, channels=2)
    assert (result.shape, result.missing) == ((2, *SIZE), len(starts))
    order = np.random.default_rng(3).permutation(len(starts))
    for part in np.array_split(order, max(len(order) // 5, 1)):
        result.add(patches[part], starts[part])
    found = result.finish()
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    # Values of a few hundred: float32 is rounded once for each patch.
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=5e-5)


@pytest.mark.parametrize("window", WINDOWS)
def test_constants_come_out_bit_for_bit(window: str) -> None:
    for (name, grid), (dtype, value) in itertools.product(
        GRIDS.items(),
        [
            *(("f4", value) for value in (0.1, -3e38, -0.0, np.inf, np.float32(1e-45))),
            *(("f2", value) for value in (0.333, -0.0, -np.inf, 6e-8)),
            *(("f8", value) for value in (0.1, -0.0)),
            *[
                ("u1", 251),
                ("i2", -1024),
                ("u4", 2**32 - 1),
                ("i4", -(2**31)),
                ("i8", -(2**44)),
                ("u8", 2**44),
            ],
        ],
    ):
        if window == "crop" and "odd" in name:
            continue
        result = aggregator(grid, window, channels=None, dtype=dtype)
        starts = grid.locations(SIZE)
        result.add(np.full((len(starts), *grid.patch_size), value, dtype), starts)
        found, expected = result.finish(), np.full(SIZE, value, dtype)
        if dtype == "f8" and value:
            # The sums are float64 themselves: their rounding may show in the last bit, nowhere
            # else.
            np.testing.assert_array_max_ulp(found, expected, 8)
        else:
            assert identical(found, expected), (name, dtype)


@pytest.mark.parametrize("window", WINDOWS)
def test_constants_that_have_no_bits_to_keep(window: str) -> None:
    grid = GRIDS["even overlap"]
    starts = grid.locations(SIZE)
    for value, dtype, low, high in (
        (np.nan, "f4", None, None),
        (2**63 - 1, "i8", 2**63 - 2**14, 2**63),
    ):
        result = aggregator(grid, window, channels=None, dtype=dtype)
        result.add(np.full((len(starts), *grid.patch_size), value, dtype), starts)
        found = result.finish()
        assert (
            np.isnan(found).all() if low is None else all(low <= int(v) < high for v in found.flat)
        )


def test_reads_of_a_volume_give_the_volume_back(tmp_path: Path) -> None:
    voxels = smooth(SIZE)
    source = write_nifti(tmp_path / "a.nii", np.ascontiguousarray(voxels.T))
    subject = vq.ingest({"a": source}, tmp_path / "store.zarr", patch_size=8)["a"]
    for (name, grid), window in itertools.product(GRIDS.items(), WINDOWS):
        if window == "crop" and "odd" in name:
            continue
        result = aggregator(grid, window, subject, channels=None, dtype="i2")
        for start in grid.locations(subject):
            result.add(subject["image"].read(start, grid.patch_size, padding=grid.padding), start)
        assert identical(result.finish(), voxels), (name, window)


def test_several_threads_add(tmp_path: Path) -> None:
    grid = GRIDS["padded"]
    starts, patches = random_patches(grid, 3)
    result = vq.Aggregator(grid, SIZE, channels=3, memory_bytes=2000)
    failures: list[BaseException] = []

    def work(part: int) -> None:
        try:
            for n in range(part, len(starts), 4):
                result.add(patches[n], starts[n])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failures, result.missing) == ([], 0)
    np.testing.assert_allclose(
        result.finish(), oracle(grid, "hann", starts, patches), rtol=2e-6, atol=2e-5
    )


@pytest.mark.parametrize("memory", [0, "1KiB", "1GiB"])
def test_memory_changes_nothing(memory: int | str) -> None:
    grid = GRIDS["even overlap"]
    starts, patches = random_patches(grid, 2)
    results = []
    for bytes_ in (memory, "1GiB"):
        result = vq.Aggregator(grid, SIZE, channels=2, memory_bytes=bytes_)
        result.add(patches[::-1], starts[::-1])
        results.append(result.finish())
    assert identical(*results)


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_a_volume_of_a_store(tmp_path: Path, channels: int | None) -> None:
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    source = write_nifti(
        tmp_path / "a.nii", smooth(SIZE[::-1]), edit=lambda h: h.set_sform(affine, 1)
    )
    subject = vq.ingest({"case01": source}, tmp_path / "store.zarr", patch_size=8)["case01"]
    grid = GRIDS["even overlap"]
    starts, patches = random_patches(grid, channels or 1)
    out = tmp_path / "folder with spaces" / "pred.zarr" / "case01" / "pred"
    out.parents[1].parent.mkdir()
    result = vq.Aggregator(
        grid, subject, channels=channels, out=out, memory_bytes="64MiB", threads=2
    )
    result.add(patches[::-1], starts[::-1])
    assert not (out / "zarr.json").exists()
    volume = result.finish()
    assert isinstance(volume, vq.Volume)
    expected = oracle(grid, "hann", starts, patches)
    opened = vq.open(out.parents[1])["case01"]["pred"]
    for found in (volume, opened):
        assert found.shape == (SIZE if channels is None else (channels, *SIZE))
        assert np.array_equal(found.affine, affine)
        np.testing.assert_allclose(
            found[...].reshape(expected.shape), expected, rtol=2e-6, atol=2e-5
        )
    assert vq.verify(out.parents[1])["volumes"] == 1
    with pytest.raises(vq.UsageError, match="exists already"):
        vq.Aggregator(grid, subject, out=out)
    # A second volume joins the subject.
    second = vq.Aggregator(
        grid, subject, out=str(out.with_name("second")), channels=None, dtype="u1"
    )
    second.add(np.ones((len(starts), *grid.patch_size)), starts)
    assert list(vq.open(out.parents[1])["case01"]) == ["pred"], "what was not finished is not there"
    second.finish()
    assert list(vq.open(out.parents[1])["case01"]) == ["pred", "second"]
    assert (vq.open(out.parents[1])["case01"]["second"][...] == 1).all()
    # Less memory than a layer of chunks: what exceeds it lies in scratch files.
    small = vq.Aggregator(
        grid, subject, channels=channels, out=out.with_name("small"), memory_bytes=2000
    )
    small.add(patches[::-1], starts[::-1])
    assert np.array_equal(small.finish()[...], volume[...])


def test_patches_of_every_dtype_and_layout() -> None:
    grid = vq.GridSampler((3, 2, 4))
    starts = grid.locations((6, 4, 8))
    values = np.random.default_rng(2).integers(0, 100, (len(starts), 2, 3, 2, 4))
    expected = None
    for given in (
        *(
            values.astype(dtype)
            for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
        ),
        values.astype(">i2"),
        np.asfortranarray(values),
        values.tolist(),
        values[::-1][::-1],
    ):
        result = vq.Aggregator(grid, (6, 4, 8), channels=2, dtype="i4", window="average")
        result.add(given, starts)
        found = result.finish()
        expected = found if expected is None else expected
        assert identical(found, expected)
    for start, patch in zip(starts, values, strict=True):
        z, y, x = start
        assert np.array_equal(expected[:, z : z + 3, y : y + 2, x : x + 4], patch)
    for given in (
        values.astype(complex),
        values.astype(object),
        values.astype("M8[s]"),
    ):
        with pytest.raises(vq.UsageError, match="expected one of uint8"):
            vq.Aggregator(grid, (6, 4, 8), channels=2).add(given, starts)


class Tensor:
    """What numpy sees of a tensor of another library: ``__array__``."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self.array


def test_shapes_and_starts() -> None:
    grid = vq.GridSampler(2)
    one, many = np.arange(1.0, 9.0).reshape(2, 2, 2), [[0, 0, 0], [0, 0, 2]]

    def result(channels: int | None, *added: tuple[object, object]) -> np.ndarray:
        aggregator = vq.Aggregator(grid, (2, 2, 4), channels=channels)
        for patches, starts in added:
            aggregator.add(patches, starts)
        return aggregator.finish()

    expected = np.concatenate([one, -one], axis=2).astype("f4")
    both, stacked = np.stack([one, -one]), np.stack([one, -one])[:, None]
    for starts in (many, np.array(many), np.array(many, "u2"), Tensor(np.array(many))):
        for patches in (both, stacked, Tensor(both)):
            assert identical(result(None, (patches, starts)), expected)
            assert identical(result(1, (patches, starts)), expected[None])
    assert identical(
        result(None, (one, Tensor(np.array(many[0]))), (-one, Tensor(np.array(many[1], "u1")))),
        expected,
    )
    singles = (
        [(one, many[0]), (-one[None], np.array(many[1]))],
        [(one, [many[0]]), (-one[None, None], tuple(many[1]))],
    )
    for added in singles:
        assert identical(result(None, *added), expected)
    two = np.stack([np.stack([one, one + 1]), np.stack([-one, -one - 1])])
    second = np.concatenate([one + 1, -one - 1], axis=2).astype("f4")
    assert identical(
        result(2, (two[0], many[0]), (two[1:], many[1:])), np.stack([expected, second])
    )

    refused = vq.Aggregator(grid, (2, 2, 4), channels=2)
    for patches, starts in (
        (one, many[0]),
        (both, many),
        (two, many[0]),
        (two[:, :1], many),
        (two[..., :1], many),
        (two, []),
        (two[0, 0, 0], many),
        (5, many),
        (np.stack([two, two]), many),
    ):
        with pytest.raises(vq.UsageError, match=r"patches of shape .* expected \(\d, 2, 2, 2, 2\)"):
            refused.add(patches, starts)
    for starts in ("ab", [[0, 0]], [[0.5, 0, 0], [0, 0, 2]]):
        with pytest.raises(vq.UsageError, match="starts"):
            refused.add(two, starts)
    assert refused.missing == 2


def test_missing_duplicate_and_foreign_patches_are_errors() -> None:
    grid = vq.GridSampler((2, 2, 2))
    result = vq.Aggregator(grid, (4, 2, 2), channels=None)
    patch = np.ones((2, 2, 2), "f4")
    with pytest.raises(vq.UsageError, match=r"no patch of the grid begins at \[1, 0, 0\]"):
        result.add(patch, (1, 0, 0))
    with pytest.raises(vq.UsageError, match="added before"):
        result.add([patch, patch], [(0, 0, 0), (0, 0, 0)])
    assert (result.missing, result.has((0, 0, 0))) == (2, False)
    result.add(patch, (0, 0, 0))
    with pytest.raises(vq.UsageError, match="added before"):
        result.add(patch, (0, 0, 0))
    with pytest.raises(
        vq.UsageError, match=r"1 of 2 patches are missing, the first begins at \[2, 0, 0\]"
    ):
        result.finish()
    assert (
        result.missing,
        result.has((0, 0, 0)),
        result.has((2, 0, 0)),
        result.has((9, 9, 9)),
    ) == (
        1,
        True,
        False,
        False,
    )
    assert repr(result) == "<voxquarry.Aggregator: [4, 2, 2] float32, 1 patches missing>"
    result.add(patch, (2, 0, 0))
    assert identical(result.finish(), np.ones((4, 2, 2), "f4"))
    assert repr(result) == "<voxquarry.Aggregator: [4, 2, 2] float32, finished>"
    for call in (
        result.finish,
        lambda: result.add(patch, (0, 0, 0)),
        lambda: result.missing,
        lambda: result.has((0, 0, 0)),
    ):
        with pytest.raises(vq.UsageError, match="finished"):
            call()


def test_the_result_is_the_callers_own() -> None:
    grid = vq.GridSampler(2)
    result = vq.Aggregator(grid, (2, 2, 2))
    result.add(np.ones((2, 2, 2)), (0, 0, 0))
    found = result.finish()
    del result
    found += 1
    assert found.flags.c_contiguous
    assert (found == 2).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"finish": "argmin"}, 'expected "none", "argmax"'),
        ({"finish": ("threshold", float("nan"))}, "NaN"),
        ({"finish": ("quantize", 0.0, 1.0)}, "slope is not 0"),
        ({"finish": ("quantize", 1.0)}, "slope, intercept"),
        ({"finish": "argmax", "channels": 300, "dtype": "u1"}, "wider dtype"),
        ({"scale": 1.5}, "whole number"),
        ({"scale": 0}, "whole number"),
        ({"scale": (1, 2)}, "three"),
        ({"scale": 1 / 7}, "not a multiple of 7"),
        ({"nonfinite": "maybe"}, '"keep", "warn" or "error"'),
        ({"resume": True}, "give an out"),
        ({"window": "triangle"}, "hann"),
        ({"window": 3}, "three arrays"),
        ({"window": [[1, 1], [1, 1]]}, "three arrays"),
        ({"window": [[1, 1], [1, 1], [1]]}, "every voxel needs one"),
        ({"window": [[1, 1], [1, 1], [1, -1]]}, "positive"),
        ({"channels": 0}, "channels 0"),
        ({"dtype": "complex64"}, "complex64"),
        ({"dtype": "nonsense"}, "expected one of"),
        ({"memory_bytes": "many"}, "many"),
        ({"threads": 0}, "threads"),
        ({"out": "pred"}, "STORE/SUBJECT/VOLUME"),
        ({"out": "case/pred"}, "STORE/SUBJECT/VOLUME"),
    ],
)
def test_impossible_aggregators_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(vq.UsageError, match=message):
        vq.Aggregator(vq.GridSampler(2), (4, 4, 4), **options)


def answers(grid: vq.GridSampler, channels: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    starts = grid.locations(SIZE)
    values = np.random.default_rng(seed).normal(0, 3, (len(starts), channels, *grid.patch_size))
    return starts, values.astype("f4")


@pytest.mark.parametrize("memory", ["1GiB", 4000])
@pytest.mark.parametrize("window", ["hann", "crop", "gaussian"])
def test_labels_are_the_largest_channel(window: str, memory: int | str) -> None:
    grid = GRIDS["padded"]
    starts, patches = answers(grid, 5)
    exponents = np.exp(patches.astype("f8"))
    softmax = exponents / exponents.sum(1, keepdims=True)
    for finish, values in (("argmax", patches), ("softmax+argmax", softmax)):
        result = vq.Aggregator(
            grid, SIZE, channels=5, window=window, finish=finish, memory_bytes=memory
        )
        assert result.shape == SIZE
        result.add(patches[::-1], starts[::-1])
        expected = oracle(grid, window, starts, values).argmax(0)
        found = result.finish()
        assert (found.dtype, found.shape) == (np.uint8, SIZE)
        assert np.array_equal(found, expected)


def test_labels_of_equal_channels_are_the_first_and_wide_where_they_must() -> None:
    grid = GRIDS["even overlap"]
    starts = grid.locations(SIZE)
    for channels, dtype in ((256, "u1"), (257, "u2")):
        result = vq.Aggregator(grid, SIZE, channels=channels, finish="argmax")
        patch = np.zeros((channels, *grid.patch_size), "f2")
        patch[-1], patch[7] = 0.1, 0.1
        for start in starts:
            result.add(patch, start)
        found = result.finish()
        assert found.dtype == dtype and (found == 7).all()


def test_thresholds_and_steps() -> None:
    grid = GRIDS["evenly placed"]
    starts, patches = answers(grid, 2)
    mean = oracle(grid, "hann", starts, patches)
    near = np.abs(mean - 0.25) < 1e-6

    def finished(finish: object, **options: object) -> np.ndarray:
        result = vq.Aggregator(grid, SIZE, channels=2, finish=finish, **options)
        result.add(patches, starts)
        return result.finish()

    found = finished(("threshold", 0.25))
    assert found.dtype == np.uint8 and np.array_equal(found[~near], (mean >= 0.25)[~near])
    assert np.array_equal(finished("threshold", dtype="f4"), (mean >= 0.5).astype("f4"))
    steps = (mean - -2.0) / 0.05
    expected = np.clip(np.round(steps), 0, 255)
    quantised = finished(("quantize", 0.05, -2.0))
    assert quantised.dtype == np.uint8
    clear = np.abs(steps - np.floor(steps) - 0.5) > 1e-4
    assert np.array_equal(quantised[clear], expected[clear])


def test_a_stored_result_notes_its_steps_and_counts_its_labels(tmp_path: Path) -> None:
    grid = GRIDS["even overlap"]
    starts, patches = answers(grid, 3)
    for name, finish in (("steps", ("quantize", 0.1, -9.0)), ("labels", "argmax")):
        result = vq.Aggregator(
            grid, SIZE, channels=3, finish=finish, out=tmp_path / "p.zarr" / "case" / name
        )
        result.add(patches, starts)
        volume = result.finish()
        same = vq.Aggregator(grid, SIZE, channels=3, finish=finish)
        same.add(patches, starts)
        assert np.array_equal(volume[...], same.finish())
        if name == "steps":
            assert (volume.slope, volume.intercept, volume.kind) == (0.1, -9.0, "image")
        else:
            values, counts = np.unique(volume[...], return_counts=True)
            assert volume.kind == "labels"
            assert volume.labels == {
                int(v): int(n) for v, n in zip(values, counts, strict=True) if v
            }
    assert vq.verify(tmp_path / "p.zarr")["volumes"] == 2


@pytest.mark.parametrize("window", ["crop", "average", "hann", "gaussian"])
@pytest.mark.parametrize("scale", [(0.5, 1, 2), (1, 0.5, 0.5), (3, 2, 1)])
def test_answers_of_another_resolution(window: str, scale: tuple[float, ...]) -> None:
    """As if the grid had been laid over the result's own voxels."""
    size, patch, overlap = (16, 12, 8), (8, 4, 4), (4, 4, 0)
    overlap = (4, 0, 0)
    ours = vq.GridSampler(patch, overlap=overlap)
    scaled = [
        tuple(int(n * s) for n, s in zip(of, scale, strict=True)) for of in (size, patch, overlap)
    ]
    theirs = vq.GridSampler(scaled[1], overlap=scaled[2])
    starts, expected = (
        ours.locations(size),
        vq.Aggregator(theirs, scaled[0], channels=2, window=window),
    )
    values = np.random.default_rng(1).normal(0, 1, (len(starts), 2, *scaled[1])).astype("f4")
    found = vq.Aggregator(ours, size, channels=2, window=window, scale=scale)
    assert found.shape == (2, *scaled[0])
    found.add(values, starts)
    expected.add(values, theirs.locations(scaled[0]))
    assert identical(found.finish(), expected.finish())


def test_values_that_are_not_finite_are_kept_or_refused() -> None:
    grid = vq.GridSampler((2, 2, 2))
    for bad in (np.nan, np.inf, -np.inf):
        patch = np.ones((2, 2, 2), "f4")
        patch[1, 0, 1] = bad
        result = vq.Aggregator(grid, (2, 2, 2), channels=None, nonfinite="error")
        with pytest.raises(vq.UsageError, match=r"begins at \[0, 0, 0\].*at \[1, 0, 1\]"):
            result.add(patch, (0, 0, 0))
        assert result.missing == 1
        result.add(np.ones((2, 2, 2), "f4"), (0, 0, 0))
        assert (result.finish() == 1).all()
