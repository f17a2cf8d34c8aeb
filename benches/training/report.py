"""The results of a run: `training.json` with all measurements and `training.md` with tables.

The record of a part needs no schema: a list of dictionaries becomes a table with their keys as
columns; lists of numbers are shown as their median (least–greatest); other values become a table of
their own.
"""

import json
import statistics

from benches.compare import machine


def load(folder):
    """The record of earlier runs; each part has the conditions of its own run."""
    path = folder / "training.json"
    return json.loads(path.read_text()) if path.exists() else {"parts": {}}


def save(record, folder):
    """Writes both files, also of an incomplete run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    (folder / "training.md").write_text(markdown(record))
    return folder / "training.md"


def markdown(record):
    lines = ["# Training and inference: Voxquarry and other libraries", ""]
    lines += ["Measurements of several rounds are shown as median (least–greatest).", ""]
    verdicts = [verdict for part in record["parts"].values() for verdict in part["verdicts"]]
    if verdicts:
        lines += ["## Targets", "", "| figure | found | wanted | met |", "|---|---|---|---|"]
        lines += [
            f"| {v['figure']} | {v['found']} | {v['wanted']} | {'yes' if v['met'] else '**no**'} |"
            for v in verdicts
        ]
        lines.append("")
    for name, part in record["parts"].items():
        lines += [f"## {name}", "", *_part(part)]
    return "\n".join(lines)


def _part(part):
    if part.get("failure"):
        return [
            machine.sentence(part),
            "",
            "It failed:",
            "",
            "```",
            part["failure"].strip(),
            "```",
            "",
        ]
    lines, single = [part["title"], "", machine.sentence(part), ""], {}
    for key, value in part["record"].items():
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            lines += [f"### {key}", "", *_table(value), ""]
        else:
            single[key] = value
    if single:
        lines += [
            "| figure | |",
            "|---|---:|",
            *(f"| {key} | {_shown(value)} |" for key, value in single.items()),
            "",
        ]
    return lines


def _table(rows):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    numeric = {c for c in columns if all(not isinstance(row.get(c, 0), str) for row in rows)}
    head = [
        f"| {' | '.join(columns)} |",
        f"|{'|'.join('---:' if c in numeric else '---' for c in columns)}|",
    ]
    return head + [f"| {' | '.join(_shown(row.get(c)) for c in columns)} |" for row in rows]


def _shown(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, list | tuple) and value and all(isinstance(n, int | float) for n in value):
        if len(value) == 1:
            return _shown(value[0])
        return f"{_shown(statistics.median(value))} ({_shown(min(value))}–{_shown(max(value))})"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(part)}" for key, part in value.items())
    return str(value).replace("|", "/").replace("\n", " ")
