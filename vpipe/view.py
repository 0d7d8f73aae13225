"""Views: what a branch asks of a frame, made in the decode worker straight from the decoded planes.

    resize      luma and chroma are each halved by 2x2 averages while twice the target fits, then brought to size
                bilinearly, and only then, small, turned into colour. No full-size RGB ever exists.
    fragments   a mosaic of patches at the picture's own resolution, luma only, at `vpipe.fragments` positions within
                what is not black bars.

Colour comes from the frame's own matrix (BT.601, 709, 2020; where it names none, 709 from 720 rows up, else 601) and
range. Resize views and companion pictures are full-range and upright; fragments and histograms are of luma in limited
range (16..235; full-range luma is compressed to it) and as coded. `view_fields` imports neither `av` nor `cv2`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vpipe.fragments import BLACK, active_area, is_mirrored, phase_of, positions
from vpipe.frame import LUMA, FrameFlag
from vpipe.layout import Field
from vpipe.media.planes import Plane, Planes, planes_of, to_rgb
from vpipe.viewconfig import ViewConfig

if TYPE_CHECKING:
    from vpipe.media.reader import Picture

Area: TypeAlias = tuple[int, int, int, int]
"""Top, left, rows and columns of the part of a picture that patches are cut from."""

_FULL_BLACK = (BLACK - 16) * 255 // 219
_TO_LIMITED = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)


def view_fields(config: ViewConfig) -> tuple[Field, ...]:
    """Return the arrays of one frame's item.

    `view` is uint8: resize (height, width, 3), or (height, width) for gray; fragments (1, S, S) with S = grid * patch,
    or (2, S, S) for pairs: the frame, then its neighbour. `histogram` is uint32 (256,), `luma` uint8 (height, width),
    `picture` uint8 (height, width, 3) RGB, each where asked for.
    """
    if config.kind == "fragments":
        side = config.grid * config.patch
        shape: tuple[int, ...] = (2 if config.pair else 1, side, side)
    else:
        shape = (config.height or 1, config.width or 1, *([] if config.pixel == "gray" else [3]))
    fields = [Field("view", "|u1", shape)]
    if config.histogram:
        fields.append(Field("histogram", "<u4", (256,)))
    if config.luma:
        fields.append(Field(LUMA, "|u1", shape[:2]))
    if config.picture:
        fields.append(Field("picture", "|u1", (config.picture.height, config.picture.width, 3)))
    return tuple(fields)


def make_view(config: ViewConfig) -> View:
    """Return the maker of this view; loads cv2 and sets it to one thread (parallel work is between processes)."""
    import cv2

    cv2.setNumThreads(1)
    return View(config, cv2)


class View:
    """Makes one branch's view of pictures."""

    def __init__(self, config: ViewConfig, cv2: types.ModuleType) -> None:
        self._config = config
        self._cv2: Any = cv2
        self._every = Fraction(str(config.picture.every_s)) if config.picture else Fraction(0)
        self._last: Planes | None = None
        """Those of the frame before, which most often is the next one's neighbour."""

    def render(self, picture: Picture, out: Mapping[str, NDArray[Any]]) -> FrameFlag:
        """Fill one frame's item.

        Args:
            picture: A decoded frame; its neighbour too, for pair views.
            out: The arrays of `view_fields`, writable; `picture` is left as it is when its time has not come.

        Returns:
            SAME if the neighbour's view is equal, PICTURE if the companion picture was filled in.
        """
        flags = FrameFlag(0)
        fragments = self._config.kind == "fragments"
        due = self._config.picture is not None and self._is_due(picture)
        planes = planes_of(picture.frame, luma_only=fragments and not due)
        if fragments:
            flags |= self._fragments(picture, planes, out["view"])
            luma = out["view"][0]
        else:
            luma = self._resized(planes, picture.frame.rotation, out["view"], self._config.pixel)
        if self._config.histogram:
            counts = self._cv2.calcHist([luma], [0], None, [256], [0, 256])
            out["histogram"][:] = counts.ravel()
        if self._config.luma:
            out[LUMA][:] = luma
        if due:
            self._resized(planes, picture.frame.rotation, out["picture"], "rgb")
            flags |= FrameFlag.PICTURE
        return flags

    def end(self) -> None:
        """Let go of the frame that was rendered last: none follows it."""
        self._last = None

    def _is_due(self, picture: Picture) -> bool:
        """Return whether this is the first wanted frame of its cell of time."""
        if not self._every or picture.previous_pts is None:
            return True
        base, every, origin = picture.time_base, self._every, picture.origin_pts
        up, down = base.numerator * every.denominator, base.denominator * every.numerator
        return (picture.pts - origin) * up // down != (picture.previous_pts - origin) * up // down

    def _fragments(self, picture: Picture, planes: Planes, out: NDArray[np.uint8]) -> FrameFlag:
        base = picture.time_base
        phase = phase_of(_round((picture.pts - picture.origin_pts) * base.numerator * 1000, base.denominator))
        area = self._area(planes)
        self._mosaic(planes, phase, area, out[0])
        if len(out) == 1:
            return FrameFlag(0)
        other, last = picture.neighbour, self._last
        self._last = planes
        if other is None or other is picture.frame:
            out[1] = out[0]
            return FrameFlag(0)
        theirs = last if last is not None and last.source is other else planes_of(other, luma_only=True)
        self._mosaic(theirs, phase, area, out[1], planes.luma.shape)
        return FrameFlag.SAME if np.array_equal(out[0], out[1]) else FrameFlag(0)

    def _area(self, planes: Planes) -> Area:
        return active_area(planes.luma, self._config.patch, (_FULL_BLACK if planes.full else BLACK) << planes.bits - 8)

    def _mosaic(
        self, planes: Planes, phase: int, area: Area, out: NDArray[np.uint8], shape: tuple[int, ...] | None = None
    ) -> None:
        """Copy the patches within `area`; `shape` is the size that it is of, should it not be the picture's own."""
        grid, patch = self._config.grid, self._config.patch
        luma: NDArray[Any] = planes.luma
        buffer: NDArray[Any] = planes.buffer
        if shape is not None and luma.shape != shape:  # the size changed between the two frames
            luma = buffer = self._cv2.resize(luma, shape[::-1], interpolation=self._cv2.INTER_LINEAR)
        top, left, rows, columns = area
        if rows < patch or columns < patch:
            luma = buffer = np.pad(luma, ((0, max(patch - rows, 0)), (0, max(patch - columns, 0))), mode="edge")
        # Every row of a patch is one item of `patch` samples; numpy gathers such items in one call.
        size, pitch = buffer.itemsize, buffer.shape[1]
        item = np.dtype((np.void, patch * size))
        items: NDArray[np.void] = np.ndarray((buffer.size - patch + 1,), item, buffer, strides=(size,))
        places = _places(rows, columns, grid, patch, phase, pitch)
        gathered = items[places + (top * pitch + left) if top or left else places]
        mosaic: NDArray[Any] = gathered.view(buffer.dtype)
        if self._config.mirror and is_mirrored(phase):
            mosaic = self._cv2.flip(mosaic, 1)
        if size == 1 and not planes.full:
            out[:] = mosaic
            return
        if planes.bits > 8:
            shift = planes.bits - 8
            rounded = (mosaic.astype(np.uint32) + (1 << (shift - 1))) >> shift
            mosaic = np.minimum(rounded, 255).astype(np.uint8)
        out[:] = _TO_LIMITED[mosaic] if planes.full else mosaic

    def _resized(self, planes: Planes, rotation: int, out: NDArray[np.uint8], pixel: str) -> NDArray[np.uint8]:
        """Fill `out` with the whole picture, upright; return its luma in limited range at the same size."""
        cv2 = self._cv2
        turns = round(-rotation / 90) % 4  # clockwise; FFmpeg counts the other way
        height, width = out.shape[:2]
        size = (height, width) if turns % 2 else (width, height)
        wanted = [planes.luma] if pixel == "gray" or planes.chroma is None else [planes.luma, *planes.chroma]
        small = [self._halved(plane, size, planes.bits) for plane in wanted]
        if len(small) == 3 and small[0].shape == small[1].shape == small[2].shape:
            yuv = cv2.resize(cv2.merge(small), size, interpolation=cv2.INTER_LINEAR)
        else:
            small = [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in small]
            yuv = cv2.merge(small) if len(small) == 3 else small[0]
        if turns:
            yuv = cv2.rotate(yuv, (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)[turns - 1])
        luma = self._cv2.extractChannel(yuv, 0) if yuv.ndim == 3 else yuv
        if yuv.ndim == 2:
            full = luma if planes.full else cv2.LUT(luma, _from_limited())
            out[:] = full if out.ndim == 2 else full[..., None]
        else:
            cv2.transform(yuv, _matrix(planes.matrix, planes.full, pixel), dst=out)
        limited: NDArray[np.uint8] = cv2.LUT(luma, _TO_LIMITED) if planes.full else luma
        return limited

    def _halved(self, plane: Plane, size: tuple[int, int], bits: int) -> NDArray[np.uint8]:
        """Halve a plane while `size` (width, height) fits twice, and bring it to 8 bits."""
        cv2 = self._cv2
        rows, columns = plane.shape
        while columns >= 2 * size[0] and rows >= 2 * size[1]:
            rows, columns = rows // 2, columns // 2
            plane = cv2.resize(plane[: rows * 2, : columns * 2], (columns, rows), interpolation=cv2.INTER_AREA)
        if bits > 8:
            plane = cv2.convertScaleAbs(plane, alpha=1 / (1 << (bits - 8)))
        return plane  # type: ignore[return-value]


def _round(numerator: int, denominator: int) -> int:
    """Return `round(Fraction(numerator, denominator))`, in a twentieth of the time."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


@functools.lru_cache(maxsize=512)
def _places(rows: int, columns: int, grid: int, patch: int, phase: int, pitch: int) -> NDArray[np.intp]:
    """Return where each patch row starts, in samples: (grid * patch, grid), as the mosaic lies in memory."""
    corners = np.array(positions(rows, columns, grid, patch, phase), np.intp).reshape(grid, grid, 2)
    starts = corners[..., 0] * pitch + corners[..., 1]
    return (starts[:, None, :] + (np.arange(patch) * pitch)[None, :, None]).reshape(grid * patch, grid)


@functools.lru_cache(maxsize=32)
def _matrix(matrix: str, full: bool, pixel: str) -> NDArray[np.float64]:
    rgb = to_rgb(matrix, full)
    return rgb[::-1].copy() if pixel == "bgr" else rgb


@functools.cache
def _from_limited() -> NDArray[np.uint8]:
    return np.clip(np.round((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
