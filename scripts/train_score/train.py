"""Trains the score net on the mosaics that label.py made.

The learning rate follows the processor time spent, not the epochs: `--minutes` is a promise on any machine, and time
in which the run was stopped or others had the cores does not count. Cut at any moment, the same command goes on from
the last checkpoint. The best epoch by validation and the latest one are kept beside it: half of each is often better
than either (`blend.py`), for what is learned late is of these pictures more and more.

    python scripts/train_score/train.py --work DIR --name v1 --minutes 60
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import multiprocessing
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import sources
import torch
import torch.distributed as dist
import tqdm
from model import Judged, ScoreNet, Shape
from numpy.typing import NDArray
from recipes import FAULTS, VIEWS
from scipy.stats import spearmanr
from torch import Tensor, nn

from vpipe_score.bits import CODECS, LOSSES, Side, as_clip, from_terms, terms

Indices = NDArray[np.int64]
Values = NDArray[np.float32]

WARM_UP = 0.04
"""Share of the time with a rising learning rate."""
OFTEN = {"blur": 1.5, "rescale": 1.5, "pristine": 3.0, "damaged": 1.5}
"""Kinds that are few and hard, or must not be off, are drawn more often."""
FILMED = 4.0
"""How much oftener clips of real films are drawn, which are few and softer than photos."""
SMALL_SHARE = 0.6
"""Share of the time on 5x5 of the 7x7 patches: half the cost a step, and other patches in every epoch."""
MASTERS = 0.3
"""Share of encoded clips of which a master's bits are told: what was ruined before is ruined at any bitrate."""
MIXED = 0.35
"""Share of the mosaics that have patches of two clips: so many pairs of pictures that none can be known by heart."""
OUTLIER = 0.3
"""Error of a score (0..1) from which it counts by its size, below by its square: the mean is wanted, not the median."""
UNREAD = 0.15
"""Share of clips whose quantisers are not told, or how much of a damaged picture was made up: not all streams tell."""


def _bits(stream: dict[str, Any] | None) -> tuple[float, ...]:
    """Return what `Mosaics.bits` holds of one stream."""
    told = None
    if stream is not None:
        sizes, key = np.array(stream["bytes"]), np.array(stream["key"], bool)
        quantisers = np.ma.masked_invalid(np.array(stream["quantiser"], float))
        sides = [
            Side(
                int(which.sum()),
                float(sizes[which].sum()),
                float(quantisers[which].mean()) if quantisers[which].count() else None,
            )
            for which in (key, ~key)
        ]
        told = as_clip(stream["codec"], math.prod(stream["size"]), *sides)
    return (-1, 0.0, 0.0, math.nan, math.nan) if told is None else (CODECS.index(told.codec), *told[1:])


def _gathered(parts: list[tuple[int, Path]], count: int) -> NDArray[np.uint8]:
    """Return the mosaics of all files in one array; forked workers share it."""
    side = Shape.grid * Shape.patch
    images = np.empty((count, 3, side, side), np.uint8)
    for start, path in parts:
        with np.load(path) as data:
            mosaics = data["mosaics"]
            images[start : start + len(mosaics)] = mosaics
    return images


