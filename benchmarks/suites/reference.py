"""Reference results: collect run directories into one small file, and write tables of README and docs from such files.

python -m benchmarks.suites.reference collect results/reference/NAME.json RUN_DIR... --command "harness run ..."
python -m benchmarks.suites.reference readme
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

#: the checkout: these commands are run from its top folder
ROOT = Path.cwd()
REFERENCE = ROOT / "results" / "reference"
#: iterations whose mean training loss is reported
LAST = 10


def collect(out: Path, directories: list[Path], command: str, note: str) -> None:
    """Write summaries, environments and mean training losses of the last iterations of some runs."""
    runs = []
    for directory in directories:
        summary = json.loads((directory / "summary.json").read_text())
        summary["run_dir"] = directory.name
        losses = [json.loads(line)["loss"] for line in (directory / "metrics.jsonl").read_text().splitlines()]
        environment = json.loads((directory / "environment.json").read_text())
        runs.append({f"train_loss_last_{LAST}": statistics.fmean(losses[-LAST:]), "summary": summary})
        runs[-1]["environment"] = environment
    runs.sort(key=lambda run: (run["summary"]["inner_steps"], run["summary"]["seed"]))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"command": command, "note": note, "runs": runs}, indent=1) + "\n")


def _read(name: str) -> Any:
    return json.loads((REFERENCE / name).read_text())


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def glyphs() -> str:
    """The result of the README's first command."""
    s, *others = (run["summary"] for run in _read("glyphs.json")["runs"])
    accuracy, counts, seconds = s["accuracy"], s["counts"], s["seconds"]
    rows = [
        [f"accuracy on {accuracy['tasks']} held-out tasks", f"{accuracy['mean']:.1%} ± {accuracy['ci95']:.1%}"],
        ["with other seeds", ", ".join(f"{other['accuracy']['mean']:.1%}" for other in others)],
        ["before adaptation", f"{accuracy['before_adaptation']:.1%} ± {accuracy['before_adaptation_ci95']:.1%}"],
        ["n_w, n_φ", f"{s['n_w']:,}, {s['n_phi']:,}"],
        ["gradient entries", f"{counts['gradient_entries']:,}"],
        ["second-order entries", f"{counts['second_order_entries']:,}"],
        ["Hessian-vector, mixed products", f"{counts['hessian_vector_products']:,}, {counts['mixed_products']:,}"],
        ["seconds of training", f"{seconds['train']:.1f}"],
        ["shared features", f"{seconds['features']:.1f}"],
        ["inner gradients", f"{seconds['inner_gradient']:.2f}"],
        ["outer gradients", f"{seconds['outer_gradient']:.1f}"],
        ["second order", f"{seconds['second_order']:.2f}"],
        ["outer update", f"{seconds['outer_update']:.2f}"],
        ["peak memory", f"{s['peak_memory_bytes'] / 2**20:.0f} MiB"],
    ]
    name = f"{s['iterations']} meta-iterations of {s['meta_batch']} tasks, N = {s['inner_steps']}, seed {s['seed']}"
    return _markdown([name, ""], rows)


def fc100() -> str:
    """Mean training loss of the last iterations for each N, over seeds."""
    document = _read("fc100.json")
    by_steps: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for run in document["runs"]:
        by_steps[run["summary"]["inner_steps"]].append(run)
    rows = []
    for steps, runs in sorted(by_steps.items()):
        losses = [run[f"train_loss_last_{LAST}"] for run in runs]
        accuracies = [run["summary"]["accuracy"]["mean"] for run in runs]
        rows.append(
            [
                str(steps),
                ", ".join(f"{loss:.2f}" for loss in losses),
                f"{statistics.fmean(losses):.2f}",
                ", ".join(f"{accuracy:.1%}" for accuracy in accuracies),
            ]
        )
    head = ["N", f"training loss, last {LAST} of 60 iterations, each seed", "mean", "held-out accuracy"]
    return _markdown(head, rows) + f"\n\n`{document['command']}`"


