"""The networks that frameworks are compared on, as PyTorch modules or as ONNX files."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]


def score_net() -> tuple[nn.Module, Tensor, str]:
    """Return the score net with its weights, and its input: uint8 mosaics, as vpipe feeds it."""
    folder = ROOT / "scripts" / "train_score"
    sys.path[:0] = [str(folder), str(ROOT), str(ROOT / "pipelines")]
    from model import ScoreNet, Shape

    state = torch.load(folder / "score.pt", map_location="cpu", weights_only=True)
    net = ScoreNet(Shape(**state["shape"]))
    net.begin_from(state["net"])
    side = net.shape.grid * net.shape.patch
    return net.eval(), torch.randint(0, 255, (1, 2, side, side), dtype=torch.uint8), f"mosaics of {side}x{side}"


class _Block(nn.Module):
    """MobileNetV2's inverted residual."""

    def __init__(self, before: int, after: int, stride: int, expand: int, dilation: int) -> None:
        super().__init__()
        wide = before * expand
        layers: list[nn.Module] = []
        if expand > 1:
            layers += [nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True)]
        layers += [
            nn.Conv2d(wide, wide, 3, stride, dilation, dilation, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, after, 1, bias=False),
            nn.BatchNorm2d(after),
        ]
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def _convolution(before: int, after: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    pad = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, pad, dilation, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class DeepLabV3Plus(nn.Module):
    """DeepLabV3+ on MobileNetV2 at output stride 16, for 21 classes; the weights are random."""

    # expansion, channels, repeats, stride, dilation
    BLOCKS = (
        (1, 16, 1, 1, 1), (6, 24, 2, 2, 1), (6, 32, 3, 2, 1), (6, 64, 4, 2, 1),
        (6, 96, 3, 1, 1), (6, 160, 3, 1, 2), (6, 320, 1, 1, 2),
    )  # fmt: skip
    RATES = (6, 12, 18)

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        self.stem = _convolution(3, 32, 3, 2)
        stages, width = [], 32
        for expand, after, repeats, stride, dilation in self.BLOCKS:
            blocks = []
            for i in range(repeats):
                blocks.append(_Block(width, after, stride if i == 0 else 1, expand, dilation))
                width = after
            stages.append(nn.Sequential(*blocks))
        self.low, self.high = nn.Sequential(*stages[:2]), nn.Sequential(*stages[2:])
        self.pyramid = nn.ModuleList(
            [_convolution(320, 256, 1), *(_convolution(320, 256, 3, 1, r) for r in self.RATES)]
        )
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(320, 256, 1), nn.ReLU(inplace=True))
        self.project = _convolution(256 * 5, 256, 1)
        self.reduce = _convolution(24, 48, 1)
        self.decode = nn.Sequential(_convolution(304, 256, 3), _convolution(256, 256, 3), nn.Conv2d(256, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores of every pixel."""
        low = self.low(self.stem(x))
        high = self.high(low)
        pooled = functional.interpolate(self.pooled(high), size=high.shape[2:], mode="nearest")
        both = self.project(torch.cat([*(branch(high) for branch in self.pyramid), pooled], 1))
        up = functional.interpolate(both, size=low.shape[2:], mode="bilinear", align_corners=False)
        out = self.decode(torch.cat([up, self.reduce(low)], 1))
        return functional.interpolate(out, size=x.shape[2:], mode="bilinear", align_corners=False)


def deeplab() -> tuple[nn.Module, Tensor, str]:
    """Return DeepLabV3+ and a picture."""
    torch.manual_seed(0)
    return DeepLabV3Plus().eval(), torch.rand(1, 3, 513, 513), "MobileNetV2, 513x513, random weights"


def text_detector(cache: Path) -> Path:
    """Return the text detector of PP-OCR, an ONNX file, out of the wheel of `rapidocr`."""
    folder = cache / "rapidocr"
    found = sorted(folder.glob("*det*.onnx"))
    if found:
        return found[0]
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), "rapidocr"]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if "_det_" in each and each.endswith(".onnx"))
        (folder / Path(name).name).write_bytes(archive.read(name))
    wheel.unlink()
    return folder / Path(name).name
