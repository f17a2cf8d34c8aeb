"""Augmented patches, computed again from docs/augmentation.md and docs/determinism.md alone."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import smooth
from test_determinism import Draws

import voxquarry as vq

SHAPES = {"a": (30, 40, 36), "b": (34, 33, 41)}
SPACING = (2.5, 1.0, 0.8)
PATCH = (16, 20, 18)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> vq.Dataset:
    path: Path = tmp_path_factory.mktemp("augment") / "store.zarr"
    subjects: dict[str, dict[str, Any]] = {
        name: {
            "ct": smooth(shape) + n,
            "seg": vq.Labels((smooth(shape) % 5).astype("u1")),
            "mr": smooth((2, *shape), "f4"),
        }
        for n, (name, shape) in enumerate(SHAPES.items())
    }
    return vq.ingest(subjects, path, patch_size=16, spacing=SPACING)


def queue(dataset: vq.Dataset, augment: vq.Augment | None = None, **options: Any) -> vq.Queue:
    sampler = options.pop("sampler", vq.UniformSampler(PATCH))
    options = {"seed": 42, "patches_per_subject": 6, "batch_size": 5, **options}
    return vq.Queue(dataset, sampler, ["ct", "seg"], augment=augment, **options)


def patches(queue: vq.Queue) -> Iterator[dict[str, Any]]:
    for batch in queue:
        for i in range(len(batch["subject"])):
            yield {name: values[i] for name, values in batch.items()}


def number(dataset: vq.Dataset, patch: dict[str, Any], epoch: int, seed: int = 42) -> int:
    """The number of a patch's sample, found by its location."""
    starts = vq.UniformSampler(PATCH).locations(
        dataset[patch["subject"]], 6, seed=seed, epoch=epoch
    )
    return int(np.flatnonzero((starts == patch["location"][:3]).all(1))[0])


def between(low: float, high: float, unit: float) -> float:
    return low + (high - low) * unit


def spatial(draws: Draws) -> dict[str, np.ndarray]:
    """The numbers of the spatial parts, each from 0 to 1, with the one that decides first."""
    lengths = {"rotation": 3, "scale": 3, "shear": 6, "translation": 3, "flip": 3, "elastic": 1}
    return {
        name: np.array([draws.unit() for _ in range(1 + length)])
        for name, length in lengths.items()
    }


ALL = vq.Augment(
    rotation_degrees=((-180, 180), 25, (5, 10)),
    scale=(0.6, 1.7),
    shear=0.2,
    translation=(3, (-1, 2), 0),
    flip=(0, 2),
    p={"rotation": 0.9, "flip": 0.8},
    elastic=(0, 2),
    elastic_knots=7,
)


def matrix_of(unit: dict[str, np.ndarray], start: np.ndarray) -> np.ndarray:
    """The map of indices that ALL makes of these numbers."""
    turned = unit["rotation"][0] < 0.9
    ranges = [(-180, 180), (-25, 25), (5, 10)]
    angles = [between(*r, u) * turned for r, u in zip(ranges, unit["rotation"][1:], strict=True)]
    (cz, cy, cx), (sz, sy, sx) = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    turn = (
        np.array([[1, 0, 0], [0, cz, -sz], [0, sz, cz]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cx, -sx, 0], [sx, cx, 0], [0, 0, 1]])
    )
    zoom = np.eye(3) / between(0.6, 1.7, unit["scale"][1])
    a, b, c, d, e, f = (between(-0.2, 0.2, u) for u in unit["shear"][1:])
    shear = np.array([[1, a, b], [c, 1, d], [e, f, 1]])
    flipped = (unit["flip"][1:] < 0.5) & [True, False, True] & (unit["flip"][0] < 0.8)
    scale = np.diag(SPACING)
    linear = np.linalg.inv(scale) @ turn @ zoom @ shear @ np.diag(np.where(flipped, -1, 1)) @ scale
    ranges = [(-3, 3), (-1, 2), (0, 0)]
    shift = [between(*r, u) for r, u in zip(ranges, unit["translation"][1:], strict=True)]
    middle = (np.array(PATCH) - 1) / 2
    return np.column_stack([linear, start + middle + shift - linear @ middle])


