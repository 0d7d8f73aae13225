"""Makes the data set: renders each content, spoils it, labels every frame with VMAF and keeps the mosaics.

One `.npz` a content lies in `WORK/data`; a content that has its file is not made again.

    python scripts/train_score/label.py --work DIR [--workers 2] [--split train]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import av
import bitstream
import cv2
import degrade
import imageio_ffmpeg
import numpy as np
import recipes
import render
import sources
import tqdm
from numpy.typing import NDArray

from vpipe import fragments
from vpipe_score import bits

GRID, PATCH = 7, 32
KEPT = (3, 7, 11)
"""Frames of a clip whose mosaics are kept, each with the frame before and the frame after it."""
EVERY = 4
"""From one kept frame to the next."""
PACE = {"train": 150, "validation": 25, "test": 80}
"""So many contents of each side are made in the same time."""
BRISQUE_FILES = "x/opencv-doc/usr/share/doc/opencv-doc/examples/quality"


def vmaf(clip: degrade.Clip, pristine: Path) -> list[float]:
    """Return libvmaf's v0.6.1 score of each kept frame of `clip` against the raw file `pristine`.

    Both get their first frame twice, which brings the kept frames to every fourth place: libvmaf then takes the motion
    from all frames, and the other features, nearly all of the work, of those alone.
    """
    size = f"{clip.shape[2]}x{clip.shape[1] * 2 // 3}"
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", size, "-r", str(degrade.RATE)]
    with tempfile.NamedTemporaryFile(suffix=".json", dir=pristine.parent) as log:
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *raw, "-i", "-", *raw, "-i", str(pristine),
            "-lavfi", f"libvmaf=log_fmt=json:log_path={log.name}:n_threads=1:n_subsample={EVERY}", "-f", "null", "-",
        ]  # fmt: skip
        subprocess.run(command, input=doubled(clip).tobytes(), check=True)
        frames = json.loads(Path(log.name).read_text())["frames"]
    found = {f["frameNum"]: f["metrics"]["vmaf"] for f in frames}
    return [found[frame + 1] for frame in KEPT]


def doubled(clip: degrade.Clip) -> degrade.Clip:
    """Return the clip with its first frame twice."""
    return np.concatenate([clip[:1], clip])


def mosaic(luma: NDArray[np.uint8], corners: tuple[tuple[int, int], ...]) -> NDArray[np.uint8]:
    """Lay the patches at `corners` side by side."""
    out = np.empty((GRID * PATCH, GRID * PATCH), np.uint8)
    for index, (y, x) in enumerate(corners):
        row, column = divmod(index, GRID)
        out[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = luma[y : y + PATCH, x : x + PATCH]
    return out


def combed(pristine: NDArray[np.uint8], woven: NDArray[np.uint8]) -> float:
    """Say whether a mosaic shows a comb: 1, 0, or -1 where it hardly does."""
    even, odd = (np.abs(woven[a::2].astype(np.float32) - pristine[a::2]) for a in (0, 1))
    patches = (odd - even).reshape(GRID, PATCH // 2, GRID, PATCH).mean((1, 3))
    shown = int((patches > 3).sum())
    return 1.0 if shown >= 5 else 0.0 if patches.max() < 0.3 else -1.0


def make(job: tuple[Path, sources.Content]) -> str:
    """Make one content's file; the answer is empty or says what failed."""
    work, content = job
    target = work / "data" / f"{content.id}.npz"
    if target.exists():
        return ""
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.PANIC)
    problems = []
    pristine = render.render(work, content)
    height, width = content.size[1], content.size[0]
    rng = np.random.default_rng(content.seed + 3)
    mosaics, rows, streams = [], [], []
    brisque = None
    if content.split == "test":
        folder = work / BRISQUE_FILES
        model, ranges = folder / "brisque_model_live.yml", folder / "brisque_range_live.yml"
        brisque = cv2.quality.QualityBRISQUE_create(str(model), str(ranges))  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder_name:
        raw = Path(folder_name) / "pristine.yuv"
        raw.write_bytes(doubled(pristine).tobytes())
        for number, recipe in enumerate(recipes.recipes(content)):
            try:
                spoiled = degrade.apply(pristine, recipe)
                clip, undamaged = spoiled.clip, spoiled.undamaged
                scores = vmaf(clip, raw)
                delivered = bitstream.facts(spoiled.data) if spoiled.data else None
                streams.append({"delivered": delivered, "master": bitstream.facts(degrade.master(clip, recipe.seed))})
            except (ValueError, av.error.FFmpegError, subprocess.CalledProcessError) as error:
                problems.append(f"{content.id} {recipe}: {error}")
                streams.append({"delivered": None, "master": None})
                continue
            rival = float("nan")
            if brisque is not None:
                picture = cv2.cvtColor(clip[KEPT[1]], cv2.COLOR_YUV2BGR_I420)
                rival = float(brisque.compute(picture)[0])
            for frame, truth in zip(KEPT, scores, strict=True):
                if not spoiled.present[frame - 1 : frame + 2].all():
                    continue
                faults = recipes.fault_targets(recipe, float(np.mean(scores)), render.grain_of(content))
                for phase in rng.integers(0, fragments.PHASES, recipes.VIEWS[content.split]):
                    corners = fragments.positions(height, width, GRID, PATCH, int(phase))
                    mosaics.append(np.stack([mosaic(clip[frame + step, :height], corners) for step in (-1, 0, 1)]))
                    mine = list(faults)
                    if undamaged is not None:
                        whole = mosaic(undamaged[frame, :height], corners).astype(np.float32)
                        harm = np.abs(whole - mosaics[-1][1]).reshape(GRID, PATCH, GRID, PATCH).mean((1, 3))
                        hit = int((harm > 6).sum())
                        damaged = 1.0 if hit >= 2 else 0.0 if hit == 0 and harm.max() < 1 else -1.0
                        mine[recipes.FAULTS.index("damaged")] = damaged
                    if recipe.kind == "interlaced":
                        before = mosaic(pristine[frame, :height], corners)
                        mine[recipes.FAULTS.index("interlaced")] = combed(before, mosaics[-1][1])
                    row = {"recipe": number, "frame": frame, "vmaf": truth, "faults": mine, "brisque": rival}
                    if spoiled.flags is not None:
                        row["loss"] = bits.losses(spoiled.flags)[frame].tolist()
                    rows.append(row)
    info: dict[str, Any] = {
        "recipes": [vars(r) for r in recipes.recipes(content)],
        "rows": rows,
        "streams": streams,
    }
    partial = target.with_suffix(".part.npz")
    np.savez(partial, mosaics=np.stack(mosaics), info=json.dumps(info))
    partial.rename(target)
    return "; ".join(problems)


