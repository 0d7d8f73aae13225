"""Spoils pristine clips in the ways real video is spoiled: codecs, rescaling, blur, noise, banding, lost packets.

`apply` does one recipe of `recipes.py`; everything follows from the recipe's seed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from recipes import LADDERS, Recipe

from vpipe.media.concealment import Concealment
from vpipe.media.container import decode_listening
from vpipe.media.reader import Losses, flags_of

Clip = NDArray[np.uint8]
"""(frames, height * 3 / 2, width), planes Y, U, V of 4:2:0, limited range."""

RATE = 25

ENCODERS = {
    "x264": "libx264",
    "x265": "libx265",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "mpeg2": "mpeg2video",
    "mpeg4": "mpeg4",
}


def _options(codec: str, level: float, rng: np.random.Generator) -> dict[str, str]:
    low, high = LADDERS[codec]
    gop = str(rng.choice([250, 250, 12, 6]))
    if codec in ("mpeg2", "mpeg4"):
        quantiser = low * (high / low) ** level
        q = f"{quantiser:.0f}"
        return {"qmin": q, "qmax": q, "b": "20000000", "g": "12", "bf": str(rng.integers(0, 3))}
    quality = f"{low + level * (high - low):.0f}"
    if codec == "x264":
        return {"crf": quality, "preset": str(rng.choice(["ultrafast", "veryfast", "veryfast", "medium"])), "g": gop}
    if codec == "x265":
        parameters = f"crf={quality}:pools=none:frame-threads=1:log-level=none:keyint={gop}"
        return {"preset": str(rng.choice(["ultrafast", "superfast", "veryfast"])), "x265-params": parameters}
    if codec == "vp9":
        return {"crf": quality, "b": "0", "deadline": "realtime", "cpu-used": str(rng.integers(5, 9)), "g": gop}
    return {"crf": quality, "preset": str(rng.integers(9, 12)), "svtav1-params": "lp=1", "g": gop}


def encode(clip: Clip, codec: str, level: float, rng: np.random.Generator, container: str = "matroska") -> bytes:
    """Return the clip as a file of `container`."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(ENCODERS[codec], rate=RATE, options=_options(codec, level, rng))
        stream.width, stream.height, stream.pix_fmt = clip.shape[2], clip.shape[1] * 2 // 3, "yuv420p"
        stream.codec_context.thread_count = 1
        for index, planes in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


@dataclass(frozen=True)
class Decoded:
    """What came out of a file."""

    clip: Clip
    present: NDArray[np.bool_]
    """Per frame: decoded, and not a repeat of the one before."""
    flags: NDArray[np.uint32]
    """`vpipe.frame.FrameFlag` of each frame, as the engine tells them."""
    origin: float
    """Time of the first frame, seconds."""


def decode(data: bytes, like: Clip, origin: float | None = None) -> Decoded:
    """Return the frames of a file placed by their pts, counted from `origin` or else from the first."""
    out = np.zeros_like(like)
    present = np.zeros(len(like), bool)
    flags = np.zeros(len(like), np.uint32)
    losses, concealment = Losses(), Concealment()
    try:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for packet in container.demux(stream):
                try:
                    frames = decode_listening(stream.codec_context, packet, concealment)
                except av.error.InvalidDataError:
                    continue
                for frame in frames:
                    lost = losses.upto(frame, concealment.share(frame))
                    if frame.pts is None or frame.format.name != "yuv420p":
                        continue
                    seconds = float(frame.pts * frame.time_base)
                    origin = seconds if origin is None else origin
                    index = round((seconds - origin) * RATE)
                    planes = frame.to_ndarray()
                    if 0 <= index < len(out) and planes.shape == out.shape[1:]:
                        out[index], present[index] = planes, True
                        flags[index] = int(flags_of(frame, frame.key_frame, lost))
    except av.error.FFmpegError:
        pass  # a damaged file may end early: what was decoded counts
    if origin is None or not present.any():
        raise ValueError("nothing could be decoded")
    out[: present.argmax()] = out[present.argmax()]
    for index in range(1, len(out)):
        if not present[index]:
            out[index] = out[index - 1]
    return Decoded(out, present, flags, origin)


