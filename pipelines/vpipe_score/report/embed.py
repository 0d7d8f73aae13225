"""How values get into the page and stay values: no file name can end a script, forge a tag or hide its ending."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SURROGATE = re.compile("[\ud800-\udfff]")
_SIGNS: dict[int, str] = {code: chr(0x2400 + code) for code in range(32)} | {0x7F: "\u2421"}
"""Control codes become their printed signs: a newline in a file name shows as one character."""
_SIGNS |= dict.fromkeys((0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")
"""Codes that turn the direction of text would let `gpj.exe` pass for `exe.jpg`."""
_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def readable(text: str) -> str:
    """Return `text` as a person may see it: bytes that were not UTF-8 show as U+FFFD, control codes as their signs."""
    return _SURROGATE.sub("\ufffd", text).translate(_SIGNS)


def plain(value: Any) -> Any:
    """Return `value` for JSON: strings readable, numbers to four places, None for those not finite."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {readable(str(name)): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def script_json(value: Any) -> str:
    """Return JSON in ASCII that is safe inside `<script type="application/json">`, whatever strings it holds."""
    text = json.dumps(plain(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: _SCRIPT[found.group()], text)


def packed(values: NDArray[Any]) -> str:
    """Return an array's little-endian bytes in base64; the page knows the type."""
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()).decode("ascii")


def csp_hash(text: str) -> str:
    """Return the Content-Security-Policy source that allows exactly this inline script or style."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") + "'"