def in_turn(contents: list[sources.Content]) -> list[sources.Content]:
    """Order contents so that a cut run leaves the most: one of every picture, then another of each, and so on.

    All sides of the split grow together. To learn from, looks come first that are small and have few recipes or those
    that teach most, so more pictures are done in the time. Of real films, which are few, a round has four looks.
    """
    shuffled = sorted(contents, key=lambda c: ((4, 1, 6, 0, 5, 2, 3).index(c.look), sources.seed_of("order", c.id)))
    seen: dict[str, int] = {}
    place = {}
    for content in shuffled:
        number = seen.setdefault(content.group, 0) // (4 if content.kind == "real" else 1)
        seen[content.group] += 1
        place[content.id] = number, sources.seed_of("order", content.id)
    done = {}
    for split, pace in PACE.items():
        mine = sorted((c.id for c in contents if c.split == split), key=place.__getitem__)
        done |= {name: at / pace for at, name in enumerate(mine)}
    return sorted(contents, key=lambda c: done[c.id])


def main() -> None:
    """Make the data of every content that has none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--split", choices=("train", "validation", "test"))
    parser.add_argument("--limit", type=int, help="only so many contents, for a try")
    options = parser.parse_args()
    (options.work / "data").mkdir(parents=True, exist_ok=True)
    contents = [c for c in sources.load_split().values() if options.split in (None, c.split)]
    contents = in_turn(contents)
    jobs = [(options.work, c) for c in contents][: options.limit]
    with multiprocessing.Pool(options.workers, maxtasksperchild=8) as pool:
        for problem in tqdm.tqdm(pool.imap_unordered(make, jobs), total=len(jobs), unit="content", mininterval=10):
            if problem:
                tqdm.tqdm.write(problem)


if __name__ == "__main__":
    main()
