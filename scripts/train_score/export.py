"""Exports a checkpoint as OpenVINO IR in FP16 and INT8 with their manifests, and calibrates what it says of itself.

On validation contents the bounds are widened until a share `INSIDE` of the clips' truths lies within, and the distance
at which a picture counts as unlike the training data is set. INT8 keeps the stem in floating point. Fails where an
export disagrees with torch or is too large.

    python scripts/train_score/export.py --work DIR --checkpoint DIR/runs/v4/best.pt --version 1.2.0
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from model import Judged, ScoreNet, Shape
from numpy.typing import NDArray
from recipes import FAULTS
from torch import Tensor, nn
from train import Mosaics, by_bits, clip_means

from vpipe_score.bits import CODECS, TERMS

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1] / "pipelines/vpipe_score/models"
TOLERANCE = 0.3
"""Most score points by which torch and the FP16 IR may differ."""
TOLERANCE_INT8 = 1.5
"""Most score points by which FP16 and INT8 may differ on average."""
SMOOTH = 0.85
"""How much of a channel's range is evened out into the weights before INT8, see `vpipe.models.quantize`."""
INSIDE = 0.83
"""Share of validation truths between the bounds, so that 80 % of others are: validation chose the weights."""
FAMILIAR = 0.99
"""Share of validation clips that count as like the training data."""
Values = NDArray[np.float32] | NDArray[np.float64]
OUTPUTS = ("score", "faults", "bounds", "novelty", "by_bits", "by_bits_reach")


