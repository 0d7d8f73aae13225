"""The rules of live time: pace, epochs, what to leave out, how long to wait before the next attempt."""

from __future__ import annotations

from fractions import Fraction

import pytest

from vpipe.media.sources import kind_of, without_secrets
from vpipe.media.timing import GROWTH, HOLD_NS, JITTER, Backoff, CatchUp, Pacer, Ration, Timeline, Unrolled

MS = 1_000_000
BASE = Fraction(1, 1000)


def test_a_paced_source_is_held_back_to_its_own_pace() -> None:
    pacer = Pacer()
    assert pacer.pause_s(100.0, 5.0) == 0
    assert pacer.pause_s(100.04, 5.0) == pytest.approx(0.04)
    assert pacer.pause_s(100.08, 5.1) == 0  # a little late: catches up
    assert pacer.pause_s(101.0, 5.1) == pytest.approx(0.9)


@pytest.mark.parametrize(("dts_s", "now_s"), [(100.5, 7.0), (20.0, 5.0), (9000.0, 5.0)])
def test_pace_begins_anew_after_a_pause_and_after_a_jump(dts_s: float, now_s: float) -> None:
    pacer = Pacer()
    pacer.pause_s(100.0, 5.0)
    assert pacer.pause_s(dts_s, now_s) == 0
    assert pacer.pause_s(dts_s + 0.04, now_s) == pytest.approx(0.04)


