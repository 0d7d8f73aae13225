"""Parameter sets by their number; one that comes again, as it does at every keyframe, is not read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from vpipe.media.quantiser.bits import Bits, Data, Unreadable
from vpipe.media.quantiser.nal import SET_BYTES, payload


class Numbered(Protocol):
    """A parameter set."""

    @property
    def number(self) -> int:
        """What others refer to it by."""
        ...


SetT = TypeVar("SetT", bound=Numbered)

_MOST = 64
"""Different ones remembered."""


class Memo(Generic[SetT]):
    """The parameter sets of one kind that are in force."""

    def __init__(self, read: Callable[[Bits], SetT]) -> None:
        self._read = read
        self._active: dict[int, SetT] = {}
        self._known: dict[bytes, SetT | None] = {}

    def keep(self, unit: Data, header: int) -> None:
        """Put the set of a NAL unit in force, if it can be read."""
        key = bytes(unit[:SET_BYTES])
        if key in self._known:
            found = self._known[key]
        else:
            try:
                found = self._read(payload(unit, header, SET_BYTES))
            except Unreadable:
                found = None
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = found
        if found is not None:
            self._active[found.number] = found

    def __getitem__(self, number: int) -> SetT:
        found = self._active.get(number)
        if found is None:
            raise Unreadable("a parameter set is missing")
        return found
