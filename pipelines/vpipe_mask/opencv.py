"""OpenCV without its type stubs, which know neither dtypes nor all of its functions."""

from __future__ import annotations

from typing import Any

import cv2 as _cv2

cv2: Any = _cv2
