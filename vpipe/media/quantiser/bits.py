"""Bits of a header, first bit first, and the codes that the standards write them in."""

from __future__ import annotations

from typing import TypeAlias

Data: TypeAlias = bytes | memoryview


class Unreadable(ValueError):
    """A header that is damaged, cut off, or of a kind that is not read here; it never leaves this package."""


HEAD_BYTES = 24
"""What nearly every header fits in, and what is made text of at first."""


class Bits:
    """Reads a few hundred bytes at most: their bits are held as text, where a search for the next one is quick."""

    __slots__ = ("_at", "_rest", "_text")

    def __init__(self, data: Data) -> None:
        self._text = _text(data[:HEAD_BYTES])
        self._rest = data[HEAD_BYTES:]
        self._at = 0

    def skip(self, count: int) -> None:
        """Pass over bits; that they are there is seen when the next one is read."""
        self._at += count

    def flag(self) -> bool:
        """Return the next bit, u(1)."""
        at = self._at
        self._at = at + 1
        if at >= len(self._text):
            self._reach(at + 1)
        return self._text[at] == "1"

    def u(self, count: int) -> int:
        """Return an unsigned number of so many bits."""
        at = self._at
        self._at = stop = at + count
        if stop > len(self._text):
            self._reach(stop)
        return int(self._text[at:stop], 2) if count else 0

    def ue(self) -> int:
        """Return an unsigned Exp-Golomb code, H.264 9.1."""
        at, text = self._at, self._text
        if text[at : at + 1] == "1":  # half of all
            self._at = at + 1
            return 0
        one = text.find("1", at)
        stop = 2 * one - at + 1
        if one < 0 or stop > len(text) or one - at > 32:
            if not self._rest:
                raise Unreadable("no Exp-Golomb code")
            self._reach(0)
            return self.ue()
        self._at = stop
        return int(text[one:stop], 2) - 1

    def _reach(self, stop: int) -> None:
        """Make text of the rest as well, in which bit number `stop` - 1 must be."""
        self._text += _text(self._rest)
        self._rest = b""
        if stop > len(self._text):
            raise Unreadable("cut off")

    def se(self) -> int:
        """Return a signed Exp-Golomb code, H.264 9.1.1."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)

    def below(self, limit: int) -> int:
        """Return an Exp-Golomb code that must be below `limit`: a number of things, or the number of one."""
        value = self.ue()
        if value >= limit:
            raise Unreadable("out of range")
        return value


def _text(data: Data) -> str:
    return f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""


def mean(values: list[int]) -> float | None:
    """Return the mean, or None where there is none."""
    return sum(values) / len(values) if values else None


def width_of(count: int) -> int:
    """Return Ceil(Log2(count)), the bits of a number below `count`."""
    return max(count - 1, 0).bit_length()
