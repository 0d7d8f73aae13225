"""The score net: a fixed DCT stem over a mosaic and its neighbour, then a small convolutional body.

The stem takes 8x8 cosine coefficients every 4 pixels of the frame, of the neighbour and of their difference, and
keeps the square root of their size: what compression, blur and noise leave on a picture shows in which coefficients
are zero, and the square root keeps small ones apart at a fraction of a logarithm's cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vpipe_score.bits import CODECS, TERMS


@dataclass(frozen=True)
class Shape:
    """What may be chosen about the net; kept in the checkpoint."""

    grid: int = 7
    patch: int = 32
    widths: tuple[int, ...] = (48, 64, 96, 96, 128)
    strides: tuple[int, ...] = (2, 2, 1, 1, 2)
    """A layer that keeps width and size adds to what comes in."""
    hidden: int = 96
    faults: int = 7

    @classmethod
    def wide(cls) -> Shape:
        """Return the larger net, for more data and time."""
        return cls(widths=(48, 80, 112, 112, 112, 160), strides=(2, 2, 1, 1, 1, 2), hidden=128)


_LOW = [(u, v) for u in range(3) for v in range(3)]
CURRENT = [(u, v) for u in (0, 1, 2, 4, 6) for v in (0, 1, 2, 4, 6)] + [(3, 3), (0, 7), (7, 0)]
NEIGHBOUR = [*_LOW, (4, 4)]
DIFFERENCE = [*_LOW, (4, 4)]
"""Frequencies (rows, columns) taken of each: together 48, a multiple of the vector width."""


def _stem_filters() -> Tensor:
    """Return (channels, 2, 8, 8): orthonormal cosines for the frame, its neighbour, their difference."""
    grid = torch.arange(8, dtype=torch.float64)

    def cosine(u: int, v: int) -> Tensor:
        def axis(k: int) -> Tensor:
            return torch.cos((2 * grid + 1) * k * math.pi / 16) * math.sqrt((1 if k == 0 else 2) / 8)

        # high frequencies are weaker in pictures: lift them to the same order
        return torch.outer(axis(u), axis(v)) * (0.1 if u + v == 0 else 1.0 + 0.25 * (u + v))

    filters = []
    for frequencies, signs in ((CURRENT, (1, 0)), (NEIGHBOUR, (0, 1)), (DIFFERENCE, (1, -1))):
        filters += [torch.stack([cosine(u, v) * s for s in signs]) for u, v in frequencies]
    return torch.stack(filters).float()


_AXIS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)
PATCH_WIDE = [p for f in _AXIS for p in ((f, 0), (0, f))] + [(f, f) for f in (1, 2, 3, 4, 6, 8, 11, 15)]
PATCH_WIDE += [p for f in (1, 2, 4, 6) for p in ((f, 2 * f), (2 * f, f))]
"""Cosine frequencies of a whole patch: across, down, and aslant, from one half wave to three pixels."""


def _patch_filters(patch: int) -> Tensor:
    grid = torch.arange(patch, dtype=torch.float64)

    def axis(k: int) -> Tensor:
        return torch.cos((2 * grid + 1) * k * math.pi / (2 * patch)) * math.sqrt((1 if k == 0 else 2) / patch)

    # a picture's amplitude falls with the frequency: bring all to the same order
    waves = [torch.outer(axis(u), axis(v)) * 0.25 * math.hypot(u, v) for u, v in PATCH_WIDE]
    return torch.stack(waves)[:, None].float()


class Layer(nn.Module):
    """A 3x3 convolution, normalised; where width and size stay, what comes in is added."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        """Build it with fresh weights; a layer that adds starts as nothing."""
        super().__init__()
        self.adds = before == width and stride == 1
        self.convolve = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.normalise = nn.BatchNorm2d(width)
        if self.adds:
            nn.init.zeros_(self.normalise.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Transform."""
        out = torch.relu(self.normalise(self.convolve(features)))
        return features + out if self.adds else out


class Judged(NamedTuple):
    """What the net says of N mosaics."""

    score: Tensor
    """(N,) 0..100."""
    faults: Tensor
    """(N, K) logits."""
    spread: Tensor
    """(N, 2) how far below and above the score the truth may lie, points."""
    by_bits: Tensor
    """(N, codecs, terms): the weights of `vpipe_score.bits`."""
    bits_spread: Tensor
    """(N, 2): `spread` of the score that follows from the bits."""
    description: Tensor
    """(N, 2 * width)."""


