"""``voxquarry.torchio`` with TorchIO 2: images, samplers, queue and aggregator on a store, with
TorchIO on the files as oracle.
"""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
import torchio as tio
from conftest import AFFINE, Pair

import voxquarry as vq
import voxquarry.torchio as vt

PATCH = (8, 10, 12)


def ours(pair: Pair) -> list[vt.Subject]:
    ds = pair.open()
    return [vt.subject(ds[name]) for name in ds]


def theirs(pair: Pair) -> list[tio.Subject]:
    kinds = {"ct": tio.ScalarImage, "map": tio.ScalarImage, "seg": tio.LabelMap}
    return [
        tio.Subject(name=name, **{v: kinds[v](path) for v, path in files.items()})
        for name, files in pair.files.items()
    ]


def is_lazy(subject: vt.Subject) -> bool:
    return not any(image.is_loaded for image in subject.images.values())


def assert_same(found: tio.Subject, expected: tio.Subject) -> None:
    assert found.name == expected.name
    for name, image in expected.images.items():
        assert isinstance(found[name], type(image))
        assert torch.equal(found[name].data.double(), image.data.double())
        assert np.allclose(found[name].affine.data, image.affine.data)
    assert found.metadata.get("patch_location") == expected.metadata.get("patch_location")


def test_every_name_of_torchio_is_there() -> None:
    assert vt.Affine is tio.Affine
    for name in tio.__all__:
        assert getattr(vt, name) is not None
        assert name in dir(vt)


def test_images(pair: Pair) -> None:
    for mine, other in zip(ours(pair), theirs(pair), strict=True):
        assert mine.spatial_shape == other.spatial_shape
        assert mine.spacing == pytest.approx(other.spacing)
        part = mine.ct[:, 3:9, -7:, 2:30]
        assert torch.equal(part.data.double(), other.ct[:, 3:9, -7:, 2:30].data.double())
        assert np.allclose(part.affine.data, other.ct[:, 3:9, -7:, 2:30].affine.data)
        assert torch.equal(mine.ct[0, ::2, 4, 5:2].data, mine.ct[0].data[:, ::2, 4:5, 5:2])
        lazy = copy.deepcopy(mine)
        assert is_lazy(lazy)
        assert is_lazy(pickle.loads(pickle.dumps(lazy)))
        assert_same(lazy, other)
        assert np.allclose(mine.ct.affine.data, AFFINE)


def test_paths_of_a_store(pair: Pair) -> None:
    image = vt.LabelMap(pair.path / "b" / "seg")
    assert not image.is_loaded
    assert torch.equal(image.data[0], torch.from_numpy(pair.voxels["b"]["seg"].astype("i4").T))
    with pytest.raises(KeyError, match="no volume"):
        vt.ScalarImage(str(pair.path / "b" / "nothing"))
    with pytest.raises(vq.UsageError, match="has that name"):
        vt.subject(pair.open()["a"], ct=1)


def test_grid_and_aggregator(pair: Pair) -> None:
    """TorchIO 2.0.0a2 dims what a Hann window blends: it divides by at least 1."""
    for mine, other in zip(ours(pair), theirs(pair), strict=True):
        grids = [m.GridSampler(s, PATCH, 4) for m, s in ((vt, mine), (tio, other))]
        for found, expected in zip(*grids, strict=True):
            assert_same(found, expected)
        assert is_lazy(mine)
        for mode in ("crop", "average", "hann"):
            aggregator = vt.PatchAggregator(mine.spatial_shape, mode, patch_overlap=4)
            for batch in vt.SubjectsLoader(grids[0], batch_size=5):
                aggregator.add_batch(batch.ct.data.double(), batch.metadata["patch_location"])
            assert torch.allclose(aggregator.get_output(), other.ct.data.double(), atol=1e-3)


def test_uniform_patches_are_torchios(pair: Pair) -> None:
    for mine, other in zip(ours(pair), theirs(pair), strict=True):
        runs = []
        for module, chosen in ((vt, mine), (tio, other)):
            torch.manual_seed(3)
            runs.append(list(module.UniformSampler(chosen, PATCH, 6)))
        assert is_lazy(mine)
        for found, expected in zip(*runs, strict=True):
            assert_same(found, expected)


@pytest.mark.parametrize("chosen", [None, {2: 1.0}, {1: 1.0, 4: 3.0}])
def test_label_patches_have_torchios_distribution(
    pair: Pair, chosen: dict[int, float] | None
) -> None:
    size, draws = (9, 9, 9), 600
    mine, other = ours(pair)[0], theirs(pair)[0]
    counts = []
    for module, from_ in ((vt, mine), (tio, other)):
        torch.manual_seed(8)
        sampler = module.LabelSampler(from_, size, "seg", chosen, draws)
        centres = [patch.seg.data[0, 4, 4, 4].item() for patch in sampler]
        assert len(centres) == draws
        counts.append(Counter(int(label) for label in centres))
    found, expected = counts
    assert set(found) <= set(chosen or {1, 2, 3, 4})
    for label, n in expected.items():
        assert abs(found[label] - n) <= 5 * (2 * n) ** 0.5 + 5
    assert not mine.ct.is_loaded
    assert mine.seg.is_loaded == (chosen is not None and len(chosen) > 1)


def test_weighted_patches(pair: Pair) -> None:
    mine = ours(pair)[1]
    for patch in vt.WeightedSampler(mine, (9, 9, 9), "map", 40):
        assert patch["map"].data[0, 4, 4, 4] > 0
    assert is_lazy(mine)
    with pytest.raises(RuntimeError, match="no place for a patch"):
        list(vt.LabelSampler(mine, (9, 9, 9), "seg", {77: 1.0}, 1))


@pytest.mark.parametrize("workers", [0, 2])
def test_queue_trains_from_a_store(pair: Pair, workers: int) -> None:
    subjects = ours(pair)
    queue = vt.Queue(
        subjects,
        vt.LabelSampler(subjects[0], 8, "seg"),
        max_length=6,
        patches_per_volume=4,
        num_workers=workers,
        transform=vt.Compose([]),
    )
    model = torch.nn.Conv3d(1, 2, 3, padding=1)
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)
    for _epoch in range(2):
        patches = 0
        for batch in vt.SubjectsLoader(queue, batch_size=4):
            optimizer.zero_grad()
            target = (batch.seg.data[:, 0] > 0).long()
            torch.nn.functional.cross_entropy(model(batch.ct.data.float()), target).backward()
            optimizer.step()
            patches += len(batch.ct.data)
        assert patches == 12
    assert all(map(is_lazy, subjects))
