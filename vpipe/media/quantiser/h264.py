"""H.264: slice QP, from parameter sets and slice headers (Rec. ITU-T H.264 7.3.2.1.1, 7.3.2.2, 7.3.3)."""

from __future__ import annotations

import dataclasses

from vpipe.media.quantiser import nal
from vpipe.media.quantiser.bits import Bits, Data, mean, width_of
from vpipe.media.quantiser.memo import Memo

_WITH_CHROMA_FORMAT = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
"""Profiles whose SPS tells of chroma and scaling (7.3.2.1.1)."""
_P, _B, _I, _SP, _SI = range(5)
_IDR = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Sequence:
    """What slice headers need of a sequence parameter set."""

    number: int
    separate_planes: bool
    chroma: bool
    """ChromaArrayType is not 0."""
    frame_num_bits: int
    order_bits: int
    """Of pic_order_cnt_lsb; 0: pic_order_cnt_type is not 0."""
    order_deltas: bool
    """pic_order_cnt_type is 1 and delta_pic_order_always_zero_flag is not set."""
    frames_only: bool

    @classmethod
    def read(cls, bits: Bits) -> Sequence:
        """Read seq_parameter_set_data (7.3.2.1.1)."""
        profile = bits.u(8)
        bits.skip(16)
        number = bits.below(32)
        chroma_format, separate = 1, False
        if profile in _WITH_CHROMA_FORMAT:
            chroma_format = bits.below(4)
            separate = chroma_format == 3 and bits.flag()
            bits.ue()
            bits.ue()
            bits.skip(1)
            if bits.flag():
                for i in range(12 if chroma_format == 3 else 8):
                    if bits.flag():
                        _pass_scaling_list(bits, 16 if i < 6 else 64)
        frame_num_bits = bits.below(13) + 4
        kind = bits.below(3)
        order_bits, deltas = 0, False
        if kind == 0:
            order_bits = bits.below(13) + 4
        elif kind == 1:
            deltas = not bits.flag()
            bits.se()
            bits.se()
            for _ in range(bits.below(256)):
                bits.se()
        bits.ue()
        bits.skip(1)
        bits.ue()
        bits.ue()
        return cls(
            number, separate, bool(chroma_format) and not separate, frame_num_bits, order_bits, deltas, bits.flag()
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """What slice headers need of a picture parameter set."""

    number: int
    sequence: int
    cabac: bool
    order_in_frame: bool
    """bottom_field_pic_order_in_frame_present_flag."""
    references: tuple[int, int]
    """Of lists 0 and 1, where the slice does not tell."""
    weighted_p: bool
    weighted_b: int
    qp: int
    redundant: bool

    @classmethod
    def read(cls, bits: Bits) -> Picture:
        """Read pic_parameter_set_rbsp (7.3.2.2)."""
        number, sequence = bits.below(256), bits.below(32)
        cabac, order_in_frame = bits.flag(), bits.flag()
        groups = bits.below(8) + 1
        if groups > 1:
            _pass_slice_groups(bits, groups)
        references = bits.below(32) + 1, bits.below(32) + 1
        weighted_p, weighted_b = bits.flag(), bits.u(2)
        qp = 26 + bits.se()
        bits.se()
        bits.se()
        bits.skip(2)
        return cls(number, sequence, cabac, order_in_frame, references, weighted_p, weighted_b, qp, bits.flag())


class H264:
    """Reads the packets of one H.264 stream; the mean of both fields where a packet has two."""

    def __init__(self, extradata: bytes) -> None:
        self._sequences = Memo(Sequence.read)
        self._pictures = Memo(Picture.read)
        self._length_size = 0
        if extradata[:1] == b"\1":
            self._length_size, sets = nal.avcc(extradata)
        else:
            sets = list(nal.units(extradata, 0))
        for unit in sets:
            self._keep(unit)

    def of(self, packet: Data) -> float | None:
        """Return 26 + pic_init_qp_minus26 + slice_qp_delta (7-30) of the first slice of each picture."""
        first: int | None = None
        bottom = False
        for unit in nal.units(packet, self._length_size):
            if not len(unit) or unit[0] & 0x80:
                continue  # forbidden_zero_bit: damaged
            if unit[0] & 31 not in (1, 2, _IDR):  # 2: partition A, which begins with the header
                self._keep(unit)
                continue
            qp, field = self._slice(unit)
            if field is None:
                return qp
            if first is None:
                first, bottom = qp, field
            elif field != bottom:
                return mean([first, qp])
        return first

    def _keep(self, unit: Data) -> None:
        kind = unit[0] & 31 if len(unit) else 0
        if kind == 7:
            self._sequences.keep(unit, 1)
        elif kind == 8:
            self._pictures.keep(unit, 1)

    def _slice(self, unit: Data) -> tuple[int, bool | None]:
        """Return the QP, and whether it is of a bottom field (None: of a frame)."""
        kind, reference = unit[0] & 31, unit[0] & 96
        bits = nal.payload(unit, 1, nal.SLICE_BYTES)
        bits.ue()
        slice_type = bits.below(10) % 5
        pps = self._pictures[bits.ue()]
        sps = self._sequences[pps.sequence]
        bits.skip(2 * sps.separate_planes + sps.frame_num_bits)
        field = bits.flag() if not sps.frames_only and bits.flag() else None
        if kind == _IDR:
            bits.ue()
        if sps.order_bits:
            bits.skip(sps.order_bits)
            if pps.order_in_frame and field is None:
                bits.se()
        elif sps.order_deltas:
            bits.se()
            if pps.order_in_frame and field is None:
                bits.se()
        if pps.redundant:
            bits.ue()
        if slice_type in (_P, _SP, _B):
            self._pass_references(bits, slice_type, pps, sps)
        if reference:
            _pass_marking(bits, kind == _IDR)
        if pps.cabac and slice_type not in (_I, _SI):
            bits.ue()
        return pps.qp + bits.se(), field

    @staticmethod
    def _pass_references(bits: Bits, slice_type: int, pps: Picture, sps: Sequence) -> None:
        """Pass over the part of an inter slice's header that tells of its reference lists."""
        lists = 1 + (slice_type == _B)
        bits.skip(slice_type == _B)  # direct_spatial_mv_pred_flag
        counts = list(pps.references[:lists])
        if bits.flag():
            counts = [bits.below(32) + 1 for _ in counts]
        for _ in counts:  # ref_pic_list_modification, 7.3.3.1
            if bits.flag():
                while bits.below(4) != 3:
                    bits.ue()
        if not (pps.weighted_b == 1 if slice_type == _B else pps.weighted_p):
            return
        bits.ue()  # pred_weight_table, 7.3.3.2
        if sps.chroma:
            bits.ue()
        for count in counts:
            for _ in range(count):
                for numbers in (2, 4) if sps.chroma else (2,):
                    if bits.flag():
                        for _ in range(numbers):
                            bits.se()


def _pass_scaling_list(bits: Bits, size: int) -> None:
    last, following = 8, 8  # scaling_list, 7.3.2.1.1.1
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _pass_slice_groups(bits: Bits, groups: int) -> None:
    kind = bits.below(7)
    if kind == 0:
        for _ in range(groups):
            bits.ue()
    elif kind == 2:
        for _ in range(2 * (groups - 1)):
            bits.ue()
    elif kind in (3, 4, 5):
        bits.skip(1)
        bits.ue()
    elif kind == 6:
        bits.skip((bits.ue() + 1) * width_of(groups))


def _pass_marking(bits: Bits, idr: bool) -> None:
    """Pass over dec_ref_pic_marking (7.3.3.3)."""
    if idr:
        bits.skip(2)
    elif bits.flag():
        while operation := bits.below(7):
            for _ in range((0, 1, 1, 2, 1, 0, 1)[operation]):
                bits.ue()
