"""Runs `voxquarry demo` on a real image, compares with nibabel and prints the measurements.

The image is the MNI152 T1 in the nilearn wheel; its grey-matter map becomes the label map. The
wheel is downloaded once, without dependencies, into the user's cache folder. Without a network, the
command's built-in phantom is used.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nibabel
import numpy as np

NILEARN = "0.12.1"
IN_WHEEL = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
PATCH = 96
REPETITIONS = 7


def say(text: str) -> None:
    print(text, flush=True)


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "voxquarry"


def fetch_images() -> tuple[Path, Path] | None:
    """T1 and grey-matter map from the wheel; None if it cannot be downloaded."""
    names = {f"mni152-{name}.nii.gz": IN_WHEEL.format(name) for name in ("t1", "gm")}
    images = fetch_from_wheel("nilearn", NILEARN, names)
    return images and (images[0], images[1])


def fetch_from_wheel(
    package: str, version: str, names: dict[str, str], *options: str
) -> list[Path] | None:
    """Files of a package's wheel, which is downloaded once, without what it needs; None if it
    cannot be.

    Args:
        package, version: What is asked for.
        names: The name of each file in the cache folder, and its path in the wheel.
        options: More options of ``pip download``.
    """
    folder = cache_folder() / f"{package}-{version}"
    files = [folder / name for name in names]
    if all(file.is_file() for file in files):
        return files
    say(f"downloading the wheel of {package} {version}, for {', '.join(names)}")
    download = folder / f"download-{os.getpid()}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary", ":all:", "--dest", str(download), *options]
    try:
        # Few retries and a short timeout, so that the demo starts soon without a network.
        subprocess.run(
            [*pip, "--retries", "1", "--timeout", "15", f"{package}=={version}"],
            check=True,
            timeout=90,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        (wheel,) = download.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for file, member in zip(files, names.values(), strict=True):
                unpacked = download / file.name
                unpacked.write_bytes(archive.read(member))
                unpacked.replace(file)
    except subprocess.SubprocessError as error:
        output = getattr(error, "stderr", None) or str(error).encode()
        reason = output.decode(errors="replace").strip().splitlines()[-1]
        say(f"it cannot be downloaded: {reason}")
        return None
    finally:
        shutil.rmtree(download, ignore_errors=True)
    return files


def label_map(t1: Path, grey_matter: Path, folder: Path) -> Path:
    """The grey-matter map as labels 0 and 1, on the grid of the T1."""
    image, grey = nibabel.load(t1), nibabel.load(grey_matter)
    if image.shape != grey.shape or not np.allclose(image.affine, grey.affine):
        sys.exit(f"error: {grey_matter} is not on the grid of {t1}")
    values = grey.get_fdata()
    half = values.max() / 2
    say(
        f"the grey-matter map contains probabilities, 0 to {values.max():g}: "
        f"voxels above {half:g} become label 1, {np.mean(values > half):.1%} of all"
    )
    labels = nibabel.Nifti1Image((values > half).astype(np.uint8), image.affine)
    path = folder / "mni152-labels.nii.gz"
    nibabel.save(labels, path)
    return path


def run_demo(voxquarry: Path, folder: Path, inputs: list[str]) -> dict:
    command = [str(voxquarry), "demo", "--json", "--dir", str(folder), *inputs]
    # The command writes its text to standard error, which is joined with our output.
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=sys.stdout.fileno())
    if not done.stdout:
        sys.exit(done.returncode or 1)
    return json.loads(done.stdout)


def nibabel_seconds(image: Path, size: list[int]) -> float:
    """Median time for a patch without a store: load the file and crop."""
    random = np.random.default_rng(0)
    times = []
    for _ in range(REPETITIONS):
        begin = time.perf_counter()
        voxels = np.asanyarray(nibabel.load(image).dataobj)
        # The command's axes are z, y, x; nibabel's are x, y, z.
        starts = [random.integers(n - p + 1) for n, p in zip(voxels.shape, size[::-1], strict=True)]
        crop = tuple(slice(s, s + p) for s, p in zip(starts, size[::-1], strict=True))
        patch = np.ascontiguousarray(voxels[crop])
        times.append(time.perf_counter() - begin)
        assert patch.shape == tuple(size[::-1])
    return statistics.median(times)


def differences(original: Path, exported: Path) -> list[str]:
    """Names what differs between the two files, according to nibabel."""
    a, b = nibabel.load(original), nibabel.load(exported)
    raw = [np.asanyarray(image.dataobj.get_unscaled()) for image in (a, b)]
    scaled = [image.get_fdata() for image in (a, b)]
    checks = {
        "raw data": raw[0].shape == raw[1].shape and np.array_equal(*raw),
        "scaled data": scaled[0].shape == scaled[1].shape
        and np.array_equal(*scaled, equal_nan=True),
        "affine": np.array_equal(a.affine, b.affine),
        "zooms": a.header.get_zooms() == b.header.get_zooms(),
        "dtype": a.get_data_dtype() == b.get_data_dtype(),
        "units": a.header.get_xyzt_units() == b.header.get_xyzt_units(),
    }
    return [what for what, equal in checks.items() if not equal]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voxquarry", type=Path, required=True, help="the command")
    parser.add_argument("--dir", type=Path, required=True, help="folder for the demo's files")
    arguments = parser.parse_args()

    # The command replaces its folder, so the labels are kept beside it.
    arguments.dir.mkdir(parents=True, exist_ok=True)
    images = fetch_images()
    if images is None:
        say("without a network: using a computed phantom instead of the real image")
        inputs = []
    else:
        labels = label_map(*images, arguments.dir)
        inputs = ["--image", str(images[0]), "--labels", str(labels)]
    report = run_demo(arguments.voxquarry, arguments.dir / "run", inputs)

    image, exported = Path(report["image"]), Path(report["export"]["path"])
    say(f"loading the file with nibabel for a patch, {REPETITIONS} times")
    per_patch = nibabel_seconds(image, report["patches"]["size"])
    say("comparing the exported file with the original, with nibabel")
    unequal = differences(image, exported)
    if unequal:
        say(f"error: they differ in {', '.join(unequal)}")
    sliding, patches = report["sliding_window"], report["patches"]
    equal = not unequal and report["export"]["equal"]

    size = " x ".join(map(str, patches["size"]))
    what = "a phantom" if report["phantom"] else "the MNI152 T1"
    shape = " x ".join(map(str, report["shape"]))
    say("")
    say(f"image                  {what}, {shape} {report['dtype']}")
    say(
        f"random {size}   {patches['per_second']:.0f} patches per second, "
        f"{patches['mb_per_second']:.0f} MB/s"
        f" ({patches['uncached_per_second']:.0f} without a cache)"
    )
    say(f"nibabel, per patch     {1000 * per_patch:.1f} ms, {1 / per_patch:.1f} patches per second")
    say(f"speed-up               {per_patch * patches['per_second']:.0f} times")
    say(f"ratio on disk          {report['ingest']['ratio']:.2f}")
    say(
        f"sliding window         {sliding['seconds']:.2f} s for {sliding['patches']} patches,"
        " hann, overlap half"
    )
    say(f"max difference         {sliding['max_difference']:g}")
    say(f"store verified         {'yes' if report['verify']['ok'] else 'NO'}")
    say(f"export equal           {'yes' if equal else 'NO'}")
    say(f"picture                {report['picture']}")
    return 0 if equal and sliding["equal"] and report["verify"]["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
