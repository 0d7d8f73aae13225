"""What each kind of source may open: protocols and demuxers.

FFmpeg opens whatever a playlist names, so a hostile file could read other files or reach inside the network. Every
opening is therefore held to its kind's row of `RULES`, in FFmpeg itself (nested openings included).
"""

from __future__ import annotations

import dataclasses
import re

from vpipe.errors import MediaError

_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,m4v,h261,h263,h264,hevc,vvc,av1,obu,ivf,vc1,"
    "vc1test,cavsvideo,dirac,mjpeg,gif,ogg,asf,nut,mxf,gxf,dv,wtv,yuv4mpegpipe,rm,nuv,pva,nsv,roq,amv,live_flv,kux"
)
_SOUND = "mp3,wav,w64,flac,aac,ac3,eac3,amr,aiff,caf,au,ape,opus"
"""Known only so that the message can be `audio only`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What FFmpeg may do for one kind of source."""

    protocols: str
    demuxers: str
    live: bool = False
    """Has no end that one could wait for: for live runs only."""


RULES = {
    "file": Rule("file,fd", f"{_CONTAINERS},{_SOUND}"),
    "http": Rule("http,https,tcp,tls,crypto,data", f"{_CONTAINERS},{_SOUND},hls"),
    "rtsp": Rule("rtsp,rtsps,rtp,srtp,tcp,udp,tls", "rtsp,rtp", live=True),
    "rtmp": Rule("rtmp,rtmps,tcp,tls", "flv,live_flv", live=True),
    "srt": Rule("srt", "mpegts", live=True),
    "udp": Rule("udp,rtp", "mpegts,rtp", live=True),
    "device": Rule("", "", live=True),
}
"""By source kind."""

_KINDS = {"http": "http", "https": "http", "rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "rtmp", "rtmps": "rtmp",
          "srt": "srt", "udp": "udp", "rtp": "udp"}  # fmt: skip


SYNTHETIC = "synthetic://"
"""Pictures from nowhere, see `vpipe.media.synthetic`; nothing is opened for them."""


def kind_of(path: str, *, live: bool = False) -> str:
    """Return the source kind of a path or URL: `file` where it has no scheme (live: `device` for a camera).

    Raises:
        MediaError: The scheme is unknown, or its kind is for live runs.
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path)
    if not match:
        return "device" if live and re.fullmatch(r"/dev/video\d+", path) else "file"
    kind = _KINDS.get(match[1].lower())
    if kind is None:
        known = ", ".join(f"{scheme}://" for scheme in _KINDS) if live else "http:// or https://"
        raise MediaError("scheme", f"{match[1]}:// sources are not supported; use a file, {known}")
    if RULES[kind].live and not live:
        raise MediaError("live", f"{match[1]}:// is a live source: for live runs; use a file, http:// or https://")
    return kind


def without_secrets(path: str) -> str:
    """Return a path or URL fit for logs and for others: no password, no query (where stream keys and tokens stand)."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#@]*@)?([^?#]*)", path)
    if not match:
        return path
    return f"{match[1]}{match[2]}" + ("?..." if "?" in path else "")
