"""A writer process and a reader process exchange slots of varying content; every byte is checked."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.process.ring_peers import LAYOUT, NUMBER
from vpipe.ring import Ring, RingSpec

DEADLINE_S = 60.0
"""Between two signs of life."""


class Peer:
    """One of the two processes, and the numbers that it has told."""

    def __init__(self, ring: Ring, role: str, generation: int, *args: int) -> None:
        handle = ring.handle(role, generation, grant_all=generation == 1)  # type: ignore[arg-type]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.process.ring_peers", role, json.dumps(handle), *map(str, args)],
            pass_fds=ring.descriptors(role),  # type: ignore[arg-type]
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        assert self.process.stdout is not None
        self.out = self.process.stdout.fileno()
        self.rest = b""

    def told(self) -> list[int]:
        """Read what has come; an empty list at the end of the stream."""
        data = self.rest + os.read(self.out, 1 << 16)
        whole = len(data) // NUMBER.size * NUMBER.size
        self.rest = data[whole:]
        return [number for (number,) in NUMBER.iter_unpack(data[:whole])]

    def resync(self, generation: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(NUMBER.pack(generation))
        self.process.stdin.flush()

    def kill(self) -> list[int]:
        """Kill, reap, and return the last words."""
        self.process.kill()
        self.process.wait()
        words = []
        while more := self.told():
            words += more
        self.close()
        return words

    def last_words(self) -> str:
        assert self.process.stderr is not None
        return f"exit code {self.process.wait()}: {self.process.stderr.read().decode()}"

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def wait_for_any(peers: list[Peer]) -> Iterator[Peer]:
    """Yield the peers that have told something."""
    ready, _, _ = select.select([peer.out for peer in peers], [], [], DEADLINE_S)
    assert ready, "nothing came for too long"
    yield from (peer for peer in peers if peer.out in ready)


@pytest.mark.parametrize("slots", [2, 16])
def test_every_byte_arrives_between_two_processes(slots: int) -> None:
    last = 20_000 if slots > 2 else 2000
    ring = Ring.create(RingSpec("stress", LAYOUT, slots))
    reader = Peer(ring, "reader", 1)
    writer = Peer(ring, "writer", 1, 0, last)
    checked: list[int] = []
    try:
        while len(checked) < last:
            for peer in wait_for_any([writer, reader]):
                words = peer.told()
                assert words, peer.last_words()
                checked += words if peer is reader else []
        assert checked == list(range(last))  # each once, in order of commit
    finally:
        for peer in (writer, reader):
            peer.kill()
        ring.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_every_byte_arrives_though_peers_are_killed_at_any_moment(seed: int) -> None:
    last, kills = 10_000, 12
    rng = random.Random(seed)
    ring = Ring.create(RingSpec("stress", LAYOUT, 16))
    peers = {"reader": Peer(ring, "reader", 1), "writer": Peer(ring, "writer", 1, 0, last)}
    generation, committed, checked, killed = 1, 0, set[int](), {"reader": 0, "writer": 0}
    # The next death comes when so many slots have been checked, somewhere in the middle of the work.
    deaths = sorted(rng.sample(range(100, last - 1000), kills))
    try:
        while len(checked) < last:
            for peer in wait_for_any(list(peers.values())):
                words = peer.told()
                assert words, peer.last_words()
                if peer is peers["writer"]:
                    committed = max(committed, max(words) + 1)
                else:
                    checked.update(words)
            if not deaths or len(checked) < deaths[0]:
                continue
            deaths.pop(0)
            for role in rng.choice([("reader",), ("writer",), ("reader", "writer"), ("writer", "reader")]):
                words = peers.pop(role).kill()
                killed[role] += 1
                if role == "writer":
                    committed = max([committed, *(word + 1 for word in words)])
                else:
                    checked.update(words)
                generation += 1
                for survivor in peers.values():
                    survivor.resync(generation)
                # What the dead writer committed and did not tell is written again.
                peers[role] = Peer(ring, role, generation, *((committed, last) if role == "writer" else ()))
        assert checked == set(range(last))
        assert min(killed.values()) >= 1
        assert sum(killed.values()) >= kills
    finally:
        for peer in peers.values():
            peer.kill()
        ring.close()


def test_a_process_leaves_when_the_other_and_the_supervisor_are_gone() -> None:
    ring = Ring.create(RingSpec("stress", LAYOUT, 4))
    reader = Peer(ring, "reader", 1)
    writer = Peer(ring, "writer", 1, 0, 1 << 40)
    assert reader.told()
    ring.close()
    reader.kill()
    assert writer.process.stderr is not None
    error = writer.process.stderr.read().decode()  # while its input and output are open
    assert "RingError: ring stress: the other side and the supervisor are gone" in error
    writer.kill()
