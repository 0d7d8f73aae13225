from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from vpipe.errors import LoanEnded, ResourceError, RingError, UsageError
from vpipe.layout import ALIGN, Field, SlotLayout
from vpipe.ring import Ring, RingReader, RingSpec, RingWriter, WriteLoan
from vpipe.ring.records import RECORD, Records

VIEW = Field("view", "|u1", (6, 10))
SCORE = Field("score", "<f4", (3,))
SPEC = RingSpec("test", SlotLayout(2, (VIEW, SCORE)), 8)


class Pair:
    """A ring with both ends attached in this process."""

    def __init__(self, spec: RingSpec) -> None:
        self.ring = Ring.create(spec)
        self.reader = RingReader.attach(self.ring.handle("reader", 1, grant_all=True))
        self.writer = RingWriter.attach(self.ring.handle("writer", 1))
        self.writer.pump()
        self.generation = 1

    def write(self, value: int) -> WriteLoan:
        loan = self.writer.loan()
        loan.field("view")[:] = value
        loan.frames["pts"] = value
        loan.commit()
        return loan

    def take_all(self) -> list[int]:
        """Take and keep every announced slot; return what is in them."""
        self.reader.pump()
        return [int(loan.field("view")[0, 0, 0]) for loan in iter(self.reader.take, None)]

    def replace_writer(self, *, resync: bool = True) -> None:
        self.generation += 1
        self.writer.close()
        self.writer = RingWriter.attach(self.ring.handle("writer", self.generation))
        if resync:
            self.reader.resync(self.generation)
        self.writer.pump()

    def replace_reader(self, *, resync: bool = True) -> None:
        self.generation += 1
        self.reader.close()
        self.reader = RingReader.attach(self.ring.handle("reader", self.generation))
        if resync:
            self.writer.resync(self.generation)

    def close(self) -> None:
        self.writer.close()
        self.reader.close()
        self.ring.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair(SPEC)
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that stands still until it is told to go on."""
    now = [1000.0]
    monkeypatch.setattr("vpipe.ring.records.monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


# Writing and reading


def test_reader_gets_the_bytes_headers_and_count_that_were_written(pair: Pair) -> None:
    rng = np.random.default_rng(1)
    view = rng.integers(0, 256, (2, 6, 10), dtype=np.uint8)
    with pair.writer.loan() as slot:
        slot.field("view")[:] = view
        slot.field("score")[:] = [[1, 2, 3], [4, 5, 6]]
        slot.frames["pts"] = [70, -80]
    pair.writer.flush()
    pair.reader.pump()
    loan = pair.reader.take()
    assert loan is not None
    assert loan.count == 2
    np.testing.assert_array_equal(loan.field("view"), view)
    np.testing.assert_array_equal(loan.field("score"), np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    assert loan.frames["pts"].tolist() == [70, -80]


def test_reader_sees_nothing_until_slot_committed(pair: Pair) -> None:
    loan = pair.writer.loan()
    loan.field("view")[:] = 9
    pair.writer.flush()
    assert pair.take_all() == []
    loan.commit()
    pair.writer.flush()
    assert pair.take_all() == [9]


def test_slots_arrive_in_order_of_commit_not_of_loan(pair: Pair) -> None:
    loans = [pair.writer.loan() for _ in range(3)]
    for value, loan in enumerate(loans):
        loan.field("view")[:] = value
    for value in (2, 0, 1):
        loans[value].commit()
    pair.writer.flush()
    assert pair.take_all() == [2, 0, 1]


def test_leaving_by_an_exception_aborts(pair: Pair) -> None:
    with pytest.raises(ZeroDivisionError), pair.writer.loan() as slot:
        slot.field("view")[:] = 1 // 0
    pair.writer.flush()
    assert pair.take_all() == []
    assert sum(1 for _ in iter(lambda: pair.writer.ready and pair.writer.loan(), False)) == SPEC.slots


def test_a_loan_ended_inside_its_with_is_left_alone(pair: Pair) -> None:
    with pair.writer.loan() as slot:
        slot.abort()
    with pair.writer.loan() as slot:
        slot.field("view")[:] = 4
        slot.commit()
    pair.writer.flush()
    pair.reader.pump()
    loan = pair.reader.take()
    assert loan is not None
    with loan:
        loan.release()
    assert pair.reader.take() is None


def test_leaving_a_read_loan_releases_it(pair: Pair, clock: Callable[[float], None]) -> None:
    pair.write(1)
    pair.writer.flush()
    pair.reader.pump()
    loan = pair.reader.take()
    assert loan is not None
    with loan:
        assert not pair.reader.pending
    pair.reader.flush()
    assert not pair.reader.pending
    pair.writer.pump()
    assert all(pair.writer.loan() for _ in range(SPEC.slots))


def test_reader_sees_only_as_many_frames_as_were_counted(pair: Pair) -> None:
    with pair.writer.loan() as slot:
        slot.count = 1
    pair.writer.flush()
    pair.reader.pump()
    loan = pair.reader.take()
    assert loan is not None
    assert loan.frames.shape == (1,)
    assert loan.field("view").shape == (1, 6, 10)


@pytest.mark.parametrize("count", [0, 3, -1])
def test_a_count_beyond_the_slot_is_refused_and_the_slot_goes_back(pair: Pair, count: int) -> None:
    with pytest.raises(RingError, match=f"commit of {count} frames in a slot for 1 to 2"), pair.writer.loan() as slot:
        slot.count = count
    assert all(pair.writer.loan() for _ in range(SPEC.slots))
    assert pair.take_all() == []


def test_no_credit_no_loan(pair: Pair) -> None:
    for value in range(SPEC.slots):
        pair.write(value)
    assert not pair.writer.ready
    with pytest.raises(RingError, match="ring test: no slot is free"):
        pair.writer.loan()
    pair.writer.flush()
    pair.reader.pump()
    loan = pair.reader.take()
    assert loan is not None
    loan.release()
    pair.reader.flush()
    pair.writer.pump()
    assert pair.writer.ready
    assert pair.writer.loan().slot == loan.slot


def test_slots_are_released_in_any_order(pair: Pair) -> None:
    for lap in range(50):
        for value in range(SPEC.slots):
            pair.write((lap + value) % 256)
        pair.writer.flush()
        pair.reader.pump()
        loans = list(iter(pair.reader.take, None))
        assert [int(loan.field("view")[1, 5, 9]) for loan in loans] == [(lap + v) % 256 for v in range(SPEC.slots)]
        for at in np.random.default_rng(lap).permutation(SPEC.slots):
            loans[at].release()
        pair.reader.flush()
        pair.writer.pump()


def test_poll_wakes_for_doorbells_and_credits(pair: Pair) -> None:
    poll = select.poll()
    poll.register(pair.reader, select.POLLIN)
    poll.register(pair.writer, select.POLLIN)
    assert poll.poll(0) == []
    with pair.writer.loan():
        pass
    pair.writer.flush()
    assert [fd for fd, _ in poll.poll(0)] == [pair.reader.fileno()]
    pair.reader.pump()
    loan = pair.reader.take()
    assert loan is not None
    loan.release()
    pair.reader.flush()
    assert [fd for fd, _ in poll.poll(0)] == [pair.writer.fileno()]


# Lifetimes


def test_a_slot_used_after_its_loan_is_refused(pair: Pair) -> None:
    committed = pair.write(1)
    aborted = pair.writer.loan()
    aborted.abort()
    pair.writer.flush()
    pair.reader.pump()
    released = pair.reader.take()
    assert released is not None
    released.release()
    uses: list[Callable[[], Any]] = [released.release]
    for loan in (committed, aborted):
        uses += [loan.commit, loan.abort]
    for any_loan in (committed, aborted, released):
        uses += [lambda loan=any_loan: loan.frames, lambda loan=any_loan: loan.field("view")]
    for use in uses:
        with pytest.raises(LoanEnded, match=r"ring test: slot \d was used after its loan ended"):
            use()


def test_arrays_handed_out_for_writing_become_read_only_at_commit_and_abort(pair: Pair) -> None:
    loan = pair.writer.loan()
    view, frames = loan.field("view"), loan.frames
    loan.commit()
    for array in (view, frames):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1
    # Not even when the slot is on loan again.
    other = pair.writer.loan()
    score = other.field("score")
    other.abort()
    assert pair.writer.loan().slot == other.slot
    with pytest.raises(ValueError, match="read-only"):
        score[:] = 1


def test_arrays_for_reading_cannot_be_written(pair: Pair) -> None:
    pair.write(3)
    pair.writer.flush()
    pair.reader.pump()
    loan = pair.reader.take()
    assert loan is not None
    for array in (loan.frames, loan.field("view"), loan.field("score")):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1


def test_a_stale_array_reads_other_bytes_and_never_crashes() -> None:
    pair = Pair(SPEC)
    pair.write(3)
    pair.writer.flush()
    pair.reader.pump()
    loan = pair.reader.take()
    assert loan is not None
    stale = loan.field("view")
    slot = loan.slot
    loan.release()
    pair.reader.flush()
    pair.writer.pump()
    again = pair.writer.loan()
    assert again.slot == slot
    again.field("view")[:] = 200
    assert stale.max() == 200
    pair.close()
    del pair, loan, again
    assert stale.max() == 200  # the mapping lives as long as any array of it


def test_lasting_arrays_are_the_slots_own_memory_aligned_and_writable(pair: Pair) -> None:
    loan = pair.writer.loan()
    for name, shape in (("view", (2, 6, 10)), ("score", (2, 3))):
        lasting = pair.writer.slot_array(loan.slot, name)
        assert lasting is pair.writer.slot_array(loan.slot, name)
        assert lasting.shape == shape
        assert lasting.ctypes.data % ALIGN == 0
        lasting[:] = 7
        assert (loan.field(name) == 7).all()
        assert (pair.reader.slot_array(loan.slot, name) == 7).all()
    loan.commit()
    assert pair.writer.slot_array(loan.slot, "view").flags.writeable
    # Engines refuse to be lent memory that is read-only.
    assert pair.reader.slot_array(loan.slot, "view").flags.writeable


# Records


def test_the_first_doorbell_is_sent_at_once_and_the_next_wait_for_a_flush(
    pair: Pair, clock: Callable[[float], None]
) -> None:
    clock(1.0)
    pair.write(1)
    assert pair.take_all() == [1]
    pair.write(2)
    assert pair.writer.pending
    assert pair.take_all() == []
    pair.writer.flush()
    assert not pair.writer.pending
    assert pair.take_all() == [2]


def test_half_of_the_slots_is_sent_without_a_flush(pair: Pair, clock: Callable[[float], None]) -> None:
    clock(1.0)
    for value in (1, 2, 3, 4):
        pair.write(value)
    assert pair.take_all() == [1]
    pair.write(5)
    assert pair.take_all() == [2, 3, 4, 5]
    pair.write(6)
    assert pair.take_all() == []
    clock(0.001)
    pair.write(7)
    assert pair.take_all() == [6, 7]


def test_a_socket_that_is_full_blocks_nobody_and_loses_nothing() -> None:
    spec = RingSpec("long", SlotLayout(1, (VIEW,)), 1024)
    pair = Pair(spec)
    with socket.socket(fileno=os.dup(pair.ring.writer_fd)) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the system's least: a few records
    for value in range(spec.slots):
        pair.write(value % 256)
        pair.writer.flush()
    assert pair.writer.pending
    found: list[int] = []
    while len(found) < spec.slots:
        new = pair.take_all()
        assert new
        found += new
        pair.writer.flush()
    assert found == [value % 256 for value in range(spec.slots)]
    assert not pair.writer.pending
    pair.close()


class Piecemeal:
    """A socket that takes seven bytes at a time, as some systems' may."""

    def __init__(self, real: socket.socket) -> None:
        self.real = real

    def send(self, data: bytes, flags: int = 0) -> int:
        return self.real.send(bytes(data)[:7], flags)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def test_records_in_pieces_are_put_together(pair: Pair) -> None:
    records: Any = pair.writer._records
    records._socket = Piecemeal(records._socket)
    seen: list[int] = []
    for value in range(5):
        pair.write(value)
        seen += pair.take_all()
    while pair.writer.pending:
        pair.writer.flush()
        seen += pair.take_all()
    assert seen == [0, 1, 2, 3, 4]


