"""Stores behind URLs: read as from a disk, by few bytes, through faults, kills and small caches."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import pytest
from helpers import identical, in_child
from remote_server import RemoteServer
from test_full_disk import room

import voxquarry as vq

SIZE = (70, 96, 112)
PATCH = 24
CODECS = ("fast", "compact", "none")
PADDINGS = [None, 0, "edge", "reflect"]


def voxels(seed: int) -> np.ndarray:
    """Voxels that compress a little."""
    random = np.random.default_rng(seed)
    return np.cumsum(random.integers(-3, 4, SIZE), axis=2).astype("i2")


def ingest(store: Path, seed: int = 0, **options: object) -> None:
    for i, codec in enumerate(CODECS):
        ct = voxels(seed + i)
        volumes = {"ct": ct, "seg": vq.Labels((ct > 3).astype("u1") + (ct > 20))}
        options = {"patch_size": PATCH, "codec": codec, "spacing": (1, 1, 1), **options}
        vq.ingest({codec: volumes}, store, **options)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in the folder of a bucket."""
    store = tmp_path_factory.mktemp("served") / "bucket" / "store.zarr"
    store.parent.mkdir()
    ingest(store)
    return store


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def open_at(server: RemoteServer, cache: Path, **options: object) -> vq.Dataset:
    return vq.open(f"{server.url}/bucket/store.zarr", cache_dir=cache, threads=2, **options)


def epoch(dataset: vq.Dataset, sampler: object, **options: object) -> list[dict]:
    """The batches of one epoch."""
    queue = vq.Queue(dataset, sampler, volumes=["ct", "seg"], batch_size=4, seed=3, **options)
    return [{name: np.array(batch[name]) for name in ("ct", "seg", "location")} for batch in queue]


