"""Comments (danmaku) of others, read into one shape: Bilibili XML, niconico JSON, and plain JSON Lines.

What a file is shows in its content, not in its name. Entries that cannot be shown (no text, no time, a kind that is a
program rather than a comment) are left out and counted in one line of the log; a file that is none of the three, or is
damaged, is an error. The plain form, one object a line, is for everyone else:

    {"time_s": 12.5, "text": "hello", "mode": "scroll", "color": "#ffcc00", "size": 1.0}

`mode`, `color` and `size` may be left out.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
import xml.parsers.expat as expat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from vpipe.errors import UsageError

log = logging.getLogger("vpipe.mask")

Mode: TypeAlias = Literal["scroll", "reverse", "top", "bottom"]
"""How a comment is shown: flying from right to left, from left to right, or standing at the top or the bottom."""

MAX_BYTES = 64 << 20
"""Larger files are refused: a film's comments are a few MiB."""
MAX_TEXT = 1024
"""Comments with more characters are left out."""
MAX_TIME_S = 7 * 24 * 3600.0

WHITE = 0xFFFFFF

_CONTROL = bytes([*range(9), 11, 12, *range(14, 32)])
"""Never allowed in XML, and yet found in comment files."""

_BILIBILI_MODES: dict[int, Mode] = {1: "scroll", 2: "scroll", 3: "scroll", 4: "bottom", 5: "top", 6: "reverse"}
_BILIBILI_SIZE = 25.0
"""The usual size of letters in a Bilibili file; 18 is small and 36 large."""

_NICO_MODES: dict[str, Mode] = {"ue": "top", "shita": "bottom", "naka": "scroll"}
_NICO_SIZES = {"big": 1.5, "medium": 1.0, "small": 0.65}
_NICO_COLORS = {
    "white": 0xFFFFFF, "red": 0xFF0000, "pink": 0xFF8080, "orange": 0xFFC000, "yellow": 0xFFFF00, "green": 0x00FF00,
    "cyan": 0x00FFFF, "blue": 0x0000FF, "purple": 0xC000FF, "black": 0x000000, "white2": 0xCCCC99, "red2": 0xCC0033,
    "pink2": 0xFF33CC, "orange2": 0xFF6600, "yellow2": 0x999900, "green2": 0x00CC66, "cyan2": 0x00CCCC,
    "blue2": 0x3399FF, "purple2": 0x6633CC, "black2": 0x666666, "niconicowhite": 0xCCCC99, "truered": 0xCC0033,
    "passionorange": 0xFF6600, "madyellow": 0x999900, "elementalgreen": 0x00CC66, "marineblue": 0x3399FF,
    "nobleviolet": 0x6633CC,
}  # fmt: skip


class CommentError(UsageError):
    """A comment file cannot be used; the message says where it fails and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Comment:
    """One comment."""

    time_s: float
    """When it appears: seconds since the video's start."""
    text: str
    """May have several lines (`\\n`)."""
    mode: Mode = "scroll"
    color: int = WHITE
    """0xRRGGBB."""
    size: float = 1.0
    """Of its letters, 1 being the usual."""


class _BadEntry(ValueError):
    """One entry cannot be shown."""


_Entries: TypeAlias = "list[tuple[Callable[[Any], Comment], Any]]"
"""Entries as the file has them, each with what makes a comment of it."""


