"""What is done to each content, and which faults that makes. Everything follows from the content's seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sources

VIEWS = {"train": 2, "validation": 2, "test": 4}
"""Sets of positions that each kept frame is looked at with, side by side. Of a test clip that makes twelve views, as
many as `vpipe score --sample every` takes of its twelve frames."""

FAULTS = ("compression", "upscaled", "blurred", "noisy", "banded", "damaged", "interlaced")
LADDERS: dict[str, tuple[float, float]] = {
    "x264": (17, 51),
    "x265": (17, 51),
    "vp9": (22, 63),
    "av1": (25, 63),
    "mpeg2": (2, 31),
    "mpeg4": (2, 31),
}
"""Quality parameter of each encoder from clean to ruined (CRF, or quantiser for MPEG-2/4)."""


@dataclass(frozen=True)
class Recipe:
    """One way to spoil a clip."""

    kind: str
    codec: str = ""
    level: float = 0.0
    """0 clean .. 1 ruined, along the codec's ladder."""
    amount: float = 0.0
    """Blur radius, noise deviation, band step or scale factor, by kind. Of kind `codec`: the factor by which the clip
    was scaled down, and up again, before it was encoded; 0: not at all."""
    style: int = 0
    seed: int = 0


def recipes(content: sources.Content) -> list[Recipe]:
    """List the recipes of one content; test contents get a few more for ladders within a content."""
    sets = [_first_set, _second_set, _missing_faults, _third_set, _fourth_set, _scaled_set, _soft_set]
    found = sets[content.look](content)
    return [replace(r, seed=content.seed + 100 + 50 * content.look + i) for i, r in enumerate(found)]


def _first_set(content: sources.Content) -> list[Recipe]:
    rng = np.random.default_rng(content.seed + 2)
    light = ("x264", "x265")
    found = [Recipe("pristine")]

    def ladder(codec: str, steps: int) -> None:
        found.extend(Recipe("codec", codec, (step + rng.random()) / steps) for step in range(steps))

    more = content.split == "test"
    ladder("x264", 3 if more else 2)
    ladder("x265", 2)
    for codec in ("vp9", "av1"):
        ladder(codec, 1)
    ladder(str(rng.choice(["mpeg2", "mpeg4"])), 1 + more)
    codec = str(rng.choice(["", "x264", "x265", "vp9", "av1"], p=[0.25, 0.3, 0.2, 0.15, 0.1]))
    level, factor = rng.random() * 0.8, float(rng.choice([1.5, 2, 2.5, 3, 4]))
    found.append(Recipe("rescale", codec, level, factor, int(rng.integers(4))))
    codec = str(rng.choice(["", *light], p=[0.6, 0.25, 0.15]))
    level, radius = rng.uniform(0, 0.35), float(np.exp(rng.uniform(-0.6, 1.5)))
    found.append(Recipe("blur", codec, level, radius, int(rng.integers(3))))
    codec = str(rng.choice(["", *light], p=[0.45, 0.35, 0.2]))
    level, deviation = rng.uniform(0, 0.45), float(np.exp(rng.uniform(0.5, 2.9)))
    found.append(Recipe("noise", codec, level, deviation, int(rng.integers(3))))
    last = str(rng.choice(["banded", "damaged", "twice", "rescale"], p=[0.2, 0.4, 0.2, 0.2]))
    if last == "banded":
        found.append(Recipe("banded", "", 0, float(rng.choice([5, 8, 12, 16, 24]))))
    if last == "damaged":
        codec, level = str(rng.choice(["x264", "mpeg2"])), rng.uniform(0, 0.5)
        found.append(Recipe("damaged", codec, level, float(np.exp(rng.uniform(-7.5, -4)))))
    if last == "twice":
        codec, level, before = str(rng.choice(light)), rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.8)
        found.append(Recipe("twice", codec, level, before, int(rng.integers(3))))
    if last == "rescale":
        found.append(Recipe("rescale", "x264", rng.uniform(0.2, 0.9), float(rng.choice([1.33, 1.5, 2])), 2))
    return found


def _second_set(content: sources.Content) -> list[Recipe]:
    """Fewer recipes and wider choices: for training, many contents are worth more than many levels of one."""
    rng = np.random.default_rng(content.seed + 4)
    found = [Recipe("pristine")]
    found.extend(_encoded(rng))
    codec = str(rng.choice(["", "x264", "x265", "vp9", "av1"], p=[0.3, 0.3, 0.2, 0.1, 0.1]))
    found.append(Recipe("rescale", codec, rng.random() * 0.7, float(rng.uniform(1.2, 4)), int(rng.integers(4))))
    codec = str(rng.choice(["", "x264"], p=[0.7, 0.3]))
    found.append(Recipe("blur", codec, rng.random() * 0.4, float(np.exp(rng.uniform(-0.7, 1.3))), int(rng.integers(3))))
    if rng.random() < 0.6:
        codec = str(rng.choice(["", "x264", "x265"], p=[0.45, 0.35, 0.2]))
        deviation = float(np.exp(rng.uniform(0.3, 2.9)))
        found.append(Recipe("noise", codec, rng.random() * 0.45, deviation, int(rng.integers(3))))
    last = str(rng.choice(["banded", "damaged", "twice", "interlaced"], p=[0.12, 0.38, 0.15, 0.35]))
    if last == "twice":
        before, style = rng.uniform(0.2, 0.8), int(rng.integers(3))
        return [*found, Recipe("twice", "x264", rng.uniform(0.1, 0.6), before, style)]
    return [*found, _fault(last, rng)]