def assert_same(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert all(identical(a[name], b[name]) for name in b)


def chunk_bytes(server: RemoteServer) -> int:
    """The bytes of shards that were sent, without their indices."""
    parts = [r for r in server.requests() if "/0/c/" in r[0] and not r[1].startswith("bytes=-")]
    return sum(sent for _, _, sent in parts)


def assert_once(server: RemoteServer) -> None:
    """No byte of a shard was sent twice."""
    parts = {}
    for path, asked, _ in server.requests():
        if "/0/c/" in path:
            assert asked.startswith("bytes=")
            parts.setdefault(path, []).append(asked.removeprefix("bytes=").split("-"))
    for path, ranges in parts.items():
        assert sum(not begin for begin, _ in ranges) == 1, path  # its index
        ends = sorted((int(begin), int(end)) for begin, end in ranges if begin)
        assert all(a[1] < b[0] for a, b in pairwise(ends)), path


class Shards:
    """The chunks of a local volume, from its files alone."""

    def __init__(self, volume: Path) -> None:
        document = json.loads((volume / "0/zarr.json").read_text())
        self._folder = volume / "0/c"
        self._shard = document["chunk_grid"]["configuration"]["chunk_shape"]
        self._chunk = document["codecs"][0]["configuration"]["chunk_shape"]
        self._shape = document["shape"]
        self._bytes: dict[tuple[int, ...], int] = {}

    def meeting(self, start: np.ndarray, size: int) -> dict[tuple[int, ...], int]:
        """The stored bytes of each chunk that meets a cube."""
        cells = [
            range(max(0, int(s)) // c, -(-min(int(s) + size, n) // c))
            for s, c, n in zip(start, self._chunk, self._shape, strict=True)
        ]
        found = {}
        for cell in np.ndindex(*(len(r) for r in cells)):
            at = tuple(r[i] for r, i in zip(cells, cell, strict=True))
            if at not in self._bytes:
                self._bytes[at] = self._stored(at)
            found[at] = self._bytes[at]
        return found

    def _stored(self, at: tuple[int, ...]) -> int:
        per_shard = [s // c for s, c in zip(self._shard, self._chunk, strict=True)]
        shard = self._folder.joinpath(*(str(a // n) for a, n in zip(at, per_shard, strict=True)))
        if not shard.exists():
            return 0
        slot = 0
        for a, n in zip(at, per_shard, strict=True):
            slot = slot * n + a % n
        content, count = shard.read_bytes(), prod(per_shard)
        index = content[len(content) - 4 - 16 * count :]
        offset, stored = struct.unpack_from("<QQ", index, 16 * slot)
        return 0 if offset == 2**64 - 1 else stored


def touched(store: Path, batches: list[dict], subjects: list[str]) -> int:
    """The stored bytes of all chunks that the patches meet."""
    chunks = {}
    names = iter(subjects)
    for batch in batches:
        for location in batch["location"]:
            subject = next(names)
            for volume in ("ct", "seg"):
                of = SHARDS.setdefault((store, subject, volume), Shards(store / subject / volume))
                for at, stored in of.meeting(location[:3], PATCH).items():
                    chunks[subject, volume, at] = stored
    return sum(chunks.values())


SHARDS: dict[tuple[Path, str, str], Shards] = {}


@pytest.mark.parametrize("access", ["map", "read"])
def test_regions_are_those_of_the_local_store(
    server: RemoteServer, local: Path, cache: Path, access: str
) -> None:
    near, far = vq.open(local), open_at(server, cache, access=access)
    assert list(far) == list(near) == sorted(CODECS)
    draw = np.random.default_rng(5)
    for subject in CODECS:
        for name in ("ct", "seg"):
            a, b = near[subject][name], far[subject][name]
            assert (a.shape, a.dtype, a.spacing, a.kind) == (b.shape, b.dtype, b.spacing, b.kind)
            for padding in PADDINGS:
                low, high = (0, 40) if padding is None else (-10, 60)
                starts = draw.integers(low, high, (5, 3))
                assert identical(
                    b.read_batch(starts, 20, padding=padding),
                    a.read_batch(starts, 20, padding=padding),
                )
            assert identical(b[:, 3, ::2], a[:, 3, ::2])
    matrix = np.eye(4)
    matrix[:3] += draw.normal(0, 0.1, (3, 4))
    warped = [of["fast"]["ct"].read_affine(matrix, 30) for of in (far, near)]
    assert identical(*warped)


def test_an_epoch_fetches_what_it_touches_once(
    server: RemoteServer, local: Path, cache: Path
) -> None:
    far, near = open_at(server, cache), vq.open(local)
    sampler = vq.UniformSampler(PATCH)
    options = {"volumes": ["ct", "seg"], "batch_size": 4, "seed": 3, "patches_per_subject": 12}
    queues = [vq.Queue(of, sampler, **options) for of in (far, near)]
    batches: list[list[dict]] = [[], []]
    subjects = []
    for i, queue in enumerate(queues):
        queue.set_epoch(0)
        for batch in queue:
            batches[i].append({n: np.array(batch[n]) for n in ("ct", "seg", "location")})
            subjects += batch["subject"] if i == 0 else []
    assert_same(*batches)
    fetched, wanted = chunk_bytes(server), touched(local, batches[0], subjects)
    assert wanted <= fetched <= 1.02 * wanted
    assert_once(server)
    # Documents, lists of shards, label counts and indices: a few for each volume.
    assert len([r for r in server.requests() if "/0/c/" not in r[0]]) <= 1 + 3 * (1 + 2 * 4 + 8)
    server.reset()
    queues[0].set_epoch(0)
    again = [{n: np.array(b[n]) for n in ("ct", "seg", "location")} for b in queues[0]]
    assert_same(again, batches[1])
    assert server.requests() == []
    # Another opening asks for documents again, and for no part of a shard.
    assert_same(epoch(open_at(server, cache), sampler, patches_per_subject=12), batches[1])
    assert [r for r in server.requests() if "/0/c/" in r[0]] == []


def test_samplers_fetch_nothing_twice(server: RemoteServer, local: Path, cache: Path) -> None:
    near, far = vq.open(local), open_at(server, cache)
    samplers = [vq.LabelSampler(PATCH, labels="seg"), vq.WeightedSampler(PATCH, weights="seg")]
    for sampler in samplers:
        expected = epoch(near, sampler, patches_per_subject=6)
        assert_same(epoch(far, sampler, patches_per_subject=6), expected)
    assert_once(server)


def test_a_sliding_window_fetches_each_chunk_once(
    server: RemoteServer, local: Path, cache: Path
) -> None:
    grid = vq.GridSampler(PATCH, overlap=PATCH // 2)
    far, near = (epoch(of, grid) for of in (open_at(server, cache), vq.open(local)))
    assert_same(far, near)
    subjects = vq.Queue(vq.open(local), grid, volumes=["ct"], batch_size=4, seed=3)
    names = [name for batch in subjects for name in batch["subject"]]
    wanted = touched(local, far, names)
    assert wanted <= chunk_bytes(server) <= 1.02 * wanted

    def model(patches: np.ndarray) -> np.ndarray:
        return patches.astype("f4") * 2

    results = [
        vq.infer(model, of["compact"]["ct"], patch_size=PATCH, overlap=8)
        for of in (open_at(server, cache), vq.open(local))
    ]
    assert identical(np.asarray(results[0]), np.asarray(results[1]))
    views = [
        vq.infer(model, of["fast"]["ct"], PATCH, padding="edge", spacing=1.5)
        for of in (open_at(server, cache), vq.open(local))
    ]
    assert identical(np.asarray(views[0]), np.asarray(views[1]))


def test_patches_are_fetched_ahead(server: RemoteServer, local: Path, cache: Path) -> None:
    """Issue 25: a loop of ``read_batch`` waited for one answer after the other."""
    near, far = (of["fast"]["ct"] for of in (vq.open(local), open_at(server, cache)))
    assert far.is_remote and far.scaled.is_remote and far.at(spacing=2).is_remote
    assert not near.is_remote
    starts = np.array([(0, 0, 0), (30, 40, 50), (46, 72, 88), (-9, -9, 100)])
    near.read_ahead(starts, PATCH)
    for reader, places in ((far, starts), (far.scaled, starts + 9), (far.at(spacing=1.5), starts)):
        before = server.requests()
        reader.read_ahead(places, PATCH)
        settle(server, len(before))
        before = server.requests()
        reader.read_batch(places, PATCH, padding=0)
        assert server.requests() == before
    for wrong in ({"size": 0}, {"size": PATCH, "channels": 1}):
        with pytest.raises(vq.UsageError):
            far.read_ahead(starts, **wrong)
    assert_once(server)


def settle(server: RemoteServer, before: int) -> None:
    """Waits until more than ``before`` requests were answered, and no more is asked for."""
    counts = [before]
    while counts[-1] == before or counts[-1] != counts[-2]:
        assert len(counts) < 60, "nothing was asked for"
        time.sleep(1)
        counts.append(len(server.requests()))


def test_shards_are_opened_together(server: RemoteServer, local: Path, cache: Path) -> None:
    """Each index takes a round trip (issue 25: the first batch within ten)."""
    store = local.parent / "many.zarr"
    voxels = np.random.default_rng(4).integers(0, 9, (64, 320, 320)).astype("u1")
    vq.ingest({"a": {"ct": voxels}}, store, patch_size=16, memory_bytes="40MiB", spacing=(1, 1, 1))
    volume = vq.open(f"{server.url}/bucket/many.zarr", cache_dir=cache, threads=1)["a"]["ct"]
    shards = len([path for path in (store / "a/ct/0/c").rglob("*") if path.is_file()])
    assert shards >= 4
    volume.read((0, 0, 0), 1)
    server.reset()
    server.faults(latency_s=0.3)
    assert identical(volume[:, 7, ::40], voxels[:, 7, ::40])
    tails = [r for r in server.requests() if "/0/c/" in r[0] and r[1].startswith("bytes=-")]
    assert len(tails) >= 3 and server.most_indices_under_way() >= 2


def test_a_server_is_asked_while_the_model_works(
    server: RemoteServer, local: Path, cache: Path
) -> None:
    """Issue 25: inference used a twentieth of the link."""
    volume = open_at(server, cache)["fast"]["ct"]
    seen: list[int] = []

    def model(patches: np.ndarray) -> np.ndarray:
        # The second batch is answered when what the last one needs has come.
        if len(seen) == 1:
            settle(server, seen[0])
        seen.append(len(server.requests()))
        return patches

    found = vq.infer(model, volume, PATCH, overlap=8, batch_size=2)
    assert identical(found[0], volume[...].astype("f4"))
    assert seen[1] == seen[-1] > seen[0] > 0
    assert_once(server)


def test_faults_change_no_voxel(server: RemoteServer, local: Path, cache: Path) -> None:
    server.faults(
        latency_s=0.02, error_rate=0.05, short_rate=0.05, wrong_length_rate=0.03, damage_rate=0.03
    )
    sampler = vq.UniformSampler(PATCH)
    expected = epoch(vq.open(local), sampler, patches_per_subject=30)
    assert_same(epoch(open_at(server, cache), sampler, patches_per_subject=30), expected)


def test_a_stalled_answer_is_given_up(server: RemoteServer, local: Path, cache: Path) -> None:
    volume = open_at(server, cache)["fast"]["ct"]
    server.faults(stalls=1)
    assert identical(volume.read((0, 0, 0), 30), vq.open(local)["fast"]["ct"].read((0, 0, 0), 30))


@pytest.mark.parametrize("faults", [{"fresh_tags": True}, {"no_versions": True}])
def test_servers_without_stable_versions_will_do(
    server: RemoteServer, local: Path, cache: Path, faults: dict
) -> None:
    server.faults(**faults)
    sampler = vq.UniformSampler(PATCH)
    expected = epoch(vq.open(local), sampler, patches_per_subject=8)
    assert_same(epoch(open_at(server, cache), sampler, patches_per_subject=8), expected)


def test_a_server_that_ignores_ranges_is_refused(server: RemoteServer, cache: Path) -> None:
    server.faults(ignores_ranges=True)
    volume = open_at(server, cache)["fast"]["ct"]
    with pytest.raises(vq.StorageError, match="ignores Range"):
        volume.read((0, 0, 0), 8)
    assert not [r for r in server.requests() if "/0/c/" in r[0] and r[2] > 1 << 20]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", "refuses access .403, AccessDenied.*address and its token"),
        (401, "", "asks for other credentials"),
        (400, "ExpiredToken", "expired.*open the store again"),
        (400, "AuthorizationHeaderMalformed", "AWS_REGION=eu-west-1"),
        (418, "", "answers 418"),
    ],
)
def test_refusals_say_what_to_do(
    server: RemoteServer, cache: Path, status: int, code: str, expected: str
) -> None:
    server.faults(status=status, code=code)
    with pytest.raises(vq.StorageError, match=expected) as error:
        vq.open(f"{server.url}/bucket/store.zarr?token=SECRET", cache_dir=cache)
    assert "SECRET" not in str(error.value)


def test_what_is_no_store_is_said(server: RemoteServer, local: Path, cache: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        vq.open(f"{server.url}/bucket/none.zarr", cache_dir=cache)
    assert isinstance(missing.value, vq.UsageError)
    page = local.parent / "page" / "zarr.json"
    page.parent.mkdir(exist_ok=True)
    page.write_text("<html>welcome</html>")
    with pytest.raises(vq.UsageError, match="not JSON") as error:
        vq.open(f"{server.url}/bucket/page", cache_dir=cache)
    assert not isinstance(error.value, FileNotFoundError)
    dead = server.url.rsplit(":", 1)[0] + ":9/store.zarr"
    for url, kind in [("ftp://host/x", vq.UsageError), (dead, vq.StorageError)]:
        with pytest.raises(kind):
            vq.open(url, cache_dir=cache)
    with pytest.raises(KeyError):
        open_at(server, cache)["nobody"]


def test_a_store_that_was_replaced_is_told(server: RemoteServer, local: Path, cache: Path) -> None:
    replaced = local.parent / "replaced.zarr"
    ingest(replaced)
    url = f"{server.url}/bucket/replaced.zarr"
    volumes = {codec: vq.open(url, cache_dir=cache)[codec]["ct"] for codec in CODECS}
    for volume in volumes.values():
        volume.read((0, 0, 0), 8)
    shutil.rmtree(replaced)
    ingest(replaced, seed=50)
    for volume in volumes.values():
        # Each reads as it was, from the cache, and nothing of the new one.
        assert volume.read((0, 0, 0), 8).size == 8**3
        with pytest.raises(vq.DataError, match="replaced.*open the store again"):
            volume.read((40, 60, 70), 30)
    again = vq.open(url, cache_dir=cache)
    for i, codec in enumerate(CODECS):
        assert identical(again[codec]["ct"][:], voxels(50 + i))


def test_a_small_cache_stays_small(server: RemoteServer, local: Path, cache: Path) -> None:
    sampler = vq.UniformSampler(PATCH)
    for bound, patches in ((0, 3), (300_000, 20)):
        expected = epoch(vq.open(local), sampler, patches_per_subject=patches)
        dataset = open_at(server, cache, cache_disk_bytes=bound)
        assert_same(epoch(dataset, sampler, patches_per_subject=patches), expected)
        dataset["fast"]["ct"].read((0, 0, 0), 8)
        used = sum(file.stat().st_blocks * 512 for file in cache.rglob("shards/*"))
        assert used <= bound + 65536


def test_a_damaged_chunk_in_the_cache_is_fetched_again(
    server: RemoteServer, local: Path, cache: Path
) -> None:
    expected = vq.open(local)["none"]["ct"][:]
    assert identical(open_at(server, cache)["none"]["ct"][:], expected)
    for file in cache.rglob("shards/*"):
        content = bytearray(file.read_bytes())
        content[100] ^= 1
        with open(file, "r+b") as out:
            out.write(content)
    server.reset()
    assert identical(open_at(server, cache, verify="never")["none"]["ct"][:], expected)
    assert 0 < chunk_bytes(server) < 1 << 20
    # What is no file of the cache is thrown away.
    for file in cache.rglob("shards/*"):
        os.truncate(file, file.stat().st_size // 2)
    assert identical(open_at(server, cache)["none"]["ct"][:], expected)


def test_what_arrives_damaged_twice_is_an_error(server: RemoteServer, cache: Path) -> None:
    volume = open_at(server, cache)["fast"]["ct"]
    volume.read((0, 0, 0), 8)
    server.faults(damage_rate=1.0)
    with pytest.raises(vq.DataError, match="crc32c"):
        volume[:]
    server.faults()
    volume[:]


READER = """
import sys, numpy as np, voxquarry as vq
dataset = vq.open(sys.argv[1], cache_dir=sys.argv[2], threads=2)
queue = vq.Queue(dataset, vq.UniformSampler(24), volumes=["ct"], batch_size=4,
                 seed=int(sys.argv[3]), patches_per_subject=60)
print("ready", flush=True)
print(sum(int(batch["ct"].astype("i8").sum()) for batch in queue), flush=True)
"""


def reader(server: RemoteServer, cache: Path, seed: int) -> subprocess.Popen[str]:
    url = f"{server.url}/bucket/store.zarr"
    command = [sys.executable, "-c", READER, url, str(cache), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def local_sum(local: Path, seed: int) -> int:
    queue = vq.Queue(
        vq.open(local),
        vq.UniformSampler(24),
        volumes=["ct"],
        batch_size=4,
        seed=seed,
        patches_per_subject=60,
    )
    return sum(int(batch["ct"].astype("i8").sum()) for batch in queue)


def test_processes_share_a_cache(server: RemoteServer, local: Path, cache: Path) -> None:
    readers = [reader(server, cache, seed) for seed in (1, 2, 1)]
    for seed, process in zip((1, 2, 1), readers, strict=True):
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and int(out.split()[-1]) == local_sum(local, seed)
    server.reset()
    assert int(reader(server, cache, 2).communicate(timeout=120)[0].split()[-1]) == local_sum(
        local, 2
    )
    assert chunk_bytes(server) == 0


def test_a_killed_reader_leaves_the_cache_right(
    server: RemoteServer, local: Path, cache: Path
) -> None:
    seed = int(os.environ.get("REMOTE_SEED", "0"))
    print("REMOTE_SEED", seed)
    draw = random.Random(seed)
    server.faults(latency_s=0.005)
    for kill in range(int(os.environ.get("REMOTE_KILLS", "6"))):
        process = reader(server, cache, kill % 3)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(draw.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    server.faults()
    dataset = open_at(server, cache)
    for i, codec in enumerate(CODECS):
        assert identical(dataset[codec]["ct"][:], voxels(i))
    for seed in range(3):
        out, _ = reader(server, cache, seed).communicate(timeout=120)
        assert int(out.split()[-1]) == local_sum(local, seed)


def test_a_forked_child_reads_on(server: RemoteServer, local: Path, cache: Path) -> None:
    volume = open_at(server, cache)["fast"]["ct"]
    volume.read((0, 0, 0), 8)
    expected = vq.open(local)["fast"]["ct"].read((30, 40, 50), 20)
    assert identical(in_child(lambda: volume.read((30, 40, 50), 20)), expected)
    assert identical(volume.read((30, 40, 50), 20), expected)


def test_a_pickled_store_is_opened_again_and_shows_no_token(
    server: RemoteServer, local: Path, cache: Path
) -> None:
    url = f"{server.url}/bucket/store.zarr"
    dataset = vq.open(f"{url}?token=SECRET", cache_dir=cache, cache_disk_bytes="64MiB")
    assert dataset.path == url
    assert "SECRET" not in repr(dataset) + repr(dataset["fast"]["ct"])
    again = pickle.loads(pickle.dumps(dataset))
    assert identical(again["fast"]["ct"][5], vq.open(local)["fast"]["ct"][5])
    assert all("token=SECRET" in path for path, _, _ in server.requests())
    assert not any(
        "SECRET" in str(file) or b"SECRET" in file.read_bytes()
        for file in cache.rglob("*")
        if file.is_file()
    )


def test_nothing_is_written_to_a_server(server: RemoteServer, cache: Path) -> None:
    url = f"{server.url}/bucket/store.zarr"
    grid = vq.GridSampler(PATCH)
    writes = [
        lambda: vq.ingest({"x": {"ct": voxels(0)}}, url, spacing=(1, 1, 1)),
        lambda: vq.Aggregator(grid, SIZE, channels=None, out=f"{url}/fast/pred"),
        lambda: vq.verify(url),
        lambda: vq.list_subjects(url),
    ]
    for write in writes:
        with pytest.raises(vq.UsageError, match="only read.*copy it to the server"):
            write()
    # Weight sums are computed and not kept.
    dataset = open_at(server, cache)
    sampler = vq.WeightedSampler(PATCH, weights="seg")
    assert sampler.locations(dataset["fast"], 3).shape == (3, 3)


def test_a_store_without_a_list_of_subjects(
    server: RemoteServer, local: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = local.parent / "unlisted.zarr"
    grid = vq.GridSampler(16)
    aggregator = vq.Aggregator(grid, (16, 16, 16), channels=None, out=store / "a b" / "pred")
    aggregator.add(np.ones((16, 16, 16), "f4"), (0, 0, 0))
    aggregator.finish()
    url = f"{server.url}/bucket/unlisted.zarr"
    with pytest.raises(vq.UsageError, match="voxquarry.list_subjects"):
        vq.open(url, cache_dir=cache)
    monkeypatch.setenv("AWS_ENDPOINT", server.url)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert list(vq.open("s3://bucket/unlisted.zarr", cache_dir=cache)) == ["a b"]
    vq.list_subjects(store)
    assert list(vq.open(url, cache_dir=cache)) == ["a b"]
    assert vq.open(url, cache_dir=cache)["a b"]["pred"][:].all()
    # A writer that publishes a subject keeps the list true.
    vq.ingest({"c": {"ct": voxels(1)}}, store, spacing=(1, 1, 1))
    aggregator = vq.Aggregator(grid, (16, 16, 16), channels=None, out=store / "d" / "pred")
    aggregator.add(np.ones((16, 16, 16), "f4"), (0, 0, 0))
    aggregator.finish()
    assert list(vq.open(url, cache_dir=cache)) == ["a b", "c", "d"]
    assert vq.verify(store)["subjects"] == 3
    shutil.rmtree(store / "c")
    assert vq.verify(store)["subjects"] == 2
    with pytest.raises(KeyError):
        vq.open(url, cache_dir=cache)["c"]
    vq.list_subjects(store)
    assert list(vq.open(url, cache_dir=cache)) == ["a b", "d"]


def test_a_bucket_is_read_with_credentials_of_the_environment(
    server: RemoteServer, local: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("[lab]\naws_access_key_id=ID\naws_secret_access_key=HUSH\n")
    monkeypatch.setenv("AWS_ENDPOINT", server.url)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    dataset = vq.open("s3://bucket/store.zarr", cache_dir=cache)
    assert identical(dataset["compact"]["ct"][3:9], vq.open(local)["compact"]["ct"][3:9])
    server.faults(status=403, code="SignatureDoesNotMatch")
    with pytest.raises(vq.StorageError, match="403, SignatureDoesNotMatch.*AWS_PROFILE") as error:
        vq.open("s3://bucket/store.zarr", cache_dir=cache)
    assert "HUSH" not in str(error.value)


def test_a_full_cache_disk_is_an_error(server: RemoteServer, cache: Path) -> None:
    dataset = open_at(server, cache)
    with room(10_000), pytest.raises(vq.StorageError, match="cannot write the cache"):
        dataset["none"]["ct"].read((0, 0, 0), 8)
    assert dataset["none"]["ct"].read((0, 0, 0), 8).size == 512
