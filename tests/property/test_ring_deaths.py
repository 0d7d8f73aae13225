"""Every point of death of either side or both, in one short life story."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.property.test_ring_machine import READER, WRITER, RingMachine


def story(machine: RingMachine) -> Iterator[None]:
    """A few laps around a small ring, out of order and with a backlog; yields between its lines."""
    for pick in range(5):
        if WRITER in machine.ends:
            machine.writer_pumps(None)
        while WRITER in machine.ends and machine.writer.ready:
            machine.writer_loans_and_fills(pick, None)
        yield
        if len(machine.loans) > 2:
            machine.writer_aborts(pick, None)
        while machine.loans:
            machine.writer_commits(pick + 1, None)
        if WRITER in machine.ends:
            machine.writer_flushes(None)
        yield
        if READER in machine.ends:
            machine.reader_pumps(None)
        for _ in range(2):
            if READER in machine.ends:
                machine.reader_takes()
        yield
        while len(machine.taken) > pick % 2:
            machine.reader_releases(pick, None)
        if READER in machine.ends:
            machine.reader_flushes(None)
        yield


def live_through(writer_life: int, reader_life: int, patience: int) -> set[str]:
    """Tell the story with every process dying after so many effects; return which sides ever died.

    Args:
        writer_life: Effects of each writer.
        reader_life: Effects of each reader.
        patience: The supervisor looks after every so many lines of the story.
    """
    machine = RingMachine()
    machine.create(slots=4, capacity=2)
    lives = {WRITER: writer_life, READER: reader_life}
    died = set()
    for side, left in lives.items():
        machine.lives[side].left = left
    try:
        for line, _ in enumerate(story(machine)):
            if line % patience == 0:
                died |= lives.keys() - machine.ends.keys()
                machine.recover()
                for side in died:
                    if machine.lives[side].left is None:
                        machine.lives[side].left = lives[side]
            machine.no_slot_is_writable_and_readable()
            machine.slots_hold_what_was_written()
    finally:
        for life in machine.lives.values():
            life.left = None
        machine.teardown()
    return died


@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize("reader_life", [*range(16), 1000])
def test_either_or_both_may_die_at_any_point(reader_life: int, patience: int) -> None:
    assert WRITER not in live_through(1000, reader_life, patience)
    for writer_life in range(24):
        assert WRITER in live_through(writer_life, reader_life, patience)