def test_what_is_left_of_a_half_sent_record_is_sent_before_a_resync_goes_on() -> None:
    ours, theirs = socket.socketpair()
    records: Any = Records("test", ours.fileno(), 1, 8)
    peer = Records("test", theirs.fileno(), 2, 8)
    records._socket = Piecemeal(records._socket)
    records.put(3, 33)
    records.restart(2)
    records.put(4, 44)
    found = []
    while records.pending:
        records.flush()
        found += peer.receive()
    assert found == [(4, 44)]
    for end in (ours, theirs, records, peer):
        end.close()


def test_many_records_at_once_are_all_received() -> None:
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    records = Records("test", ours.fileno(), 1, 8)
    theirs.sendall(b"".join(RECORD.pack(1 + at % 2, at, at) for at in range(4096)))
    assert records.receive() == [(at, at) for at in range(0, 4096, 2)]
    for end in (ours, theirs, records):
        end.close()


# Broken rules


def test_a_torn_header_is_an_error_not_a_picture(pair: Pair) -> None:
    pair.write(1)
    pair.writer.flush()
    pair.reader.pump()
    pair.writer._slots._words[pair.writer._slots._stride * (SPEC.slots - 1)] += 1
    with pytest.raises(RingError, match=r"slot 7 was announced as \d+ but holds \d+; its header is torn or corrupt"):
        pair.reader.take()


