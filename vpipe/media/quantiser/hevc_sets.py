"""The parameter sets of HEVC (Rec. ITU-T H.265 7.3.2.2, 7.3.2.3, 7.3.7): what slice headers need of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Items
from typing import TypeAlias

from vpipe.media.quantiser.bits import Bits, Unreadable, width_of

_SCREEN_PROFILES = (9, 11)

References: TypeAlias = list[tuple[int, bool]]
"""A short-term reference picture set: how far each picture is away in output order, those before first, nearest first;
and whether this picture may refer to it, not only later ones."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sequence:
    """What slice headers need of a sequence parameter set."""

    number: int
    separate_planes: bool
    chroma: bool
    """ChromaArrayType is not 0."""
    address_bits: int
    """Of slice_segment_address."""
    order_bits: int
    """Of slice_pic_order_cnt_lsb."""
    adaptive_offset: bool
    """Sample adaptive offset."""
    sets: tuple[References, ...]
    long_term: tuple[bool, ...] | None
    """used_by_curr_pic_lt_sps_flag of each; None: there are no long-term references."""
    temporal_vectors: bool

    @classmethod
    def read(cls, bits: Bits) -> Sequence:
        """Read seq_parameter_set_rbsp (7.3.2.2.1)."""
        bits.skip(4)
        layers = bits.u(3)
        bits.skip(1)
        _pass_profile(bits, layers)
        number = bits.below(16)
        chroma_format = bits.below(4)
        separate = chroma_format == 3 and bits.flag()
        width, height = bits.ue(), bits.ue()
        if bits.flag():
            for _ in range(4):
                bits.ue()
        bits.ue()
        bits.ue()
        order_bits = bits.below(13) + 4
        for _ in range(layers + 1 if bits.flag() else 1):
            for _ in range(3):
                bits.ue()
        block = bits.below(4) + 3
        block += bits.below(4)
        blocks = -(-width >> block) * -(-height >> block)
        for _ in range(4):
            bits.ue()
        if bits.flag() and bits.flag():
            _pass_scaling_lists(bits)
        bits.skip(1)
        adaptive_offset = bits.flag()
        if bits.flag():  # PCM
            bits.skip(8)
            bits.ue()
            bits.ue()
            bits.skip(1)
        sets: list[References] = []
        count = bits.below(65)
        for i in range(count):
            sets.append(read_references(bits, i, count, sets))
        long_term = None
        if bits.flag():
            used = []
            for _ in range(bits.below(33)):
                bits.skip(order_bits)
                used.append(bits.flag())
            long_term = tuple(used)
        return cls(
            number,
            separate,
            bool(chroma_format) and not separate,
            width_of(blocks),
            order_bits,
            adaptive_offset,
            tuple(sets),
            long_term,
            bits.flag(),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """What slice headers need of a picture parameter set."""

    number: int
    sequence: int
    dependent: bool
    """There are dependent slice segments."""
    output_flag: bool
    extra_bits: int
    """num_extra_slice_header_bits."""
    cabac_init: bool
    references: tuple[int, int]
    """Of lists 0 and 1, where the slice does not tell."""
    qp: int
    weighted_p: bool
    weighted_b: bool
    modified_lists: bool

    @classmethod
    def read(cls, bits: Bits) -> Picture:
        """Read pic_parameter_set_rbsp (7.3.2.3.1)."""
        number, sequence = bits.below(64), bits.below(16)
        dependent, output_flag, extra_bits = bits.flag(), bits.flag(), bits.u(3)
        bits.skip(1)
        cabac_init = bits.flag()
        references = bits.below(15) + 1, bits.below(15) + 1
        qp = 26 + bits.se()
        bits.skip(2)
        if bits.flag():
            bits.ue()
        bits.se()
        bits.se()
        bits.skip(1)
        weighted_p, weighted_b = bits.flag(), bits.flag()
        bits.skip(1)
        tiles = bits.flag()
        bits.skip(1)
        if tiles:
            columns, rows = bits.below(64), bits.below(64)
            if not bits.flag():
                for _ in range(columns + rows):
                    bits.ue()
            bits.skip(1)
        bits.skip(1)
        if bits.flag():  # deblocking_filter_control_present_flag
            bits.skip(1)
            if not bits.flag():
                bits.se()
                bits.se()
        if bits.flag():
            _pass_scaling_lists(bits)
        modified_lists = bits.flag()
        bits.ue()
        bits.skip(1)
        if bits.flag() and bits.u(4) & 1:
            raise Unreadable("screen content coding, whose pictures may refer to themselves")
        return cls(
            number,
            sequence,
            dependent,
            output_flag,
            extra_bits,
            cabac_init,
            references,
            qp,
            weighted_p,
            weighted_b,
            modified_lists,
        )


def read_references(bits: Bits, index: int, count: int, sets: Items[References]) -> References:
    """Read st_ref_pic_set(index) (7.3.7), of `count` sets of which those before it are known."""
    if index and bits.flag():
        back = bits.ue() + 1 if index == count else 1
        if back > index:
            raise Unreadable("no such reference picture set")
        source = sets[index - back]
        sign = -1 if bits.flag() else 1
        delta = sign * (bits.ue() + 1)
        found: References = []
        for distance in [*(distance for distance, _ in source), 0]:
            used = bits.flag()
            if (used or bits.flag()) and distance + delta:
                found.append((distance + delta, used))
        # (7-61) and (7-62) say in which order they are to be tried; what comes of it is this.
        before = sorted((pair for pair in found if pair[0] < 0), reverse=True)
        return before + sorted(pair for pair in found if pair[0] > 0)
    before_count, after_count = bits.below(17), bits.below(17)
    references: References = []
    for sign, number in ((-1, before_count), (1, after_count)):
        distance = 0
        for _ in range(number):
            distance += sign * (bits.ue() + 1)
            references.append((distance, bits.flag()))
    return references


def _pass_profile(bits: Bits, layers: int) -> None:
    """Pass over profile_tier_level (7.3.3)."""
    bits.skip(3)
    if bits.u(5) in _SCREEN_PROFILES:
        raise Unreadable("screen content coding, whose slice headers tell more")
    bits.skip(88)
    present = [(bits.flag(), bits.flag()) for _ in range(layers)]
    if layers:
        bits.skip(2 * (8 - layers))
    for profile, level in present:
        bits.skip(88 * profile + 8 * level)


def _pass_scaling_lists(bits: Bits) -> None:
    """Pass over scaling_list_data (7.3.4)."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.flag():
                bits.ue()
            else:
                for _ in range(min(64, 16 << 2 * size) + (size > 1)):
                    bits.se()
