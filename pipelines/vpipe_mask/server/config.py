"""What a feed server is told at its start, and the rules that keep it from serving strangers."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vpipe.errors import UsageError

TOKEN_LENGTH = 16
"""Characters that a token has at least."""
HTTP = re.compile(r"https?://", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class ServerConfig:
    """Addresses, secrets, files and limits; checked as a whole by `check`."""

    host: str | None = None
    """Address of HTTP, WebSocket and the page; None: no HTTP."""
    port: int = 0
    """0: any that is free."""
    pub: str | None = None
    """ZeroMQ endpoint to publish at: `ipc://PATH` or `tcp://HOST:PORT`."""
    token: str | None = None
    """Whoever has it may read and, over POST and DELETE, control; None: everyone on this machine may read."""
    origins: tuple[str, ...] = ()
    """Web origins beside the server's own whose pages may use it, for example `https://player.example`."""
    videos: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """File or http(s) URL of the video that the page shows, by stream id or URL; `*` for any other stream."""
    comments: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Comment file, likewise."""
    hls_js: str | None = None
    """A file of hls.js, for browsers that cannot play HLS by themselves."""
    record: str | None = None
    """Directory to record the feed in."""
    record_formats: tuple[str, ...] = ("webmask",)
    record_minutes: float = 60.0
    """Length of one recorded file."""
    history_s: float = 60.0
    """How far back a mask can be asked for, by pts."""
    history_bytes: int = 64 << 20
    """The same, in bytes a stream."""
    max_clients: int = 256
    """WebSocket clients at once; twice as many connections are taken."""
    max_rate: float = 60.0
    """Masks a second and client."""
    patience_s: float = 10.0
    """A connection that has not sent a whole request by then is closed."""

    def check(self) -> None:
        """Check what can be checked before anything starts.

        Raises:
            UsageError: A value cannot be, or strangers would be served.
        """
        if self.token is not None and (len(self.token) < TOKEN_LENGTH or not self.token.isascii()):
            raise UsageError(
                f"token: {len(self.token)} characters; use at least {TOKEN_LENGTH}, ASCII, picked at random"
            )
        if self.host is not None and self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"--serve {self.host}:{self.port}: not a loopback address, so a token is needed; set VPIPE_TOKEN"
            )
        if self.pub is not None:
            self._check_pub(self.pub)
        for origin in self.origins:
            parts = urlsplit(origin)
            if not (parts.scheme and parts.netloc) or parts.path:
                raise UsageError(f"origin '{origin}': is not SCHEME://HOST[:PORT]")
        for what, table in (("video", self.videos), ("comments", self.comments)):
            for value in table.values():
                if not (what == "video" and HTTP.match(value)) and not Path(value).is_file():
                    raise UsageError(f"{what} '{value}': there is no such file")
        if self.hls_js is not None and not Path(self.hls_js).is_file():
            raise UsageError(f"hls.js '{self.hls_js}': there is no such file")
        self._check_formats()
        for name in ("history_s", "record_minutes", "max_clients", "max_rate", "history_bytes", "patience_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}: {getattr(self, name)}; it must be above 0")

    def _check_pub(self, endpoint: str) -> None:
        scheme, _, rest = endpoint.partition("://")
        if scheme == "ipc" and rest:
            return
        if scheme != "tcp" or not re.fullmatch(r".+:(\d{1,5}|\*)", rest):
            raise UsageError(f"--pub '{endpoint}': is neither ipc://PATH nor tcp://HOST:PORT")
        if self.token is None and not is_loopback(rest.rpartition(":")[0]):
            raise UsageError(f"--pub {endpoint}: not a loopback address, so a token is needed; set VPIPE_TOKEN")

    def _check_formats(self) -> None:
        if self.record is None:
            return
        from vpipe_mask.formats import FORMATS

        for name in self.record_formats:
            if name not in FORMATS:
                raise UsageError(f"record format '{name}': there is none; use one of {', '.join(FORMATS)}")

    def video_of(self, stream: str, url: str | None) -> str | None:
        """Return the file or URL that the page shows for a stream."""
        return _named(self.videos, stream, url)

    def comments_of(self, stream: str, url: str | None) -> str | None:
        """Return the comment file of a stream."""
        return _named(self.comments, stream, url)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**dataclasses.asdict(self), "videos": dict(self.videos), "comments": dict(self.comments)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ServerConfig:
        """Rebuild from `to_dict`'s values (JSON turns tuples into lists)."""
        tuples = {name: tuple(values[name]) for name in ("origins", "record_formats")}
        return cls(**{**values, **tuples})


def _named(table: Mapping[str, str], stream: str, url: str | None) -> str | None:
    return table.get(stream) or (table.get(url) if url else None) or table.get("*")


def parse_serve(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, or a port alone, which is served on the loopback.

    Raises:
        UsageError: It is neither.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise UsageError(f"--serve: '{text}' is not HOST:PORT; for example 8800 or 127.0.0.1:8800")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name, or `*`
        return False