def test_a_corrupt_count_is_an_error(pair: Pair) -> None:
    loan = pair.write(1)
    pair.writer.flush()
    pair.reader.pump()
    pair.writer._slots.commit(loan.slot, pair.writer._sequence, 1, 99)
    with pytest.raises(RingError, match="says 99 frames, but holds 1 to 2"):
        pair.reader.take()


@pytest.mark.parametrize("slot", [0, 8, 1 << 31])
def test_a_credit_for_a_slot_that_the_reader_does_not_have_is_an_error(pair: Pair, slot: int) -> None:
    pair.reader._records.put(slot, 0)
    pair.reader.flush()
    with pytest.raises(RingError, match=f"a credit for slot {slot}, which the reader does not have"):
        pair.writer.pump()


def test_a_doorbell_for_a_slot_that_the_writer_does_not_have_is_an_error(pair: Pair) -> None:
    loan = pair.write(1)
    pair.writer._records.put(loan.slot, 1)
    pair.writer.flush()
    with pytest.raises(RingError, match="a doorbell for slot 7, which the writer does not have"):
        pair.reader.pump()


def test_both_sides_learn_that_the_supervisor_is_gone(pair: Pair, clock: Callable[[float], None]) -> None:
    pair.ring.close()
    pair.ring.close()  # twice is once
    pair.writer.close()
    with pytest.raises(RingError, match="ring test: the other side and the supervisor are gone"):
        pair.reader.pump()
    fresh = Pair(SPEC)
    for value in range(4):
        fresh.write(value)
    fresh.writer.flush()
    fresh.ring.close()
    fresh.reader.close()  # with doorbells unread: the writer's socket is reset, not just ended
    with pytest.raises(RingError, match="supervisor are gone"):
        fresh.writer.pump()
    with pytest.raises(RingError, match="supervisor are gone"):
        fresh.write(1)
    fresh.writer.close()