def test_spatial_parts_are_those_of_the_documents(dataset: vq.Dataset) -> None:
    q = queue(dataset, ALL)
    q.set_epoch(3)
    seen = 0
    for patch in patches(q):
        subject, start = dataset[patch["subject"]], patch["location"][:3]
        n = number(dataset, patch, 3)
        draws = Draws(42, 3, patch["subject"], n + 2**32 * (2**31 + 1))
        unit = spatial(draws)
        matrix = matrix_of(unit, start)
        to_zyx = np.eye(4)[[2, 1, 0, 3]]
        expected = subject["ct"].affine @ to_zyx @ np.vstack([matrix, [0, 0, 0, 1]])
        np.testing.assert_allclose(patch["transform"], expected, atol=1e-9)
        farthest = between(0, 2, unit["elastic"][1])
        knots = [-(-n // 7) + 1 for n in PATCH]
        bend = np.array(
            [between(-farthest, farthest, draws.unit()) for _ in range(3 * np.prod(knots))]
        )
        bend = np.moveaxis(bend.reshape(*knots, 3), -1, 0)
        ct, seg = subject["ct"], subject["seg"]
        read = ct.read_affine(matrix, PATCH, padding=ct.stats["min"], displacement=bend)
        np.testing.assert_allclose(patch["ct"][0], read, atol=1e-4 * np.ptp(read))
        read = seg.read_affine(matrix, PATCH, order=0, displacement=bend)
        assert np.mean(patch["seg"][0] != read) < 1e-3  # Ties alone.
        seen += 1
    assert seen == 12


def test_golden_draws_are_those_of_the_page(dataset: vq.Dataset) -> None:
    page = (Path(__file__).parents[2] / "docs" / "determinism.md").read_text(encoding="utf-8")
    rows = page.split("| n | degrees about z, y, x |")[1].splitlines()[2:5]
    for n, row in enumerate(rows):
        first, degrees, scale, flips = (cell.strip() for cell in row.strip("| ").split("|"))
        unit = spatial(Draws(42, 3, "case01", n + 2**32 * (2**31 + 1)))
        found = [between(-30, 30, u) for u in unit["rotation"][1:]]
        assert int(first) == n
        assert found == [float(d.replace("−", "-")) for d in degrees.split(",")]
        assert between(0.7, 1.4, unit["scale"][1]) == float(scale)
        assert [u < 0.5 for u in unit["flip"][1:]] == [f.strip() == "yes" for f in flips.split(",")]


@pytest.mark.parametrize("normalize", ["zscore", (-200, 900), None])
def test_values_are_normalized(dataset: vq.Dataset, normalize: Any) -> None:
    for patch in patches(queue(dataset, dtype="float32", normalize=normalize)):
        assert "transform" not in patch
        ct = dataset[patch["subject"]]["ct"]
        expected = ct.scaled.read(patch["location"][:3], PATCH).astype("f8")
        if normalize == "zscore":
            expected = (expected - ct.stats["mean"]) / ct.stats["std"]
        elif normalize:
            expected = np.clip((expected + 200) / 1100, 0, 1)
        assert patch["ct"].dtype == np.float32 and patch["seg"].dtype == np.uint8
        np.testing.assert_allclose(patch["ct"][0], expected, rtol=1e-6, atol=1e-6)
        seg = dataset[patch["subject"]]["seg"].read(patch["location"][:3], PATCH)
        np.testing.assert_array_equal(patch["seg"][0], seg)


def test_flips_copy_voxels(dataset: vq.Dataset) -> None:
    kinds = set()
    for patch in patches(queue(dataset, vq.Augment(flip=True), dtype="float16")):
        n = number(dataset, patch, 0)
        unit = spatial(Draws(42, 0, patch["subject"], n + 2**32 * (2**31 + 1)))
        axes = tuple(np.flatnonzero(unit["flip"][1:] < 0.5))
        for name in ("ct", "seg"):
            plain = dataset[patch["subject"]][name].read(patch["location"][:3], PATCH)
            expected = np.flip(plain, axes).astype(patch[name].dtype)
            np.testing.assert_array_equal(patch[name][0], expected)
        assert patch["ct"].dtype == np.float16
        kinds.add(axes)
    assert len(kinds) > 3


def test_intensities_are_those_of_the_documents(dataset: vq.Dataset) -> None:
    augment = vq.Augment(
        noise=(0.1, 0.2),
        brightness=(0.8, 1.1),
        shift=0.3,
        contrast=(0.6, 1.5),
        gamma=(0.7, 1.5),
        p={"contrast": 0.5, "gamma": 0.5},
    )
    q = vq.Queue(
        dataset, vq.UniformSampler(PATCH), ["mr"], 6, augment=augment, normalize="zscore", seed=42
    )
    for patch in patches(q):
        mr, n = dataset[patch["subject"]]["mr"], number(dataset, patch, 0)
        for c in range(2):
            values = mr.read(patch["location"][:3], PATCH)[c].astype("f8")
            values = (values - mr.stats["mean"]) / mr.stats["std"]
            name = f"{patch['subject']}/mr"
            draws = Draws(42, 0, name, n + 2**32 * c)
            unit = [[draws.unit() for _ in range(k)] for k in (2, 4, 2, 2, 2, 2, 2, 2)]
            words = Draws(42, 0, name, n + 2**32 * (2**31 + c))
            pairs = [words.next64() for _ in range(values.size // 2)]
            u = np.array([((w % 2**32 >> 8) + 1) * 2.0**-24 for w in pairs])
            v = np.array([(w >> 40) * 2.0**-24 for w in pairs])
            radius = between(0.1, 0.2, unit[0][1]) * np.sqrt(-2 * np.log(u))
            normal = np.stack([radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)], 1)
            values += normal.reshape(values.shape)
            values = values * balanced(0.8, 1.1, unit[2][1]) + between(-0.3, 0.3, unit[3][1])
            if unit[4][0] < 0.5:
                contrast = balanced(0.6, 1.5, unit[4][1])
                changed = (values - values.mean()) * contrast + values.mean()
                values = np.clip(changed, values.min(), values.max())
            if unit[7][0] < 0.5:
                mean, std, low = values.mean(), values.std(), values.min()
                values = ((values - low) / np.ptp(values)) ** balanced(0.7, 1.5, unit[7][1])
                values = (values - values.mean()) / values.std() * std + mean
            np.testing.assert_allclose(patch["mr"][c], values, atol=2e-5)


def balanced(low: float, high: float, u: float) -> float:
    return between(low, 1, 2 * u) if u < 0.5 else between(1, high, 2 * u - 1)


def stream(queue: vq.Queue) -> dict[tuple[str, tuple[int, ...]], tuple[bytes, ...]]:
    """Every patch by its subject and location."""
    return {
        (p["subject"], tuple(p["location"])): (p["ct"].tobytes(), p["seg"].tobytes())
        for p in patches(queue)
    }


def test_threads_ranks_and_a_resume_change_nothing(dataset: vq.Dataset) -> None:
    augment = vq.Augment.nnunet()
    options: dict[str, Any] = {"normalize": "zscore", "patches_per_subject": 20}
    expected = stream(queue(dataset, augment, threads=1, **options))
    assert len(expected) == 40
    for threads in (2, 8):
        assert stream(queue(dataset, augment, threads=threads, **options)) == expected
    ranks = [queue(dataset, augment, rank=r, world_size=4, **options) for r in range(4)]
    joined: dict[Any, Any] = {}
    for rank in ranks:
        joined |= stream(rank)
    assert joined == expected
    q = queue(dataset, augment, **options)
    batches = iter(q)
    first = [next(batches) for _ in range(3)]
    state = q.state_dict()
    again = pickle.loads(pickle.dumps(q))
    again.load_state_dict(state)
    rest = stream(again)
    assert len(first) * 5 + len(rest) == 40 and rest.items() <= expected.items()
    for other in (None, vq.Augment.monai(), vq.Augment(flip=True)):
        with pytest.raises(vq.UsageError, match="another queue"):
            queue(dataset, other, **options).load_state_dict(state)


def test_turned_patches_are_padded_with_the_least_value(dataset: vq.Dataset) -> None:
    far = vq.Augment(translation=((500, 500), 0, 0))
    for patch in patches(queue(dataset, far)):
        stats = dataset[patch["subject"]]["ct"].stats
        assert (patch["ct"] == stats["min"]).all() and not patch["seg"].any()
    for patch in patches(queue(dataset, far, padding={"ct": -7, "seg": 3})):
        assert (patch["ct"] == -7).all() and (patch["seg"] == 3).all()


def test_grids_and_constrained_samplers_are_augmented_alike(dataset: vq.Dataset) -> None:
    for sampler in (vq.GridSampler(16, 4), vq.LabelSampler(16, "seg", border="pad")):
        found = list(patches(queue(dataset, vq.Augment(rotation_degrees=20), sampler=sampler)))
        assert found
        for patch in found:
            middle = (patch["location"][:3] + patch["location"][3:] - 1) / 2
            affine = dataset[patch["subject"]]["ct"].affine
            expected = affine[:3, :3] @ middle[::-1] + affine[:3, 3]
            at = patch["transform"] @ [7.5, 7.5, 7.5, 1]
            np.testing.assert_allclose(at[:3], expected, atol=1e-9)


@pytest.mark.parametrize("preset", ["nnunet", "torchio", "monai"])
def test_presets_are_values(preset: str, dataset: vq.Dataset) -> None:
    make = getattr(vq.Augment, preset)
    assert make() == make() and hash(make()) == hash(make()) and make() != vq.Augment()
    assert pickle.loads(pickle.dumps(make())) == make()
    assert repr(make()) == f"voxquarry.Augment.{preset}()"
    for patch in patches(queue(dataset, make(), normalize="zscore")):
        assert np.isfinite(patch["ct"]).all()


def test_an_augmentation_is_a_value() -> None:
    assert pickle.loads(pickle.dumps(ALL)) == ALL != vq.Augment()
    assert vq.Augment(p=0.5) != vq.Augment() == vq.Augment(p=1)
    assert "elastic_knots=7" in repr(ALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rotation_degrees": (10, -10)}, "rotation.*lower one first"),
        ({"rotation_degrees": float("nan")}, "rotation"),
        ({"scale": 1.2}, "scale.*two numbers"),
        ({"scale": (0, 1)}, "scale.*0.01 to 100"),
        ({"shear": 0.6}, "shear.*0.49"),
        ({"noise": -1}, "noise"),
        ({"brightness": 0.2}, "brightness.*two numbers"),
        ({"gamma": "strong"}, "gamma.*two numbers"),
        ({"elastic": ((1, 2), (1, 2), (1, 2))}, "elastic.*a number, or two"),
        ({"elastic": 70_000}, "elastic.*65536"),
        ({"elastic_knots": 1}, "elastic_knots"),
        ({"low_resolution": (0.5, 2)}, "low_resolution"),
        ({"flip": (0, 3)}, "flip.*axes"),
        ({"p": 1.5}, "p.*0 to 1"),
        ({"p": {"turn": 0.5}}, "turn.*no part"),
        ({"order": 2}, "order"),
    ],
)
def test_bad_ranges_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(vq.UsageError, match=message):
        vq.Augment(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int16"}, "float32 or float16"),
        ({"normalize": "minmax"}, "zscore"),
        ({"normalize": (5, 5)}, "lower one first"),
        ({"normalize": {"ct": (0, float("inf"))}}, "finite"),
        ({"normalize": {"seg": "zscore"}}, "labels"),
        ({"normalize": {"pet": "zscore"}}, "pet.*not read"),
    ],
)
def test_bad_options_are_refused(
    dataset: vq.Dataset, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(vq.UsageError, match=message):
        queue(dataset, **options)


def test_odd_volumes(tmp_path: Path) -> None:
    constant = np.full((20, 20, 20), 7, "i2")
    nothing = np.full((20, 20, 20), np.nan, "f4")
    wide = np.random.default_rng(1).normal(0, 1e5, (20, 20, 20))
    volumes = {"same": constant, "nan": nothing, "wide": wide, "transform": constant}
    ds = vq.ingest({"s": volumes}, tmp_path / "s.zarr", patch_size=16)
    sampler = vq.UniformSampler(16)
    batch = next(iter(vq.Queue(ds, sampler, ["same", "wide"], normalize="zscore")))
    assert not batch["same"].any() and batch["wide"].dtype == np.float32
    with pytest.raises(vq.UsageError, match="no mean"):
        vq.Queue(ds, sampler, ["nan"], normalize="zscore")
    with pytest.raises(vq.UsageError, match="transform"):
        vq.Queue(ds, sampler, ["transform"], augment=vq.Augment(flip=True))
    assert next(iter(vq.Queue(ds, sampler, ["transform"])))["transform"].shape[1] == 1
    turned = vq.Queue(ds, sampler, ["nan"], augment=vq.Augment(rotation_degrees=9, gamma=(1.5, 2)))
    assert np.isnan(next(iter(turned))["nan"]).any()


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    guide = Path(__file__).parents[2] / "docs/augmentation.md"
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(guide), "exec"), {})


