"""Which frames a task that works in sequence is given: each attempt from its first frame on, none twice."""

from vpipe.stages.postprocess import _Segment


def given(*frames: tuple[int, int, bool]) -> list[tuple[int, int]]:
    """Return (attempt, pts) of the frames that are passed on, of (attempt, pts, first)."""
    segment = _Segment()
    return [(attempt, pts) for attempt, pts, first in frames if segment.follows(attempt, pts, first)]


def test_frames_are_passed_on_in_the_order_of_decoding_whatever_their_times() -> None:
    assert given((1, 1, True), (1, 5, False), (1, 4, False), (1, 6, False)) == [(1, 1), (1, 5), (1, 4), (1, 6)]


def test_repeats_after_a_death_further_up_are_left_out() -> None:
    assert given((1, 1, True), (1, 2, False), (1, 1, True), (1, 2, False), (1, 3, False)) == [(1, 1), (1, 2), (1, 3)]


def test_nothing_is_passed_on_of_an_attempt_whose_beginning_was_lost() -> None:
    assert given((1, 7, False), (1, 8, False)) == []


def test_a_new_attempt_begins_anew_and_ends_the_one_before() -> None:
    assert given((1, 1, True), (1, 2, False), (2, 1, True), (1, 3, False), (2, 2, False)) == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]


def test_a_new_attempt_without_its_first_frame_changes_nothing() -> None:
    assert given((1, 1, True), (2, 5, False), (1, 2, False)) == [(1, 1), (1, 2)]
