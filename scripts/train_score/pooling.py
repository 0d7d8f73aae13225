"""Asks which way of pooling over time keeps most of what the model knows.

There are no votes of viewers in the data, so this cannot say which pooling people agree with; it says how well each
pooled figure of the predictions follows the same figure of the true VMAF. Films of test contents are put together
from a content's own clips, a clip a second, whose quality wanders or drops for a while.

    python scripts/train_score/pooling.py --work DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import evaluate
import export
import numpy as np
from numpy.typing import NDArray
from train import Mosaics

from vpipe_score import pooling

Array = NDArray[np.float64]
SECONDS = 20
FILMS = 8
"""Of each content."""


def hysteresis(scores: Array, memory: int = 4, share: float = 0.8) -> float:
    """Return the pooling of Seshadrinathan and Bovik (ICASSP 2011): what was bad is remembered, what comes is weighed.

    Args:
        scores: One a second.
        memory: Seconds that are remembered and looked ahead.
        share: Weight of the memory.
    """
    past = np.array([scores[max(0, i - memory) : i + 1].min() for i in range(len(scores))])
    weights = np.exp(-np.arange(memory) / 2)
    ahead = []
    for i in range(len(scores)):
        coming = np.sort(scores[i : i + memory])
        ahead.append(np.average(coming, weights=weights[: len(coming)]))
    return float(np.mean(share * past + (1 - share) * np.array(ahead)))


def _mixed(scores: Array) -> float:
    ones = np.ones(len(scores))
    return pooling.main_score(pooling.mean(scores, ones), pooling.worst_part(scores, ones))


POOLINGS: dict[str, Callable[[Array], float]] = {
    "mean": lambda s: float(np.mean(s)),
    "harmonic mean": lambda s: pooling.harmonic_mean(s, np.ones(len(s))),
    "5th percentile": lambda s: pooling.percentile(s, np.ones(len(s)), 0.05),
    "worst second": lambda s: float(np.min(s)),
    "hysteresis": hysteresis,
    "0.75 mean + 0.25 worst tenth (ours)": _mixed,
}


def films(truth: Array, mine: Array, rng: np.random.Generator) -> list[tuple[Array, Array]]:
    """Return films of one content's clips as true and predicted scores a second."""
    order = np.argsort(truth)
    found = []
    for number in range(FILMS):
        if number % 2:  # a level, and a drop that lasts a while
            place = np.full(SECONDS, rng.uniform(0.4, 1))
            first, length = int(rng.integers(0, SECONDS)), int(rng.integers(1, 6))
            place[first : first + length] = rng.uniform(0, 0.4)
        else:
            place = np.cumsum(rng.normal(0, 0.12, SECONDS)) + rng.uniform(0.2, 0.8)
        rows = order[np.clip(np.abs(place) * (len(order) - 1), 0, len(order) - 1).astype(int)]
        found.append((truth[rows], mine[rows]))
    return found


def main() -> None:
    """Print a line for each pooling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=export.MODELS / "score")
    options = parser.parse_args()
    judged = evaluate.Judgement(Mosaics(options.work, "test"), options.model)
    rng = np.random.default_rng(0)
    contents = judged.column("content")
    made = [
        film
        for content in np.unique(contents)
        if (contents == content).sum() >= 8
        for film in films(judged.truth[contents == content], judged.mine[contents == content], rng)
    ]
    print(f"| pooling of {len(made)} films | SROCC | RMSE |\n|---|---|---|")
    for name, pool in POOLINGS.items():
        truth, mine = (np.array([pool(film[side]) for film in made]) for side in (0, 1))
        rmse = float(np.sqrt(np.mean((mine - truth) ** 2)))
        print(f"| {name} | {evaluate.srocc(mine, truth):.3f} | {rmse:.1f} |")


if __name__ == "__main__":
    main()