@pytest.mark.parametrize("augment", [None, vq.Augment(rotation_degrees=20, elastic=3)])
@pytest.mark.parametrize(
    "sampler",
    [
        vq.UniformSampler(10),
        vq.GridSampler(10, 2),
        vq.LabelSampler(10, "seg", border="pad"),
        vq.WeightedSampler(10, "seg", border="clamp"),
    ],
)
def test_a_queue_reads_views(dataset: vq.Dataset, augment: vq.Augment | None, sampler: Any) -> None:
    views = dataset.at(spacing=(2, 1.5, 1.5), orientation="LAS")
    options: dict[str, Any] = {"padding": "edge", "batch_size": 3, "seed": 5}
    q = vq.Queue(views, sampler, ["ct", "seg"], 4, augment=augment, **options)
    assert q.dataset is views
    found = list(patches(q))
    again = pickle.loads(pickle.dumps(q))
    again.set_epoch(0)
    for patch, other in zip(found, patches(again), strict=True):
        view = views[patch["subject"]]
        np.testing.assert_array_equal(patch["ct"], other["ct"])
        start = patch["location"][:3]
        shape = np.array(view["ct"].shape)
        if sampler.border != "pad" if hasattr(sampler, "border") else True:
            assert (start >= 0).all() and (patch["location"][3:] <= shape).all()
        to_zyx = np.eye(4)[[2, 1, 0, 3]]
        affine = view["ct"].affine @ to_zyx
        if augment is None:
            for name in ("ct", "seg"):
                expected = view[name].read(start, 10, padding="edge")
                np.testing.assert_allclose(patch[name][0], expected, atol=1e-4)
            affine[:3, 3] += affine[:3, :3] @ start
            np.testing.assert_allclose(patch["transform"], affine, atol=1e-9)
        else:
            middle = patch["transform"] @ [4.5, 4.5, 4.5, 1]
            np.testing.assert_allclose(middle, affine @ [*(start + 4.5), 1], atol=1e-9)
    with pytest.raises(vq.UsageError, match="another queue"):
        vq.Queue(dataset, sampler, ["ct", "seg"], 4, augment=augment, **options).load_state_dict(
            q.state_dict()
        )


def test_centres_in_views_have_the_label(tmp_path: Path) -> None:
    seg = np.zeros((20, 30, 40), "u1")
    seg[7, 21, 33] = 1
    ds = vq.ingest({"s": {"seg": vq.Labels(seg)}}, tmp_path / "s.zarr", patch_size=16)
    views = ds.at(spacing=(0.5, 0.7, 1), orientation="LPS")
    sampler = vq.LabelSampler(5, "seg", probabilities={1: 1}, border="pad")
    for patch in patches(vq.Queue(views, sampler, ["seg"], 6)):
        assert patch["seg"][0, 2, 2, 2] == 1
    for sampler, message in (
        (vq.LabelSampler(5, "seg"), "clamp"),
        (vq.ConstrainedSampler(vq.UniformSampler(5), min_foreground=0.1), "constraints"),
        (vq.UniformSampler(50), "50"),
    ):
        with pytest.raises(vq.UsageError, match=message):
            vq.Queue(views, sampler, ["seg"], 6)
    with pytest.raises(vq.UsageError, match="dataset"):
        vq.Queue([ds], vq.UniformSampler(5), ["seg"])