# Restart


def test_a_surviving_writer_announces_again_what_was_not_released_in_order(pair: Pair) -> None:
    kept = pair.writer.loan()
    for value in (1, 2, 3, 4, 5):
        pair.write(value)
    pair.writer.flush()
    pair.reader.pump()
    first, second = pair.reader.take(), pair.reader.take()
    assert first is not None
    assert second is not None
    second.release()  # its credit need not even be sent
    pair.replace_reader()
    assert pair.take_all() == [1, 3, 4, 5]
    kept.field("view")[:] = 6
    kept.commit()
    pair.writer.flush()
    assert pair.take_all() == [6]
    free = 0
    while pair.writer.ready:
        pair.writer.loan()
        free += 1
    assert free == SPEC.slots - 5


def test_a_surviving_reader_keeps_what_it_took_and_gets_all_that_was_committed(
    pair: Pair, clock: Callable[[float], None]
) -> None:
    pair.write(1)
    pair.writer.flush()
    pair.reader.pump()
    taken = pair.reader.take()
    pair.write(2)
    pair.writer.flush()
    pair.write(3)  # the writer dies before its doorbell is sent
    assert pair.writer.pending
    pair.replace_writer()
    assert pair.take_all() == [2, 3]
    assert taken is not None
    assert int(taken.field("view")[0, 0, 0]) == 1
    free = 0
    while pair.writer.ready:
        pair.write(10 + free)
        free += 1
    assert free == SPEC.slots - 3
    pair.writer.flush()
    assert pair.take_all() == [10, 11, 12, 13, 14]
    taken.release()
    pair.reader.flush()
    pair.writer.pump()
    assert pair.writer.loan().slot == taken.slot


