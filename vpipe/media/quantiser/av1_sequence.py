"""The sequence header of AV1 (AV1 bitstream specification 5.5): what frame headers need of it."""

from __future__ import annotations

import dataclasses

from vpipe.media.quantiser.bits import Bits, Unreadable

EITHER = 2
"""SELECT_SCREEN_CONTENT_TOOLS, SELECT_INTEGER_MV: each frame tells."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence header."""

    reduced: bool
    """reduced_still_picture_header."""
    presentation_bits: int
    """Of the time of a shown frame; 0: it tells none."""
    decoder_model: bool
    removal_bits: int
    """Of buffer_removal_time."""
    removal_points: tuple[int, ...]
    """operating_point_idc of those operating points that have a decoder model."""
    width_bits: int
    height_bits: int
    size: tuple[int, int]
    id_bits: int
    """Of current_frame_id; 0: frames have none."""
    delta_id_bits: int
    large_blocks: bool
    """Superblocks of 128 samples."""
    reference_vectors: bool
    """enable_ref_frame_mvs."""
    screen_tools: int
    whole_vectors: int
    """seq_force_integer_mv."""
    order_bits: int
    super_resolution: bool

    @classmethod
    def read(cls, bits: Bits) -> Sequence:
        """Read sequence_header_obu (5.5.1)."""
        bits.skip(4)
        reduced = bits.flag()
        model, delay_bits, removal_bits, presentation_bits = False, 0, 0, 0
        points: list[int] = []
        if reduced:
            bits.skip(5)
        else:
            if bits.flag():
                bits.skip(64)
                equal = bits.flag()
                if equal:
                    _pass_uvlc(bits)
                model = bits.flag()
                if model:
                    delay_bits = bits.u(5) + 1
                    bits.skip(32)
                    removal_bits, presentation_bits = bits.u(5) + 1, bits.u(5) + 1
                    presentation_bits *= not equal
            points = _points(bits, model, delay_bits)
        width_bits, height_bits = bits.u(4) + 1, bits.u(4) + 1
        size = bits.u(width_bits) + 1, bits.u(height_bits) + 1
        id_bits = delta_id_bits = 0
        if not reduced and bits.flag():
            delta_id_bits = bits.u(4) + 2
            id_bits = delta_id_bits + bits.u(3) + 1
        large_blocks = bits.flag()
        bits.skip(2)
        screen_tools = whole_vectors = EITHER
        order_bits, reference_vectors = 0, False
        if not reduced:
            bits.skip(4)
            ordered = bits.flag()
            if ordered:
                bits.skip(1)
                reference_vectors = bits.flag()
            screen_tools = EITHER if bits.flag() else bits.u(1)
            if screen_tools:
                whole_vectors = EITHER if bits.flag() else bits.u(1)
            order_bits = bits.u(3) + 1 if ordered else 0
        return cls(
            reduced,
            presentation_bits,
            model,
            removal_bits,
            tuple(points),
            width_bits,
            height_bits,
            size,
            id_bits,
            delta_id_bits,
            large_blocks,
            reference_vectors,
            screen_tools,
            whole_vectors,
            order_bits,
            bits.flag(),
        )


def _points(bits: Bits, model: bool, delay_bits: int) -> list[int]:
    """Read the operating points; return operating_point_idc of those that have a decoder model."""
    points = []
    delayed = bits.flag()
    for _ in range(bits.u(5) + 1):
        point = bits.u(12)
        if bits.u(5) > 7:
            bits.skip(1)
        if model and bits.flag():
            points.append(point)
            bits.skip(2 * delay_bits + 1)
        if delayed and bits.flag():
            bits.skip(4)
    return points


def _pass_uvlc(bits: Bits) -> None:
    """Pass over a uvlc (4.10.3)."""
    zeros = 0
    while not bits.flag():
        zeros += 1
        if zeros > 31:
            raise Unreadable("no number")
    bits.skip(zeros)