def omniglot() -> str:
    """One sentence about the Omniglot run."""
    document = _read("omniglot.json")
    s = document["runs"][0]["summary"]
    accuracy = s["accuracy"]
    return (
        f"On real data, MAML reaches {accuracy['mean']:.1%} ± {accuracy['ci95']:.1%} on held-out Omniglot alphabets "
        f"(5-way 1-shot) after {s['iterations']} meta-iterations of {s['meta_batch']} tasks "
        f"({document['note']}): `{document['command']}`."
    )


def speed() -> str:
    """The speed table as it was measured."""
    return _markdown(["", "measured"], [list(line) for line in _read("speed-cpu.json")["table"]])


def peers() -> str:
    """Milliseconds of a meta-gradient by each library, and by how many times native is faster than the fastest peer."""
    by_cell: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in _read("speed-cpu.json")["peers"]["rows"]:
        if row["status"] == "ok" and row["strategy"] != "vmapped":
            seconds = by_cell[row["algorithm"], row["geometry"]]
            seconds[row["engine"]] = min(row["meta_gradient"]["median"], seconds.get(row["engine"], math.inf))
    names = sorted({name for seconds in by_cell.values() for name in seconds} - {"native"})
    rows = []
    for (algorithm, geometry), seconds in by_cell.items():
        title = f"{algorithm.upper()} {geometry}" if algorithm == "anil" else algorithm.upper()
        times = [f"{1e3 * seconds[name]:.0f}" if name in seconds else "no such" for name in ("native", *names)]
        fastest = min(value for name, value in seconds.items() if name != "native")
        rows.append([title, *times, f"{fastest / seconds['native']:.1f}"])
    return _markdown(["ms a meta-gradient, N = 5", "this harness", *names, "times the fastest"], rows)


def _table(report: str, name: str) -> list[dict[str, Any]]:
    """The rows of one table of a report, by column."""
    tables = {table["name"]: table for table in _read(f"{report}/tables.json")["tables"]}
    columns = [column.removesuffix(" (0 to 1)") for column in tables[name]["columns"]]
    return [dict(zip(columns, row, strict=True)) for row in tables[name]["rows"]]


def _ends(row: dict[str, Any], name: str) -> str:
    """An interval as text, from its two numbers; reports of before have the text alone."""
    if (text := row.get(f"{name}, 95 %")) is not None:
        return str(text)
    low, high = (_number(row, f"{name}, 95 % {end}") for end in ("low", "high"))
    return "one seed" if low == high == "unknown" else f"{low} to {high}"


def _number(row: dict[str, Any], name: str) -> str:
    """A cell as text; an infinite one is empty, and says so beside it."""
    return "∞" if row.get(f"{name}, why empty") == "infinite" else _short(row.get(name))


def factors() -> str:
    """By how many times ANIL needs fewer evaluations than MAML on quadratics: measured beside predicted."""
    rows = [
        [
            str(row["N"]),
            row["target"],
            *(cell for kind in ("gradient", "second-order") for cell in _factor(row, kind)),
            f"{_short(row['ANIL loss'])}, {_short(row['MAML loss'])}",
        ]
        for row in _table("table2-quadratic", "factors")
        if not row.get("compares nothing, since")
    ]
    head = ["N", "until", "gradient entries", "predicted", "at equal K", "second-order entries"]
    return _markdown([*head, "predicted", "at equal K", "loss there: ANIL, MAML"], rows)


def _factor(row: dict[str, Any], kind: str) -> list[str]:
    bound = f"{row['the factors are']} " if row.get("the factors are") else ""
    measured = f"{bound}{_number(row, f'{kind} factor')} ({_ends(row, kind)})"
    return [measured, _short(row[f"{kind}, predicted"]), _short(row[f"{kind}, at equal K"])]


#: the reports in the reference whose claims the pages show, and what they are called
REPORTS = {
    "theorem1-quadratic": "quadratics, SGD",
    "paper/batches-quadratic": "quadratics, SGD, by B",
    "paper/theorem2-sinusoid": "sine waves, SGD",
    "table2-quadratic": "quadratics, Adam",
    "fc100-cpu": "FC100",
}


