"""What a file tells of its frames without a look at the pixels: packet sizes, key frames, and QP where exported."""

from __future__ import annotations

import io
import struct
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type

BLOCK_QP = 4
"""Place of a block's difference in QP in FFmpeg's AVVideoBlockParams, counted in 32-bit integers."""


def _qp(parameters: bytes) -> float:
    """Return the mean QP of a frame from FFmpeg's AVVideoEncParams, on the codec's own scale."""
    blocks, first, size = struct.unpack_from("<IxxxxQQ", parameters)
    of_frame = struct.unpack_from("<i", parameters, 28)[0]
    if not blocks:
        return float(of_frame)
    differences = np.frombuffer(parameters, np.int32, offset=first).reshape(blocks, size // 4)[:, BLOCK_QP]
    return float(of_frame + differences.mean())


def facts(data: bytes) -> dict[str, Any]:
    """Return the codec, the coded size, and per packet its bytes and whether it is a key frame; per frame its QP."""
    sizes, keys, qps = [], [], []
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.options = {"export_side_data": "venc_params"}
        context.thread_count = 1
        for packet in container.demux(stream):
            if packet.size:
                sizes.append(packet.size)
                keys.append(int(packet.is_keyframe))
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                found = [_qp(bytes(s)) for s in frame.side_data if s.type == Type.VIDEO_ENC_PARAMS]
                qps.append(round(found[0], 2) if found else None)
        return {
            "codec": stream.codec.canonical_name,
            "size": [context.width, context.height],
            "bytes": sizes,
            "key": keys,
            "qp": qps,
        }
