"""Judges an exported model on the test contents, beside BRISQUE and NIQE on the same clips.

The truth of a clip is the mean VMAF of its kept frames, the prediction the mean over the same frames' mosaics. The
model is told the bits of a clip as it was encoded and what its decoder knows of losses, or, where it was not encoded,
the bits of a master of it; `pixels` in the report is without them, and `masters` is as though every clip had been
encoded again at a high bitrate. BRISQUE is OpenCV's, with the model it ships (LIVE), on the whole middle frame; NIQE is
there for the clips that `rivals.py` has done. Intervals are bootstrapped over pictures, since clips of one picture are
not independent.

    python scripts/train_score/evaluate.py --work DIR [--against DIR/model-1.0.0] [--to DIR/figures.json] [--int8]
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import export
import numpy as np
from numpy.typing import NDArray
from recipes import FAULTS
from scipy.stats import spearmanr
from train import Mosaics, by_bits, clip_means

from vpipe_score import bits

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]
ROUNDS = 400


def srocc(a: Array, b: Array) -> float:
    """Return Spearman's rank correlation, NaN where it has no meaning."""
    have = np.isfinite(a) & np.isfinite(b)
    a, b = a[have], b[have]
    if len(a) < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def within(contents: NDArray[Any], a: Array, b: Array) -> float:
    """Return the mean over contents of the rank correlation within each."""
    return float(np.nanmean([srocc(a[contents == c], b[contents == c]) for c in np.unique(contents)]))


def draws(groups: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return rows to bootstrap by: groups drawn with replacement."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == n) for n in np.unique(groups)]
    return [np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]) for _ in range(ROUNDS)]


def interval(groups: NDArray[Any], a: Array, b: Array) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the rank correlation."""
    found = [srocc(a[rows], b[rows]) for rows in draws(groups)]
    return float(np.percentile(found, 2.5)), float(np.percentile(found, 97.5))


def f1_of(truth: NDArray[np.float32], probability: NDArray[np.float32]) -> dict[str, float]:
    """Return precision, recall and F1 at 0.5 where the truth is known."""
    known = truth >= 0
    yes, said = truth[known] == 1, probability[known] > 0.5
    hit = float((yes & said).sum())
    precision, recall = hit / max(said.sum(), 1), hit / max(yes.sum(), 1)
    return {"cases": int(yes.sum()), "precision": precision, "recall": recall,
            "f1": 2 * precision * recall / max(precision + recall, 1e-9)}  # fmt: skip


class Judgement:
    """What a model says of a split's clips, beside the truth; clips without a truth are left out."""

    def __init__(self, data: Mosaics, folder: Path, manifest: str = "model.toml") -> None:
        """Run the model of `folder` over the mosaics."""
        self.data = data
        self.manifest = tomllib.loads((folder / manifest).read_text())
        self.frames, self.cost_ms = export.run(folder / self.manifest["file"], data.images[:, [1, 0]])
        self.xml = folder / self.manifest["file"]
        truth = clip_means(data.score, data)
        self.have = np.isfinite(truth)
        self.truth = truth[self.have]
        self.clips = [c for c, h in zip(data.clips, self.have, strict=True) if h]
        self.tell("delivered")

    def tell(self, what: str) -> Judgement:
        """Tell the model the bits of each clip as `delivered` or else those of a master, of `masters` only, or `none`.

        `mine`, `low`, `high` and `faults` are of the latest telling.
        """
        score, self.faults = self.frames["score"], self.frames["faults"].copy()
        low, high = self.frames.get("bounds", np.stack([score, score], 1)).T
        if "by_bits" in self.frames and what != "none":
            found = by_bits(self.frames["by_bits"], self.data, masters=what == "masters")
            have = np.isfinite(found)
            below, above = self.frames["by_bits_reach"].T
            score = np.where(have, found, score)
            if what == "delivered":
                at = FAULTS.index("damaged")
                self.faults[:, at] = bits.damaged(self.faults[:, at], self.data.loss)
            low, high = (np.where(have, *v) for v in ((found - below, low), (found + above, high)))
        self.mine, self.low, self.high = (self.clip(np.clip(v, 0, 100)) for v in (score, low, high))
        return self

    def clip(self, values: NDArray[Any]) -> Array:
        """Return the mean a clip of a value a mosaic."""
        return clip_means(values, self.data)[self.have]

    def column(self, name: str) -> NDArray[Any]:
        """Return a fact of each clip."""
        return np.array([c[name] for c in self.clips])

    @property
    def kinds(self) -> NDArray[Any]:
        """What was done to each clip: the codec, or the kind of recipe."""
        return np.array([c["codec"] if c["kind"] == "codec" else c["kind"] for c in self.clips])

    def rivals(self, work: Path) -> dict[str, Array]:
        """Return BRISQUE and NIQE of each clip, the better the higher; NaN where not known."""
        niqe = np.full(len(self.clips), np.nan)
        for index, clip in enumerate(self.clips):
            path = work / "niqe" / f"{clip['content']}.json"
            if path.exists():
                niqe[index] = json.loads(path.read_text()).get(str(clip["seed"]), np.nan)
        return {"brisque": -self.clip(self.data.brisque), "niqe": -niqe}


