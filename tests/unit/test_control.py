"""The control channel: whole messages, however they arrive, and a peer that leaves or misbehaves."""

from __future__ import annotations

import socket
import threading

import pytest

from vpipe.control import MAX_MESSAGE_BYTES, Channel
from vpipe.errors import VpipeError


@pytest.fixture
def pair() -> tuple[Channel, socket.socket]:
    return Channel.pair()


def test_messages_arrive_whole_and_in_order(pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair
    worker = Channel(theirs, blocking_send=True)
    for number in range(3):
        ours.send({"op": "decode", "number": number, "path": "name \udcff\n"})
    assert [message["number"] for message in worker.receive()] == [0, 1, 2]
    assert worker.receive() == []
    ours.send({"op": "stop", "path": "name \udcff\n"})
    assert worker.receive() == [{"op": "stop", "path": "name \udcff\n"}]
    ours.close()
    worker.close()


def test_half_a_message_waits_for_its_other_half(pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b'{"op":"a"}\n{"op":')
    assert ours.receive() == [{"op": "a"}]
    assert ours.receive() == []
    theirs.sendall(b'"b"}\n')
    assert ours.receive() == [{"op": "b"}]
    ours.close()
    theirs.close()


def test_what_was_sent_before_the_peer_left_is_still_heard(pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b'{"op":"crash"}\n{"op":"cut off')
    theirs.close()
    assert ours.receive() == [{"op": "crash"}]
    assert ours.closed
    assert ours.receive() == []
    ours.send({"op": "stop"})  # harmless
    ours.close()


def test_sending_to_a_peer_that_is_gone_loses_nothing_of_what_it_said_last(pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b'{"op":"crash"}\n')
    theirs.close()
    ours.send({"op": "resync"})
    assert ours.receive() == [{"op": "crash"}]
    assert ours.closed
    ours.close()


def test_a_supervisor_never_waits_for_a_worker_that_does_not_read(pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair
    filling = {"op": "fill", "text": "x" * 100_000}
    for _ in range(100):
        ours.send(filling)
    reader = Channel(theirs, blocking_send=True)
    heard = 0
    while heard < 100:
        heard += len(reader.receive())
        ours.flush()
    assert heard == 100
    ours.close()
    reader.close()


def test_a_worker_waits_until_all_is_sent(pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair
    worker = Channel(theirs, blocking_send=True)
    thread = threading.Thread(target=worker.send, args=({"op": "big", "text": "x" * (8 << 20)},))
    thread.start()
    heard = []
    while not heard:
        heard = ours.receive()
    thread.join()
    assert len(heard[0]["text"]) == 8 << 20
    ours.close()
    worker.close()


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b'{"no":"op"}\n', b'{"op":1}\n', b"\xff\xfe\n", b"\n"])
def test_what_is_no_message_is_refused(line: bytes, pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(line)
    with pytest.raises(VpipeError, match="not a message"):
        ours.receive()
    ours.close()
    theirs.close()


def test_an_endless_message_is_refused(pair: tuple[Channel, socket.socket]) -> None:
    ours, theirs = pair
    worker = Channel(theirs, blocking_send=True)
    text = {"op": "x" * (MAX_MESSAGE_BYTES + (1 << 20))}
    thread = threading.Thread(target=worker.send, args=(text,), daemon=True)
    thread.start()

    def hear() -> None:
        while True:
            assert ours.receive() == []

    with pytest.raises(VpipeError, match="without an end"):
        hear()
    ours.close()
    thread.join()
    worker.close()
