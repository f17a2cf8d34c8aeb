"""The results of a run: a JSON record with every round, tables in Markdown and a plot."""

import json
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from . import data, machine, targets
from .protocol import median_ratio

PACKAGES = (
    "voxquarry",
    "numpy",
    "blosc2",
    "nnunetv2",
    "tensorstore",
    "zarr",
    "zarrs",
    "wkw",
    "h5py",
    "nibabel",
    "indexed-gzip",
)


def new_record(arguments, nnunet_version):
    return {
        **machine.conditions(PACKAGES, {"nnunetv2": nnunet_version}),
        "arguments": arguments,
        "complete": False,
        "warm": [],
        "cold": [],
    }


def save(record, folder):
    """Writes `record.json`, `tables.md` and `plot.png`, also of an incomplete run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    (folder / "tables.md").write_text(markdown(record))
    plot(record, folder / "plot.png")
    return folder / "tables.md"


def markdown(record):
    lines = ["# Voxquarry and other systems", "", *_preamble(record)]
    verdicts = targets.verdicts(record)
    if verdicts:
        lines += ["## Targets", "", "| figure | found | wanted | met |", "|---|---|---|---|"]
        lines += [
            f"| {v.figure} | {v.found} | {v.wanted} | {'yes' if v.met else '**no**'} |"
            for v in verdicts
        ]
        lines.append("")
    for cell in record["warm"]:
        lines += [
            f"## {data.TITLES[cell['volume']]}, {cell['patch']}, warm",
            "",
            *_warm_table(cell),
            "",
        ]
    for cell in record["cold"]:
        lines += [
            f"## {data.TITLES[cell['volume']]}, {cell['patch']}, cold",
            "",
            *_cold_table(cell),
            "",
        ]
    if "conversion" in record:
        lines += ["## Converting a `.nii.gz` on all cores", "", *_conversion_table(record), ""]
    lines += _failures(record)
    return "\n".join(lines)


def _preamble(record):
    return [
        machine.sentence(record),
        "",
        "Patches per second are medians over the rounds; a ratio is the median of the ratios within"
        " each round (least–greatest).",
        "Voxquarry with two threads is compared with two processes of the others.",
        "",
    ]


def _warm_table(cell):
    lines = []
    ways = dict.fromkeys(row["way"] for row in cell["rows"])
    reference = {
        way: {
            name: _rates(cell, name, "1 thread" if way == "1 thread" else "2 processes")
            for name in (targets.BLOSC2, targets.MEMMAP)
        }
        for way in ways
    }
    head = (
        "| system | run as | patches/s | MB/s | ratio on disk"
        " | / nnU-Net's blosc2 | / numpy memmap |"
    )
    lines += [head, "|---|---|---:|---:|---:|---:|---:|"]
    for row in sorted(
        cell["rows"], key=lambda row: (list(ways).index(row["way"]), -_median(row["rates"]))
    ):
        if row["rates"]:
            rate = _median(row["rates"])
            ratio = cell["stores"].get(row["name"], {}).get("ratio")
            on_disk = f"{ratio:.2f}" if ratio else ""
            beside = (
                _show(median_ratio(row["rates"], reference[row["way"]][n]))
                for n in (targets.BLOSC2, targets.MEMMAP)
            )
            figures = f"{_rate(rate)} | {rate * cell['patch_bytes'] / 1e6:.0f} | {on_disk}"
            lines.append(f"| {row['name']} | {row['way']} | {figures} | {' | '.join(beside)} |")
    return lines


def _conversion_table(record):
    lines = ["| system | s | MiB in memory | MB on disk |", "|---|---:|---:|---:|"]
    for row in record["conversion"]["rows"]:
        seconds, peak = statistics.median(row["seconds"]), max(row["peak_bytes"]) / 2**20
        lines.append(f"| {row['name']} | {seconds:.2f} | {peak:.0f} | {row['bytes'] / 1e6:.1f} |")
    return lines


def _cold_table(cell):
    reference = _rates(cell, "tensorstore", "1 thread")
    lines = [
        "| system | patches/s | / tensorstore | page cache filled per patch, KiB"
        " | / compressed bytes of the chunks |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in sorted(cell["rows"], key=lambda row: -_median(row["rates"])):
        if row["rates"]:
            share = (
                f"{row['filled_bytes'] / row['encoded_bytes']:.2f}" if row["encoded_bytes"] else ""
            )
            beside = _show(median_ratio(row["rates"], reference))
            rate, filled = _rate(_median(row["rates"])), row["filled_bytes"] / 1024
            lines.append(f"| {row['name']} | {rate} | {beside} | {filled:.0f} | {share} |")
    left = max((row["left_bytes"] for row in cell["rows"]), default=0)
    return [
        *lines,
        "",
        f"After eviction at most {left} bytes of a system's files were still cached.",
    ]


def _failures(record):
    cells = [*record["warm"], *record["cold"]]
    failed = [(cell, row) for cell in cells for row in cell["rows"] if row["failure"]]
    if not failed:
        return []
    lines = [
        f"- {cell['volume']} {cell['patch']}, {row['name']}, {row['way']}: {_last(row)}"
        for cell, row in failed
    ]
    return ["## Did not take part", "", *dict.fromkeys(lines), ""]


def _last(row):
    return row["failure"].strip().splitlines()[-1]


def _rates(cell, name, way):
    return next(
        (row["rates"] for row in cell["rows"] if row["name"] == name and row["way"] == way), []
    )


def _median(rates):
    return statistics.median(rates) if rates else 0.0


def _rate(rate):
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2f}"


def _show(ratio):
    return f"{ratio[0]:.2f} ({ratio[1]:.2f}–{ratio[2]:.2f})" if ratio else ""


def plot(record, path):
    """Plots patches per second, one thread, warm: a panel for each patch size of one volume."""
    volume = next((cell["volume"] for cell in record["warm"]), None)
    cells = [cell for cell in record["warm"] if cell["volume"] == volume][:3]
    if not cells:
        return
    names = {
        row["name"]
        for cell in cells
        for row in cell["rows"]
        if row["way"] == "1 thread" and row["rates"]
    }
    order = sorted(names, key=lambda name: _median(_rates(cells[0], name, "1 thread")))
    figure, panels = plt.subplots(
        1, len(cells), figsize=(3.2 + 3.1 * len(cells), 0.9 + 0.3 * len(order)), sharey=True
    )
    for cell, panel in zip(cells, [panels] if len(cells) == 1 else panels, strict=True):
        rates = [_median(_rates(cell, name, "1 thread")) for name in order]
        colours = ["#d1495b" if name.startswith("voxquarry") else "#8d99ae" for name in order]
        bars = panel.barh(order, rates, color=colours)
        panel.bar_label(
            bars, [_rate(rate) if rate else "" for rate in rates], padding=3, fontsize=8
        )
        panel.set_title(cell["patch"], fontsize=10)
        panel.margins(x=0.2)
        panel.set_xticks([])
        for side in ("top", "right", "bottom"):
            panel.spines[side].set_visible(False)
    figure.suptitle(
        f"Random patches per second, one thread, warm: {data.TITLES[volume]}", fontsize=11
    )
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
