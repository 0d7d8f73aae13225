"""Processes that die between any two of their effects on the outside.

The effects of one end of a ring are its stores to slot headers and its system calls. A test attaches an end under
`mortal(life)`; when `life` runs out, `KilledError` flies out of the effect that did not happen any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from vpipe.ring.records import RECORD, Records
from vpipe.ring.slots import Slots


class KilledError(BaseException):
    """The process is dead; no handler of its own may run."""


class Life:
    """How many more effects a process has before it is killed; None: it lives on."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.dead = False
        self.socket_full = False
        self.records_a_send: int | None = None

    def effect(self) -> None:
        if self.left == 0:
            self.dead = True
        if self.dead:
            raise KilledError
        if self.left is not None:
            self.left -= 1


class MortalWords:
    def __init__(self, words: Any, life: Life) -> None:
        self.words, self.life = words, life

    def __getitem__(self, at: int) -> int:
        return int(self.words[at])

    def __setitem__(self, at: int, value: int) -> None:
        self.life.effect()
        self.words[at] = value


class MortalSocket:
    def __init__(self, real: Any, life: Life) -> None:
        self.real, self.life = real, life

    def send(self, data: bytes, flags: int = 0) -> int:
        self.life.effect()
        if self.life.socket_full:
            raise BlockingIOError
        size = len(data) if self.life.records_a_send is None else self.life.records_a_send * RECORD.size
        return int(self.real.send(bytes(data)[:size], flags))

    def recv(self, size: int) -> bytes:
        self.life.effect()
        return bytes(self.real.recv(size))

    def close(self) -> None:
        self.real.close()


@contextmanager
def mortal(life: Life) -> Iterator[None]:
    """Attach a ring's end in a process that lives by `life`."""
    made: list[Records] = []

    def slots(*args: Any) -> Slots:
        real: Any = Slots(*args)
        real._words = MortalWords(real._words, life)
        return real

    def records(*args: Any) -> Records:
        real: Any = Records(*args)
        real._socket = MortalSocket(real._socket, life)
        made.append(real)
        return real

    names = {"Slots": slots, "Records": records}
    with mock.patch.multiple("vpipe.ring.end", **names):
        try:
            yield
        except KilledError:
            made[0].close()  # the system closes a dead process's descriptors
            raise