def test_a_fresh_writer_has_no_slot_until_the_reader_has_been_told(pair: Pair) -> None:
    pair.write(1)
    pair.writer.flush()
    pair.reader.pump()
    loan = pair.reader.take()
    pair.replace_writer(resync=False)
    assert loan is not None
    loan.release()  # under the old generation: no credit for the fresh writer
    pair.reader.flush()
    pair.writer.pump()
    assert not pair.writer.ready
    pair.reader.resync(pair.generation)
    pair.writer.pump()
    assert all(pair.writer.loan() for _ in range(SPEC.slots))
    assert not pair.writer.ready


def test_a_fresh_reader_sees_no_slot_until_the_writer_has_been_told(pair: Pair) -> None:
    pair.write(1)
    pair.writer.flush()
    pair.replace_reader(resync=False)
    pair.write(2)  # under the old generation
    pair.writer.flush()
    assert pair.take_all() == []
    pair.writer.resync(pair.generation)
    assert pair.take_all() == [1, 2]


def test_a_reader_whose_writer_will_not_come_back_grants_nothing(pair: Pair) -> None:
    pair.write(1)
    pair.writer.flush()
    pair.reader.resync(2, grant=False)
    assert pair.take_all() == [1]
    pair.generation = 2
    pair.writer.close()
    pair.writer = RingWriter.attach(pair.ring.handle("writer", 2))
    pair.writer.pump()
    assert not pair.writer.ready


def test_slots_held_across_two_writers_survive_the_reader(pair: Pair) -> None:
    pair.write(1)
    pair.writer.flush()
    pair.reader.pump()
    assert pair.reader.take() is not None
    pair.replace_writer()
    pair.write(2)
    pair.writer.flush()
    pair.replace_reader()
    assert pair.take_all() == [1, 2]


def test_both_fresh_start_with_an_empty_ring(pair: Pair) -> None:
    for value in range(5):
        pair.write(value)
    pair.writer.flush()
    pair.writer.close()
    pair.reader.close()
    pair.writer = RingWriter.attach(pair.ring.handle("writer", 2))
    pair.reader = RingReader.attach(pair.ring.handle("reader", 2, grant_all=True))
    assert pair.writer.generation == pair.reader.generation == 2
    assert pair.take_all() == []
    pair.writer.pump()
    for value in range(SPEC.slots):
        pair.write(value)
    pair.writer.flush()
    assert pair.take_all() == list(range(SPEC.slots))


def test_what_was_in_a_ring_that_was_emptied_never_comes_back(pair: Pair) -> None:
    for value in range(5):
        pair.write(value)
    pair.reader.close()
    pair.reader = RingReader.attach(pair.ring.handle("reader", 2, grant_all=True))
    pair.writer.close()
    pair.writer = RingWriter.attach(pair.ring.handle("writer", 2))
    pair.generation = 2
    pair.replace_reader()
    assert pair.take_all() == []
    assert all(pair.writer.loan() for _ in range(SPEC.slots))


