"""Mixes the weights of two checkpoints of one shape: what was learned lately with what was learned before from more.

    python scripts/train_score/blend.py --work DIR OLD.pt NEW.pt --name v5-blend

Every share of the new weights is validated; the one with the least error by the bits goes to WORK/runs/NAME/best.pt.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from model import ScoreNet, Shape
from torch import Tensor
from train import Mosaics, validate

SHARES = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)


def blended(old: dict[str, Tensor], new: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the weights that are `share` of `new`, and the rest of `old`; counters are those of `new`."""
    return {
        name: torch.lerp(old[name], value, share) if value.is_floating_point() else value for name, value in new.items()
    }


def main() -> None:
    """Validate every share, keep the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--name", required=True, help="of the result: WORK/runs/NAME")
    options = parser.parse_args()
    folder = options.work / "runs" / options.name
    folder.mkdir(parents=True, exist_ok=True)
    old, new = (torch.load(path, weights_only=True) for path in (options.old, options.new))
    net = ScoreNet(Shape(**new["shape"]))
    check = Mosaics(options.work, "validation")
    least = float("inf")
    for share in SHARES:
        net.load_state_dict(blended(old["net"], new["net"], share))
        row = {"share": share, **validate(net, check)}
        print(json.dumps(row), flush=True)
        if row["rmse"] < least:
            least = row["rmse"]
            torch.save({"net": net.state_dict(), "shape": new["shape"], **row}, folder / "best.pt")


if __name__ == "__main__":
    main()
