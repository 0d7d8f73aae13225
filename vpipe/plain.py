"""Values as JSON knows them: what a task returns made plain, and one canonical spelling to hash."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return `value` with numpy scalars and arrays as Python's own, tuples as lists, and NaN and infinities as None.

    Raises:
        TypeError: The value holds something that JSON has no word for; the message names its type.
    """
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_name(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not a plain JSON value")


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name {name!r} of an object must be a string")
    return name


def canonical(value: Any) -> bytes:
    """Return the one JSON spelling of `value`: sorted names, no spaces, ASCII (lone surrogates are escaped)."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def to_line(value: Any) -> bytes:
    r"""Return one JSON Lines line, without its newline.

    Text stays readable as UTF-8. A line with a name that is not valid UTF-8 on disk (surrogate-escaped) is written in
    ASCII with `\udcXX` escapes, which Python's `json` reads back to the same name.
    """
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(plain(value), allow_nan=False).encode("ascii")


def path_text(path: str) -> str:
    r"""Return a path that any UTF-8 reader takes: bytes that are not UTF-8 are spelled `\xNN`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
