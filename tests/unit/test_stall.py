"""A run in which all wait and nothing moves is noticed; one in which anyone works is not."""

from __future__ import annotations

import dataclasses

from vpipe.metrics import PAGE_BYTES, Snapshot, State, read
from vpipe.supervisor.stall import StallWatch

IDLE = dataclasses.replace(read(bytearray(PAGE_BYTES)), state=State.IDLE)
WAITING = dataclasses.replace(IDLE, state=State.WAITING)


def looks(*seen: tuple[float, Snapshot | None, int]) -> list[str | None]:
    watch = StallWatch(10.0)
    return [watch.look(at, {"decode[0]": IDLE, "infer": other}, ended) for at, other, ended in seen]


def test_all_waiting_for_too_long_is_a_stall_and_tells_what_each_is_at() -> None:
    assert looks((100, WAITING, 0), (110, WAITING, 0), (111, WAITING, 0)) == [
        None,
        None,
        "decode[0] idle, infer waiting",
    ]


def test_movement_work_and_starting_are_none() -> None:
    moved = dataclasses.replace(WAITING, frames=1)
    working = dataclasses.replace(WAITING, state=State.WORKING)
    for other, ended in ((moved, 0), (WAITING, 1), (working, 0), (None, 0)):
        assert looks((100, WAITING, 0), (111, other, ended), (115, WAITING, ended)) == [None, None, None]