class Final(nn.Module):
    """The net as the engine sees it.

    score (N,) 0..100; faults (N, K) probabilities; bounds (N, 2), below and above the score, 0..100; novelty (N,), the
    distance from the training data, above 1 where the picture is unlike it; by_bits (N, codecs, terms) and
    by_bits_reach (N, 2), how the score follows from the bitstream, and how far below and above that the truth may lie.
    """

    def __init__(self, net: ScoreNet) -> None:
        """Wrap `net`; `calibrate` gives the constants their values."""
        super().__init__()
        self.net = net
        size = 2 * net.shape.widths[-1]
        self.register_buffer("lean", torch.zeros(net.shape.faults))
        self.register_buffer("widen", torch.ones(2))
        self.register_buffer("widen_bits", torch.ones(2))
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whiten", torch.eye(size))
        self.register_buffer("reach", torch.ones(()))

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Predict, in the order of `OUTPUTS`."""
        judged = self.net(frames)
        reach = judged.spread * self.widen
        bounds = torch.stack([judged.score - reach[:, 0], judged.score + reach[:, 1]], 1).clamp(0, 100)
        novelty = torch.linalg.vector_norm((judged.description - self.centre) @ self.whiten, dim=1) / self.reach
        faults = torch.sigmoid(judged.faults + self.lean)
        return judged.score.clamp(0, 100), faults, bounds, novelty, judged.by_bits, judged.bits_spread * self.widen_bits

    def calibrate(self, train: NDArray[np.uint8], check: Mosaics) -> None:
        """Set the constants.

        Args:
            train: Mosaics of training contents, (n, 3, S, S).
            check: Contents that training did not see.
        """
        known = torch.cat([self.net.describe(part) for part in _pairs(train)])
        self.centre = known.mean(0)
        covariance = torch.cov(known.T)
        # Directions in which the training data hardly varies would make everything look new: lift them.
        values, vectors = torch.linalg.eigh(covariance)
        self.whiten = vectors / torch.sqrt(values + 0.01 * values.mean())
        judged = Judged(*map(torch.cat, zip(*(self.net(part) for part in _pairs(check.images)), strict=True)))
        distance = torch.linalg.vector_norm((judged.description - self.centre) @ self.whiten, dim=1)
        self.reach = torch.tensor(np.nanquantile(clip_means(distance.numpy(), check), FAMILIAR), dtype=torch.float32)
        self.lean = best_thresholds(judged.faults, torch.from_numpy(check.faults))
        by_bits_score = by_bits(judged.by_bits.numpy(), check)
        truth = clip_means(check.score, check)

        def widen(score: Values, spread: Tensor) -> Tensor:
            means = [clip_means(v, check) for v in (score, *spread.numpy().T)]
            have = np.isfinite(truth) & np.isfinite(means[0])
            return widened(*(m[have] for m in means), truth[have])

        self.widen = widen(judged.score.numpy(), judged.spread)
        self.widen_bits = widen(by_bits_score, judged.bits_spread)


def best_thresholds(logits: Tensor, truth: Tensor) -> Tensor:
    """Return what to add to each fault's logits so that F1 is best at a probability of a half, (K,).

    Args:
        logits: (n, K).
        truth: 1, 0, or below where not known, (n, K).
    """
    steps = torch.linspace(-3, 3, 61)
    found = []
    for column, known in zip(logits.T, truth.T, strict=True):
        said = column[known >= 0, None] + steps > 0
        yes = known[known >= 0, None] == 1
        f1 = 2 * (said & yes).sum(0) / (said.sum(0) + yes.sum()).clamp(min=1)
        # a fault has few cases: the middle of the good steps, not the luckiest
        smooth = nn.functional.avg_pool1d(f1[None], 9, 1, 4, count_include_pad=False)[0]
        found.append(steps[smooth.argmax()])
    return torch.stack(found)


def widened(score: Values, below: Values, above: Values, truth: Values) -> Tensor:
    """Return by how much bounds have to be wider, so that `INSIDE` of these truths are between them.

    Args:
        score: Of clips or videos, (n,).
        below: How far below it the net expects the truth at most, (n,).
        above: Likewise above, (n,).
        truth: (n,).
    """
    share = (1 + INSIDE) / 2
    factors = [np.quantile((score - truth) / below, share), np.quantile((truth - score) / above, share)]
    return torch.tensor(np.maximum(factors, 0.1), dtype=torch.float32)


def _pairs(images: NDArray[np.uint8], size: int = 64) -> list[Tensor]:
    return [torch.from_numpy(images[i : i + size][:, [1, 0]]) for i in range(0, len(images), size)]


def load(checkpoint: Path) -> Final:
    """Return the net of a checkpoint, ready to predict, and calibrated if the checkpoint is of an exported version."""
    state = torch.load(checkpoint, weights_only=True)
    final = Final(ScoreNet(Shape(**state["shape"])))
    final.net.load_state_dict(state["net"])
    final.load_state_dict(state.get("constants", {}), strict=False)
    return final.eval()


def keep(final: Final, path: Path) -> None:
    """Write a checkpoint with the calibration, to go on from or to fine-tune."""
    constants = {name: value for name, value in final.state_dict().items() if not name.startswith("net.")}
    torch.save({"net": final.net.state_dict(), "shape": asdict(final.net.shape), "constants": constants}, path)


def convert(final: Final) -> openvino.Model:
    """Return the IR: uint8 in, any batch, named ports."""
    side = final.net.shape.grid * final.net.shape.patch
    example = torch.zeros(2, 2, side, side, dtype=torch.uint8)
    model = openvino.convert_model(final, example_input=example, input=[([-1, 2, side, side], openvino.Type.u8)])
    model.inputs[0].get_tensor().set_names({"frames"})
    for port, name in zip(model.outputs, OUTPUTS, strict=True):
        port.get_tensor().set_names({name})
    return model


def quantise(model: openvino.Model, frames: NDArray[np.uint8]) -> openvino.Model:
    """Return the model with its dense convolutions in INT8; the stem and what follows the pooling stay as they are."""
    import nncf

    body = [o for o in model.get_ops() if o.get_type_name() == "Convolution" and o.input_value(1).shape[1] > 2]
    others = [o for o in model.get_ops() if o not in body and o.get_type_name() != "Constant" and o.outputs()]
    # What lies between two convolutions may be quantised with them; not the stem, nor the heads, which have no maps.
    kept = {"Convolution", "MatMul", "ReduceSum", "Multiply", "Divide", "Subtract", "Sqrt", "Power", "Abs", "Concat"}
    names = [
        o.get_friendly_name()
        for o in others
        if o.get_type_name() in kept or o.output(0).get_partial_shape().rank.get_length() != 4
    ]
    ignored = nncf.IgnoredScope(names=names, validate=False)
    data = nncf.Dataset([frames[i : i + 8] for i in range(0, len(frames), 8)])
    smooth = nncf.AdvancedSmoothQuantParameters(convolution=SMOOTH, matmul=SMOOTH)
    return nncf.quantize(
        model, data, subset_size=len(frames) // 8, ignored_scope=ignored, preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU, fast_bias_correction=False,
        model_type=nncf.ModelType.TRANSFORMER,  # only of this type are channels evened out
        advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=smooth),
    )  # fmt: skip


def run(xml: Path, frames: NDArray[np.uint8], batch: int = 8) -> tuple[dict[str, NDArray[np.float32]], float]:
    """Return the outputs from the IR on one core, and the least milliseconds of CPU a frame."""
    settings = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(xml, "CPU", settings)
    request = compiled.create_infer_request()
    names = OUTPUTS[: len(compiled.outputs)]  # earlier versions had the first of them only
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    cost = float("inf")
    for start in range(0, len(frames), batch):
        began = time.process_time()
        request.infer([frames[start : start + batch]])
        cost = min(cost, (time.process_time() - began) * 1000 / len(frames[start : start + batch]))
        for index, name in enumerate(names):
            found[name].append(request.get_output_tensor(index).data.copy())
    return {name: np.concatenate(parts) for name, parts in found.items()}, cost


def manifest(folder: Path, stem: str, version: str, shape: Shape) -> str:
    """Return the manifest of the IR `stem`.xml in `folder`."""
    sha = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in (f"{stem}.xml", f"{stem}.bin")}
    side = shape.grid * shape.patch
    hashes = "\n".join(f'"{name}" = "{digest}"' for name, digest in sha.items())
    labels = ", ".join(f'"{fault}"' for fault in FAULTS)
    outputs = {
        "score": ("[-1]", "range = [0, 100]"),
        "faults": (f"[-1, {len(FAULTS)}]", f"range = [0, 1]\nlabels = [{labels}]"),
        "bounds": ("[-1, 2]", "range = [0, 100]"),
        "novelty": ("[-1]", ""),
        "by_bits": (f"[-1, {len(CODECS)}, {TERMS}]", ""),
        "by_bits_reach": ("[-1, 2]", ""),
    }
    tables = "\n".join(
        f'[[outputs]]\nname = "{name}"\nshape = {size}\n{more}\n'.replace("\n\n", "\n")
        for name, (size, more) in outputs.items()
    )
    return f"""name = "score"