class ScoreNet(nn.Module):
    """uint8 or float mosaics (N, 2, S, S) to what is `Judged` of them."""

    def __init__(self, shape: Shape) -> None:
        """Build the net of `shape` with fresh weights."""
        super().__init__()
        self.shape = shape
        filters = _stem_filters()
        self.register_buffer("stem", filters)
        before = (len(filters), *shape.widths)
        self.body = nn.Sequential(*(Layer(*sizes) for sizes in zip(before, shape.widths, shape.strides, strict=False)))
        # The stem's windows of 8 pixels cannot tell a wide blur from a smooth scene; the spectrum of a whole patch can.
        self.register_buffer("waves", _patch_filters(shape.patch))
        self.spectrum = nn.Sequential(
            nn.Conv2d(len(PATCH_WIDE), 64, 1), nn.ReLU(inplace=True), nn.Conv2d(64, before[-1], 1)
        )
        nn.init.zeros_(self.spectrum[2].weight)
        nn.init.zeros_(self.spectrum[2].bias)
        self.weigh = nn.Conv2d(before[-1], 1, 1)
        self.neck = nn.Sequential(nn.Linear(before[-1] * 2, shape.hidden), nn.ReLU(inplace=True), nn.Dropout(0.1))
        self.score = nn.Linear(shape.hidden, 1)
        self.faults = nn.Linear(shape.hidden, shape.faults)
        self.spread = nn.Linear(shape.hidden, 2)
        # How the score follows from the bits a pixel: nothing at first, so that it is the one of the pixels.
        self.reader = nn.Sequential(nn.Linear(before[-1] * 2, shape.hidden), nn.ReLU(inplace=True), nn.Dropout(0.3))
        self.bits = nn.Linear(shape.hidden, len(CODECS) * TERMS)
        nn.init.zeros_(self.bits.weight)
        nn.init.zeros_(self.bits.bias)
        self.bits_spread = nn.Linear(shape.hidden, 2)

    def energies(self, frames: Tensor) -> Tensor:
        """Return the stem's output."""
        # padded on one side only: then one window in eight crosses from a patch into the next, not two
        padded = nn.functional.pad(frames.float(), (0, 4, 0, 4))
        coefficients = nn.functional.conv2d(padded, self.stem, stride=4)
        return torch.sqrt(coefficients.abs() + 0.05)

    def describe(self, frames: Tensor) -> Tensor:
        """Return what the patches have in common: their weighted mean and deviation, (N, 2 * width)."""
        features = self.body(self.energies(frames) * 0.2)
        waves = nn.functional.conv2d(frames[:, :1].float(), self.waves, stride=self.shape.patch)
        features = torch.relu(features + self.spectrum(torch.sqrt(waves.abs() + 0.05) * 0.2))
        weight = torch.sigmoid(self.weigh(features)) + 1e-3
        weight = weight / weight.sum((2, 3), keepdim=True)
        mean = (features * weight).sum((2, 3), keepdim=True)
        variance = ((features - mean).square() * weight).sum((2, 3))
        return torch.cat([mean.flatten(1), torch.sqrt(variance + 1e-4)], 1)

    def forward(self, frames: Tensor) -> Judged:
        """Predict."""
        return self.judge(self.describe(frames))

    def judge(self, description: Tensor) -> Judged:
        """Predict from what `describe` returned."""
        hidden, read = self.neck(description), self.reader(description)
        odds = self.score(hidden)
        by_bits = self.bits(read).unflatten(1, (len(CODECS), TERMS))
        # by_bits adds to what the pixels say; term 0 is the constant
        by_bits = torch.cat([by_bits[..., :1] + odds[:, :, None], by_bits[..., 1:]], 2)
        # The spreads learn from the same features and must not bend them.
        spread = nn.functional.softplus(self.spread(hidden.detach())) * 10
        bits_spread = nn.functional.softplus(self.bits_spread(read.detach())) * 10
        score = torch.sigmoid(odds).squeeze(1) * 100
        return Judged(score, self.faults(hidden), spread, by_bits, bits_spread, description)

    def begin_from(self, old: dict[str, Tensor]) -> None:
        """Take over the weights of a checkpoint that this net extends: of version 1.0.0 or of this very shape."""
        own = self.state_dict()
        if "body.0.weight" in old:  # 1.0.0 had no layer that adds, and no spread
            place = [i for i, layer in enumerate(self.body) if not layer.adds]
            renamed = {}
            for name, value in old.items():
                if name.startswith("body."):
                    _, number, rest = name.split(".", 2)
                    part = ("convolve", "normalise")[int(number) % 3]
                    name = f"body.{place[int(number) // 3]}.{part}.{rest}"
                renamed[name] = value
            old = renamed
        for name, value in old.items():
            mine = own[name]
            if name.startswith("bits."):  # each codec keeps its first terms
                mine, value = (v.unflatten(0, (len(CODECS), -1)) for v in (mine, value))
            mine[tuple(slice(0, n) for n in value.shape)] = value  # a head with more faults keeps the first ones
        self.load_state_dict(own)
