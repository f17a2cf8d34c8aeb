"""xarray's backend and napari's reader plugin, found by their entry points."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import npe2
import numpy as np
import pytest
import xarray as xr

import voxquarry as vq

AFFINE = np.array([[-0.5, 0, 0, 20], [0, 0.75, 0, -30], [0, 0, 2.5, 7], [0, 0, 0, 1]])
CT = (np.arange(30 * 24 * 20) * 7 % 3011 - 1000).reshape(30, 24, 20).astype("i2")
SEG = (CT > 500).astype("u1")
FLOW = np.arange(2 * 30 * 24 * 20, dtype="f4").reshape(2, 30, 24, 20)


@pytest.fixture(autouse=True, scope="module")
def plugins() -> None:
    """As napari does it when it starts."""
    npe2.PluginManager.instance().discover()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    volumes = {"ct": CT, "seg": vq.Labels(SEG), "flow": FLOW}
    vq.ingest({"a": volumes, "b": {"ct": CT[:9]}}, tmp_path / "s.zarr", 8, affine=AFFINE)
    return tmp_path / "s.zarr"


def test_xarray(store: Path) -> None:
    ds = xr.open_dataset(store / "a", engine="voxquarry")
    assert dict(ds.sizes) == {"z": 30, "y": 24, "x": 20, "c_flow": 2}
    assert set(ds) == {"ct", "seg", "flow"}
    for name, voxels in (("ct", CT), ("seg", SEG), ("flow", FLOW)):
        assert ds[name].dtype == voxels.dtype
        assert not ds[name].variable._in_memory
        assert np.array_equal(ds[name][..., 3:9, ::2, [5, 1]], voxels[..., 3:9, ::2, [5, 1]])
        assert np.array_equal(ds[name].isel(y=7), voxels[..., 7, :])
        assert np.array_equal(
            ds[name].isel(z=-1, x=slice(None, None, -3)), voxels[..., -1, :, ::-3]
        )
    assert np.allclose(np.reshape(ds["ct"].attrs["affine"], (4, 4)), AFFINE)
    assert np.allclose(ds["x"], 20 - 0.5 * np.arange(20))
    assert np.allclose(ds["z"], 7 + 2.5 * np.arange(30))
    assert float(ds["ct"].sel(x=15.1, y=-30, z=12.1, method="nearest")) == CT[2, 0, 10]
    assert ds["seg"].attrs["kind"] == "labels"
    assert ds.attrs["subject"] == "a"


def test_xarray_of_a_volume_with_dask(store: Path) -> None:
    ds = xr.open_dataset(store / "a" / "ct", engine="voxquarry", chunks={})
    assert list(ds) == ["ct"]
    assert ds["ct"].data.chunksize == vq.open(store)["a"]["ct"].chunks
    assert float(ds["ct"].mean()) == pytest.approx(CT.mean())
    # Guessed: no engine is named.
    assert list(xr.open_dataset(store / "a", drop_variables=["ct"])) == ["flow", "seg"]


def levelled(folder: Path) -> vq.Dataset:
    """Two subjects: one with two coarser levels, the other with none."""
    store = folder / "levels.zarr"
    volumes = {"ct": CT, "seg": vq.Labels(SEG), "flow": FLOW}
    vq.ingest({"a": volumes}, store, 8, affine=AFFINE, levels=2)
    return vq.ingest({"b": {"ct": CT[:9]}}, store, 8, affine=AFFINE)


def test_a_level_in_xarray(tmp_path: Path) -> None:
    """Issue 26: a volume with levels was refused by ``open_datatree``, and had no level here."""
    stored = levelled(tmp_path)["a"]
    for number in range(3):
        ds = xr.open_dataset(tmp_path / "levels.zarr/a", engine="voxquarry", level=number)
        assert ds.attrs == {"subject": "a", "level": number}
        for name in ("ct", "seg", "flow"):
            level = stored[name].level(number)
            assert not ds[name].variable._in_memory
            assert np.array_equal(ds[name], level[...])
            assert np.allclose(np.reshape(ds[name].attrs["affine"], (4, 4)), level.affine)
        # The middle of the voxels that one of the level covers.
        z, _, x = stored["ct"].levels[number]
        assert np.allclose(ds["x"][:2], 20 - 0.5 * (x - 1) / 2 - 0.5 * x * np.arange(2))
        assert np.allclose(ds["z"][:2], 7 + 2.5 * (z - 1) / 2 + 2.5 * z * np.arange(2))
    chunked = xr.open_dataset(tmp_path / "levels.zarr/a/ct", engine="voxquarry", level=1, chunks={})
    assert float(chunked["ct"].mean()) == pytest.approx(stored["ct"].level(1)[...].mean())
    with pytest.raises(vq.UsageError, match="0 to 2"):
        xr.open_dataset(tmp_path / "levels.zarr/a", engine="voxquarry", level=3)


def test_all_levels_as_a_tree(tmp_path: Path) -> None:
    ds = levelled(tmp_path)
    whole = xr.open_datatree(tmp_path / "levels.zarr", engine="voxquarry")
    assert set(whole.groups) == {"/", "/a", "/a/0", "/a/1", "/a/2", "/b", "/b/0"}
    # Guessed: no engine is named.
    subject = xr.open_datatree(tmp_path / "levels.zarr/a")
    volume = xr.open_datatree(tmp_path / "levels.zarr/a/ct", engine="voxquarry", chunks={})
    assert set(subject.groups) == set(volume.groups) == {"/", "/0", "/1", "/2"}
    assert list(volume["1"].dataset) == ["ct"] and set(subject["1"].dataset) == set(ds["a"])
    for number, factors in enumerate(ds["a"]["ct"].levels):
        for name in ds["a"]:
            expected = ds["a"][name].level(number)[...]
            assert np.array_equal(subject[f"{number}/{name}"], expected)
            assert np.array_equal(whole[f"a/{number}/{name}"], expected)
        assert subject[str(number)].attrs == {
            "subject": "a",
            "level": number,
            "factors": list(factors),
        }
        assert np.array_equal(volume[f"{number}/ct"].compute(), ds["a"]["ct"].level(number)[...])
    # A place of the body in every level.
    near = [
        float(subject[f"{n}/ct"].sel(x=15, y=-25, z=30, method="nearest")["z"]) for n in range(3)
    ]
    assert np.allclose(near, 30, atol=5)
    left = xr.open_datatree(
        tmp_path / "levels.zarr/a", engine="voxquarry", drop_variables=["flow", "ct"]
    )
    assert list(left["2"].dataset) == ["seg"]
    groups = xr.open_groups(tmp_path / "levels.zarr/a", engine="voxquarry")
    assert np.array_equal(groups["/1"]["ct"], ds["a"]["ct"].level(1)[...])
    with pytest.raises(KeyError, match="no subject"):
        xr.open_datatree(tmp_path / "levels.zarr/c", engine="voxquarry")


def test_volumes_of_other_levels(tmp_path: Path) -> None:
    """A volume without a level is not in its group; levels of other grids are told."""
    store = tmp_path / "s.zarr"
    vq.ingest({"a": {"ct": CT}}, store, 8, affine=AFFINE, levels=1)
    vq.ingest({"a": {"seg": vq.Labels(SEG)}}, store, 8, affine=AFFINE, add=True)
    tree = xr.open_datatree(store / "a", engine="voxquarry")
    assert set(tree["0"].dataset) == {"ct", "seg"} and list(tree["1"].dataset) == ["ct"]
    with pytest.raises(vq.UsageError, match="ingest it with levels"):
        xr.open_dataset(store / "a", engine="voxquarry", level=1)


def test_xarray_of_a_store_on_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levelled(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "tests")
    from remote_server import RemoteServer

    with RemoteServer(tmp_path) as server:
        place = f"{server.url}/levels.zarr"
        ds = xr.open_dataset(f"{place}/b/ct", engine="voxquarry")
        assert np.array_equal(ds["ct"], CT[:9])
        tree = xr.open_datatree(f"{place}/a", engine="voxquarry")
        assert np.array_equal(tree["0/seg"], SEG)
        with pytest.raises(vq.UsageError, match="it has: a, b"):
            xr.open_dataset(place, engine="voxquarry")


def test_real_values(tmp_path: Path) -> None:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 20, 24, 30, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    # Voxels of 1 mm, the offset of the voxels, slope and intercept, and an affine that turns.
    struct.pack_into("<4f3f", header, 76, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, 0.5, -1024)
    struct.pack_into("<h", header, 254, 1)
    struct.pack_into("<12f", header, 280, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    (tmp_path / "ct.nii").write_bytes(bytes(header) + CT.tobytes())
    vq.ingest({"a": {"ct": tmp_path / "ct.nii"}}, tmp_path / "s.zarr", patch_size=8)
    ds = xr.open_dataset(tmp_path / "s.zarr" / "a", engine="voxquarry")
    assert np.array_equal(ds["ct"], CT * 0.5 - 1024)
    # The grid is turned: its axes are not those of the patient.
    assert not ds.coords
    stored = xr.open_dataset(tmp_path / "s.zarr" / "a", engine="voxquarry", scaled=False)
    assert np.array_equal(stored["ct"], CT)
    assert stored["ct"].attrs["add_offset"] == -1024
    # Several plugins may claim a path; which of them comes first is left to chance.
    ((_, options, _),) = npe2.read(
        [str(tmp_path / "s.zarr" / "a" / "ct")], stack=False, plugin_name="voxquarry"
    )
    start, end = stored_window(tmp_path / "s.zarr" / "a" / "ct")
    assert options["contrast_limits"] == (start * 0.5 - 1024, end * 0.5 - 1024)


def test_napari_shows_the_stored_window(tmp_path: Path) -> None:
    """Not from the least to the greatest value, which one bright voxel moves away (issue 21)."""
    voxels = np.random.default_rng(0).normal(100, 10, (16, 16, 16)).astype("f4")
    voxels[3, 3, 3] = 1e6
    vq.ingest({"a": {"ct": voxels}}, tmp_path / "s.zarr", patch_size=8)
    path = tmp_path / "s.zarr" / "a" / "ct"
    ((_, options, _),) = npe2.read([str(path)], stack=False, plugin_name="voxquarry")
    assert options["contrast_limits"] == stored_window(path)
    assert options["contrast_limits"][1] < 1e5


def stored_window(volume: Path) -> tuple[float, float]:
    """The window in the OME attributes of a volume."""
    attributes = json.loads((volume / "zarr.json").read_text())["attributes"]
    window = attributes["ome"]["omero"]["channels"][0]["window"]
    return window["start"], window["end"]


def test_napari(store: Path) -> None:
    """Name, window and affine; labels as labels."""
    layers = {
        str(options["name"]): (data, options, kind)
        for data, options, kind in npe2.read(
            [str(store / "a")], stack=False, plugin_name="voxquarry"
        )
    }
    data, options, kind = layers["a ct"]
    assert kind == "image"
    assert np.array_equal(data[4], CT[4])
    assert np.array_equal(data[:, 3:5, 2], CT[:, 3:5, 2])
    assert np.array_equal(np.asarray(data), CT)
    assert options["contrast_limits"] == stored_window(store / "a" / "ct")
    z, y, x = options["affine"][:3] @ [3, 4, 5, 1]
    assert np.allclose((x, y, z), AFFINE[:3] @ [5, 4, 3, 1])
    assert options["units"] == ("mm", "mm", "mm")
    assert layers["a seg"][2] == "labels"
    assert np.array_equal(np.asarray(layers["a seg"][0]), SEG)
    assert layers["['a flow 0', 'a flow 1']"][1]["channel_axis"] == 0


def test_napari_makes_layers_of_them(store: Path) -> None:
    from napari.layers import Labels, Layer

    for data, options, kind in npe2.read([str(store / "a")], stack=False, plugin_name="voxquarry"):
        if "channel_axis" not in options:
            layer = Layer.create(data, options, kind)
            assert isinstance(layer, Labels) == (kind == "labels")
            # Of the first voxel, (z, y, x).
            assert np.allclose(layer.data_to_world((0, 0, 0)), AFFINE[:3, 3][::-1])
            assert np.array_equal(np.asarray(layer.data[3]), np.asarray(data[3]))


def test_paths_of_neither(store: Path, tmp_path: Path) -> None:
    with pytest.raises(vq.UsageError, match="expected a subject of the store, .*: a, b"):
        xr.open_dataset(store, engine="voxquarry")
    with pytest.raises(vq.UsageError, match="expected STORE/SUBJECT"):
        xr.open_dataset(tmp_path / "nothing", engine="voxquarry")
    with pytest.raises(KeyError, match="no subject"):
        xr.open_dataset(store / "c", engine="voxquarry")
    with pytest.raises(vq.UsageError, match="it has: a, b"):
        npe2.read([str(store)], stack=False, plugin_name="voxquarry")
    from voxquarry._napari import get_reader

    assert get_reader(str(tmp_path / "other.zarr")) is None
    assert get_reader([str(store / "a"), str(tmp_path)]) is None