def _planes(planes: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    return [planes[:height], chroma[0], chroma[1]]


def resize(clip: Clip, size: tuple[int, int], method: int) -> Clip:
    """Scale each plane to (width, height) `size`."""
    width, height = size
    out = np.empty((len(clip), height * 3 // 2, width), np.uint8)
    for source, target in zip(clip, out, strict=True):
        for a, b in zip(_planes(source), _planes(target), strict=True):
            b[...] = cv2.resize(a, (b.shape[1], b.shape[0]), interpolation=method)
    return out


def _smaller(size: tuple[int, int], factor: float) -> tuple[int, int]:
    width, height = (max(32, round(s / factor / 2) * 2) for s in size)
    return width, height


def _blurred(clip: Clip, radius: float, style: int, rng: np.random.Generator) -> Clip:
    if style == 1:  # motion
        length = max(3, int(radius * 4) | 1)
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1
        turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), float(rng.uniform(0, 180)), 1)
        kernel = cv2.warpAffine(kernel, turn, (length, length))
    else:  # defocus
        r = radius * 1.5
        side = np.arange(-int(r + 1), int(r + 2))
        kernel = np.clip(r + 0.5 - np.hypot(*np.meshgrid(side, side)), 0, 1).astype(np.float32)
    kernel /= kernel.sum()
    out = clip.copy()
    for planes in out:
        for index, plane in enumerate(_planes(planes)):
            if style == 0:
                plane[...] = cv2.GaussianBlur(plane, (0, 0), radius if index == 0 else radius / 2 + 0.01)
            else:
                plane[...] = cv2.filter2D(plane, -1, kernel)
    return out


def _noisy(clip: Clip, deviation: float, style: int, rng: np.random.Generator) -> Clip:
    out = clip.copy()
    height, width = clip.shape[1] * 2 // 3, clip.shape[2]
    for planes in out:
        noise = rng.standard_normal((height, width), np.float32)
        if style == 1:  # film grain: coarser than a pixel
            noise = cv2.GaussianBlur(noise, (0, 0), 0.8)
            noise /= noise.std()
        luma = planes[:height].astype(np.float32)
        if style == 2:  # shot noise: stronger in the light
            noise *= np.sqrt(np.maximum(luma - 16, 4) / 110)
        planes[:height] = np.clip(luma + noise * deviation + 0.5, 16, 235).astype(np.uint8)
        chroma = planes[height:]
        chroma[...] = np.clip(chroma + rng.normal(0, deviation / 3, chroma.shape) + 0.5, 16, 240).astype(np.uint8)
    return out


def _weave(clip: Clip, step: int) -> Clip:
    """Take every second line of luma and chroma from `step` frames later: two fields of different times in a frame."""
    out = clip.copy()
    for index, planes in enumerate(out):
        later = clip[min(index + step, len(clip) - 1)]
        for plane, source in zip(_planes(planes), _planes(later), strict=True):
            plane[1::2] = source[1::2]
    return out


def _lose_packets(data: bytes, share: float, rng: np.random.Generator) -> bytes:
    """Drop 188-byte packets of a transport stream, but none of the first, which hold the tables."""
    packets = np.frombuffer(data[: len(data) // 188 * 188], np.uint8).reshape(-1, 188)
    keep = rng.random(len(packets)) >= max(share, 1.5 / len(packets))
    keep[: 4 + len(packets) // 12] = True
    return packets[keep].tobytes()


@dataclass(frozen=True)
class Spoiled:
    """A spoiled clip."""

    clip: Clip
    present: NDArray[np.bool_]
    """Frames that can be judged: a repeat of a lost frame looks fine and yet has no VMAF."""
    undamaged: Clip | None = None
    """For lost packets: the same encoding with all of them."""
    flags: NDArray[np.uint32] | None = None
    """For lost packets: what the decoder says of each frame."""
    data: bytes | None = None
    """The file that the clip was decoded from; None where something was done to it since."""


def apply(clip: Clip, recipe: Recipe) -> Spoiled:
    """Spoil a clip."""
    rng = np.random.default_rng(recipe.seed)
    size = (clip.shape[2], clip.shape[1] * 2 // 3)
    out = clip
    if recipe.kind == "damaged":
        data = encode(out, recipe.codec, recipe.level, rng, "mpegts")
        whole = decode(data, clip)
        lossy = _lose_packets(data, recipe.amount, rng)
        broken = decode(lossy, clip, whole.origin)
        return Spoiled(broken.clip, broken.present, whole.clip, broken.flags, lossy)
    if recipe.kind == "twice":
        out = decode(encode(out, ["mpeg2", "mpeg4", "x264"][recipe.style], recipe.amount, rng), out).clip
    elif recipe.kind == "blur":
        out = _blurred(out, recipe.amount, recipe.style, rng)
    elif recipe.kind == "noise":
        out = _noisy(out, recipe.amount, recipe.style, rng)
    elif recipe.kind == "banded":
        step = recipe.amount
        height = size[1]
        out = out.copy()
        out[:, :height] = np.clip(np.round((out[:, :height] - 16.0) / step) * step + 16, 16, 235).astype(np.uint8)
    elif recipe.kind == "interlaced":
        out = _weave(out, recipe.style)
    elif recipe.kind == "rescale":
        small = _smaller(size, recipe.amount)
        out = resize(out, small, cv2.INTER_CUBIC if recipe.style == 0 else cv2.INTER_AREA)
    elif recipe.kind == "codec" and recipe.amount:
        out = resize(resize(out, _smaller(size, recipe.amount), cv2.INTER_AREA), size, cv2.INTER_CUBIC)
    data = None
    if recipe.codec:
        data = encode(out, recipe.codec, recipe.level, rng)
        out = decode(data, out).clip
    if recipe.kind == "rescale":
        out = resize(out, size, [cv2.INTER_LANCZOS4, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LINEAR][recipe.style])
        data = None
    return Spoiled(out, np.ones(len(out), bool), data=data)


def master(clip: Clip, seed: int) -> bytes:
    """Return the clip as an archive or an editor would keep it: at so high a bitrate that it looks no different."""
    rng = np.random.default_rng([seed, 1])
    codec = str(rng.choice(list(ENCODERS), p=[0.6, 0.08, 0.08, 0.08, 0.08, 0.08]))
    least = 0.0 if codec.startswith("mpeg") else -0.4  # MPEG quantisers end at 2, CRF goes on below the ladder
    return encode(clip, codec, float(rng.uniform(least, 0.05)), rng)
