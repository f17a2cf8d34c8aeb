"""Some channels of a volume: each costs about as much as a volume of one, and every reader gives
the same values, stored or real.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, noise, write_nifti

import voxquarry as vq

PATCH = 8
CHANNELS = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> vq.Dataset:
    """Two subjects; ``fmri`` has 12 time points and, in ``b``, a slope; ``seg`` has none."""
    folder = tmp_path_factory.mktemp("channels")
    sources = {}
    for name in "ab":
        fmri = write_nifti(
            folder / f"{name}.nii",
            noise((20, 19, 18, CHANNELS), "i2", ord(name)),
            edit=lambda header, name=name: header.set_slope_inter(*((2, 1), (1, 0))[name == "a"]),
        )
        seg = write_nifti(folder / f"{name}-seg.nii", np.ones((20, 19, 18), "u1"))
        sources[name] = {"fmri": fmri, "seg": vq.Labels(seg)}
    return vq.ingest(sources, folder / "store.zarr", patch_size=PATCH, codec="fast")


@pytest.mark.parametrize("channels", [3, [3], [11, 0, 5], range(2, 5), np.array([4, 1]), (7,)])
@pytest.mark.parametrize("padding", [None, 7, "edge", "reflect"])
def test_reads_give_the_chosen_channels(store: vq.Dataset, channels: object, padding) -> None:
    chosen = [channels] if isinstance(channels, int) else list(channels)
    start = (3, 4, 5) if padding is None else (-2, 15, 4)
    for name in "ab":
        volume = store[name]["fmri"]
        for scaled in (False, True):
            options = {"padding": padding, "scaled": scaled}
            expected = volume.read(start, PATCH, **options)
            found = volume.read(start, PATCH, channels=channels, **options)
            assert identical(found, expected[chosen])
            starts = [start, (0, 0, 0)]
            batch = volume.read_batch(starts, PATCH, channels=channels, **options)
            assert identical(batch, volume.read_batch(starts, PATCH, **options)[:, chosen])
            real = volume.scaled.read(start, PATCH, padding=padding, channels=channels)
            assert identical(real, volume.read(start, PATCH, **options | {"scaled": True})[chosen])
        out = np.empty((len(chosen), PATCH, PATCH, PATCH), "i2")
        assert volume.read(start, PATCH, out, padding, channels) is out
        assert identical(out, volume.read(start, PATCH, padding=padding)[chosen])


def test_one_channel_has_an_axis(store: vq.Dataset) -> None:
    seg = store["a"]["seg"]
    assert seg.read((0, 0, 0), PATCH, channels=0).shape == (1, PATCH, PATCH, PATCH)
    assert seg.read_batch([(0, 0, 0)], PATCH, channels=[0]).shape == (1, 1, PATCH, PATCH, PATCH)


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        (12, "channels 12: expected some of 0 to 11"),
        ([0, 0], "each channel once"),
        ([], "at least one"),
        (-1, "number of a channel"),
        ("0", "number of a channel"),
        (True, "number of a channel"),
        ([0.5], "number of a channel"),
    ],
)
def test_channels_that_are_not_there(store: vq.Dataset, channels: object, words: str) -> None:
    with pytest.raises(vq.UsageError, match=words):
        store["a"]["fmri"].read((0, 0, 0), PATCH, channels=channels)
    with pytest.raises(vq.UsageError, match=words):
        vq.Queue(store, vq.UniformSampler(PATCH), ["fmri"], channels=channels)
    with pytest.raises(vq.UsageError, match="only channel"):
        store["a"]["seg"].read((0, 0, 0), PATCH, channels=5)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("codec", ["fast", "compact"])
def test_a_queue_reads_the_chosen_channels(
    store: vq.Dataset, scaled: bool, codec: str, tmp_path: Path
) -> None:
    if codec == "compact":
        sources = {
            name: {"fmri": np.asarray(store[name]["fmri"]), "seg": vq.Labels(np.ones((18, 19, 20)))}
            for name in "ab"
        }
        store = vq.ingest(sources, tmp_path / "s.zarr", patch_size=PATCH, codec="compact")
    sampler = vq.UniformSampler(PATCH, border="pad")
    whole = vq.Queue(store, sampler, ["fmri", "seg"], padding=3, scaled=scaled)
    for channels in ({"fmri": [5, 2]}, {"fmri": 7, "seg": 0}):
        queue = vq.Queue(
            store, sampler, ["fmri", "seg"], padding=3, scaled=scaled, channels=channels
        )
        assert queue.state_dict() == whole.state_dict()
        chosen = np.atleast_1d(channels["fmri"])
        for found, expected in zip(pickle.loads(pickle.dumps(queue)), whole, strict=True):
            assert identical(found["fmri"], np.ascontiguousarray(expected["fmri"][:, chosen]))
            assert identical(found["seg"], expected["seg"])
        whole.set_epoch(0)
    with pytest.raises(vq.UsageError, match="channels name 'ct', which is not read"):
        vq.Queue(store, sampler, ["fmri"], channels={"ct": 0})
    with pytest.raises(vq.UsageError, match=r"subject \"a\": channels 1: expected 0, the only"):
        vq.Queue(store, sampler, ["seg"], channels=1)


def test_one_of_many_channels_costs_one_read(store: vq.Dataset) -> None:
    """Reading 60 time points where one is wanted took 280 times as long: no other is decoded."""
    grid = vq.GridSampler(PATCH, padding="edge")

    def decoded(channels: object) -> int:
        queue = vq.Queue(store, grid, ["fmri"], channels=channels, cache_bytes=0)
        for _ in queue:
            pass
        return queue.stats()["chunks_decoded"]

    assert decoded(4) * CHANNELS == decoded([4, 1]) * CHANNELS // 2 == decoded(None)


def test_real_values_are_those_of_every_reader(store: vq.Dataset) -> None:
    """Workers of a queue scale what they read; paddings are real values."""
    sampler = vq.UniformSampler(PATCH, border="pad")
    queue = vq.Queue(store, sampler, ["fmri", "seg"], padding=2, threads=3)
    for batch in queue:
        assert (batch["fmri"].dtype, batch["seg"].dtype) == (np.float32, np.uint8)
        for i, name in enumerate(batch["subject"]):
            start = batch["location"][i, :3]
            expected = store[name]["fmri"].read(start, PATCH, padding=2, scaled=True)
            assert identical(batch["fmri"][i], expected)
    stored = vq.Queue(store, sampler, ["fmri"], padding=2, scaled=False)
    assert next(iter(stored))["fmri"].dtype == np.int16