def read_comments(path: Path) -> list[Comment]:
    """Return the comments of a file in order of their time.

    Raises:
        CommentError: It cannot be read, is damaged, too large, or holds no comments in a form that is known.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise CommentError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise CommentError(f"{path}: has more than {MAX_BYTES >> 20} MiB, too many comments to show; cut it")
    comments, bad = _parse(path, data)
    if bad:
        log.warning("%s: %d of %d entries cannot be shown and are left out", path, bad, bad + len(comments))
    return sorted(comments, key=lambda comment: comment.time_s)


def _parse(path: Path, data: bytes) -> tuple[list[Comment], int]:
    """Return the comments, and how many entries were not usable."""
    start = data[:256].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1]
    if start not in (b"<", b"{", b"["):
        raise _unknown(path)
    entries = _xml_entries(path, data) if start == b"<" else _json_entries(path, data)
    comments, bad = [], 0
    for make, entry in entries:
        try:
            comments.append(make(entry))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
            bad += 1
    return comments, bad


def _unknown(path: Path) -> CommentError:
    return CommentError(
        f"{path}: holds no comments: expected Bilibili XML (<i><d p=...>), niconico JSON, or lines with time_s and text"
    )


def _comment(time_s: float, text: Any, mode: Mode, color: int, size: float) -> Comment:
    """Return a checked comment.

    Raises:
        _BadEntry: It cannot be shown.
    """
    if not isinstance(text, str):
        raise _BadEntry("no text")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(c for c in text if c == "\n" or (c >= " " and not "\x7f" <= c < "\xa0"))
    text = text.encode("utf-8", "ignore").decode()  # lone surrogates cannot be drawn
    # Not a number fails both comparisons.
    if not text.strip() or len(text) > MAX_TEXT or not 0 <= time_s <= MAX_TIME_S or not 0 < size < math.inf:
        raise _BadEntry("no text or too much, no time, or no size")
    return Comment(float(time_s), text, mode, color & WHITE, min(max(size, 0.25), 4.0))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _BadEntry("not a number")
    return float(value)


def _xml_entries(path: Path, data: bytes) -> _Entries:
    """Return `p` and the text of each `d` of a Bilibili file."""
    entries: _Entries = []
    names: list[str] = []
    attributes: dict[str, str] = {}
    text: list[str] = []

    def start(name: str, found: dict[str, str]) -> None:
        names.append(name)
        if len(names) > 32:
            raise CommentError(f"{path}: line {parser.CurrentLineNumber}: elements within elements, 33 deep")
        if name == "d":
            attributes.clear()
            attributes.update(found)
            text.clear()

    def characters(found: str) -> None:
        if names[-1] == "d":
            text.append(found)

    def end(name: str) -> None:
        names.pop()
        if name == "d":
            entries.append((_bilibili, (attributes.get("p", ""), "".join(text))))

    def declaration(*_: object) -> None:
        # An entity may stand for a gigabyte of text or another file; comments need none.
        raise CommentError(f"{path}: line {parser.CurrentLineNumber}: declares entities, which no comment file needs")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.CharacterDataHandler = characters
    parser.EndElementHandler = end
    parser.EntityDeclHandler = declaration
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        data = data.translate(None, _CONTROL)
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise CommentError(f"{path}: line {error.lineno}: {expat.ErrorString(error.code)}; fetch it again") from None
    except (LookupError, ValueError) as error:  # an encoding that Python does not know, or that does not fit
        raise CommentError(f"{path}: line {parser.CurrentLineNumber}: {error}; convert it to UTF-8") from None
    if not entries:
        raise _unknown(path)
    return entries


def _bilibili(entry: tuple[str, str]) -> Comment:
    """Make a comment of `p` (time, mode, size, colour, ...) and text."""
    fields = entry[0].split(",")
    mode = _BILIBILI_MODES.get(int(fields[1]))
    if mode is None:
        raise _BadEntry("a comment with its own motion, or a script")
    return _comment(float(fields[0]), entry[1], mode, int(fields[3]), float(fields[2]) / _BILIBILI_SIZE)


def _json_entries(path: Path, data: bytes) -> _Entries:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommentError(f"{path}: byte {error.start}: is not UTF-8; convert it") from None
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return _lines(path, text)
    if isinstance(whole, dict) and "text" in whole:
        return [(_plain, whole)]
    found = _nico_threads(whole) if isinstance(whole, dict) else _nico_list(whole)
    if found is None:
        raise _unknown(path)
    return found


def _lines(path: Path, text: str) -> _Entries:
    entries: _Entries = []
    good = 0
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        good += isinstance(entry, dict) and "text" in entry
        entries.append((_plain, entry))
    if not good:
        raise _unknown(path)
    return entries


def _plain(entry: Any) -> Comment:
    mode, color = entry.get("mode", "scroll"), entry.get("color", WHITE)
    if mode not in get_args(Mode):
        raise _BadEntry("no such mode")
    if isinstance(color, str):
        if not re.fullmatch(r"#[0-9A-Fa-f]{6}", color):
            raise _BadEntry("no such colour")
        color = int(color[1:], 16)
    if isinstance(color, bool) or not isinstance(color, int):
        raise _BadEntry("no such colour")
    return _comment(_number(entry["time_s"]), entry.get("text"), mode, color, _number(entry.get("size", 1.0)))


def _nico_threads(whole: dict[str, Any]) -> _Entries | None:
    """Return the comments of an answer with threads: bare, in `data`, or in `nvComment`."""
    for name in ("data", "nvComment"):
        if isinstance(whole.get(name), dict):
            whole = whole[name]
    threads = whole.get("threads")
    if not isinstance(threads, list):
        return None
    found: _Entries = []
    for thread in threads:
        comments = thread.get("comments") if isinstance(thread, dict) else None
        if isinstance(comments, list):
            owned = thread.get("fork") == "owner"
            found += [(_nico_owner if owned else _nico, comment) for comment in comments]
    return found


def _nico_list(whole: Any) -> _Entries | None:
    """Return the comments of a list of threads, or of the older list of `{"chat": {...}}`."""
    if not isinstance(whole, list):
        return None
    if any(isinstance(item, dict) and "comments" in item for item in whole):
        return _nico_threads({"threads": whole})
    chats = [item["chat"] for item in whole if isinstance(item, dict) and "chat" in item]
    return [(_nico_chat, chat) for chat in chats] or None


def _nico(entry: Any) -> Comment:
    return _nico_comment(_number(entry["vposMs"]) / 1e3, entry["body"], entry.get("commands") or [])


def _nico_owner(entry: Any) -> Comment:
    if str(entry["body"]).startswith(("/", "@", "＠")):  # noqa: RUF001
        raise _BadEntry("an instruction to the player")
    return _nico(entry)


def _nico_chat(entry: Any) -> Comment:
    if entry.get("deleted"):
        raise _BadEntry("deleted")
    return _nico_comment(_number(entry["vpos"]) / 1e2, entry["content"], str(entry.get("mail") or "").split())


def _nico_comment(time_s: float, text: Any, commands: list[Any]) -> Comment:
    """Make a comment whose look is told by command words; words that are not known mean nothing to us."""
    mode: Mode = "scroll"
    color, size = WHITE, 1.0
    for word in map(str, commands):
        mode = _NICO_MODES.get(word, mode)
        size = _NICO_SIZES.get(word, size)
        color = _NICO_COLORS.get(word, int(word[1:], 16) if re.fullmatch(r"#[0-9A-Fa-f]{6}", word) else color)
    return _comment(time_s, text, mode, color, size)
