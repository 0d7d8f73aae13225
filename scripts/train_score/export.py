"""Exports a checkpoint as OpenVINO IR with its manifest.

Fails where the export disagrees with torch or is too large. A checkpoint is exported like this:

    python scripts/train_score/export.py --work DIR --checkpoint DIR/runs/v1/best.pt --version 1.0.0
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

import numpy as np
import openvino
import torch
from degrade import FAULTS
from model import ScoreNet, Shape
from numpy.typing import NDArray
from torch import Tensor, nn
from train import Mosaics

MODELS = Path(__file__).resolve().parents[2] / "pipelines/vpipe_score/models"
TOLERANCE = 0.3
"""Most score points by which torch and the IR may differ."""


class Probabilities(nn.Module):
    """The net as the engine sees it: faults as probabilities, score within 0..100."""

    def __init__(self, net: ScoreNet) -> None:
        """Wrap `net`."""
        super().__init__()
        self.net = net

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Predict."""
        score, logits = self.net(frames)
        return score, torch.sigmoid(logits)


def load(checkpoint: Path) -> ScoreNet:
    """Return the net of a checkpoint, ready to predict."""
    state = torch.load(checkpoint, weights_only=True)
    net = ScoreNet(Shape(**state["shape"]))
    net.load_state_dict(state["net"])
    return net.eval()


def convert(net: ScoreNet) -> openvino.Model:
    """Return the IR: uint8 in, any batch, named ports."""
    side = net.shape.grid * net.shape.patch
    example = torch.zeros(2, 2, side, side, dtype=torch.uint8)
    model = openvino.convert_model(
        Probabilities(net), example_input=example, input=[([-1, 2, side, side], openvino.Type.u8)]
    )
    model.inputs[0].get_tensor().set_names({"frames"})
    model.outputs[0].get_tensor().set_names({"score"})
    model.outputs[1].get_tensor().set_names({"faults"})
    return model


def run(xml: Path, frames: NDArray[np.uint8], batch: int = 8) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Return score and faults from the IR on one core, and the least milliseconds of CPU a frame."""
    settings = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(xml, "CPU", settings).create_infer_request()
    scores, faults, cost = [], [], float("inf")
    for start in range(0, len(frames), batch):
        began = time.process_time()
        request.infer([frames[start : start + batch]])
        cost = min(cost, (time.process_time() - began) * 1000 / len(frames[start : start + batch]))
        scores.append(request.get_output_tensor(0).data.copy())
        faults.append(request.get_output_tensor(1).data.copy())
    return np.concatenate(scores), np.concatenate(faults), cost


def main() -> None:
    """Export, compare, write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--version", default="1.0.0")
    options = parser.parse_args()
    net = load(options.checkpoint)
    folder = MODELS / "score"
    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(convert(net), folder / "score.xml", compress_to_fp16=True)

    frames = Mosaics(options.work, "validation").images[:512, [1, 0]]
    with torch.inference_mode():
        score, faults = Probabilities(net)(torch.from_numpy(frames))
    exported, exported_faults, cost = run(folder / "score.xml", frames)
    worst = float(np.abs(score.numpy() - exported).max())
    worst_fault = float(np.abs(faults.numpy() - exported_faults).max())
    size = sum((folder / n).stat().st_size for n in ("score.xml", "score.bin"))
    print(f"torch against IR on {len(frames)} mosaics: score {worst:.3f}, faults {worst_fault:.4f} at most")
    print(f"{cost:.2f} ms of CPU a frame (one core, batch 8, FP32), {size / 1e6:.2f} MB")
    if worst >= TOLERANCE or size >= 4e6:
        sys.exit("the export is not usable: see the figures above")

    sha = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in ("score.xml", "score.bin")}
    side = net.shape.grid * net.shape.patch
    (folder / "model.toml").write_text(
        f"""name = "score"
version = "{options.version}"
file = "score.xml"
licence = "Apache-2.0"
source = "scripts/train_score"

[sha256]
"score.xml" = "{sha["score.xml"]}"
"score.bin" = "{sha["score.bin"]}"

[[inputs]]
name = "frames"
dtype = "u8"
layout = "NCHW"
shape = [-1, 2, {side}, {side}]

[[outputs]]
name = "score"
shape = [-1]
range = [0, 100]

[[outputs]]
name = "faults"
shape = [-1, {len(FAULTS)}]
range = [0, 1]
labels = [{", ".join(f'"{f}"' for f in FAULTS)}]

[view]
kind = "fragments"
grid = {net.shape.grid}
patch = {net.shape.patch}
pair = true
"""
    )


if __name__ == "__main__":
    main()
