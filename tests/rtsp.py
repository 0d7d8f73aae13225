"""A small RTSP server for tests: it passes on what ffmpeg sends as RTP, to one client at a time, over TCP or UDP.

Of RFC 2326 it knows what a player needs: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER and TEARDOWN.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
from pathlib import Path

from tests.engine import until
from tests.live import Feeder, free_port


class RtspServer:
    """Serves one clip, over and over, at `url`."""

    def __init__(self, clip: Path, folder: Path) -> None:
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind(("127.0.0.1", 0))
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._door.getsockname()[1]}/clip"
        self._sdp = folder / "clip.sdp"
        target = f"rtp://127.0.0.1:{self._rtp.getsockname()[1]}?pkt_size=1200&rtcpport={free_port(socket.SOCK_DGRAM)}"
        self._feeder = Feeder(
            "-re", "-stream_loop", "-1", "-i", clip, "-c", "copy", "-an", "-f", "rtp", "-sdp_file", self._sdp, target
        )
        self._to: tuple[str, int] | None = None
        self._playing = self._ended = False
        self.transport = ""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ended:
            if select.select([self._door], [], [], 0.05)[0]:
                client, _ = self._door.accept()
                with client, contextlib.suppress(OSError):
                    self._playing = False
                    self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        asked = b""
        while not self._ended:
            ready = select.select([client, self._rtp], [], [], 0.05)[0]
            if self._rtp in ready:
                self._pass_on(client, self._rtp.recv(65536))
            if client in ready:
                data = client.recv(65536)
                if not data:
                    return
                asked += data
                while b"\r\n\r\n" in asked:
                    head, asked = asked.split(b"\r\n\r\n", 1)
                    if b"RTSP/1.0" in head:  # else it is the client's RTCP
                        self._answer(client, head.decode(errors="replace"))

    def _pass_on(self, client: socket.socket, packet: bytes) -> None:
        if not self._playing:
            return
        if self._to is None:
            client.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
        else:
            self._rtp.sendto(packet, self._to)

    def _answer(self, client: socket.socket, head: str) -> None:
        method = re.findall(r"(OPTIONS|DESCRIBE|SETUP|PLAY|GET_PARAMETER|TEARDOWN) rtsp://", head)[-1]
        number = re.findall(r"CSeq: *(\d+)", head)[-1]
        lines, body = ["RTSP/1.0 200 OK", f"CSeq: {number}", "Session: 1"], b""
        if method == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN")
        elif method == "DESCRIBE":
            text = re.sub(r"m=video \d+", "m=video 0", self._sdp.read_text().removeprefix("SDP:\n"))
            body = (text.strip() + "\r\na=control:track\r\n").encode()
            lines += ["Content-Type: application/sdp", f"Content-Base: {self.url}/", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            wanted = re.findall(r"Transport: *(.*)", head)[-1].strip()
            ports = re.search(r"client_port=(\d+)-(\d+)", wanted)
            self._to = None if ports is None else ("127.0.0.1", int(ports[1]))
            self.transport = "tcp" if ports is None else "udp"
            here = self._rtp.getsockname()[1]
            lines.append(f"Transport: {wanted}" + (f";server_port={here}-{here + 1}" if ports else ""))
        self._playing |= method == "PLAY"
        client.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def __enter__(self) -> RtspServer:
        self._feeder.start()
        until(lambda: self._sdp.exists() and "sprop" in self._sdp.read_text(), "the description of the stream")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        self._feeder.stop()
        self._door.close()
        self._rtp.close()
