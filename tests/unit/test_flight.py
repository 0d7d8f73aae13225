import itertools

import numpy as np
import pytest

from vpipe_mask.comments import Comment
from vpipe_mask.flight import FLIGHT_S, STAND_S, Airspace, Flight, draw

WIDTH, HEIGHT = 640, 360


def boxes(air: Airspace, now_s: float) -> list[tuple[float, float, float, float]]:
    """Left, right, top and bottom of everything in the air."""
    found = []
    for flight, sprite in air.at(now_s):
        rows, columns = sprite.cover.shape[:2]
        left = flight.x(now_s, WIDTH)
        found.append((left, left + columns, flight.lane, flight.lane + rows))
    return found


def test_comment_flies_from_edge_to_edge() -> None:
    comment = Comment(1.0, "hello")
    air = Airspace(WIDTH, HEIGHT, [comment])
    assert air.at(0.9) == []
    [(flight, _)] = air.at(1.0)
    assert flight.x(1.0, WIDTH) == WIDTH
    assert flight.x(1.0 + FLIGHT_S, WIDTH) == -flight.width
    assert len(air.at(0.99 + FLIGHT_S)) == 1
    assert air.at(1.01 + FLIGHT_S) == []


def test_reverse_comment_flies_the_other_way_and_standing_ones_stand_in_the_middle() -> None:
    back = Flight(Comment(0, "x", mode="reverse"), 0, 100, 0)
    assert (back.x(0, WIDTH), back.x(FLIGHT_S, WIDTH)) == (-100, WIDTH)
    for mode in ("top", "bottom"):
        [(flight, sprite)] = (air := Airspace(WIDTH, HEIGHT, [Comment(0, "standing", mode=mode)])).at(0)
        assert flight.x(0, WIDTH) + flight.width / 2 == WIDTH / 2
        assert flight.lane == 0 if mode == "top" else flight.lane + len(sprite.cover) > 0.9 * HEIGHT
        assert len(air.at(STAND_S - 0.01)) == 1
        assert air.at(STAND_S) == []


@pytest.mark.parametrize("mode", ["scroll", "reverse", "top", "bottom"])
def test_comments_of_a_kind_never_touch(mode: str) -> None:
    words = ["hi", "弹幕从人身后飞过", "a somewhat longer comment than the others", "8888"]
    comments = [Comment(0.15 * n, words[n % 4], mode=mode, size=(1, 1.5)[n % 3 == 0]) for n in range(120)]
    air = Airspace(WIDTH, HEIGHT, comments)
    most = 0
    for now in np.arange(0, 25, 0.05):
        here = boxes(air, now)
        most = max(most, len(here))
        for one, other in itertools.combinations(here, 2):
            apart = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
            assert apart, f"at {now}: {one} and {other}"
    assert most > 5
    assert air.left_out > 0


def test_comments_that_share_a_time_take_lanes_of_their_own() -> None:
    air = Airspace(WIDTH, HEIGHT, [Comment(0, "same time") for _ in range(5)])
    assert len({flight.lane for flight, _ in air.at(0)}) == 5


def test_comments_long_past_are_not_shown_after_a_jump() -> None:
    air = Airspace(WIDTH, HEIGHT, [Comment(n, f"number {n}") for n in range(100)])
    assert {flight.comment.time_s for flight, _ in air.at(90)} == {83.0, 84, 85, 86, 87, 88, 89, 90}


def test_letters_of_many_scripts_are_drawn_each_its_own() -> None:
    looks = set()
    for text in ("弹", "幕", "コ", "한", "я", "é", "w", "★"):
        sprite = draw(Comment(0, text), HEIGHT)
        assert sprite is not None
        looks.add(sprite.cover.tobytes())
    assert len(looks) == 8


def test_what_has_no_letters_is_left_out() -> None:
    assert draw(Comment(0, "\U0001f44d\U0001f3fb"), HEIGHT) is None
    assert draw(Comment(0, " \n "), HEIGHT) is None
    one, other = draw(Comment(0, "ok\U0001f44d"), HEIGHT), draw(Comment(0, "ok"), HEIGHT)
    assert one is not None
    assert other is not None
    assert np.array_equal(one.cover, other.cover)
    air = Airspace(WIDTH, HEIGHT, [Comment(0, "\U0001f44d")])
    assert air.at(0) == []
    assert air.left_out == 1


def test_size_color_and_lines_are_seen() -> None:
    usual, large = draw(Comment(0, "text"), HEIGHT), draw(Comment(0, "text", size=2), HEIGHT)
    two, red = draw(Comment(0, "text\ntext"), HEIGHT), draw(Comment(0, "text", color=0xFF0000), HEIGHT)
    dark = draw(Comment(0, "text", color=0), HEIGHT)
    assert usual is not None and large is not None and two is not None and red is not None and dark is not None  # noqa: PT018
    assert large.cover.shape[0] > 1.8 * usual.cover.shape[0]
    assert two.cover.shape[0] > 1.8 * usual.cover.shape[0]
    assert tuple(red.color.reshape(-1, 3).max(axis=0)) == (255, 0, 0)
    assert dark.color.max() > 150  # its rim


def test_comment_too_tall_for_the_picture_is_left_out() -> None:
    air = Airspace(WIDTH, 40, [Comment(0, "\n".join("tall" * 30))])
    assert air.at(0) == []
    assert air.left_out == 1
