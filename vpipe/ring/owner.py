"""What the supervisor holds of a ring: its specification, its memory and both ends of its socket pair."""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import Any, Literal

from vpipe.errors import ResourceError, UsageError
from vpipe.layout import SlotLayout
from vpipe.memory import create_memory
from vpipe.ring.records import COALESCE_S

MAX_SLOTS = 1024
SOCKET_BYTES = 1 << 20
"""Asked of each socket's send buffer, so that every slot's record fits even when each was sent alone."""

Role = Literal["writer", "reader"]


@dataclasses.dataclass(frozen=True)
class RingSpec:
    """The size and shape of a ring, plain enough for JSON."""

    name: str
    layout: SlotLayout
    slots: int
    coalesce_s: float = COALESCE_S
    """Doorbells that come sooner after each other than this may wait for each other, seconds."""

    def __post_init__(self) -> None:
        if not 2 <= self.slots <= MAX_SLOTS:
            raise UsageError(
                f"ring {self.name}: {self.slots} slots; a ring has 2 to {MAX_SLOTS};"
                " change branches[..].batch.slots or decode.slots"
            )
        if self.layout.capacity < 1:
            raise UsageError(f"ring {self.name}: slots for {self.layout.capacity} frames; a slot holds 1 or more")

    @property
    def total_bytes(self) -> int:
        """Bytes of the ring's memory."""
        return self.slots * self.layout.slot_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"name": self.name, "layout": self.layout.to_dict(), "slots": self.slots, "coalesce_s": self.coalesce_s}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RingSpec:
        """Rebuild from `to_dict`'s values."""
        return cls(values["name"], SlotLayout.from_dict(values["layout"]), values["slots"], values["coalesce_s"])


class Ring:
    """A ring's descriptors, kept open by the supervisor over all restarts of writer and reader.

    Both ends stay open here, so a writer or reader that sees the end of its socket knows that the supervisor is gone.
    """

    def __init__(self, spec: RingSpec, memory_fd: int, writer_fd: int, reader_fd: int) -> None:
        self.spec = spec
        self.memory_fd = memory_fd
        self.writer_fd = writer_fd
        self.reader_fd = reader_fd

    @classmethod
    def create(cls, spec: RingSpec) -> Ring:
        """Create the memory and the socket pair, all close-on-exec.

        Raises:
            ResourceError: Memory or descriptors are not to be had.
        """
        memory_fd = create_memory(f"ring {spec.name}", spec.total_bytes)
        try:
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            os.close(memory_fd)
            raise ResourceError(
                f"ring {spec.name}: no socket pair ({error.strerror}); raise the limit of open files (ulimit -n)"
            ) from None
        for end in ends:
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        return cls(spec, memory_fd, ends[0].detach(), ends[1].detach())

    def descriptors(self, role: Role) -> tuple[int, int]:
        """Return the descriptors that a writer or reader process must inherit under the same numbers."""
        return self.memory_fd, self.writer_fd if role == "writer" else self.reader_fd

    def handle(self, role: Role, generation: int, *, grant_all: bool = False) -> dict[str, Any]:
        """Return what a child needs to attach: plain values, with descriptors under the numbers they have here.

        Args:
            role: `writer` or `reader`.
            generation: 1 at first, one more at each restart of either side.
            grant_all: For a reader whose writer is fresh too: empty the ring and grant every slot to the writer.
        """
        memory_fd, socket_fd = self.descriptors(role)
        return {
            "role": role,
            "spec": self.spec.to_dict(),
            "memory_fd": memory_fd,
            "socket_fd": socket_fd,
            "generation": generation,
            "grant_all": grant_all,
        }

    def fill(self) -> float:
        """Return the share of the slots that are committed and not released yet, 0 to 1; 0 once it is closed."""
        memory_fd, slots, stride = self.memory_fd, self.spec.slots, self.spec.layout.slot_bytes
        try:
            return sum(any(os.pread(memory_fd, 8, slot * stride)) for slot in range(slots)) / slots
        except OSError:
            return 0.0

    def close(self) -> None:
        """Close the descriptors; mappings that others hold stay theirs."""
        fds = self.memory_fd, self.writer_fd, self.reader_fd
        self.memory_fd = self.writer_fd = self.reader_fd = -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)
