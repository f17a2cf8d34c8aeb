"""Memory and descriptors that cannot be had are exceptions, never the end of the process."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from helpers import smooth, store_of

import voxquarry as vq

LIMITED = """
import resource, sys
import numpy as np
import voxquarry as vq
store = sys.argv[1]
dataset = vq.open(store, threads=1)
subject = dataset["case01"]
volume = subject["ct"]
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
def refused(call, remedy):
    try:
        call()
    except MemoryError as error:
        assert isinstance(error, vq.Error), error
        assert "iB" in str(error) or "address space" in str(error), error
        assert remedy in str(error), error
    else:
        raise AssertionError("there was memory")
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("limits")
    return Path(store_of(folder, abs(smooth((32, 32, 32)))).subject.dataset.path)


READ, DRAW, GRID = "smaller regions, or fewer patches", "fewer samples", "larger patches"


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        ("vq.UniformSampler(8).locations(subject, (1 << 32) - 1)", DRAW),
        ("vq.WeightedSampler(8, 'ct').locations(subject, (1 << 32) - 1)", DRAW),
        ("vq.GridSampler(1).locations((1 << 11, 1 << 11, 1 << 11))", GRID),
        ("vq.GridSampler(1).locations((1 << 40, 1, 1))", GRID),
        ("volume.read((0, 0, 0), (1 << 11, 1 << 11, 1 << 10), padding=0)", READ),
        ("volume.read((0, 0, 0), 1 << 40, padding=0)", READ),
        ("volume.scaled.read((0, 0, 0), (1 << 11, 1 << 11, 1 << 10), padding='edge')", READ),
        ("volume.read_batch(np.zeros((1 << 20, 3), np.int64), 32)", READ),
        ("volume.read_affine(np.eye(4), (1 << 11, 1 << 11, 1 << 10))", READ),
        ("volume.at(1e-3).read((0, 0, 0), (1 << 11, 1 << 11, 1 << 10))", READ),
        ("vq.Aggregator(vq.GridSampler(64), (1 << 13, 1 << 12, 1 << 12))", "(out="),
        (
            "next(iter(vq.Queue(dataset, vq.UniformSampler(32), volumes=['ct'], batch_size=1 << 17,"
            " patches_per_subject=1 << 20, buffer_bytes='1TiB')))",
            "smaller batches",
        ),
    ],
)
def test_memory_that_cannot_be_had_is_a_memory_error(store: Path, call: str, remedy: str) -> None:
    """The error says how this call can do with less."""
    asked = f"refused(lambda: {call}, {remedy!r})\nvolume.read((0, 0, 0), 8)\n"
    program = LIMITED + textwrap.dedent(asked)
    child = subprocess.run(
        [sys.executable, "-c", program, str(store)], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr


def test_links_are_followed_on_request(store: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "zarr.json").write_bytes((store / "zarr.json").read_bytes())
    (linked / "case01").symlink_to(store / "case01")
    with pytest.raises(vq.DataError, match="link"):
        vq.open(linked)["case01"]
    followed = vq.open(linked, follow_links=True)["case01"]["ct"]
    assert (followed[:] == vq.open(store)["case01"]["ct"][:]).all()


FEW_FILES = """
import faulthandler, os, resource, sys
faulthandler.dump_traceback_later(60, exit=True)
import numpy as np
import voxquarry as vq
store, source, work, spare, call = sys.argv[1:]
dataset = vq.open(store, threads=2)
volume = dataset["case01"]["ct"]
# The folder that is listed is itself open.
count = len(os.listdir("/proc/self/fd")) - 1 + int(spare)
resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
def model(patches):
    return patches.astype(np.float32)
try:
    eval(call)
except vq.StorageError as error:
    assert f"this process may have {count} files open (ulimit -n)" in str(error), error
    assert "allow more" in str(error) and error.errno == 24, error
    print("refused")
"""


@pytest.mark.parametrize(
    ("call", "is_refused"),
    [
        ("[vq.open(store)[name]['ct'] for name in vq.open(store)]", True),
        ("volume[:]", False),
        ("vq.WeightedSampler(8, 'ct').locations(dataset['case01'], 9)", False),
        ("list(vq.Queue(dataset, vq.UniformSampler(8), volumes=['ct'], batch_size=2))", False),
        ("vq.infer(model, volume, 16)", False),
        ("vq.infer(model, volume, 16, out=f'{store}/case01/p{spare}', resume='a')", True),
        ("vq.infer(model, volume, 16, out=f'{work}/new.zarr/a/p{spare}')", True),
        ("vq.verify(store)", False),
        ("vq.ingest([source], work + '/a.zarr', patch_size=8)", True),
        ("vq.export(volume, f'{work}/{spare}.hdr')", True),
    ],
)
def test_few_descriptors_are_an_error_in_time(
    store: Path, tmp_path: Path, call: str, is_refused: bool
) -> None:
    source = tmp_path / "a.nii"
    vq.export(vq.open(store)["case01"]["ct"], source)
    refusals = 0
    for spare in (0, 1, 2, 3, 5, 8, 20):
        words = [str(store), str(source), str(tmp_path), str(spare), call]
        child = subprocess.run(
            [sys.executable, "-c", FEW_FILES, *words], capture_output=True, text=True, check=False
        )
        assert child.returncode == 0, (spare, child.stdout, child.stderr)
        refusals += "refused" in child.stdout
    assert 0 < refusals < 7 if is_refused else refusals < 3, refusals