def test_sequences_grow_over_all_lives_of_the_writer(pair: Pair) -> None:
    seen = []
    for _ in range(3):
        for value in (1, 2):
            pair.write(value)
        pair.writer.flush()
        pair.reader.pump()
        for loan in iter(pair.reader.take, None):
            seen.append(loan.sequence)
            loan.release()
        pair.replace_writer()
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("generation", [0, 1])
def test_a_generation_never_goes_back(pair: Pair, generation: int) -> None:
    with pytest.raises(RingError, match=f"resync to generation {generation}, but 1 is current"):
        pair.writer.resync(generation)
    with pytest.raises(RingError, match=f"resync to generation {generation}, but 1 is current"):
        pair.reader.resync(generation)


def test_the_supervisor_sees_how_full_the_ring_is(pair: Pair) -> None:
    assert pair.ring.fill() == 0
    unfinished = pair.writer.loan()
    for value in (1, 2):
        pair.write(value)
    assert pair.ring.fill() == 2 / SPEC.slots
    pair.writer.flush()
    pair.reader.pump()
    loan = pair.reader.take()
    assert loan is not None
    assert pair.ring.fill() == 2 / SPEC.slots
    loan.release()
    unfinished.abort()
    assert pair.ring.fill() == 1 / SPEC.slots
    pair.ring.close()
    assert pair.ring.fill() == 0


# Specification and creation


def test_specs_and_handles_survive_json(pair: Pair) -> None:
    assert RingSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC
    assert SPEC.total_bytes == SPEC.slots * SPEC.layout.slot_bytes
    handle = json.loads(json.dumps(pair.ring.handle("writer", 7)))
    writer = RingWriter.attach(handle)
    assert writer.spec == SPEC
    assert writer.generation == 7
    writer.close()


@pytest.mark.parametrize("slots", [-1, 0, 1, 1025])
def test_a_ring_has_2_to_1024_slots(slots: int) -> None:
    with pytest.raises(UsageError, match=f"ring few: {slots} slots; a ring has 2 to 1024; change"):
        RingSpec("few", SPEC.layout, slots)


def test_a_slot_holds_at_least_one_frame() -> None:
    with pytest.raises(UsageError, match="ring none: slots for 0 frames"):
        RingSpec("none", SlotLayout(0, (VIEW,)), 4)


def huge(side: int) -> RingSpec:
    return RingSpec("huge", SlotLayout(64, (Field("view", "|u1", (side, side, 3)),)), 1024)


def test_more_memory_than_can_be_addressed_is_refused_at_creation() -> None:
    with pytest.raises(ResourceError, match=r"ring huge: \d+ MiB of shared memory cannot be had .* lower branches"):
        Ring.create(huge(1 << 24))


def test_more_memory_than_can_be_mapped_is_refused_at_attaching() -> None:
    ring = Ring.create(huge(1 << 20))
    with pytest.raises(ResourceError, match=r"ring huge: \d+ MiB of shared memory cannot be had \(Cannot all"):
        RingWriter.attach(ring.handle("writer", 1))
    ring.close()


def test_no_descriptors_left_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", refuse)
    with pytest.raises(ResourceError, match=r"ring test: no socket pair \(Too many open files\); raise the limit"):
        Ring.create(SPEC)


def test_a_child_inherits_only_what_it_is_given() -> None:
    pair = Pair(SPEC)
    code = "import os, sys; print([fd for fd in map(int, sys.argv[1:]) if os.path.exists(f'/dev/fd/{fd}')])"
    fds = [pair.ring.memory_fd, pair.ring.writer_fd, pair.ring.reader_fd]
    for role, given in (("writer", fds[:2]), ("reader", [fds[0], fds[2]])):
        found = subprocess.run(
            [sys.executable, "-c", code, *map(str, fds)],
            pass_fds=pair.ring.descriptors(role),  # type: ignore[arg-type]
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(found.stdout) == given
    pair.close()