def test_time_goes_on_where_the_33_bits_of_mpeg_ts_are_full() -> None:
    turn, unrolled = Unrolled.TURN, Unrolled()

    def told(ticks: int) -> int:
        return ticks + unrolled.add(ticks)

    assert [told(ticks) for ticks in (turn - 3000, 0, 3000)] == [turn - 3000, turn, turn + 3000]
    assert told(turn // 4) == turn + turn // 4  # a jump is none
    # FFmpeg had taken it back by itself, and does so no more.
    assert told(turn + turn // 4 + 3000) == turn + turn // 4 + 3000
    assert told(turn // 4 + 6000) == turn + turn // 4 + 6000
    # Two turns later.
    assert told(turn // 2) == turn + turn // 2
    assert told(turn - 3000) == 2 * turn - 3000
    assert told(0) == 2 * turn


def test_an_epoch_goes_on_while_time_does() -> None:
    timeline = Timeline(jump_s=10)
    assert timeline.look(500, BASE, (320, 180)) == "connected"
    for pts in (540, 541, 10541):
        assert timeline.look(pts, BASE, (320, 180)) is None


@pytest.mark.parametrize(
    ("pts", "size", "why"),
    [
        (3_600_500, (320, 180), "time went forward by 3600.000 s"),
        (499, (320, 180), "time went back by 0.001 s"),
        (540, (640, 360), "the picture changed from 320x180 to 640x360"),
    ],
)
def test_an_epoch_ends_where_time_or_the_picture_breaks(pts: int, size: tuple[int, int], why: str) -> None:
    timeline = Timeline(jump_s=10)
    timeline.look(500, BASE, (320, 180))
    assert timeline.look(pts, BASE, size) == why
    assert timeline.look(pts + 40, BASE, size) is None


def test_a_source_that_was_opened_again_begins_an_epoch() -> None:
    timeline = Timeline(jump_s=10)
    timeline.look(500, BASE, (320, 180))
    timeline.restart()
    assert timeline.look(540, BASE, (320, 180)) == "connected"


def waiting(*ages_ms: float, keys: tuple[int, ...] = ()) -> list[tuple[int, bool]]:
    """Packets that came so long before the moment 10 s."""
    return [(int(10_000 * MS - age * MS), at in keys) for at, age in enumerate(ages_ms)]


NOW = 10_000 * MS


def test_nothing_is_left_out_while_decoding_keeps_up() -> None:
    assert CatchUp(100).plan([], NOW) == (0, False)
    assert CatchUp(100).plan(waiting(99, 50, 20), NOW) == (0, False)


def test_behind_by_a_little_frames_that_no_other_needs_are_left_out() -> None:
    assert CatchUp(100).plan(waiting(120, 80, 40), NOW) == (0, True)
    assert CatchUp(100).plan(waiting(500, 400, 300), NOW) == (0, True)


def test_behind_by_more_decoding_goes_on_at_the_newest_keyframe() -> None:
    assert CatchUp(100).plan(waiting(400, 300, 200, 100, 50, keys=(1, 3)), NOW) == (3, False)
    assert CatchUp(100).plan(waiting(400, 300, keys=(0,)), NOW) == (0, True)


def test_behind_by_far_all_is_left_out_until_a_keyframe_comes() -> None:
    catch_up = CatchUp(100)
    assert catch_up.plan(waiting(1100, 900, 50), NOW) == (3, False)
    assert catch_up.waiting
    assert catch_up.plan(waiting(10, 5), NOW) == (2, False)
    assert catch_up.plan(waiting(10, 5, 1, keys=(1,)), NOW) == (1, False)
    assert not catch_up.waiting
    assert catch_up.plan(waiting(5, 1, keys=(0,)), NOW) == (0, False)


def test_a_source_that_was_opened_again_is_not_behind() -> None:
    catch_up = CatchUp(100)
    catch_up.plan(waiting(1100), NOW)
    catch_up.restart()
    assert catch_up.plan(waiting(5), NOW) == (0, False)


def test_pauses_grow_to_their_bound_with_jitter() -> None:
    backoff = Backoff(0.25, 2.0, None)
    pauses = [backoff.fail() for _ in range(200)]
    for failures, pause in enumerate(pauses):
        middle = min(0.25 * GROWTH**failures, 2.0) if failures < 20 else 2.0
        assert pause is not None
        assert middle * (1 - JITTER) <= pause <= middle * (1 + JITTER)
    assert len(set(pauses)) > 100
    backoff.succeed()
    again = backoff.fail()
    assert again is not None
    assert again <= 0.25 * (1 + JITTER)


def test_retries_end_where_they_are_bounded() -> None:
    backoff = Backoff(0.25, 2.0, 2)
    assert [backoff.fail() is None for _ in range(3)] == [False, False, True]
    backoff.succeed()
    assert backoff.fail() is not None
    assert Backoff(0.25, 2.0, 0).fail() is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("rtmp://h/live/x", "rtmp"),
        ("RTSPS://h/x", "rtsp"),
        ("srt://h:9000", "srt"),
        ("udp://@:1234", "udp"),
        ("https://h/x.m3u8", "http"),
        ("/dev/video0", "device"),
        ("/dev/video", "file"),
        ("clip.mp4", "file"),
    ],
)
def test_live_sources_are_told_apart(path: str, kind: str) -> None:
    assert kind_of(path, live=True) == kind


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://me:secret@cam:554/a", "rtsp://cam:554/a"),
        ("srt://h:9000?passphrase=abc", "srt://h:9000?..."),
        ("https://h/x.m3u8?token=abc#here", "https://h/x.m3u8?..."),
        ("/a/b?c.mp4", "/a/b?c.mp4"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


class _Streams:
    """Frames of two streams at 25 frames a second each, through one ration."""

    def __init__(self, most: int = 3) -> None:
        self.ration = Ration(most, max_lag_ms=100, seats=2)
        self.now_ns = 0

    def play(self, seconds: float, lag_ms: float) -> list[bool]:
        """Return which frames of the first stream the model was to run on, all of them as late as is said."""
        ran = []
        for _ in range(round(25 * seconds)):
            self.now_ns += 40 * MS
            ran.append(not self.ration.leaves_out(0, "one", int(lag_ms * MS), self.now_ns))
            self.ration.leaves_out(1, "other", int(lag_ms * MS), self.now_ns)
        return ran

    def rise(self) -> float:
        """Return after how many seconds of frames in time the model runs more often."""
        before, began_ns = self.ration.every, self.now_ns
        while self.ration.every >= before:
            self.play(0.5, 10)
        return (self.now_ns - began_ns) * 1e-9


def test_the_model_runs_on_every_frame_that_is_in_time() -> None:
    assert all(_Streams().play(60, lag_ms=30))


def test_late_frames_make_the_model_run_less_often_up_to_the_most() -> None:
    streams = _Streams()
    streams.play(2, lag_ms=70)
    assert streams.ration.every == 3
    assert sum(streams.play(6, lag_ms=70)) == 50


def test_no_frame_is_left_out_where_the_most_is_one() -> None:
    assert all(_Streams(most=1).play(5, lag_ms=500))


def test_some_late_frames_change_nothing() -> None:
    streams = _Streams()
    for _ in range(100):
        assert all(streams.play(0.96, lag_ms=10) + streams.play(0.04, lag_ms=90))


def test_streams_take_turns() -> None:
    ration = Ration(2, max_lag_ms=100, seats=2)
    for number in range(100):
        ration.leaves_out(number % 2, number % 2, 90 * MS, number * 20 * MS)
    both = [(ration.leaves_out(0, 0, 90 * MS, at), ration.leaves_out(1, 1, 90 * MS, at)) for at in range(10)]
    assert set(both) == {(True, False), (False, True)}


def test_the_first_frame_of_a_stream_is_never_left_out() -> None:
    ration = Ration(3, max_lag_ms=100, seats=1)
    for number in range(100):
        ration.leaves_out(0, "one", 90 * MS, number * 40 * MS)
    assert not any(ration.leaves_out(0, f"epoch {number}", 90 * MS, 10**10) for number in range(6))


def test_the_model_runs_on_every_frame_again_after_a_quiet_while() -> None:
    streams = _Streams()
    streams.play(2, lag_ms=70)
    assert streams.rise() == pytest.approx(HOLD_NS * 1e-9, abs=1)
    assert streams.rise() == pytest.approx(HOLD_NS * 1e-9, abs=1)
    assert all(streams.play(1, lag_ms=10))


def test_whoever_goes_back_too_early_waits_twice_as_long() -> None:
    streams = _Streams(most=2)
    waits = []
    for _ in range(5):
        streams.play(1.2, lag_ms=70)
        assert streams.ration.every == 2
        waits.append(streams.rise() * 1e9 / HOLD_NS)
    assert waits == pytest.approx([1, 2, 4, 8, 16], rel=0.25)
