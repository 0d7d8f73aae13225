"""Fits the model to your own scores: a CSV with the columns `path` and `score` (0 to 100), and `group` if you like.

Only the layers behind the pooled description learn, and they are held near where they were: some dozens of videos are
enough, and what the model knows of pictures stays. Five-fold cross-validation, videos of one group on one side, tells
what is gained before anything is written; the bounds are calibrated on the same folds.

    python scripts/train_score/finetune.py labels.csv --to my-model [--version 1.2.0-mine]
    vpipe score --model my-model/model.toml videos/
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import av
import export
import label
import numpy as np
import torch
import tqdm
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from vpipe import fragments

FOLDS = 5
STEPS = 300
RATE = 1e-3
HOLD = 3e-3
"""Weight of the squared distance from the weights that the model came with."""


@dataclass(frozen=True)
class Labels:
    """What a CSV says of each video."""

    paths: list[Path]
    score: NDArray[np.float32]
    group: NDArray[np.str_]

    @classmethod
    def read(cls, path: Path) -> Labels:
        """Read a CSV; paths are taken from where it lies."""
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if len(rows) < 2 * FOLDS or not {"path", "score"} <= rows[0].keys():
            raise SystemExit(f"{path}: needs the columns path and score, and at least {2 * FOLDS} rows")
        score = np.array([float(row["score"]) for row in rows], np.float32)
        if not ((score >= 0) & (score <= 100)).all():
            raise SystemExit(f"{path}: scores must lie between 0 and 100; scale those of another range first")
        paths = [path.parent / row["path"] for row in rows]
        return cls(paths, score, np.array([row.get("group") or row["path"] for row in rows]))


def mosaics(path: Path, every_s: float, most: int) -> NDArray[np.uint8]:
    """Return pairs of a video's frames and the frames before them, (n, 2, S, S), cut as the engine cuts them."""
    found: list[NDArray[np.uint8]] = []
    before: NDArray[np.uint8] | None = None
    due = 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            luma = frame.reformat(format="yuv444p", dst_color_range="MPEG").to_ndarray()[0]
            if before is not None and before.shape == luma.shape and (frame.time or 0.0) >= due:
                phase = fragments.phase_of(round((frame.time or 0.0) * 1000))
                top, left, rows, columns = fragments.active_area(luma, label.PATCH)
                corners = fragments.positions(rows, columns, label.GRID, label.PATCH, phase)
                pair = (picture[top : top + rows, left : left + columns] for picture in (luma, before))
                cut = np.stack([label.mosaic(picture, corners) for picture in pair])
                found.append(cut[..., ::-1] if fragments.is_mirrored(phase) else cut)
                due = (frame.time or 0.0) + every_s
            before = luma
            if len(found) == most:
                break
    return np.stack(found)


class Descriptions:
    """The pooled descriptions of all frames of all videos, which is all that fine-tuning needs."""

    def __init__(self, final: export.Final, labels: Labels, every_s: float, most: int) -> None:
        """Decode and describe every video."""
        parts = []
        with torch.no_grad():
            for path in tqdm.tqdm(labels.paths, unit="video"):
                parts.append(final.net.describe(torch.from_numpy(mosaics(path, every_s, most))))  # noqa: PERF401
        self.frames = torch.cat(parts)
        self.video = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(p) for p in parts]))

    def means(self, values: Tensor) -> Tensor:
        """Return the mean a video of a value a frame."""
        sums = torch.zeros(int(self.video[-1]) + 1).index_add(0, self.video, values)
        return sums / torch.bincount(self.video)


class Head(nn.Module):
    """The layers that learn: from the description to the score."""

    def __init__(self, final: export.Final) -> None:
        """Copy them from `final`."""
        super().__init__()
        self.neck, self.score = copy.deepcopy(final.net.neck), copy.deepcopy(final.net.score)

    def forward(self, description: Tensor) -> Tensor:
        """Predict."""
        return torch.sigmoid(self.score(self.neck(description))).squeeze(1) * 100

    def fit(self, data: Descriptions, truth: Tensor, chosen: Tensor) -> Head:
        """Learn the scores of the `chosen` videos."""
        torch.manual_seed(0)
        start = [p.detach().clone() for p in self.parameters()]
        optimizer = torch.optim.Adam(self.parameters(), lr=RATE)
        self.train()
        for _ in range(STEPS):
            optimizer.zero_grad()
            missed = nn.functional.smooth_l1_loss(data.means(self(data.frames))[chosen], truth[chosen], beta=5.0)
            moved = sum(
                ((p - s).square().sum() for p, s in zip(self.parameters(), start, strict=True)), torch.zeros(())
            )
            (missed + HOLD * moved).backward()
            optimizer.step()
        return self.eval()


def agreement(mine: NDArray[np.float32], truth: NDArray[np.float32]) -> dict[str, float]:
    """Return the rank correlation and the error."""
    rmse = float(np.sqrt(np.mean((mine - truth) ** 2)))
    return {"srocc": round(float(spearmanr(mine, truth).statistic), 3), "rmse": round(rmse, 2)}


def finetune(final: export.Final, labels: Labels, data: Descriptions) -> dict[str, dict[str, float]]:
    """Change `final` to fit the labels; return its agreement before, and after on videos that it did not learn from."""
    truth = torch.from_numpy(labels.score)
    with torch.no_grad():
        before = data.means(Head(final).eval()(data.frames)).numpy()
    names = np.unique(labels.group)
    fold_of = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % FOLDS, strict=True))
    fold = np.array([fold_of[g] for g in labels.group])
    after = np.empty_like(labels.score)
    for number in range(FOLDS):
        head = Head(final).fit(data, truth, torch.from_numpy(np.flatnonzero(fold != number)))
        with torch.no_grad():
            after[fold == number] = data.means(head(data.frames)).numpy()[fold == number]
    head = Head(final).fit(data, truth, torch.arange(len(truth)))
    final.net.neck.load_state_dict(head.neck.state_dict())
    final.net.score.load_state_dict(head.score.state_dict())
    with torch.no_grad():
        spread = nn.functional.softplus(final.net.spread(final.net.neck(data.frames))) * 10
        below, above = (data.means(side).numpy() for side in spread.T)
    final.widen = export.widened(after, below, above, labels.score)
    return {"before": agreement(before, labels.score), "after": agreement(after, labels.score)}


def main() -> None:
    """Fine-tune, tell, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="the CSV")
    parser.add_argument("--to", type=Path, required=True, help="folder of the new model")
    parser.add_argument("--checkpoint", type=Path, default=export.HERE / "score.pt")
    parser.add_argument("--version", default="1.0.0-mine")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between frames")
    parser.add_argument("--frames", type=int, default=40, help="of a video, at most")
    options = parser.parse_args()
    labels = Labels.read(options.labels)
    final = export.load(options.checkpoint)
    data = Descriptions(final, labels, options.every, options.frames)
    print(json.dumps({"videos": len(labels.paths), **finetune(final, labels, data)}))
    options.to.mkdir(parents=True, exist_ok=True)
    sample = np.concatenate([mosaics(p, options.every, 8) for p in labels.paths[:32]])
    export.export(final, options.to, options.version, sample, sample[:64])
    export.keep(final, options.to / "score.pt")


if __name__ == "__main__":
    main()
