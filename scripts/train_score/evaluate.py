"""Judges the exported model on the test contents, beside BRISQUE on the same clips.

The truth of a clip is the mean VMAF of its kept frames, the prediction the mean over the same frames' mosaics.
BRISQUE is OpenCV's, with the model it ships (LIVE), on the whole middle frame. Intervals are bootstrapped over groups
of contents, since clips of one picture are not independent.

    python scripts/train_score/evaluate.py --work DIR [--card docs/model-card.md] [--plot docs/model-card.svg]
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import degrade
import export
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from train import Mosaics, clip_means

Array = NDArray[np.float64]


def srocc(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation, NaN where it has no meaning."""
    if len(a) < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def within(contents: NDArray[Any], a: Array, b: Array) -> float:
    """Return the mean over contents of the rank correlation within each."""
    return float(np.nanmean([srocc(a[contents == c], b[contents == c]) for c in np.unique(contents)]))


def interval(groups: NDArray[Any], a: Array, b: Array, rounds: int = 400) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the rank correlation, groups drawn with replacement."""
    rng = np.random.default_rng(0)
    names = np.unique(groups)
    members = [np.flatnonzero(groups == n) for n in names]
    draws = []
    for _ in range(rounds):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))])
        draws.append(srocc(a[rows], b[rows]))
    return float(np.percentile(draws, 2.5)), float(np.percentile(draws, 97.5))


def f1_of(truth: NDArray[np.float32], probability: NDArray[np.float32]) -> dict[str, float]:
    """Return precision, recall and F1 at 0.5 where the truth is known."""
    known = truth >= 0
    yes, said = truth[known] == 1, probability[known] > 0.5
    hit = float((yes & said).sum())
    precision, recall = hit / max(said.sum(), 1), hit / max(yes.sum(), 1)
    return {"cases": int(yes.sum()), "precision": precision, "recall": recall,
            "f1": 2 * precision * recall / max(precision + recall, 1e-9)}  # fmt: skip


def judge(work: Path, split: str) -> tuple[dict[str, Any], dict[str, Array], list[dict[str, Any]]]:
    """Return the figures, the values per clip, and the clips."""
    data = Mosaics(work, split)
    score, faults, cost = export.run(export.MODELS / "score/score.xml", data.images[:, [1, 0]])
    after, _, _ = export.run(export.MODELS / "score/score.xml", data.images[:, [1, 2]])
    truth = clip_means(data.score, data)
    mine, rival = clip_means(score, data), clip_means(data.brisque, data)
    have = np.isfinite(truth)
    truth, mine, rival = truth[have], mine[have], -rival[have]  # BRISQUE: lower is better
    clips = [c for c, h in zip(data.clips, have, strict=True) if h]
    contents = np.array([c["content"] for c in clips])
    groups = np.array([c["group"] for c in clips])
    kinds = np.array([c["codec"] if c["kind"] == "codec" else c["kind"] for c in clips])
    origin = np.array([c["source"] for c in clips])

    def figures(rows: NDArray[np.bool_]) -> dict[str, float]:
        return {
            "clips": int(rows.sum()),
            "srocc": srocc(mine[rows], truth[rows]),
            "rmse": float(np.sqrt(np.mean((mine[rows] - truth[rows]) ** 2))),
            "bias": float(np.mean(mine[rows] - truth[rows])),
            "brisque": srocc(rival[rows], truth[rows]),
        }

    def inside(rows: NDArray[np.bool_]) -> float:
        return within(contents[rows], mine[rows], truth[rows])

    everything = np.ones(len(truth), bool)
    phases = score.reshape(-1, 2)  # label.py keeps two sets of positions of each frame, side by side
    manifest = tomllib.loads((export.MODELS / "score/model.toml").read_text())
    report = {
        "version": manifest["version"],
        "split": split,
        "contents": len(np.unique(contents)),
        "groups": len(np.unique(groups)),
        "all": figures(everything)
        | {
            "plcc": float(np.corrcoef(mine, truth)[0, 1]),
            "srocc_interval": interval(groups, mine, truth),
            "brisque_interval": interval(groups, rival, truth),
            "within": within(contents, mine, truth),
            "within_brisque": within(contents, rival, truth),
        },
        "origin": {o: figures(origin == o) | {"within": inside(origin == o)} for o in np.unique(origin)},
        "kind": {k: figures(kinds == k) for k in np.unique(kinds)},
        "faults": {name: f1_of(data.faults[:, i], faults[:, i]) for i, name in enumerate(degrade.FAULTS)},
        "positions": float(np.abs(phases[:, 0] - phases[:, 1]).mean()),
        "neighbour": float(np.abs(score - after).mean()),
        "cost_ms": cost,
    }
    return report, {"truth": truth, "mine": mine, "brisque": rival}, clips


def table(report: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    a = report["all"]
    lines = [
        f"Version {report['version']}. "
        f"{a['clips']} clips of {report['contents']} contents from {report['groups']} pictures or films "
        f"({report['split']} split).",
        "",
        "| figure | this model | BRISQUE |",
        "|---|---|---|",
        f"| SROCC per clip | **{a['srocc']:.3f}** (95 %: {a['srocc_interval'][0]:.2f}..{a['srocc_interval'][1]:.2f}) "
        f"| {a['brisque']:.3f} ({a['brisque_interval'][0]:.2f}..{a['brisque_interval'][1]:.2f}) |",
        f"| mean SROCC within a content | {a['within']:.3f} | {a['within_brisque']:.3f} |",
        f"| PLCC | {a['plcc']:.3f} | |",
        f"| RMSE, VMAF points | {a['rmse']:.1f} | |",
        f"| mean error, VMAF points | {a['bias']:+.1f} | |",
        f"| margin over BRISQUE (SROCC) | +{a['srocc'] - a['brisque']:.2f} | |",
        "",
        "| by source | clips | SROCC | within a content | RMSE | mean error | BRISQUE |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {o} | {f['clips']} | {f['srocc']:.2f} | {f['within']:.2f} | {f['rmse']:.1f} | {f['bias']:+.1f} "
        f"| {f['brisque']:.2f} |"
        for o, f in report["origin"].items()
    ]
    lines += ["", "| by degradation | clips | SROCC | RMSE | mean error | BRISQUE |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {k} | {f['clips']} | {f['srocc']:.2f} | {f['rmse']:.1f} | {f['bias']:+.1f} | {f['brisque']:.2f} |"
        for k, f in report["kind"].items()
    ]
    lines += ["", "| fault (per frame, at 0.5) | cases | precision | recall | F1 |", "|---|---|---|---|---|"]
    lines += [
        f"| {k} | {f['cases']} | {f['precision']:.2f} | {f['recall']:.2f} | {f['f1']:.2f} |"
        for k, f in report["faults"].items()
    ]
    macro = np.mean([f["f1"] for f in report["faults"].values()])
    lines += [
        "",
        f"Fault kinds, macro F1: {macro:.2f}. Another set of positions in the same frame moves a frame's score by "
        f"{report['positions']:.1f} points on average, the next instead of the previous neighbour by "
        f"{report['neighbour']:.1f}.",
    ]
    return "\n".join(lines).replace("nan", "-")


def plot(values: dict[str, Array], clips: list[dict[str, Any]], target: Path) -> None:
    """Draw prediction against truth, and BRISQUE against truth, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "vpipe", "svg.fonttype": "none"}  # text as text: smaller
    import matplotlib.pyplot as plt

    kinds = np.array([c["codec"] if c["kind"] == "codec" else c["kind"] for c in clips])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.4), layout="constrained")
    colours = plt.get_cmap("tab20")
    for index, kind in enumerate(np.unique(kinds)):
        rows = kinds == kind
        style = {"s": 7, "color": colours(index % 20), "label": kind, "linewidths": 0, "rasterized": True}
        left.scatter(values["truth"][rows], values["mine"][rows], **style)
        right.scatter(values["truth"][rows], values["brisque"][rows], **style)
    left.plot([0, 100], [0, 100], color="grey", linewidth=0.8)
    left.set(xlabel="VMAF", ylabel="predicted", title="this model, contents it never saw", xlim=(0, 101), ylim=(0, 101))
    right.set(xlabel="VMAF", ylabel="minus BRISQUE", title="BRISQUE, the same clips", xlim=(0, 101))
    left.legend(fontsize=6, loc="upper left", markerscale=2, ncols=2)
    figure.savefig(target, dpi=72, metadata={"Date": None})


def main() -> None:
    """Print the figures; write them into the card where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--card", type=Path, help="replace the part between the marks in this file")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    report, values, clips = judge(options.work, options.split)
    text = table(report)
    print(text)
    print(json.dumps(report))
    if options.card:
        card = options.card.read_text()
        marks = r"(?s)(<!-- figures -->).*(<!-- /figures -->)"
        options.card.write_text(re.sub(marks, lambda m: f"{m[1]}\n{text}\n{m[2]}", card))
    if options.plot:
        plot(values, clips, options.plot)


if __name__ == "__main__":
    main()
