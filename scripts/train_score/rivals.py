"""Scores the test clips with NIQE, which is slow: one JSON file a content in `WORK/niqe`, made once.

The implementation and its model of natural pictures are scikit-video's; `evaluate.py` reads the results. BRISQUE is
fast and done by `label.py`.

    python scripts/train_score/rivals.py --work DIR [--workers 2] [--clips 5]
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import degrade
import label
import numpy as np
import recipes
import render
import sources
import tqdm
from numpy.typing import NDArray
from PIL import Image

LEAST = 194
"""Rows and columns that NIQE's two patches of 96 need."""


def _halved(image: NDArray[np.float32], _size: float, interp: str, mode: str) -> NDArray[np.float32]:
    """Do what scipy.misc.imresize did: scikit-video still asks for it."""
    assert (interp, mode) == ("bicubic", "F")
    small = Image.fromarray(image.astype(np.float32)).resize((image.shape[1] // 2, image.shape[0] // 2), Image.BICUBIC)
    return np.asarray(small)


def niqe_of() -> Callable[[NDArray[np.uint8]], float]:
    """Return scikit-video's NIQE of one luma picture, with the names of old numpy and scipy that it needs."""
    warnings.simplefilter("ignore")
    for name, kind in (("int", int), ("float", float), ("bool", bool)):
        if name not in vars(np):
            setattr(np, name, kind)
    importlib.import_module("scipy.misc").imresize = _halved  # type: ignore[attr-defined]
    measure = importlib.import_module("skvideo.measure")
    return lambda luma: float(measure.niqe(luma[None, :, :, None])[0])


def make(job: tuple[Path, sources.Content, int]) -> None:
    """Judge the middle frame of some clips of one content: the first ones of a fixed shuffle of its recipes."""
    work, content, most = job
    target = work / "niqe" / f"{content.id}.json"
    if target.exists() or min(content.size) < LEAST:
        return
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.PANIC)
    niqe = niqe_of()
    pristine = render.render(work, content)
    planned = recipes.recipes(content)
    found: dict[str, Any] = {}
    for index in np.random.default_rng(content.seed).permutation(len(planned))[:most]:
        try:
            clip = degrade.apply(pristine, planned[index]).clip
        except (ValueError, av.error.FFmpegError):
            continue
        found[str(planned[index].seed)] = niqe(clip[label.KEPT[1], : content.size[1]])
    partial = target.with_suffix(".part")
    partial.write_text(json.dumps(found))
    partial.rename(target)


def main() -> None:
    """Judge the clips of every test content that has no file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clips", type=int, default=5, help="of each content")
    options = parser.parse_args()
    (options.work / "niqe").mkdir(parents=True, exist_ok=True)
    contents = [c for c in sources.load_split().values() if c.split == "test" and c.look == 0]
    contents.sort(key=lambda c: sources.seed_of("order", c.id))
    jobs = [(options.work, c, options.clips) for c in contents]
    with multiprocessing.Pool(options.workers, maxtasksperchild=8) as pool:
        for _ in tqdm.tqdm(pool.imap_unordered(make, jobs), total=len(jobs), unit="content", mininterval=10):
            pass


if __name__ == "__main__":
    main()
