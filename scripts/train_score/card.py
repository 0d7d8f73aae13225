"""Writes the figures of evaluate.py into the model card, and draws its plot.

python scripts/train_score/card.py figures.json docs/model-card.md docs/model-card.svg [--runs NAME=history.jsonl ...]
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

REQUIRED = (
    # figure, where it lies, required, aim, higher is better
    ("SROCC per clip", ("all", "srocc"), 0.90, 0.93),
    ("the same, real motion only", ("origin", "real", "srocc"), 0.84, 0.90),
    ("RMSE, VMAF points", ("all", "rmse"), 9.5, 7.0),
    ("mean SROCC within a content", ("all", "within"), 0.93, 0.96),
    ("margin over BRISQUE, SROCC", ("margin",), 0.2, 0.3),
    ("fault kinds, macro F1", ("macro",), 0.75, 0.85),
)
KINDS = ("x264", "x265", "vp9", "av1", "mpeg", "rescale", "blur", "noise")


def _at(report: dict[str, Any], path: tuple[str, ...]) -> float:
    value: Any = report
    for name in path:
        value = value[name]
    return float(value)


def _mark(good: bool) -> str:
    return "yes" if good else "**no**"


def required(report: dict[str, Any]) -> list[str]:
    """Return the table of what was asked for, and whether it was reached."""
    lines = ["| figure | this model | required | aim | reached |", "|---|---|---|---|---|"]
    for name, path, least, aim in REQUIRED:
        value = _at(report, path)
        reached = value <= least if "RMSE" in name else value >= least
        lines.append(f"| {name} | {value:.2f} | {least} | {aim} | {_mark(reached)} |" if "RMSE" in name else
                     f"| {name} | {value:.3f} | {least} | {aim} | {_mark(reached)} |")  # fmt: skip
    worst = min(KINDS, key=lambda k: report["kind"][k]["srocc"])
    low = report["kind"][worst]["srocc"]
    lines.append(
        f"| SROCC of the worst kind of {len(KINDS)} ({worst}) | {low:.3f} | 0.8 | 0.88 | {_mark(low >= 0.8)} |"
    )
    bias = report["kind"]["pristine"]["bias"]
    lines.append(f"| pristine clips, score minus VMAF | {bias:+.1f} | -4..+2 | -2..+1 | {_mark(-4 <= bias <= 2)} |")
    inside = report["all"]["inside"]
    lines.append(f"| truths within the 80 % bounds | {inside:.0%} | 80 % | | {_mark(inside >= 0.77)} |")
    return lines


def tellings(report: dict[str, Any]) -> list[str]:
    """Return what the bits are worth: the figures with them, without, and with those of another encode."""
    told = {
        "the clip's own bits (pristine and unencoded ones: of a master)": report,
        "none: `score_pixels`": report["pixels"],
        "every clip encoded again at a high bitrate": report["masters"],
    }
    lines = [
        f"| what the model is told | SROCC | real motion | within a content | RMSE | {' | '.join(KINDS)} |",
        "|---" * (5 + len(KINDS)) + "|",
    ]
    for name, part in told.items():
        kinds = {**part["kind"], "mpeg": part["mpeg"]}
        each = " | ".join(f"{kinds[k]['srocc']:.2f}" for k in KINDS)
        every, real = part["all"], part["origin"]["real"]
        lines.append(f"| {name} | {every['srocc']:.3f} | {real['srocc']:.3f} | {every['within']:.3f} | "
                     f"{every['rmse']:.1f} | {each} |")  # fmt: skip
    return lines


def table(report: dict[str, Any]) -> str:
    """Return all figures as Markdown."""
    every = report["all"]
    lines = [
        f"Version {report['version']}: {every['clips']} clips of {every['contents']} contents from {report['groups']} "
        f"pictures or films ({report['split']} split).",
        "",
        *required(report),
        "",
        f"SROCC per clip, 95 % interval: {report['interval'][0]:.2f}..{report['interval'][1]:.2f}; BRISQUE "
        f"{every['brisque']:.2f} ({report['brisque_interval'][0]:.2f}..{report['brisque_interval'][1]:.2f}), within a "
        f"content {report['brisque_within']:.2f}. PLCC {report['plcc']:.3f}. Mean error {every['bias']:+.1f}. "
        f"Mean width of the bounds {every['width']:.0f} points. {every['strange']:.1%} of these clips count as out of "
        f"scope.",
    ]
    if report["niqe_clips"] >= 50:
        lines += ["", f"NIQE on {report['niqe_clips']} of the clips: {every['niqe']:.2f}; this model on the same: "
                  f"{report['beside_niqe']:.2f}."]  # fmt: skip
    if "against" in report:
        other = report["against"]
        gain, less = other["srocc_gain"], other["rmse_gain"]
        lines += [
            "",
            f"Against version {other['version']} on the same clips: SROCC {every['srocc']:.3f}, was "
            f"{other['srocc']:.3f} ({gain[0]:+.3f}..{gain[2]:+.3f}); RMSE {every['rmse']:.1f}, was {other['rmse']:.1f} "
            f"({less[0]:+.1f}..{less[2]:+.1f}; 95 % intervals of the difference).",
        ]
    if "int8" in report:
        narrow = report["int8"]
        lines += ["", f"INT8: SROCC {narrow['srocc']:.3f} on these clips, RMSE {narrow['rmse']:.1f}."]
    if "pixels" in report:
        lines += ["", *tellings(report)]
    head = ["SROCC", "within a content", "RMSE", "mean error", "inside the bounds", "BRISQUE"]

    def row(name: str, f: dict[str, Any]) -> str:
        return (f"| {name} | {f['clips']} | {f['contents']} | {f['srocc']:.2f} | {f['within']:.2f} | {f['rmse']:.1f} | "
                f"{f['bias']:+.1f} | {f['inside']:.0%} | {f['brisque']:.2f} |")  # fmt: skip

    for title, part in (("by source", report["origin"]), ("by degradation", report["kind"])):
        lines += ["", f"| {title} | clips | contents | {' | '.join(head)} |", "|---" * 9 + "|"]
        lines += [row(name, f) for name, f in part.items()]
    lines += ["", "| fault (per frame, at 0.5) | cases | precision | recall | F1 |", "|---|---|---|---|---|"]
    lines += [
        f"| {k} | {f['cases']} | {f['precision']:.2f} | {f['recall']:.2f} | {f['f1']:.2f} |"
        for k, f in report["faults"].items()
    ]
    lines += [
        "",
        f"Another set of positions in the same frame moves a frame's score by {report['positions']:.1f} points on "
        f"average, the next instead of the previous neighbour by {report['neighbour']:.1f}.",
        "",
        "Worst contents: "
        + ", ".join(
            f"{name} (RMSE {f['rmse']:.0f}, mean error {f['bias']:+.0f})"
            for name, f in sorted(report["content"].items(), key=lambda item: -item[1]["rmse"])[:8]
        )
        + ".",
    ]
    return "\n".join(lines).replace("nan", "-")


def plot(report: dict[str, Any], runs: dict[str, Path], target: Path) -> None:
    """Draw scatter, errors by kind and by content, learning curves and calibration, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "vpipe", "svg.fonttype": "none", "font.size": 8}  # text as text: smaller
    import matplotlib.pyplot as plt

    clips = {name: np.array(values) for name, values in report["clips"].items()}
    truth, mine, kinds = clips["truth"], clips["mine"], clips["kind"]
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.6), layout="constrained")
    colours = plt.get_cmap("tab20")
    for index, kind in enumerate(np.unique(kinds)):
        rows = kinds == kind
        style = {"s": 5, "color": colours(index % 20), "label": kind, "linewidths": 0, "rasterized": True}
        axes[0, 0].scatter(truth[rows], mine[rows], **style)
        axes[0, 1].scatter(truth[rows], clips["brisque"][rows], **style)
    axes[0, 0].plot([0, 100], [0, 100], color="grey", linewidth=0.8)
    axes[0, 0].set(xlabel="VMAF", ylabel="predicted", title="this model, contents it never saw", ylim=(0, 101))
    axes[0, 0].legend(fontsize=5, loc="upper left", markerscale=2, ncols=2)
    axes[0, 1].set(xlabel="VMAF", ylabel="minus BRISQUE", title="BRISQUE, the same clips")
    names = list(report["kind"])
    errors = [mine[kinds == n] - truth[kinds == n] for n in names]
    axes[0, 2].boxplot(errors, orientation="horizontal", tick_labels=names, showfliers=False, widths=0.6)
    axes[0, 2].axvline(0, color="grey", linewidth=0.8)
    axes[0, 2].set(title="error by kind (half, and all but outliers)", xlabel="predicted minus VMAF")
    each = sorted(f["srocc"] for f in report["content"].values() if np.isfinite(f["srocc"]))
    axes[1, 0].plot(each, linewidth=1.2)
    axes[1, 0].set(title="SROCC within each content, sorted", xlabel="contents", ylim=(0, 1))
    for name, path in runs.items():
        history = [json.loads(line) for line in path.read_text().splitlines()]
        axes[1, 1].plot([h["minutes"] for h in history], [h["srocc"] for h in history], label=name, linewidth=1.2)
    axes[1, 1].set(title="learning: SROCC on validation", xlabel="minutes of each of two cores")
    if runs:
        axes[1, 1].legend(fontsize=6)
    if "low" in clips:
        middle = (clips["low"] + clips["high"]) / 2
        half = np.maximum((clips["high"] - clips["low"]) / 2, 1e-6)
        stretch = np.linspace(0, 3, 61)
        covered = [float(np.mean(np.abs(truth - middle) <= half * s)) for s in stretch]
        axes[1, 2].plot(stretch, covered, linewidth=1.2)
        axes[1, 2].plot([1], [0.8], "o", color="grey")
        axes[1, 2].set(title="truths inside the bounds; the dot is promised", xlabel="bounds, times", ylim=(0, 1))
    figure.savefig(target, dpi=72, metadata={"Date": None})


def main() -> None:
    """Fill in the card, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path)
    parser.add_argument("card", type=Path, help="the part between its marks is replaced")
    parser.add_argument("plot", type=Path)
    parser.add_argument("--runs", nargs="*", default=[], help="NAME=history.jsonl of train.py, for the learning curves")
    options = parser.parse_args()
    report = json.loads(options.figures.read_text())
    report["margin"] = report["all"]["srocc"] - report["all"]["brisque"]
    report["macro"] = float(np.mean([f["f1"] for f in report["faults"].values()]))
    report["kind"]["mpeg"] = report["mpeg"]
    text = table(report)
    marks = r"(?s)(<!-- figures -->).*(<!-- /figures -->)"
    options.card.write_text(re.sub(marks, lambda m: f"{m[1]}\n{text}\n{m[2]}", options.card.read_text()))
    del report["kind"]["mpeg"]
    plot(report, {name: Path(path) for name, path in (run.split("=", 1) for run in options.runs)}, options.plot)


if __name__ == "__main__":
    main()
