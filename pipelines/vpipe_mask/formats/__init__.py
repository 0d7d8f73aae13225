"""Mask files: `FORMATS` has each by its name; what one is, `Format` and `Record` tell."""

from __future__ import annotations

from vpipe_mask.formats import alpha, mobmask, png, rle, webmask
from vpipe_mask.formats.base import Alpha, Format, MaskFileError, Record

__all__ = ["DEFAULT", "FORMATS", "Alpha", "Format", "MaskFileError", "Record"]

FORMATS = {module.FORMAT.name: module.FORMAT for module in (webmask, mobmask, alpha, png, rle)}
"""All formats by name."""

DEFAULT = ("webmask", "mobmask")
"""Those that players read."""
