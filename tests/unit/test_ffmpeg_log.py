"""FFmpeg is heard by those who listen, each on its own thread, and never prints."""

from __future__ import annotations

import threading
import time

import av
import av.logging
import pytest

from tests.media import broken
from vpipe.media.ffmpeg_log import complaints, listening


def say(text: str, level: int = av.logging.ERROR) -> None:
    av.logging.log(level, "test", text)


def texts(log: list[tuple[int, str, str]]) -> list[str]:
    return [text for _, _, text in log]


def test_nobody_is_deafened_by_another_who_stops_listening() -> None:
    began, ended = threading.Event(), threading.Event()

    def other() -> None:
        with listening() as log:
            say("there")
            began.set()
        assert texts(log) == ["there"]
        ended.set()

    with listening() as log:
        say("before")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)
        say("after")
    assert began.is_set()
    assert ended.is_set()
    assert texts(log) == ["before", "after"]


def test_only_errors_are_complaints_and_each_counts(capfd: pytest.CaptureFixture[str]) -> None:
    with complaints() as said:
        say("so it is", av.logging.INFO)
        say("broken")
        say("broken")
        assert said == []
    assert said == ["broken", "broken"]
    say("nobody hears this")
    assert capfd.readouterr() == ("", "")


def test_messages_on_their_way_while_others_stop_listening_are_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    done = threading.Event()

    def talk() -> None:
        """Read a damaged file: FFmpeg speaks without Python's lock, and then waits for it."""
        while not done.is_set():
            with av.open(str(broken("flipped"))) as container:
                for _ in container.demux():
                    pass

    talkers = [threading.Thread(target=talk) for _ in range(2)]
    for talker in talkers:
        talker.start()
    try:
        for _ in range(1000):
            with listening() as log:
                say("mine")
                sum(range(10_000))  # long enough for a message to come, and too short for Python to let it in
            assert texts(log) == ["mine"]
            time.sleep(0)  # now it may
    finally:
        done.set()
        for talker in talkers:
            talker.join()
    assert capfd.readouterr() == ("", "")
