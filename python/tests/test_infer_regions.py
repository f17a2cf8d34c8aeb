"""Inference on a part of a volume, with every way to merge, and with models that answer otherwise
than they are asked.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, smooth

import voxquarry as vq

SIZE = (30, 24, 20)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> vq.Subject:
    """``ct``; ``roi`` on its grid; ``far`` on another; ``multi`` with three channels."""
    roi = np.zeros(SIZE, "u1")
    roi[4:11, 6:9, 3:17] = 1
    sources = {
        "ct": smooth(SIZE, "i2"),
        "roi": vq.Labels(roi),
        "multi": np.stack([smooth(SIZE, "i2") + n for n in range(3)]),
    }
    folder = tmp_path_factory.mktemp("regions")
    store = vq.ingest({"a": sources}, folder / "in.zarr", patch_size=8)
    return store["a"]


def scores(patches: np.ndarray) -> np.ndarray:
    """Two channels that depend on the place in the patch, so that patches disagree."""
    values = patches[:, :1].astype("f4") / 1000
    ramp = np.arange(values.shape[-1], dtype="f4")
    return np.concatenate([values + ramp, values - ramp + 3], axis=1)


class Counted:
    def __init__(self, model) -> None:
        self.model, self.patches = model, 0

    def __call__(self, patches: np.ndarray):
        self.patches += len(patches)
        return self.model(patches)


FINISHES = [("none", "hann"), ("none", "crop"), ("argmax", "hann"), ("softmax+argmax", "gaussian")]


@pytest.mark.parametrize("merge", ["mean", "max", "min"])
@pytest.mark.parametrize(("finish", "window"), FINISHES)
@pytest.mark.parametrize("stored", [False, True])
def test_a_mask_costs_its_patches_alone(
    subject: vq.Subject, tmp_path: Path, merge: str, finish: str, window: str, stored: bool
) -> None:
    """Only the inside of a region was wanted, and all of it was predicted (MONAI#1516)."""
    options = {"finish": finish, "window": window, "merge": merge}
    whole = vq.infer(scores, subject["ct"], 8, 4, **options)
    roi = subject["roi"][...] != 0
    model = Counted(scores)
    out = tmp_path / "out.zarr" / "a" / "pred" if stored else None
    found = vq.infer(
        model, subject["ct"], 8, 4, mask=subject["roi"], outside=7, out=out, **options
    )[...]
    expected = np.where(roi, whole, whole.dtype.type(7))
    assert identical(found, expected) if merge != "mean" else np.allclose(found, expected, 1e-5)
    starts = vq.GridSampler(8, overlap=4).locations(subject["ct"])
    wanted = sum(roi[tuple(slice(s, s + 8) for s in start)].any() for start in starts.tolist())
    assert model.patches == wanted < len(starts) / 2


def test_every_kind_of_mask(subject: vq.Subject) -> None:
    ct, roi = subject["ct"], subject["roi"][...] != 0
    box = (4, 6, 3, 11, 9, 17)
    expected = vq.infer(scores, ct, 8, 4, mask=roi, outside=-1)
    for mask in (subject["roi"], subject["roi"].scaled, roi.astype("f4"), box, np.array(box)):
        assert identical(vq.infer(scores, ct, 8, 4, mask=mask, outside=-1), expected)

    def asked(place: tuple[int, ...]) -> bool:
        asked.places.append(place)
        return place[2] >= 8

    asked.places = []
    model = Counted(scores)
    found = vq.infer(model, ct, 8, 4, mask=asked, outside=-1, window="average")
    starts = vq.GridSampler(8, overlap=4).locations(ct)
    assert sorted(asked.places) == [(*s, *(n + 8 for n in s)) for s in starts.tolist()]
    assert model.patches == (starts[:, 2] >= 8).sum()
    # Only the patches that came count, and nothing reaches in front of them.
    assert (found[..., :8] == -1).all()
    whole = vq.infer(scores, ct, 8, 4, window="average")
    assert np.allclose(found[..., 12:], whole[..., 12:], rtol=1e-5)
    alone = vq.infer(scores, ct, 8, (4, 4, 0), window="average", placement="flush")
    assert np.allclose(found[..., 8:12], alone[..., 8:12], rtol=1e-5)


def test_a_masked_run_is_continued(subject: vq.Subject, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def dies(patches: np.ndarray) -> np.ndarray:
        dies.calls -= 1
        if dies.calls < 0:
            raise Killed
        return scores(patches)

    mask = np.ones(SIZE, bool)
    mask[:, :8, :8] = mask[20:] = False
    for merge in ("mean", "max"):
        options = {"mask": mask, "merge": merge, "outside": 2, "memory_bytes": "1MiB"}
        expected = vq.infer(scores, subject["ct"], 8, 4, **options)
        out = tmp_path / "out.zarr" / "a" / merge
        dies.calls = 30
        with pytest.raises(Killed):
            vq.infer(dies, subject["ct"], 8, 4, out=out, batch_size=1, **options)
        for other in ({"mask": ~mask}, {"outside": 3}, {"merge": "min"}, {"mask": None}):
            with pytest.raises(vq.UsageError, match="other arguments"):
                vq.infer(scores, subject["ct"], 8, 4, out=out, **options | other)
        found = vq.infer(scores, subject["ct"], 8, 4, out=out, **options)
        assert np.allclose(found[...], expected, rtol=1e-5)


def test_masks_that_do_not_fit(subject: vq.Subject, tmp_path: Path) -> None:
    other = vq.ingest({"b": {"m": np.ones((9, 9, 9), "u1")}}, tmp_path / "o.zarr", patch_size=8)
    moved = vq.ingest(
        {"b": {"m": np.ones(SIZE, "u1")}},
        tmp_path / "moved.zarr",
        patch_size=8,
        affine=np.diag([2.0, 1, 1, 1]),
    )
    for mask, words in [
        (other["b"]["m"], "another grid"),
        (moved["b"]["m"], "another grid"),
        (np.ones((3, 3, 3)), r"expected the volume's \(30, 24, 20\)"),
        (np.zeros(SIZE), "no patch is wanted"),
        ((0, 0, 0, 0, 5, 5), "no patch is wanted"),
        (lambda box: False, "no patch is wanted"),
        (subject["multi"], "3 channels: expected one"),
        ("roi", "expected a volume, an array"),
        ((1, 2, 3), "expected a volume, an array"),
    ]:
        with pytest.raises(vq.UsageError, match=words):
            vq.infer(scores, subject["ct"], 8, 4, mask=mask)
    with pytest.raises(vq.UsageError, match="outside -1: expected a value of uint8"):
        vq.infer(scores, subject["ct"], 8, 4, mask=subject["roi"], outside=-1, finish="argmax")


@pytest.mark.parametrize("merge", ["max", "min", "vote"])
def test_merging_is_numpys(subject: vq.Subject, merge: str) -> None:
    """The largest, the smallest and the most frequent of overlapping patches (tiler#23,
    MONAI#5873), in any order of adding.
    """
    random = np.random.default_rng(3)
    grid = vq.GridSampler(8, overlap=(4, 5, 6))
    starts = grid.locations(SIZE)
    patches = random.integers(0, 5, (len(starts), 8, 8, 8)).astype("u1")
    values: dict[tuple[int, ...], list[int]] = {}
    for patch, start in zip(patches, starts, strict=True):
        for at in itertools.product(range(8), repeat=3):
            values.setdefault(tuple(start + at), []).append(patch[at])
    if merge == "vote":
        chosen = {at: np.bincount(v).argmax() for at, v in values.items()}
    else:
        chosen = {at: getattr(np, merge)(v) for at, v in values.items()}
    expected = np.array([chosen[at] for at in np.ndindex(*SIZE)]).reshape(SIZE)
    for order in (np.arange(len(starts)), random.permutation(len(starts))):
        result = vq.Aggregator(
            grid, SIZE, channels=None, merge=merge, window="average", dtype="uint8"
        )
        for n in np.array_split(order, 7):
            result.add(patches[n], starts[n])
        assert np.array_equal(result.finish(), expected)


def test_votes_are_weighted_by_the_window_and_follow_scores() -> None:
    grid = vq.GridSampler((1, 1, 4), overlap=(0, 0, 2))
    add = np.array([[9, 9, 9, 9], [4, 4, 4, 4]], "i4")[:, None, None]
    starts = grid.locations((1, 1, 6))
    votes = vq.Aggregator(grid, (1, 1, 6), channels=None, merge="vote", dtype="int32")
    votes.add(add, starts)
    assert votes.finish()[0, 0].tolist() == [9, 9, 9, 4, 4, 4]
    even = vq.Aggregator(
        grid, (1, 1, 6), channels=None, merge="vote", window="average", dtype="int32"
    )
    even.add(add, starts)
    assert even.finish()[0, 0].tolist() == [9, 9, 4, 4, 4, 4]
    by_score = vq.Aggregator(grid, (1, 1, 6), channels=3, merge="vote", finish="argmax")
    by_score.add(np.eye(3, dtype="f4")[[2, 1]][:, :, None, None, None].repeat(4, -1), starts)
    assert by_score.finish()[0, 0].tolist() == [2, 2, 2, 1, 1, 1]
    refused = vq.Aggregator(grid, (1, 1, 6), channels=None, merge="vote")
    for bad in (0.5, 2.0**25):
        with pytest.raises(vq.UsageError, match="classes to vote for"):
            refused.add(np.full((1, 1, 4), bad), starts[0])
    with pytest.raises(vq.UsageError, match="of a vote"):
        vq.Aggregator(grid, (1, 1, 6), merge="vote", finish="threshold")
    with pytest.raises(vq.UsageError, match='"mean", "max", "min" or "vote"'):
        vq.Aggregator(grid, (1, 1, 6), merge="median")


def blurred(patches: np.ndarray, cut: int = 2) -> np.ndarray:
    """The mean of 5³ voxels, without padding: 16 voxels become 12."""
    values = patches[:, 0].astype("f4")
    windows = np.lib.stride_tricks.sliding_window_view(values, (2 * cut + 1,) * 3, (1, 2, 3))
    return windows.mean((-1, -2, -3))


@pytest.mark.parametrize("valid", [None, True, 2, (2, 2, 2)])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_valid_convolutions(subject: vq.Subject, valid: object, batch_size: int) -> None:
    """A model that answers 12³ voxels for 16³ (TorchIO#1001): centred, with the margin read from
    the neighbours.
    """
    ct = subject["ct"]
    options = {"batch_size": batch_size, "valid": valid, "window": "average"}
    found = vq.infer(blurred, ct, 16, 4, padding="edge", **options)
    whole = np.pad(ct[...], 2, mode="edge")
    assert np.allclose(found, blurred(whole[None, None])[0], rtol=1e-5)
    with pytest.raises(vq.UsageError, match="choose a padding"):
        vq.infer(blurred, ct, 16, 4, valid=valid)


def test_a_smaller_answer_is_not_taken_for_a_coarser_one(subject: vq.Subject) -> None:
    def half(patches: np.ndarray) -> np.ndarray:
        return patches[:, 0, ::2, ::2, ::2].astype("f4")

    ct = subject["ct"]
    with pytest.raises(vq.UsageError, match=r"scale=0.5\) or .*valid=True"):
        vq.infer(half, ct, 8, 4)
    assert np.allclose(vq.infer(half, ct, 8, 4, scale=0.5), ct[::2, ::2, ::2], rtol=1e-6)
    assert np.allclose(vq.infer(half, ct, 8, 4, valid=False), ct[::2, ::2, ::2], rtol=1e-6)

    def double(patches: np.ndarray) -> np.ndarray:
        return patches[:, 0].astype("f4").repeat(2, 1).repeat(2, 2).repeat(2, 3)

    assert np.allclose(vq.infer(double, ct, 8, 4)[::2, ::2, ::2], ct[...], rtol=1e-6)
    for options, words in [
        ({"scale": 0.25}, "scale 0.25 asks for"),
        ({"valid": 1, "padding": 0}, r"asks for a margin of \(1, 1, 1\)"),
        ({"valid": 4, "padding": 0}, "of which two are less"),
    ]:
        with pytest.raises(vq.UsageError, match=words):
            vq.infer(half, ct, 8, 4, **options)
    with pytest.raises(vq.UsageError, match="which is smaller"):
        vq.infer(lambda p: p[:, 0, 1:, 1:, 1:].astype("f4"), ct, 8, 4)
    with pytest.raises(vq.UsageError, match="same margin in front and behind"):
        vq.infer(lambda p: p[:, 0, 1:, 1:, 1:].astype("f4"), ct, 8, 4, valid=True, padding=0)


def test_a_list_of_heads_is_no_list_of_patches(subject: vq.Subject, tmp_path: Path) -> None:
    """Four heads in batches of four were taken for the patches; deep supervision answers with a
    list (MONAI#4299).
    """

    def heads(patches: np.ndarray) -> list[np.ndarray]:
        values = patches.astype("f4")
        return [values, -values, values + 1, values[..., ::2, ::2, ::2]]

    ct = subject["ct"]
    with pytest.raises(vq.UsageError, match=r"answered 3 with .*scale=0.5"):
        vq.infer(heads, ct, 8, 4, batch_size=4)
    scale = {0: 1, 1: 1, 2: 1, 3: 0.5}
    paths = [tmp_path / "out.zarr" / f"head{n}" / "pred" for n in range(4)]
    expected = [ct[...], -ct[...], ct[...] + 1, ct[::2, ::2, ::2]]
    others = {n: path.with_name("other") for n, path in enumerate(paths)}
    for kind, out in ((list, None), (tuple, paths), (list, others)):

        def model(patches: np.ndarray, kind: type = kind) -> object:
            return kind(heads(patches))

        found = vq.infer(model, ct, 8, 4, batch_size=4, scale=scale, out=out)
        assert isinstance(found, list) and len(found) == 4
        for answer, values in zip(found, expected, strict=True):
            assert np.allclose(np.squeeze(answer[...]), values, rtol=1e-5)
    with pytest.raises(vq.UsageError, match="several predictions need as many paths"):
        vq.infer(heads, ct, 8, 4, scale=scale, out=tmp_path / "o.zarr" / "a" / "b")
    with pytest.raises(vq.UsageError, match="expected a path for the answer 3"):
        vq.infer(heads, ct, 8, 4, scale=scale, out=[p.with_name("x") for p in paths[:3]])
    with pytest.raises(vq.UsageError, match="empty list"):
        vq.infer(lambda p: [], ct, 8, 4)


def test_heads_that_change_are_told(subject: vq.Subject) -> None:
    def fickle(patches: np.ndarray) -> list[np.ndarray]:
        fickle.calls += 1
        return [patches.astype("f4")] * (2 if fickle.calls < 4 else 3)

    fickle.calls = 0
    with pytest.raises(
        vq.UsageError, match=r"with the predictions \[0, 1, 2\], expected .*\[0, 1\]"
    ):
        vq.infer(fickle, subject["ct"], 8, 4)


def test_classes_are_not_blended_as_numbers(subject: vq.Subject) -> None:
    """Hann windows over the classes 0 and 5 gave 1, 2, 3 and 4."""

    def classes(patches: np.ndarray) -> np.ndarray:
        ramp = np.arange(patches.shape[-1]) < 5
        return np.broadcast_to(np.where(ramp, 5, 0), patches[:, 0].shape).astype("u1")

    ct = subject["ct"]
    for model in (classes, lambda p: classes(p).astype(bool)):
        for options in ({}, {"dtype": "uint8"}, {"window": "average"}):
            with pytest.raises(vq.UsageError, match="argmax.*crop.*vote"):
                vq.infer(model, ct, 8, 4, **options)
    for options in ({"window": "crop"}, {"merge": "vote"}, {"merge": "max"}, {"merge": "min"}):
        found = vq.infer(classes, ct, 8, 4, **options)
        assert found.dtype == np.uint8 and set(np.unique(found)) <= {0, 5}, options
    blended = vq.infer(classes, ct, 8, 4, dtype="float32")
    assert len(np.unique(blended)) > 2


def test_numbers_of_the_patches_own_type_are_blended(subject: vq.Subject) -> None:
    ct = subject["ct"]
    assert ct.dtype == np.int16
    assert np.array_equal(vq.infer(lambda p: p, ct, 8, 4)[0], ct[...])
    # A filter, with more values than there are classes.
    assert np.array_equal(vq.infer(lambda p: p + np.int16(3), ct, 8, 4)[0], ct[...] + 3)

    def coarse(patches: np.ndarray) -> np.ndarray:
        return (patches > patches.mean()).astype(np.int16)

    with pytest.raises(vq.UsageError, match="argmax.*crop.*vote"):
        vq.infer(coarse, ct, 8, 4)


def test_booleans_are_answers(subject: vq.Subject) -> None:
    def above(patches: np.ndarray) -> np.ndarray:
        return patches[:, 0] > 100

    ct = subject["ct"]
    expected = ct[...] > 100
    for options in ({"merge": "vote"}, {"window": "crop"}, {"finish": "threshold"}):
        found = vq.infer(above, ct, 8, 4, **options)
        assert identical(found, expected.astype("u1")), options
    assert np.allclose(vq.infer(above, ct, 8, 4, dtype="float32"), expected)


def test_infinite_logits_win(subject: vq.Subject) -> None:
    """``softmax+argmax`` gave label 0 where a logit was infinite (nnUNet#1776)."""
    inf = np.inf
    for logits, label in [
        ((0, inf, 1), 1),
        ((-inf, -inf, 0), 2),
        ((-inf, -inf, -inf), 0),
        ((0, inf, inf), 1),
        ((5, -inf, 6), 2),
    ]:
        for finish in ("softmax+argmax", "argmax"):

            def model(patches: np.ndarray, logits=logits) -> np.ndarray:
                answer = np.array(logits, "f4")[None, :, None, None, None]
                return np.broadcast_to(answer, (len(patches), 3, *patches.shape[-3:])).copy()

            for merge in ("mean", "max", "vote"):
                found = vq.infer(model, subject["ct"], 8, 4, finish=finish, merge=merge)
                assert (found == label).all(), (logits, finish, merge)


def test_one_warning_says_where_the_first_nan_is(subject: vq.Subject) -> None:
    def model(patches: np.ndarray) -> np.ndarray:
        answer = patches.astype("f4")
        answer[-1, 0, 1, 2, 3] = np.nan
        return answer

    def run(**options: object) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = vq.infer(model, subject["ct"], 8, 0, batch_size=1, **options)
            assert np.isnan(found[0, 1, 2, 3])
        return [str(one.message) for one in caught]

    (message,) = run()
    assert "begins at [0, 0, 0] (z, y, x) has NaN at [1, 2, 3] of channel 0" in message
    assert run(nonfinite="keep") == []
    with pytest.raises(vq.UsageError, match="NaN"):
        run(nonfinite="error")


@pytest.mark.parametrize("channels", [1, [2, 0]])
def test_the_model_gets_the_chosen_channels(subject: vq.Subject, channels: object) -> None:
    volume, chosen = subject["multi"], np.atleast_1d(channels)

    def model(patches: np.ndarray) -> np.ndarray:
        assert patches.shape[1] == len(chosen)
        return patches.astype("f4")

    found = vq.infer(model, volume, 8, 4, channels=channels)
    assert np.allclose(found, volume[...][chosen], rtol=1e-6)