def claims() -> str:
    """The claims that the reference runs decide, and how many they do not; seconds there are of a shared machine."""
    rows, undecided = [], 0
    for report, name in REPORTS.items():
        for row in _table(report, "claims"):
            if "seconds" in row["claim"] or row["detail"].startswith("missing: "):
                continue
            if row["verdict"] == "undecided":
                undecided += 1
                continue
            cells = [row["claim"], row["verdict"], row["95 % interval"], name, row["detail"].partition(";")[0]]
            rows.append([*cells, (row.get("the theorem's conditions") or "").partition(":")[0].removesuffix(".")])
    head = ["claim", "verdict", "statistic (95 % interval)", "on", "where", "conditions"]
    found = _markdown(head, rows).replace("---:", "---")
    rest = f"Of those that have runs, the other {undecided} stay undecided; the reports say why, one by one."
    return f"{found}\n\n{rest} Seconds, which are in them too, are those of a shared machine."


def refuted() -> str:
    """The claims that the reference runs refute, seconds apart: docs/findings.md has a paragraph for each."""
    rows = [
        [row["claim"], name, row["95 % interval"], row["detail"]]
        for report, name in REPORTS.items()
        for row in _table(report, "claims")
        if row["verdict"] == "refuted" and "seconds" not in row["claim"]
    ]
    return _markdown(["refuted", "on", "statistic (95 % interval)", "numbers"], rows).replace("---:", "---")


def listed() -> str:
    """The list of claims, a table for each part of the paper."""
    from harness.report.findings.entries import listed as every

    parts: dict[str, list[list[str]]] = defaultdict(list)
    for entry in every():
        says = f"{entry.where}: {entry.says}"
        parts[entry.section].append([entry.name, says, entry.H0, entry.held, entry.refuted])
    head = ["claim", "in the paper", "where it just does not hold", "held where", "refuted where"]
    return "\n\n".join(
        f"### {section}\n\n{_markdown(head, [_cells(row) for row in rows]).replace('---:', '---')}"
        for section, rows in parts.items()
    )


def _cells(row: list[str]) -> list[str]:
    """Bars of a norm do not end a cell."""
    return [cell.replace("|", "\\|") for cell in row]


def tuned() -> str:
    """Held-out accuracy of each algorithm at its default and at its tuned setting."""
    accuracy = _table("tuned-glyphs", "accuracy")
    rows = []
    for study in _table("tuned-glyphs", "studies"):
        cells = [
            f"{_short(row['accuracy'])} ({_ends(row, 'accuracy')})"
            for label in ("default", "tuned")
            for row in accuracy
            if row["group"].startswith(f"{study['method']} (") and row["group"].endswith(f", {label})")
        ]
        rows.append([study["method"], *cells, study["best setting"]])
    return _markdown(["", "default setting", "tuned setting", "which is"], rows)


def _short(value: float | str | None) -> str:
    if value is None:
        return "unknown"
    return "∞" if value == "inf" else f"{value:.3g}"


def pages() -> list[Path]:
    """Every page that may have a generated part."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """``text`` with every generated part replaced by what the reference files say."""
    for make in (glyphs, fc100, factors, claims, refuted, listed, omniglot, tuned, speed, peers):
        name = make.__name__
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda match, make=make: f"{match[1]}{make()}\n{match[2]}", text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="which")
    collecting = commands.add_parser("collect")
    collecting.add_argument("out", type=Path)
    collecting.add_argument("runs", nargs="+", type=Path)
    collecting.add_argument("--command", required=True)
    collecting.add_argument("--note", default="")
    commands.add_parser("readme")
    arguments = parser.parse_args()
    if arguments.which == "collect":
        collect(arguments.out, arguments.runs, arguments.command, arguments.note)
    else:
        for page in pages():
            page.write_text(filled(page.read_text()))
