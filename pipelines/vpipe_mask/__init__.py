"""Portrait masks of live streams and files, so that comments pass behind people."""

from __future__ import annotations

__version__ = "0.1.0"
