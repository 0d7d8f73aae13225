"""MediaPipe's portrait net on frames of noise, for `frameworks.py`: `python mediapipe_frames.py ROWS COLUMNS`.

For each line on standard input it does some frames and prints how many.
"""

from __future__ import annotations

import sys

import numpy as np
from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

FRAMES = 32


def main(rows: str, columns: str) -> None:
    """Serve until standard input ends."""
    frame = np.random.default_rng(0).integers(0, 255, (int(rows), int(columns), 3)).astype(np.uint8)
    with SelfieSegmentation(model_selection=1) as segmentation:
        for _ in sys.stdin:
            for _ in range(FRAMES):
                segmentation.process(frame)
            print(FRAMES, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
