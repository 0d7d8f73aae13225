"""A program beside us that speaks a protocol which the FFmpeg inside PyAV does not: SRT.

`srt-live-transmit` or an `ffmpeg` with SRT is looked for; it hands the bytes on as they come, unchanged, through a
pipe. It is killed by the kernel when the thread that started it ends, so it outlives nobody.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import shutil
import subprocess
import time

from vpipe.child import bound, child_environment, readable
from vpipe.errors import MediaError
from vpipe.media.sources import without_secrets

REMEDY = "install srt-live-transmit (Debian, Ubuntu: srt-tools) or an ffmpeg that has SRT, and put it on PATH"
CHUNK_BYTES = 1316
"""Of SRT's own packets: seven of MPEG-TS."""


@functools.cache
def find_relay() -> tuple[str, str] | None:
    """Return the kind (`srt` or `ffmpeg`) and path of a program that speaks SRT; None where there is none."""
    found = shutil.which("srt-live-transmit")
    if found is not None:
        return "srt", found
    candidates = [shutil.which("ffmpeg")]
    with contextlib.suppress(ImportError, RuntimeError):
        candidates.append(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    for path in filter(None, candidates):
        told = subprocess.run([path, "-hide_banner", "-protocols"], capture_output=True, text=True, check=False)
        if "srt" in told.stdout.split():
            return "ffmpeg", path
    return None


def _command(kind: str, path: str, url: str) -> list[str]:
    if kind == "srt":
        return [path, "-q", "-a:no", f"-chunk:{CHUNK_BYTES}", url, "file://con"]
    quiet = [path, "-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "srt,pipe"]
    # As data, not as media: the bytes pass, and with them the times, as they are.
    source = ["-fflags", "nobuffer", "-f", "data", "-i", url]
    return [*quiet, *source, "-map", "0", "-c", "copy", "-flush_packets", "1", "-f", "data", "pipe:1"]


class Relay:
    """A running relay, as the file that its bytes are read from.

    Raises:
        MediaError: `protocol`: no program here speaks it.
    """

    def __init__(self, url: str, *, open_s: float, stall_s: float) -> None:
        found = find_relay()
        if found is None:
            raise MediaError("protocol", f"{without_secrets(url)}: nothing on this machine speaks SRT; {REMEDY}")
        self._patience_s = open_s
        self._stall_s = stall_s
        self.reason = ""
        """Why there is no more, once there is no more."""
        self._process = subprocess.Popen(
            bound(_command(*found, url)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
        )
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()

    def read(self, size: int) -> bytes:
        """Return what has come, at most `size` bytes; nothing at the end or after silence, and `reason` says which."""
        until = time.monotonic() + self._patience_s
        while not readable([self._fd], max(0.0, until - time.monotonic())):
            if time.monotonic() >= until:
                self.reason = f"nothing has come for {self._patience_s:g} s"
                return b""
        data = os.read(self._fd, size)
        self._patience_s = self._stall_s
        if not data and not self.reason:
            assert self._process.stderr is not None
            lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            self.reason = lines[-1] if lines else "the other side has ended"
        return data

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.communicate()