class Mosaics:
    """The data of one split: mosaics, labels and which clip each came from."""

    def __init__(self, work: Path, split: str, share: float = 1.0) -> None:
        """Load every content of `split` that has been made, or those of a `share` of the pictures."""
        self.views = VIEWS[split]
        score, faults, clip, brisque, loss = [], [], [], [], []
        parts: list[tuple[int, Path]] = []
        self.clips: list[dict[str, Any]] = []
        streams: list[dict[str, Any]] = []
        for content in sources.load_split().values():
            path = work / "data" / f"{content.id}.npz"
            left_out = sources.seed_of("share", content.group) % 1000 >= share * 1000
            if content.split != split or left_out or not path.exists():
                continue
            with np.load(path) as data:
                info = json.loads(str(data["info"]))
            parts.append((len(score), path))
            first = len(self.clips)
            for recipe in info["recipes"]:
                of = {"content": content.id, "group": content.group, "source": content.kind, "look": content.look}
                self.clips.append(of | recipe)
            streams += info["streams"]
            for row in info["rows"]:
                score.append(row["vmaf"])
                faults.append(row["faults"] + [0.0] * (len(FAULTS) - len(row["faults"])))  # made before there was it
                clip.append(first + row["recipe"])
                brisque.append(row["brisque"])
                loss.append(row.get("loss", (0.0,) * LOSSES))
        self.images = _gathered(parts, len(score))
        """uint8, (N, 3, S, S): the frame before, the frame, the frame after."""
        self.score = np.array(score, np.float32)
        self.faults = np.array(faults, np.float32)
        self.clip = np.array(clip)
        self.brisque = np.array(brisque, np.float32)
        self.loss = np.array(loss, np.float32)
        """(N, LOSSES): what of a loss has reached the frame, as the decoder of the delivered clip knows."""
        self.bits = np.array([[_bits(s["delivered"]), _bits(s["master"])] for s in streams], np.float32)
        """(clips, 2, 5): codec (its number, -1: tells nothing), log2 bits a pixel of keyframes and of others, and how
        coarse both are; of the clip as it was encoded, and of a master of it."""
        clips_of = Counter(c["group"] for c in self.clips)
        often = np.array([OFTEN.get(c["kind"], 1.0) * (FILMED if c["source"] == "real" else 1.0) for c in self.clips])
        weight = (often / np.array([clips_of[c["group"]] for c in self.clips]))[self.clip]
        self.weight = weight / weight.sum()
        """How often a mosaic is drawn: all pictures alike, however many clips are of them, and films oftener."""

    def drawn_bits(self, chosen: Indices, rng: np.random.Generator) -> tuple[Indices, Values]:
        """Return the codec of each (-1: tells nothing) and the terms of its bits, delivered or now and then a master's.

        The bits are moved a little, as the next encoder takes some more or less for the same; so is the quantiser.
        """
        size = len(chosen)
        both = self.bits[self.clip[chosen]]
        take = np.where((both[:, 0, 0] < 0) | (rng.random(size) < MASTERS), 1, 0)
        bits = both[np.arange(size), take]
        spent = rng.normal(0, 0.3, (size, 1)) + rng.normal(0, (0.15, 0.25), (size, 2))
        coarse = rng.normal(0, 0.12, (size, 1)) + rng.normal(0, 0.05, (size, 2))
        coarse[rng.random(size) < UNREAD] = np.nan
        moved = bits[:, 1:] + np.concatenate([spent, coarse], 1)
        loss = self.loss[chosen] * (take == 0)[:, None]
        loss[rng.random(size) < UNREAD, 3:] = 0
        return bits[:, 0].astype(np.int64), terms(*moved.T, loss)

    def batch(self, chosen: Indices, rng: np.random.Generator, shape: Shape, patches: int) -> NDArray[np.uint8]:
        """Return augmented pairs: uint8, (n, 2, patches * patch, patches * patch)."""
        grid, patch = shape.grid, shape.patch
        side = patches * patch
        out = np.empty((len(chosen), 2, side, side), np.uint8)
        for target, index in zip(out, chosen, strict=True):
            draw = rng.random(5)
            neighbour = 1 if draw[0] < 0.02 else 0 if draw[0] < 0.6 else 2  # a repeated frame, the last, the next
            pair = self.images[index, [1, neighbour]].reshape(2, grid, patch, grid, patch)
            rows, columns = rng.permutation(grid)[:patches], rng.permutation(grid)[:patches]
            pair = pair[:, rows][:, :, :, columns]
            # label.py keeps two sets of positions of a frame, side by side: patches of both make many more
            if (self.faults[index] == self.faults[index ^ 1]).all():
                other = self.images[index ^ 1, [1, neighbour]].reshape(2, grid, patch, grid, patch)
                other = other[:, rows][:, :, :, columns].transpose(0, 1, 3, 2, 4)
                swap = rng.random((patches, patches)) < 0.5
                pair.transpose(0, 1, 3, 2, 4)[:, swap] = other[:, swap]
            pair = pair.reshape(2, side, side)
            if draw[1] < 0.5:
                pair = pair[:, :, ::-1]
            if draw[2] < 0.5:
                pair = pair[:, ::-1]
            if draw[3] < 0.5:
                pair = pair.transpose(0, 2, 1)
            target[...] = another_light(rng)[pair] if draw[4] < 0.5 else pair
            if rng.random() < 0.1:  # black bars, which are no fault
                bar, along = int(rng.integers(6, patch + 9)), target if rng.random() < 0.7 else target.swapaxes(1, 2)
                along[:, :bar], along[:, side - bar :] = 16, 16
        return out


