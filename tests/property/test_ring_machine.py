"""A ring, its supervisor and two mortal processes, driven through every order of events that Hypothesis can think of.

Everything runs in this process, but each side dies as a killed process does: between any two of its effects on the
outside, which are its stores to slot headers and its system calls. Nothing of it happens afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.property.mortal import KilledError, Life, mortal
from vpipe.layout import Field, SlotLayout
from vpipe.ring import ReadLoan, Ring, RingReader, RingSpec, RingWriter, WriteLoan

ITEM = 37


LIVES = st.integers(0, 31).map(lambda draw: draw - 28 if draw >= 28 else None)
"""Effects until death; few operations have more than four."""
LONG_LIVES = st.integers(0, 31).map(lambda draw: draw - 16 if draw >= 16 else None)
"""Of operations that go over all slots."""
PICKS = st.integers(0, 7)
WRITER, READER = "writer", "reader"
SIDES = st.sampled_from([WRITER, READER])


class RingMachine(RuleBasedStateMachine):
    @initialize(slots=st.integers(2, 12), capacity=st.integers(1, 3))
    def create(self, slots: int, capacity: int) -> None:
        self.now = 1000.0
        self.clock = mock.patch("vpipe.ring.records.monotonic", self.tell_time)
        self.clock.start()
        self.ring = Ring.create(RingSpec("machine", SlotLayout(capacity, (Field("item", "|u1", (ITEM,)),)), slots))
        self.generation = 1
        self.lives: dict[str, Life] = {}
        self.ends: dict[str, Any] = {}
        self.orders: dict[str, list[int]] = {WRITER: [], READER: []}
        self.loans: list[tuple[WriteLoan, int]] = []
        self.taken: list[tuple[ReadLoan, int]] = []
        # What happened to each content, by the number that its bytes are made of.
        self.next = 0
        self.counts: dict[int, int] = {}
        self.order: dict[int, int] = {}  # rank of commits, begun or done
        self.committed: set[int] = set()
        self.released: set[int] = set()
        self.lost: set[int] = set()  # may be lost: the ring was emptied on purpose
        self.delivered: set[int] = set()
        self.seen_by_reader: set[int] = set()
        self.last_first = -1
        for side in (READER, WRITER):
            self.spawn(side, grant_all=True, life=None)

    def teardown(self) -> None:
        if not hasattr(self, "ring"):
            return
        try:
            self.recover_and_drain()
        finally:
            for side in list(self.ends):
                self.bury(side)
            self.ring.close()
            self.clock.stop()

    # What is in a slot

    def content(self, number: int, count: int) -> np.ndarray[Any, Any]:
        return (np.arange(count * ITEM, dtype=np.uint32) * 7 + number * 31).astype(np.uint8).reshape(count, ITEM)

    def holds(self, loan: WriteLoan | ReadLoan, number: int, count: int) -> bool:
        same = np.array_equal(loan.field("item")[:count], self.content(number, count))
        return same and bool((loan.frames["pts"][:count] == number).all())

    # Processes

    @property
    def writer(self) -> RingWriter:
        found: RingWriter = self.ends[WRITER]
        return found

    @property
    def reader(self) -> RingReader:
        found: RingReader = self.ends[READER]
        return found

    def both_dead(self) -> bool:
        return not self.ends

    def steady(self) -> bool:
        return len(self.ends) == 2 and not self.orders[WRITER] and not self.orders[READER]

    def bury(self, side: str) -> None:
        end = self.ends.pop(side, None)
        if end is not None:
            end.close()
        self.orders[side] = []
        if side == WRITER:
            self.loans = []
        else:
            self.taken = []
            self.seen_by_reader = set()

    @contextmanager
    def alive(self, side: str, life: int | None) -> Iterator[None]:
        """Do something as one side, which is killed after `life` effects."""
        if life is not None:
            self.lives[side].left = life
        try:
            yield
        except KilledError:
            self.bury(side)
        else:
            if life is not None:
                self.lives[side].left = None

    def spawn(self, side: str, *, grant_all: bool, life: int | None) -> None:
        self.lives[side] = Life()
        attach = RingWriter.attach if side == WRITER else RingReader.attach
        with self.alive(side, life), mortal(self.lives[side]):
            self.ends[side] = attach(self.ring.handle(side, self.generation, grant_all=grant_all))  # type: ignore[arg-type]

    # The supervisor

    @rule(side=SIDES)
    def kill(self, side: str) -> None:
        self.bury(side)

    @precondition(lambda self: len(self.ends) < 2)
    @rule(side=SIDES, life=LONG_LIVES)
    def restart(self, side: str, life: int | None) -> None:
        if side in self.ends:
            return
        other = READER if side == WRITER else WRITER
        self.generation += 1
        if other in self.ends:
            self.orders[other].append(self.generation)
        self.spawn(side, grant_all=False, life=life)

    @precondition(both_dead)
    @rule(life=LONG_LIVES, writer_first=st.booleans())
    def start_both_afresh(self, life: int | None, writer_first: bool) -> None:
        self.generation += 1
        self.lost |= set(self.order)
        for side in (WRITER, READER) if writer_first else (READER, WRITER):
            self.spawn(side, grant_all=True, life=life if side == READER else None)

    @rule(side=SIDES, life=LONG_LIVES)
    def obey(self, side: str, life: int | None) -> None:
        """The survivor comes round to the supervisor's message."""
        if self.orders[side]:
            generation = self.orders[side].pop(0)
            with self.alive(side, life):
                self.ends[side].resync(generation)

    # The world

    def tell_time(self) -> float:
        return self.now

    @rule(seconds=st.sampled_from([0.0001, 0.001]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(side=SIDES, full=st.booleans(), records=st.one_of(st.none(), st.integers(1, 3)))
    def fill_socket(self, side: str, full: bool, records: int | None) -> None:
        self.lives[side].socket_full = full
        self.lives[side].records_a_send = records

    # The writer

    @precondition(lambda self: WRITER in self.ends)
    @rule(life=LIVES)
    def writer_pumps(self, life: int | None) -> None:
        with self.alive(WRITER, life):
            self.writer.pump()

    @precondition(lambda self: WRITER in self.ends)
    @rule(life=LIVES)
    def writer_flushes(self, life: int | None) -> None:
        with self.alive(WRITER, life):
            self.writer.flush()

    @precondition(lambda self: WRITER in self.ends and self.writer.ready)
    @rule(pick=PICKS, life=LIVES)
    def writer_loans_and_fills(self, pick: int, life: int | None) -> None:
        loan = None
        with self.alive(WRITER, life):  # it takes credits
            loan = self.writer.loan()
        if loan is None:
            return
        number, self.next = self.next, self.next + 1
        loan.count = self.counts[number] = pick % self.ring.spec.layout.capacity + 1
        loan.field("item")[: loan.count] = self.content(number, loan.count)
        loan.frames["pts"][: loan.count] = number
        self.loans.append((loan, number))

    @precondition(lambda self: self.loans)
    @rule(pick=PICKS, life=LIVES)
    def writer_commits(self, pick: int, life: int | None) -> None:
        loan, number = self.loans.pop(pick % len(self.loans))
        self.order[number] = len(self.order)
        with self.alive(WRITER, life):
            loan.commit()
            self.committed.add(number)

    @precondition(lambda self: self.loans)
    @rule(pick=PICKS, life=LIVES)
    def writer_aborts(self, pick: int, life: int | None) -> None:
        loan, _ = self.loans.pop(pick % len(self.loans))
        with self.alive(WRITER, life):
            loan.abort()

    # The reader

    @precondition(lambda self: READER in self.ends)
    @rule(life=LIVES)
    def reader_pumps(self, life: int | None) -> None:
        with self.alive(READER, life):
            self.reader.pump()

    @precondition(lambda self: READER in self.ends)
    @rule(life=LIVES)
    def reader_flushes(self, life: int | None) -> None:
        with self.alive(READER, life):
            self.reader.flush()

    @precondition(lambda self: READER in self.ends)
    @rule()
    def reader_takes(self) -> None:
        loan = self.reader.take()
        if loan is None:
            return
        number = int(loan.frames["pts"][0])
        assert number in self.order, "delivered what was never committed"
        assert number not in self.released, "delivered again what was released"
        assert number not in self.seen_by_reader, "delivered twice to one reader"
        assert loan.count == self.counts[number]
        assert self.holds(loan, number, loan.count), "delivered other bytes than were written"
        if number not in self.delivered:
            assert self.order[number] > self.last_first, "delivered out of order"
            self.last_first = self.order[number]
        self.delivered.add(number)
        self.seen_by_reader.add(number)
        self.taken.append((loan, number))

    @precondition(lambda self: self.taken)
    @rule(pick=PICKS, life=LIVES)
    def reader_releases(self, pick: int, life: int | None) -> None:
        loan, number = self.taken.pop(pick % len(self.taken))
        with self.alive(READER, life):
            loan.release()
            self.released.add(number)

    # Both, in longer strides

    @precondition(lambda self: WRITER in self.ends and READER in self.ends)
    @rule(commits=PICKS, takes=PICKS, releases=PICKS, pick=PICKS, lives=st.lists(LIVES, max_size=8))
    def traffic(self, commits: int, takes: int, releases: int, pick: int, lives: Sequence[int | None] = ()) -> None:
        life = chain(lives, repeat(None))
        self.writer_pumps(next(life))
        for _ in range(commits):
            if WRITER in self.ends and self.writer.ready:
                self.writer_loans_and_fills(pick, next(life))
            if self.loans:
                self.writer_commits(pick, next(life))
        if WRITER in self.ends:
            self.writer_flushes(next(life))
        self.reader_pumps(next(life))
        for _ in range(takes):
            if READER in self.ends:
                self.reader_takes()
        for _ in range(releases):
            if self.taken:
                self.reader_releases(pick, next(life))

    @precondition(lambda self: self.ends and not self.steady())
    @rule()
    def recover(self) -> None:
        for side in (WRITER, READER):
            self.restart(side, None)
        for side in (WRITER, READER):
            while self.orders[side]:
                self.obey(side, None)

    # What always holds

    @invariant()
    def no_slot_is_writable_and_readable(self) -> None:
        if not hasattr(self, "ring"):
            return
        writable = [loan.slot for loan, _ in self.loans]
        readable = [loan.slot for loan, _ in self.taken]
        if WRITER in self.ends:
            writable += self.writer._free
        if READER in self.ends:
            readable += [slot for _, slot in self.reader._announced]
        everything = writable + readable
        assert len(set(everything)) == len(everything)

    @invariant()
    def slots_hold_what_was_written(self) -> None:
        if not hasattr(self, "ring"):
            return
        assert all(self.holds(loan, number, self.counts[number]) for loan, number in self.loans)
        assert all(self.holds(loan, number, self.counts[number]) for loan, number in self.taken)

    @precondition(steady)
    @rule()
    def credits_conserve_slots(self) -> None:
        """When all that was sent has arrived, every slot is in one place."""
        for side in (WRITER, READER):
            self.lives[side].socket_full = False
        while self.writer.pending or self.reader.pending:
            self.writer.flush()
            self.reader.flush()
        self.writer.pump()
        self.reader.pump()
        places = len(self.writer._free) + len(self.loans) + len(self.reader._announced) + len(self.taken)
        assert places == self.ring.spec.slots

    # The end: whoever is dead is replaced, and everything that was committed arrives

    def recover_and_drain(self) -> None:
        self.recover()
        while self.loans:
            self.loans.pop()[0].abort()
        self.credits_conserve_slots()
        while self.reader._announced:
            self.reader_takes()
        assert self.committed - self.lost <= self.delivered, "lost what was committed"
        while self.taken:
            self.taken.pop()[0].release()
        self.credits_conserve_slots()
        assert len(self.writer._free) == self.ring.spec.slots


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