def figures(judged: Judgement, rivals: dict[str, Array]) -> dict[str, Any]:
    """Return every figure of the card."""
    mine, truth, kinds = judged.mine, judged.truth, judged.kinds
    contents, groups, origin = (judged.column(name) for name in ("content", "group", "source"))
    # further looks at a test content are at the same film
    contents = np.array([c.removesuffix("-b").removesuffix("-s") for c in contents])

    def of(rows: Rows) -> dict[str, Any]:
        found = {
            "clips": int(rows.sum()),
            "contents": len(np.unique(contents[rows])),
            "srocc": srocc(mine[rows], truth[rows]),
            "within": within(contents[rows], mine[rows], truth[rows]),
            "rmse": float(np.sqrt(np.mean((mine[rows] - truth[rows]) ** 2))),
            "bias": float(np.mean(mine[rows] - truth[rows])),
            **{name: srocc(values[rows], truth[rows]) for name, values in rivals.items()},
        }
        if "bounds" in judged.frames:
            low, high = judged.low[rows], judged.high[rows]
            found["inside"] = float(np.mean((truth[rows] >= low) & (truth[rows] <= high)))
            found["width"] = float(np.mean(high - low))
            found["strange"] = float(np.mean(judged.clip(judged.frames["novelty"])[rows] > 1))
        return found

    everything = np.ones(len(truth), bool)
    scaled = (judged.column("kind") == "codec") & (judged.column("amount") > 0)
    labels = next(o["labels"] for o in judged.manifest["outputs"] if o["name"] == "faults")
    phases = judged.frames["score"].reshape(-1, judged.data.views)
    some = np.arange(0, len(judged.data.images), 9)
    after, _ = export.run(judged.xml, judged.data.images[some][:, [1, 2]])
    return {
        "version": judged.manifest["version"],
        "groups": len(np.unique(groups)),
        "all": of(everything),
        "niqe_clips": int(np.isfinite(rivals["niqe"]).sum()),
        "beside_niqe": srocc(np.where(np.isfinite(rivals["niqe"]), mine, np.nan), truth),
        "plcc": float(np.corrcoef(mine, truth)[0, 1]),
        "interval": interval(groups, mine, truth),
        "brisque_interval": interval(groups, rivals["brisque"], truth),
        "brisque_within": within(contents, rivals["brisque"], truth),
        "origin": {o: of(origin == o) for o in np.unique(origin)},
        "kind": {k: of(kinds == k) for k in np.unique(kinds)},
        "unscaled": of(~scaled) | {k: of((kinds == k) & ~scaled) for k in ("av1", "vp9")},
        "mpeg": of(np.isin(kinds, ["mpeg2", "mpeg4"])),
        "content": {c: {k: of(contents == c)[k] for k in ("srocc", "rmse", "bias")} for c in np.unique(contents)},
        "faults": {name: f1_of(judged.data.faults[:, i], judged.faults[:, i]) for i, name in enumerate(labels)},
        "positions": float(np.abs(phases[:, 0] - phases[:, 1]).mean()),
        "neighbour": float(np.abs(judged.frames["score"][some] - after["score"]).mean()),
        "cost_ms": judged.cost_ms,
    }


TOLD = ("all", "origin", "kind", "mpeg", "faults")


def retold(judged: Judgement, rivals: dict[str, Array]) -> dict[str, Any]:
    """Return the figures of the pixels alone, and of every clip encoded again at a high bitrate."""
    found = {}
    for name, what in (("pixels", "none"), ("masters", "masters")):
        every = figures(judged.tell(what), rivals)
        found[name] = {part: every[part] for part in TOLD}
    judged.tell("delivered")
    return found


def paired(judged: Judgement, other: Judgement) -> dict[str, Any]:
    """Return how much better `judged` is than `other` on the same clips, with a 95 % interval."""
    a, b, truth = judged.mine, other.mine, judged.truth
    gains = {"srocc": [], "rmse": []}
    for rows in draws(judged.column("group")):
        t, x, y = truth[rows], a[rows], b[rows]
        gains["srocc"].append(srocc(x, t) - srocc(y, t))
        gains["rmse"].append(float(np.sqrt(np.mean((x - t) ** 2)) - np.sqrt(np.mean((y - t) ** 2))))
    return {
        "version": other.manifest["version"],
        "srocc": srocc(b, truth),
        "rmse": float(np.sqrt(np.mean((b - truth) ** 2))),
        **{name: [float(np.percentile(v, q)) for q in (2.5, 50, 97.5)] for name, v in
           (("srocc_gain", gains["srocc"]), ("rmse_gain", gains["rmse"]))},
    }  # fmt: skip


def main() -> None:
    """Print the figures, and keep them for card.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--model", type=Path, default=export.MODELS / "score", help="folder of manifest and files")
    parser.add_argument("--against", type=Path, help="folder of another model, compared on the same clips")
    parser.add_argument("--int8", action="store_true", help="compare the INT8 export likewise")
    parser.add_argument("--to", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    data = Mosaics(options.work, options.split)
    judged = Judgement(data, options.model)
    rivals = judged.rivals(options.work)
    report = {"split": options.split, **figures(judged, rivals)}
    if "by_bits" in judged.frames:
        report |= retold(judged, rivals)
    if options.against:
        report["against"] = paired(judged, Judgement(data, options.against))
    if options.int8:
        narrow = Judgement(data, options.model, "model-int8.toml")
        report["int8"] = {"cost_ms": narrow.cost_ms, **paired(judged, narrow)}
    told = {name: value for name, value in report.items() if name != "content"}
    print(json.dumps(told, indent=1))
    if options.to:
        values = {"truth": judged.truth, "mine": judged.mine, **rivals}
        if "bounds" in judged.frames:
            values |= {"low": judged.low, "high": judged.high}
        report["clips"] = {name: np.round(v, 2).tolist() for name, v in values.items()}
        report["clips"]["kind"] = judged.kinds.tolist()
        options.to.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
