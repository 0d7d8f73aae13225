"""Recording of feeds while they are live: `ID-TIME-EPOCH.webmask` and so on, a file an hour and epoch.

Messages are appended to a journal, `.NAME.feed`. When its time is over, the stream ends or starts a new epoch, or the
server ends, a process of its own makes the mask files of it and removes it: files are complete or absent, and making
them never delays the feed. What a killed server left is made into files at the next start.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from pathlib import Path

from vpipe_mask.server.config import ServerConfig
from vpipe_mask.server.feed import Mask
from vpipe_mask.server.hub import Hub, Stream
from vpipe_mask.server.journal import SUFFIX, Journal, left_behind

AGAIN_S = 10.0
"""A stream whose journal cannot be written (a full disk) is tried again after this."""


class Recorder:
    """Follows all streams of a hub until it is closed; needs a running event loop."""

    def __init__(self, hub: Hub, config: ServerConfig) -> None:
        assert config.record is not None
        self._directory = Path(config.record)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._formats = config.record_formats
        self._length_us = round(config.record_minutes * 60e6)
        self._journals: dict[Stream, Journal] = {}
        self._not_before: dict[Stream, float] = {}
        self._finished: asyncio.Queue[Path] = asyncio.Queue()
        for path in left_behind(self._directory):
            self._finished.put_nowait(path)
        self._assembling = asyncio.create_task(self._assemble())
        hub.on_mask.append(self._take)
        hub.on_event.append(self._heard)

    def _take(self, stream: Stream, mask: Mask) -> None:
        journal = self._journals.get(stream)
        if journal is not None and (
            mask.epoch != journal.epoch or (mask.base is None and mask.pts_us - journal.first_us >= self._length_us)
        ):
            self._finish(stream)
            journal = None
        if journal is None and time.monotonic() < self._not_before.get(stream, 0):
            return
        try:
            if journal is None:
                journal = self._journals[stream] = Journal(self._path(stream, mask), mask)
            journal.write(mask)
        except OSError as error:
            print(f"recording of {stream.id}: {error}; trying again in {AGAIN_S:.0f} s", file=sys.stderr)
            self._not_before[stream] = time.monotonic() + AGAIN_S
            self._finish(stream)

    def _path(self, stream: Stream, mask: Mask) -> Path:
        name = re.sub(r"[^\w.-]", "_", str(stream.id))
        began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return self._directory / f".{name}-{began}-{mask.epoch}{SUFFIX}"

    def _heard(self, stream: Stream) -> None:
        if stream.state in ("ended", "removed"):
            self._finish(stream)
            self._not_before.pop(stream, None)

    def _finish(self, stream: Stream) -> None:
        journal = self._journals.pop(stream, None)
        if journal is not None:
            journal.close()
            self._finished.put_nowait(journal.path)

    async def _assemble(self) -> None:
        """Make files of finished journals, one after another."""
        while True:
            paths = [await self._finished.get()]
            while not self._finished.empty():
                paths.append(self._finished.get_nowait())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "vpipe_mask.server.assemble"),
                *(str(os.getpid()), ",".join(self._formats), *map(str, paths)),
            )
            await process.wait()
            for _ in paths:
                self._finished.task_done()

    async def close(self) -> None:
        """Make files of everything recorded."""
        for stream in list(self._journals):
            self._finish(stream)
        await self._finished.join()
        self._assembling.cancel()