def _third_set(content: sources.Content) -> list[Recipe]:
    """Blur of every style and width, and scaling: how VMAF judges them has to be learned from many examples."""
    rng = np.random.default_rng(content.seed + 6)
    found = [Recipe("pristine")]
    for style in range(3):
        codec = str(rng.choice(["", "x264"], p=[0.75, 0.25]))
        amount = float(np.exp(rng.uniform(-0.7, 1.65)))
        found.append(Recipe("blur", codec, rng.uniform(0, 0.35), amount, style))
    codec = str(rng.choice(["", "x264", "x265"], p=[0.4, 0.4, 0.2]))
    found.append(Recipe("rescale", codec, rng.random() * 0.6, float(rng.uniform(1.2, 5)), int(rng.integers(4))))
    return [*found, Recipe("codec", str(rng.choice(list(LADDERS))), float(rng.random()))]


def _fourth_set(content: sources.Content) -> list[Recipe]:
    """What validation found hardest: losses, blur and the low end of codecs, continued by scaling."""
    rng = np.random.default_rng(content.seed + 7)
    found = [_fault("damaged", rng), _fault("damaged", rng)]
    codecs = rng.choice(["av1", "vp9", "x264", "x265"], 2, p=[0.4, 0.3, 0.15, 0.15])
    found.extend(_scaled(str(codec), rng) for codec in codecs)
    found.append(Recipe("codec", str(rng.choice(["x264", "x265"])), float(rng.random())))
    codec = str(rng.choice(["", "x264"], p=[0.8, 0.2]))
    found.append(
        Recipe("blur", codec, rng.uniform(0, 0.35), float(np.exp(rng.uniform(-0.7, 1.5))), int(rng.integers(3)))
    )
    codec = str(rng.choice(["", "x264", "vp9", "av1"], p=[0.4, 0.3, 0.15, 0.15]))
    found.append(Recipe("rescale", codec, rng.random() * 0.7, float(rng.uniform(1.2, 4.5)), int(rng.integers(4))))
    return found


def _scaled_set(content: sources.Content) -> list[Recipe]:
    """Judge the ladders of AV1 and VP9 below what their coarsest step leaves, where a publisher scales down first."""
    rng = np.random.default_rng(content.seed + 8)
    return [_scaled("av1", rng), _scaled("vp9", rng)]


def _scaled(codec: str, rng: np.random.Generator) -> Recipe:
    return Recipe("codec", codec, float(rng.random()), float(np.exp(rng.uniform(np.log(1.2), np.log(4)))))


def _encoded(rng: np.random.Generator) -> list[Recipe]:
    """Draw three encodes of any quality; what is met most is drawn most."""
    codecs = rng.choice(list(LADDERS), 3, p=[0.3, 0.25, 0.15, 0.15, 0.075, 0.075])
    return [Recipe("codec", str(codec), float(rng.random())) for codec in codecs]


def _soft_set(content: sources.Content) -> list[Recipe]:
    """What is done to an original that is soft itself: softness alone is no fault, and more of it is."""
    rng = np.random.default_rng(content.seed + 9)
    found = [Recipe("pristine")]
    found.extend(_encoded(rng))
    if rng.random() < 0.5:
        amount, style = float(np.exp(rng.uniform(0, 1.5))), int(rng.integers(3))
        return [*found, Recipe("blur", "", 0, amount, style)]
    codec = str(rng.choice(["", "x264", "x265"], p=[0.4, 0.4, 0.2]))
    return [*found, Recipe("rescale", codec, rng.random() * 0.6, float(rng.uniform(1.5, 5)), int(rng.integers(4)))]


def _missing_faults(content: sources.Content) -> list[Recipe]:
    """Ask of a content already judged what `_first_set` never does to it, and damage, which it seldom does."""
    rng = np.random.default_rng(content.seed + 5)
    return [_fault("interlaced", rng), _fault("damaged", rng)]


def _fault(kind: str, rng: np.random.Generator) -> Recipe:
    if kind == "banded":
        return Recipe("banded", "", 0, float(rng.choice([5, 8, 12, 16, 24])))
    if kind == "damaged":
        codec, level = str(rng.choice(["x264", "x264", "mpeg2"])), rng.uniform(0, 0.5)
        return Recipe("damaged", codec, level, float(np.exp(rng.uniform(-6, -3))))
    codec = str(rng.choice(["", "x264", "mpeg2"], p=[0.4, 0.4, 0.2]))
    return Recipe("interlaced", codec, rng.uniform(0, 0.4), 0.0, int(rng.integers(1, 3)))


def fault_targets(recipe: Recipe, vmaf: float, grain: float) -> list[float]:
    """Return 1, 0 or -1 (unknown: not trained, not judged) per kind of `FAULTS`.

    Damage and combs are local: label.py settles them for each mosaic.
    """
    kind, coded = recipe.kind, bool(recipe.codec)
    scaled = kind == "rescale" or (kind == "codec" and recipe.amount > 0)
    heavy = coded and (vmaf < 85 if kind in ("codec", "twice") and not scaled else recipe.level > 0.6)
    light = not coded or (kind == "codec" and vmaf > 92)
    compression = 1.0 if heavy else 0.0 if light else -1.0
    upscaled = float(scaled)
    blurred = (1.0 if recipe.amount > 0.9 else -1.0) if kind == "blur" else -1.0 if scaled else 0.0
    noisy = (1.0 if recipe.amount > 3 else -1.0) if kind == "noise" else -1.0 if grain else 0.0
    if kind == "noise" and recipe.level > 0.3 and coded:
        noisy = -1.0
    banded = (1.0 if recipe.amount > 6 else -1.0) if kind == "banded" else 0.0
    interlaced = -1.0 if kind == "interlaced" else 0.0  # settled per mosaic: where nothing moves there is no comb
    return [compression, upscaled, blurred, noisy, banded, 0.0, interlaced]