version = "{version}"
file = "{stem}.xml"
licence = "Apache-2.0"
source = "scripts/train_score"

[sha256]
{hashes}

[[inputs]]
name = "frames"
dtype = "u8"
layout = "NCHW"
shape = [-1, 2, {side}, {side}]

{tables}
[view]
kind = "fragments"
grid = {shape.grid}
patch = {shape.patch}
pair = true
"""


def export(final: Final, folder: Path, version: str, train: NDArray[np.uint8], check: NDArray[np.uint8]) -> None:
    """Write both exports and their manifests into `folder`, and hold them against torch.

    Args:
        final: Calibrated.
        folder: Where the files go.
        version: For the manifests.
        train: Pairs to set the INT8 ranges by, (n, 2, S, S).
        check: Pairs to compare on, (n, 2, S, S).
    """
    with torch.no_grad():
        model = convert(final)
    openvino.save_model(model, folder / "score.xml", compress_to_fp16=True)
    openvino.save_model(quantise(model, train), folder / "score-int8.xml", compress_to_fp16=True)
    with torch.inference_mode():
        mine = dict(zip(OUTPUTS, (v.numpy() for v in final(torch.from_numpy(check))), strict=True))
    wide, cost = run(folder / "score.xml", check)
    narrow, cost_int8 = run(folder / "score-int8.xml", check)
    worst = {name: float(np.abs(mine[name] - wide[name]).max()) for name in OUTPUTS}
    moved: dict[str, Any] = {name: float(np.abs(narrow[name] - wide[name]).mean()) for name in OUTPUTS}
    size = sum(path.stat().st_size for end in ("xml", "bin") for path in folder.glob(f"score*.{end}"))
    print(f"{len(check)} mosaics, torch against FP16, at most: {worst}")
    print(f"FP16 against INT8, on average: {moved}")
    print(
        f"milliseconds of CPU a frame (one core, batch 8): {cost:.2f} FP16, {cost_int8:.2f} INT8; {size / 1e6:.2f} MB"
    )
    if worst["score"] >= TOLERANCE or moved["score"] >= TOLERANCE_INT8 or size >= 4e6:
        sys.exit("the export is not usable: see the figures above")
    for stem, name in (("score", "model.toml"), ("score-int8", "model-int8.toml")):
        (folder / name).write_text(manifest(folder, stem, version, final.net.shape))


def main() -> None:
    """Calibrate, export, compare, write the manifests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--keep", type=Path, default=HERE / "score.pt", help="the checkpoint with its calibration")
    parser.add_argument("--to", type=Path, default=MODELS / "score", help="the folder of the files")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    final = load(options.checkpoint)
    rng = np.random.default_rng(0)
    seen, check = Mosaics(options.work, "train"), Mosaics(options.work, "validation")
    seen = seen.images[np.sort(rng.choice(len(seen.images), min(12_000, len(seen.images)), replace=False))]
    with torch.no_grad():
        final.calibrate(seen, check)
    print(f"bounds are widened by {final.widen.tolist()}")
    pairs = check.images[rng.permutation(len(check.images))[:512]][:, [1, 0]]
    export(final, options.to, options.version, seen[:: len(seen) // 480][:480][:, [1, 0]], pairs)
    keep(final, options.keep)


if __name__ == "__main__":
    main()