def mixed(
    pairs: NDArray[np.uint8], score: Values, faults: Values, patch: int, rng: np.random.Generator
) -> tuple[Values, Values, NDArray[np.bool_]]:
    """Give some of a batch patches of its next one (CutMix, Yun et al., ICCV 2019), in place.

    VMAF is made of means over the picture, so that what is of two has the mean of both, by their areas.

    Args:
        pairs: (n, 2, S, S), changed.
        score: (n,).
        faults: (n, K).
        patch: Pixels a side of a patch.
        rng: What is drawn from.

    Returns:
        The scores; the faults, -1 (not known) where the two are not alike; which are mixed, (n,).
    """
    count, _, side, _ = pairs.shape
    which = rng.random(count) < MIXED
    shares = np.where(which, rng.uniform(0.2, 0.8, count), 0)
    take = rng.random((count, side // patch, side // patch)) < shares[:, None, None]
    pixels = np.repeat(np.repeat(take, patch, 1), patch, 2)[:, None]
    np.copyto(pairs, np.roll(pairs, 1, 0), where=pixels)
    score = score + take.mean((1, 2), dtype=np.float32) * (np.roll(score, 1) - score)
    unlike = which[:, None] & (np.roll(faults, 1, 0) != faults)
    return score, np.where(unlike, np.float32(-1), faults), which


def another_light(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a table of luma steps that makes another picture of one and hardly moves its VMAF.

    Both sides of 36 comparisons of validation contents given the same gamma, 0.8 or 1.25, moved the VMAF by 0.6 points
    (RMS); a contrast of 0.85 or 1.2 by 1.6, and 1 up or down on average.
    """
    gamma, contrast, step = np.exp(rng.uniform(-0.35, 0.35)), np.exp(rng.uniform(-0.16, 0.18)), rng.uniform(-12, 12)
    shade = np.clip((np.arange(256) - 16) / 219, 0, 1) ** gamma
    return np.clip(16 + 219 * (0.5 + (shade - 0.5) * contrast) + step + 0.5, 0, 255).astype(np.uint8)


def predict(net: nn.Module, images: NDArray[np.uint8], size: int = 64) -> tuple[Values, Values]:
    """Return scores of whole mosaics with the frame before as neighbour, and how they would follow from bits."""
    net.eval()
    scores, weights = [], []
    with torch.inference_mode():
        for start in range(0, len(images), size):
            judged = net(torch.from_numpy(images[start : start + size][:, [1, 0]]))
            scores.append(judged.score.numpy())
            weights.append(judged.by_bits.numpy())
    return np.concatenate(scores), np.concatenate(weights)


def clip_means(values: Values, data: Mosaics) -> NDArray[np.float64]:
    """Return the mean per clip, NaN where a clip has none."""
    size = len(data.clips)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(data.clip, values, size) / np.bincount(data.clip, minlength=size))


def rarity(faults: Values) -> Tensor:
    """Return how much more a fault's presence counts than its absence: the root of their ratio, 8 at most."""
    present, absent = (faults == 1).sum(0), (faults == 0).sum(0)
    return torch.from_numpy(np.clip(np.sqrt(absent / np.maximum(present, 1)), 1, 8).astype(np.float32))


def score_loss(score: Tensor, spread: Tensor, truth: Tensor) -> Tensor:
    """Distance, agreement in order within the batch, and the bounds of 80 % of truths."""
    near = 3 * nn.functional.smooth_l1_loss(score / 100, truth / 100, beta=OUTLIER)
    a, b = score - score.mean(), truth - truth.mean()
    order = 1 - (a * b).sum() / (a.norm() * b.norm() + 1e-6)
    above, below = truth - score.detach() - spread[:, 1], score.detach() - spread[:, 0] - truth
    bounds = (torch.maximum(0.9 * above, -0.1 * above) + torch.maximum(0.9 * below, -0.1 * below)).mean() / 100
    return near + 0.3 * order + bounds


def loss_of(judged: Judged, truth: Tensor, faults: Tensor, rare: Tensor, codec: Tensor, told: Tensor) -> Tensor:
    """Of the score by pixels, of the one by bits where they tell something, and of the faults that are known."""
    known = (faults >= 0).float()
    guilty = nn.functional.binary_cross_entropy_with_logits(
        judged.faults, faults.clamp(min=0), pos_weight=rare, reduction="none"
    )
    have = torch.nonzero(codec >= 0).squeeze(1)
    odds = (judged.by_bits[have, codec[have]] * told[have]).sum(1)
    by_bits = score_loss(torch.sigmoid(odds) * 100, judged.bits_spread[have], truth[have])
    by_pixels = score_loss(judged.score, judged.spread, truth)
    return by_pixels + by_bits + 0.2 * (guilty * known).sum() / known.sum().clamp(min=1)


def rate_at(share: float) -> float:
    """Return the learning rate's factor when `share` of the time is spent: a short rise, then half a cosine."""
    return min(1.0, share / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def average_gradients(net: nn.Module, workers: int) -> None:
    """Give every worker the mean of all workers' gradients."""
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, torch.split(flat / workers, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def by_bits(weights: Values, data: Mosaics, masters: bool = False) -> Values:
    """Return each mosaic's score with the bits of its clip as delivered, or else of a master; NaN where neither tells.

    Args:
        weights: The net's `by_bits`, (n, codecs, terms).
        data: Where the mosaics are from.
        masters: Take every clip for one that was encoded again, at a high bitrate.
    """
    delivered, master = data.bits.transpose(1, 0, 2)
    instead = (delivered[:, :1] < 0) | masters
    told = np.where(instead, master, delivered)[data.clip]
    codec = told[:, 0].astype(np.int64)
    loss = data.loss * ~instead[data.clip]
    found = from_terms(weights[np.arange(len(codec)), codec], terms(*told[:, 1:].T, loss))
    return np.where(codec < 0, np.nan, found).astype(np.float32)


def agreement(mine: Values, data: Mosaics) -> dict[str, float]:
    """Return the rank correlation and the error per clip."""
    mine, truth = clip_means(mine, data), clip_means(data.score, data)
    have = np.isfinite(truth) & np.isfinite(mine)
    mine, truth = mine[have], truth[have]
    return {
        "srocc": round(float(spearmanr(mine, truth).statistic), 4),
        "rmse": round(float(np.sqrt(np.mean((mine - truth) ** 2))), 2),
    }


def validate(net: nn.Module, check: Mosaics) -> dict[str, float]:
    """Return how well the scores by bits, and those by pixels alone (names in `_pixels`), agree with the truth."""
    pixels, weights = (half.repeat(2, axis=0) for half in predict(net, check.images[::2]))  # one of two sets of places
    alone = {f"{name}_pixels": value for name, value in agreement(pixels, check).items()}
    return agreement(by_bits(weights, check), check) | alone


def run(rank: int, options: argparse.Namespace, train: Mosaics, check: Mosaics) -> None:
    """Train as one of the workers; the first also keeps time, validates and saves."""
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    meeting = f"file://{options.work / 'runs' / options.name / 'meeting'}"
    patience = datetime.timedelta(days=7)  # a run may be stopped for as long as the machine is needed
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=options.workers, timeout=patience)
    folder = options.work / "runs" / options.name
    rare = rarity(train.faults)
    shape = Shape.wide() if options.wide else Shape()
    net = ScoreNet(shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.start:
        net.begin_from(torch.load(options.start, weights_only=True)["net"])
    shadow = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.997), use_buffers=True
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.rate, weight_decay=0.02)
    spent, epoch, best = 0.0, 0, -1.0
    last = folder / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        net.load_state_dict(state["net"])
        shadow.load_state_dict(state["shadow"])
        optimizer.load_state_dict(state["optimizer"])
        spent, epoch, best = state["spent"], state["epoch"], state["best"]
    budget = options.minutes * 60
    share = torch.tensor(spent / budget)
    while share < 1:
        began, total, steps = time.process_time(), 0.0, 0
        rng = np.random.default_rng([options.seed, epoch, rank])
        net.train()
        stride = options.batch * options.workers
        draw = np.random.default_rng([options.seed, epoch])
        order = draw.choice(len(train.score), options.steps * stride, p=train.weight)
        starts = range(rank * options.batch, len(order) - stride + 1, stride)
        for first in tqdm.tqdm(starts, desc=f"epoch {epoch}", unit="batch", mininterval=20, disable=rank > 0):
            share = torch.tensor((spent + time.process_time() - began) / budget)
            dist.broadcast(share, 0)
            if share >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = options.rate * rate_at(float(share))
            chosen = order[first : first + options.batch]
            patches = shape.grid if share > SMALL_SHARE else shape.grid - 2
            pairs = train.batch(chosen, rng, shape, patches)
            truth, faults, of_two = mixed(pairs, train.score[chosen], train.faults[chosen], shape.patch, rng)
            codec, told = train.drawn_bits(chosen, rng)
            codec[of_two] = -1  # no bits are of both
            judged = net(torch.from_numpy(pairs).to(memory_format=torch.channels_last))  # half the cost of the stem
            loss = loss_of(judged, *map(torch.from_numpy, (truth, faults)), rare, *map(torch.from_numpy, (codec, told)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            average_gradients(net, options.workers)
            nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimizer.step()
            shadow.update_parameters(net)
            total, steps = total + loss.item(), steps + 1
        epoch += 1
        spent += time.process_time() - began
        if rank > 0:
            continue
        agreement = validate(shadow.module, check)
        row = {"epoch": epoch, "minutes": round(spent / 60, 2), "loss": round(total / max(steps, 1), 4), **agreement}
        print(json.dumps(row), flush=True)
        with (folder / "history.jsonl").open("a") as history:
            history.write(json.dumps(row) + "\n")
        found = {"net": shadow.module.state_dict(), "shape": asdict(shape), **row}
        torch.save(found, folder / "latest.pt")
        if row["srocc"] > best:
            best = row["srocc"]
            torch.save(found, folder / "best.pt")
        state = {
            "net": net.state_dict(),
            "shadow": shadow.state_dict(),
            "optimizer": optimizer.state_dict(),
            "spent": spent,
            "epoch": epoch,
            "best": best,
        }
        torch.save(state, last.with_suffix(".part"))
        last.with_suffix(".part").rename(last)
    dist.destroy_process_group()


def main() -> None:
    """Load the data once, then train in as many forked workers as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", required=True, help="of the run: WORK/runs/NAME")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=32, help="of one worker")
    parser.add_argument("--steps", type=int, default=150, help="of an epoch: between two checkpoints")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the pictures, for a learning curve")
    parser.add_argument("--wide", action="store_true", help="the larger net, about twice the cost of the layers")
    parser.add_argument("--from", dest="start", type=Path, help="checkpoint to begin with")
    options = parser.parse_args()
    folder = options.work.resolve() / "runs" / options.name
    options.work = options.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meeting").unlink(missing_ok=True)  # left by a run that was cut
    train = Mosaics(options.work, "train", options.share)
    check = Mosaics(options.work, "validation")
    print(f"{len(train.clips)} clips to train on, {len(check.clips)} to validate with", flush=True)
    fork = multiprocessing.get_context("fork")  # the mosaics are shared, not copied; no thread runs yet
    workers = [
        fork.Process(target=run, args=(r, options, train, check), daemon=True) for r in range(1, options.workers)
    ]
    for worker in workers:
        worker.start()
    run(0, options, train, check)
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
