"""What a file tells of its frames without decoding any."""

from __future__ import annotations

import io
from typing import Any

import av

from vpipe.media.quantiser import Quantisers


def facts(data: bytes) -> dict[str, Any]:
    """Return the codec, the coded size, and of each packet its bytes, whether it is a keyframe, and its quantiser."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        quantisers = Quantisers(stream.codec.canonical_name, stream.codec_context.extradata)
        packets = [
            (packet.size, int(packet.is_keyframe), quantisers.of(bytes(packet)))
            for packet in container.demux(stream)
            if packet.size
        ]
        return {
            "codec": stream.codec.canonical_name,
            "size": [stream.codec_context.width, stream.codec_context.height],
            "bytes": [size for size, _, _ in packets],
            "key": [key for _, key, _ in packets],
            "quantiser": [quantiser for _, _, quantiser in packets],
        }
