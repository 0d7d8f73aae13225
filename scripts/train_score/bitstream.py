"""What a file tells of its frames without decoding any."""

from __future__ import annotations

import io
from typing import Any

import av


def facts(data: bytes) -> dict[str, Any]:
    """Return the codec, the coded size, and of each packet its bytes and whether it is a keyframe."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        packets = [(packet.size, int(packet.is_keyframe)) for packet in container.demux(stream) if packet.size]
        return {
            "codec": stream.codec.canonical_name,
            "size": [stream.codec_context.width, stream.codec_context.height],
            "bytes": [size for size, _ in packets],
            "key": [key for _, key in packets],
        }
