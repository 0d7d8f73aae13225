"""Makes the weights of `vpipe_score/exposure.py`, and judges them on test contents.

Histograms come from the mosaics of pristine clips. Light is taken away or added in stops: luma is undone to light,
multiplied, clipped and coded again. Two stops and more are a fault; less than one and a half is none.

    python scripts/train_score/exposure.py --work DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import sources
import torch
from numpy.typing import NDArray

from vpipe_score import exposure

STOPS = (-3.5, -3, -2.5, -2, -1, -0.5, 0, 0, 0, 0.5, 1, 2, 2.5, 3)
GAMMA = 2.4


def histograms(work: Path, split: str) -> NDArray[np.float64]:
    """Return a luma histogram of each pristine content of `split`, (n, 256)."""
    rows = []
    for content in sources.load_split().values():
        path = work / "data" / f"{content.id}.npz"
        if content.split != split or content.look in (2, 5) or not path.exists():
            continue
        with np.load(path) as data:
            first = next(i for i, r in enumerate(json.loads(str(data["info"]))["rows"]) if r["recipe"] == 0)
            rows.append(np.bincount(data["mosaics"][first, 1].ravel(), minlength=256))
    return np.array(rows, np.float64)


def exposed(histogram: NDArray[np.float64], stops: float) -> NDArray[np.float64]:
    """Return histograms of the same scenes with 2 ** `stops` times the light."""
    level = np.clip((np.arange(256) - exposure.BLACK) / (exposure.WHITE - exposure.BLACK), 0, 1)
    after = np.clip(level**GAMMA * 2.0**stops, 0, 1) ** (1 / GAMMA)
    codes = np.round(after * (exposure.WHITE - exposure.BLACK) + exposure.BLACK).astype(int)
    out = np.zeros_like(histogram)
    for code, target in enumerate(codes):
        out[:, target] += histogram[:, code]
    return out


def examples(work: Path, split: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return histograms and the stops of each."""
    base = histograms(work, split)
    return np.concatenate([exposed(base, s) for s in STOPS]), np.repeat(STOPS, len(base))


def fit(facts: NDArray[np.float64], guilty: NDArray[np.bool_]) -> list[float]:
    """Return the weights of a logistic regression, the constant last."""
    x = torch.from_numpy(np.column_stack([facts, np.ones(len(facts))]))
    y = torch.from_numpy(guilty.astype(np.float64))
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        wrong = (
            torch.nn.functional.binary_cross_entropy_with_logits(x @ weights, y) + 1e-4 * weights[:-1].square().sum()
        )
        wrong.backward()
        return wrong

    optimizer.step(loss)
    return [round(float(w), 2) for w in weights.detach()]


def main() -> None:
    """Fit on training contents, judge on test contents, print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    histogram, stops = examples(options.work, "train")
    unseen, unseen_stops = examples(options.work, "test")
    for name, kind in (("UNDER", -1), ("OVER", 1)):
        weights = fit(exposure.facts(histogram), stops * kind >= 2)
        setattr(exposure, name, tuple(weights))
        guilty = unseen_stops * kind >= 2
        said = exposure.exposure(unseen)[0 if kind < 0 else 1] > 0.5
        hit = int((guilty & said).sum())
        precision, recall = hit / max(said.sum(), 1), hit / guilty.sum()
        print(f"{name} = {tuple(weights)}")
        print(f"  {int(guilty.sum())} cases, precision {precision:.2f}, recall {recall:.2f}, "
              f"F1 {2 * precision * recall / (precision + recall):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
