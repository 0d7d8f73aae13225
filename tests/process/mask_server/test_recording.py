"""Feeds recorded while they are live: files are complete or absent, whatever is killed."""

import itertools
import os
import signal
import struct
import time
from pathlib import Path

import pytest

from tests.feeds import (
    Feeder,
    ask,
    outline_at,
    settled,
    ten_masks,
    wait_until,
)
from vpipe_mask.formats import FORMATS
from vpipe_mask.outline import fill
from vpipe_mask.server import FeedServer, ServerConfig

LOOPBACK = ServerConfig(host="127.0.0.1")


def masks_of(path: Path) -> list[int]:
    return [pts_ms for pts_ms, _ in FORMATS[path.suffix[1:]].read(path)]


def test_feed_is_recorded_a_file_an_epoch(tmp_path: Path) -> None:
    config = ServerConfig(host="127.0.0.1", record=str(tmp_path), record_formats=("webmask", "mobmask"))
    with FeedServer(config) as server:
        feeder = Feeder(server, name="cam/1")
        feeder.tell("live")
        for index in range(60):
            feeder.send(index / 25 - 0.08)  # the first two are before 0, where players have no time
        feeder.restart()
        for index in range(30):
            feeder.send(5 + index / 25, applied=False)
        feeder.tell("ended")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[-9:] for name in names] == ["0.mobmask", "0.webmask", "1.mobmask", "1.webmask"]
    assert all(name.startswith("cam_1-2") for name in names)
    for name in names[:2]:
        assert masks_of(tmp_path / name) == [40 * index for index in range(58)]
    for pts_ms, alpha in FORMATS["mobmask"].read(tmp_path / names[0]):
        truth = fill(outline_at(pts_ms / 1000)) > 0
        assert (truth & (alpha > 0)).sum() > 0.97 * (truth | (alpha > 0)).sum()
    assert not any(alpha.any() for _, alpha in FORMATS["mobmask"].read(tmp_path / names[2]))


def test_recording_goes_on_in_a_new_file_when_its_time_is_over(tmp_path: Path) -> None:
    with FeedServer(ServerConfig(host="127.0.0.1", record=str(tmp_path), record_minutes=0.1)) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        for index in range(200):
            feeder.send(index / 25)
            # The name is of the second in which the file begins.
            if index == 145:
                settled(feeder)
                time.sleep(1.0)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    assert sorted(itertools.chain(*map(masks_of, files))) == [40 * index for index in range(200)]


def test_what_a_killed_server_recorded_is_there_after_the_next_start(tmp_path: Path) -> None:
    with FeedServer(ServerConfig(host="127.0.0.1", record=str(tmp_path))) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        for index in range(60):
            feeder.send(index / 25)
        settled(feeder)
        os.kill(server._process.pid, signal.SIGKILL)
        wait_until(lambda: server.restarts == 1, "the restart")
        wait_until(lambda: list(tmp_path.glob("*.webmask")), "the file")
    (journal,) = tmp_path.glob("*.webmask")
    assert masks_of(journal) == [40 * index for index in range(60)]


def test_journal_that_is_cut_short_gives_what_was_whole(tmp_path: Path) -> None:
    with FeedServer(LOOPBACK) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        for index in range(20):
            feeder.send(index / 25)
        settled(feeder)
        data = ask(server, "/streams/cam1/masks").body
    (tmp_path / ".cut-20260101T000000Z-0.feed").write_bytes(data[:-7])
    (tmp_path / ".empty-20260101T000000Z-0.feed").write_bytes(b"\1")
    (tmp_path / ".huge-20260101T000000Z-0.feed").write_bytes(b"\xff\xff\xff\x7f" + data)
    with FeedServer(ServerConfig(host="127.0.0.1", record=str(tmp_path))):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["cut-20260101T000000Z-0.webmask"]
    assert masks_of(next(tmp_path.iterdir())) == [40 * index for index in range(19)]


def test_journal_of_a_running_server_is_left_to_it(tmp_path: Path) -> None:
    config = ServerConfig(host="127.0.0.1", record=str(tmp_path))
    with FeedServer(config) as server:
        feeder = ten_masks(server)
        with FeedServer(config):
            pass
        assert [path.suffix for path in tmp_path.iterdir()] == [".feed"]
        feeder.send(0.4)
        settled(feeder)
    (file,) = tmp_path.iterdir()
    assert masks_of(file) == [40 * index for index in range(11)]


def test_recording_that_cannot_be_written_does_not_hold_up_the_feed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "records"
    with FeedServer(ServerConfig(host="127.0.0.1", record=str(folder))) as server:
        folder.rmdir()
        feeder = ten_masks(server)
        assert ask(server, "/streams/cam1/mask").json["sequence"] == 9
        wait_until(lambda: "recording of cam1: [Errno 2]" in caplog.text, "the reason")
        feeder.tell("removed")
    # A file's name that is taken: the journal stays for another try.
    folder.mkdir()
    journal = folder / ".cam1-20260101T000000Z-0.feed"
    journal.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in feeder.data))
    taken = folder / "cam1-20260101T000000Z-0.webmask"
    (taken / "x").mkdir(parents=True)
    with FeedServer(ServerConfig(host="127.0.0.1", record=str(folder))):
        pass
    assert "cam1-20260101T000000Z-0.webmask" in caplog.text
    assert journal.exists()
