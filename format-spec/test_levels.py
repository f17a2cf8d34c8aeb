"""reader.py reads the coarser levels of the golden store, and refuses those that are none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import reader
from golden_store import GOLDEN, V1, coarser, relist

LEVELS = V1.with_name("v1-levels")
FACTORS = [[1, 1, 1], [2, 1, 1], [4, 2, 2]]


def test_golden_levels() -> None:
    volumes = reader.open_store(LEVELS)["grid"]
    assert sorted(volumes) == ["f16", "f64", "i16", "labels-i32", "u8"]
    for name, volume in volumes.items():
        assert volume.levels == FACTORS
        expected = GOLDEN["grid"][name]
        for number, factors in enumerate(FACTORS):
            level = volume.level(number)
            if number:
                finer = FACTORS[number - 1]
                step = tuple(f // b for f, b in zip(factors, finer, strict=True))
                expected = coarser(expected, step, volume.kind == "labels")
            found = level.array()
            assert found.dtype == expected.dtype and found.shape == expected.shape, name
            same = (found == expected) | ((found != found) & (expected != expected))
            assert same.all(), (name, number)
            middle = [(f - 1) / 2 for f in factors[::-1]]
            assert np.allclose(level.affine[:3, 3], (volume.affine @ [*middle, 1])[:3])
            assert np.allclose(level.affine[:3, :3], volume.affine[:3, :3] * factors[::-1])
    labels = volumes["labels-i32"].level(1)
    assert sum(labels.label_counts()[0].values()) == (labels.array()[:, :8, :16] != 0)[:4].sum()
    with pytest.raises(reader.Refused, match="no level 1"):
        labels.level(1)
    with pytest.raises(reader.Refused, match="no level 3"):
        volumes["u8"].level(3)


def test_golden_levels_for_other_software() -> None:
    for name, kind in (("u8", "mean"), ("i16", "mean"), ("labels-i32", "mode")):
        document = json.loads((LEVELS / "grid" / name / "zarr.json").read_text())
        (scales,) = document["attributes"]["ome"]["multiscales"]
        assert scales["type"] == kind
        assert [level["path"] for level in scales["datasets"]] == ["0", "1", "2"]
        spacing = np.sqrt((reader.open_store(LEVELS)["grid"][name].affine[:3, :3] ** 2).sum(0))
        lead = name == "i16"
        for level, factors in zip(scales["datasets"], FACTORS, strict=True):
            scale, *shift = level["coordinateTransformations"]
            assert scale["type"] == "scale"
            assert np.allclose(scale["scale"], [1] * lead + list(spacing[::-1] * factors))
            assert len(shift) == (factors != [1, 1, 1])
            for place in shift:
                middle = spacing[::-1] * (np.array(factors) - 1) / 2
                assert place["type"] == "translation"
                assert np.allclose(place["translation"], [0] * lead + list(middle))


def read_levels(store: Path) -> None:
    for volume in reader.open_store(store)["grid"].values():
        for number in range(len(volume.levels)):
            volume.level(number).array()


@pytest.mark.parametrize(
    "levels",
    [
        {},
        [[]],
        [{"factors": [2, 1]}],
        lambda all_: [{**all_[0], "factors": [1, 1, 1]}, all_[1]],
        lambda all_: [{**all_[0], "factors": [0, 1, 1]}, all_[1]],
        lambda all_: [{**all_[0], "factors": [3, 1, 1]}, all_[1]],
        lambda all_: [{**all_[0], "factors": [2.0, 1, 1]}, all_[1]],
        lambda all_: [all_[1], all_[0]],
        lambda all_: [all_[0], {**all_[1], "factors": [4, 4, 2]}],
        lambda all_: [all_[0], {**all_[1], "shard_files": 2}],
        lambda all_: [all_[0], {**all_[1], "shards_crc32c": 7}],
        lambda all_: [all_[0], {**all_[1], "level_crc32c": 7}],
        lambda all_: [all_[0], {k: v for k, v in all_[1].items() if k != "statistics"}],
        lambda all_: [*all_, all_[1]],
    ],
)
def test_levels_that_are_none_are_refused(tmp_path: Path, levels: object) -> None:
    store = Path(shutil.copytree(LEVELS, tmp_path / "store"))
    path = store / "grid/u8/zarr.json"
    document = json.loads(path.read_text())
    own = document["attributes"]["voxquarry"]
    own["levels"] = levels(own["levels"]) if callable(levels) else levels
    path.write_text(json.dumps(document))
    relist(store)
    with pytest.raises(reader.Refused, match="^(?!.*(seal|subject lists))"):
        read_levels(store)


def test_every_damaged_or_lost_file_of_a_level_is_refused(tmp_path: Path) -> None:
    store = Path(shutil.copytree(LEVELS, tmp_path / "store"))
    read_levels(store)
    files = [
        path
        for name in ("1", "2", "shards-1", "shards-2")
        for path in sorted((store / "grid/i16" / name).rglob("*"))
        if path.is_file()
    ]
    assert len(files) == 2 * (1 + 2 + 2)
    for path in files:
        whole = path.read_bytes()
        for at in range(0, len(whole), 7):
            damaged = bytearray(whole)
            damaged[at] ^= 0x10
            path.write_bytes(damaged)
            with pytest.raises(reader.Refused):
                read_levels(store)
        path.unlink()
        with pytest.raises(reader.Refused):
            read_levels(store)
        path.write_bytes(whole)
    read_levels(store)
