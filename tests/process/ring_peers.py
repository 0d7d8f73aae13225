"""The writer and the reader of the ring's stress test, each a program of its own.

    python -m tests.process.ring_peers writer HANDLE FIRST LAST
    python -m tests.process.ring_peers reader HANDLE

Both take orders to resync on standard input (the new generation, eight bytes) and tell on standard output, eight
bytes each, which number they have committed or checked. They leave when their input ends or their ring is lost.
"""

from __future__ import annotations

import json
import os
import random
import select
import struct
import sys
from typing import Any

import numpy as np

from vpipe.layout import Field, SlotLayout
from vpipe.ring import ReadLoan, RingReader, RingWriter

CAPACITY = 3
LAYOUT = SlotLayout(CAPACITY, (Field("view", "|u1", (40, 24)), Field("score", "<f4", (5,))))
NUMBER = struct.Struct("=q")
NOISE = np.random.default_rng(0).integers(0, 256, 8192, dtype=np.uint8)


def view_of(number: int, count: int) -> np.ndarray[Any, Any]:
    """The bytes of slot `number`: a place in the noise, and the number itself."""
    start = number * 31 % 4096
    view = NOISE[start : start + count * 960].reshape(count, 40, 24) + np.uint8(number % 251)
    view[0, 0, :8] = np.frombuffer(NUMBER.pack(number), np.uint8)
    return view


def count_of(number: int) -> int:
    return number * 7 % CAPACITY + 1


def wait(end: RingWriter | RingReader, orders: int) -> None:
    """Wait for records or orders; resync when told to; leave when the parent is gone."""
    poll = select.poll()
    poll.register(end, select.POLLIN | (select.POLLOUT if end.pending else 0))
    poll.register(orders, select.POLLIN)
    for fd, _ in poll.poll():
        if fd == orders:
            order = os.read(orders, NUMBER.size)
            if not order:
                sys.exit()
            end.resync(NUMBER.unpack(order)[0])


def write(handle: dict[str, Any], first: int, last: int) -> None:
    """Write slots `first` to `last`, several loans at a time, committed out of order, some aborted."""
    writer, rng = RingWriter.attach(handle), random.Random(first)
    number = first
    while number < last:
        writer.pump()
        if not writer.ready:
            writer.flush()
            wait(writer, 0)
            continue
        loans = []
        while writer.ready and len(loans) < rng.randint(1, 6):
            loans.append(writer.loan())
        rng.shuffle(loans)
        told = []
        for loan in loans:
            if rng.random() < 0.1 or number >= last:
                loan.field("view")[:] = 255
                loan.abort()
                continue
            loan.count = count_of(number)
            loan.field("view")[: loan.count] = view_of(number, loan.count)
            loan.field("score")[: loan.count] = number
            loan.frames["pts"][: loan.count] = number
            loan.commit()
            told.append(NUMBER.pack(number))
            number += 1
        os.write(1, b"".join(told))
    writer.flush()
    while True:  # until the parent closes our input: a reader may still need our resync
        wait(writer, 0)
        writer.pump()
        writer.flush()


def read(handle: dict[str, Any]) -> None:
    """Check every byte of every slot, hold some for a while, release in any order."""
    reader, rng = RingReader.attach(handle), random.Random(handle["generation"])
    held: list[ReadLoan] = []
    sequence = 0
    while True:
        reader.pump()
        told = []
        for loan in iter(reader.take, None):
            assert loan.sequence > sequence
            sequence = loan.sequence
            number = int(loan.frames["pts"][0])
            assert loan.count == count_of(number)
            assert (loan.frames["pts"] == number).all()
            assert (loan.field("score") == number).all()
            np.testing.assert_array_equal(loan.field("view"), view_of(number, loan.count))
            told.append(NUMBER.pack(number))
            held.append(loan)
        os.write(1, b"".join(told))
        rng.shuffle(held)
        while len(held) > rng.randint(0, min(3, reader.spec.slots - 1)):
            loan = held.pop()
            number = int(loan.frames["pts"][0])
            # Nobody may have written to it while it was held.
            np.testing.assert_array_equal(loan.field("view"), view_of(number, loan.count))
            loan.release()
        reader.flush()
        wait(reader, 0)


if __name__ == "__main__":
    if sys.argv[1] == "writer":
        write(json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        read(json.loads(sys.argv[2]))
