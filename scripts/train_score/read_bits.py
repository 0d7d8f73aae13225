"""Fits the layers that read the bits to a net that stays as it is: minutes, where training the net takes hours.

    python scripts/train_score/read_bits.py --work DIR --checkpoint scripts/train_score/score.pt --name bits

Every mosaic is described once, with either neighbour; the layers learn from the descriptions. The best epoch by
validation goes to WORK/runs/NAME/best.pt, as train.py's would.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from model import ScoreNet, Shape
from torch import Tensor
from train import Mosaics, agreement, by_bits, score_loss

RATE, DECAY, BATCH, STEPS = 2e-3, 0.05, 512, 100


def described(net: ScoreNet, data: Mosaics, neighbour: int) -> Tensor:
    """Return the description of every mosaic with the frame before (0) or after (2) as its neighbour."""
    with torch.inference_mode():
        parts = [
            net.describe(torch.from_numpy(data.images[start : start + 64][:, [1, neighbour]]))
            for start in range(0, len(data.images), 64)
        ]
    return torch.cat(parts).clone()


def fit(net: ScoreNet, train: Mosaics, check: Mosaics, epochs: int, seed: int) -> list[dict[str, float]]:
    """Fit; the net ends with the layers of the best epoch. Returns how validation went."""
    torch.manual_seed(seed)
    net.eval()
    known = [described(net, train, neighbour) for neighbour in (0, 2)]
    unseen = described(net, check, 0)
    truth = torch.from_numpy(train.score)
    layers = [*net.reader.parameters(), *net.bits.parameters(), *net.bits_spread.parameters()]
    optimizer = torch.optim.AdamW(layers, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * STEPS)
    rng = np.random.default_rng(seed)
    history: list[dict[str, float]] = []
    best = {name: value.clone() for name, value in net.state_dict().items()}
    for epoch in range(epochs):
        net.reader.train()
        for _ in range(STEPS):
            chosen = rng.choice(len(truth), BATCH, p=train.weight)
            codec, told = map(torch.from_numpy, train.drawn_bits(chosen, rng))
            have = torch.nonzero(codec >= 0).squeeze(1)
            judged = net.judge(known[int(rng.integers(2))][chosen][have])
            odds = (judged.by_bits[torch.arange(len(have)), codec[have]] * told[have]).sum(1)
            loss = score_loss(torch.sigmoid(odds) * 100, judged.bits_spread, truth[chosen][have])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.inference_mode():
            weights = net.judge(unseen).by_bits.numpy()
        row = {"epoch": epoch, "loss": round(loss.item(), 4), **agreement(by_bits(weights, check), check)}
        masters = agreement(by_bits(weights, check, masters=True), check)
        row |= {f"{name}_masters": value for name, value in masters.items()}
        print(json.dumps(row), flush=True)
        if all(row["rmse"] < other["rmse"] for other in history):
            best = {name: value.clone() for name, value in net.state_dict().items()}
        history.append(row)
    net.load_state_dict(best)
    return history


def main() -> None:
    """Load, fit, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the net")
    parser.add_argument("--name", required=True, help="of the run: WORK/runs/NAME")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = options.work / "runs" / options.name
    folder.mkdir(parents=True, exist_ok=True)
    state = torch.load(options.checkpoint, weights_only=True)
    net = ScoreNet(Shape(**state["shape"]))
    net.begin_from(state["net"])
    history = fit(
        net, Mosaics(options.work, "train"), Mosaics(options.work, "validation"), options.epochs, options.seed
    )
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    torch.save({"net": net.state_dict(), "shape": asdict(net.shape)}, folder / "best.pt")


if __name__ == "__main__":
    main()
