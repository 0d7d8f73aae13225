"""MediaPipe's own runtime on OpenCV's frames, for `vpipe bench mask CLIP --against mediapipe`.

`python -m vpipe_mask.with_mediapipe CLIP SAMPLE` runs it by itself. MediaPipe needs older libraries than vpipe, so it
lives in an environment of its own, see `vpipe_mask.mediapipe_env`. All but the net's runtime is as in
`vpipe_mask.naive`.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
from numpy.typing import NDArray

INSIDE = "VPIPE_INSIDE_MEDIAPIPE"
"""Set in the environment of the process that has MediaPipe."""


def main(clip: str, sample: str) -> None:
    """Make the masks of `clip` and print what it took."""
    if INSIDE not in os.environ:
        from vpipe_mask.mediapipe_env import interpreter

        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path if "site-packages" not in entry)
        command = [str(interpreter()), "-m", "vpipe_mask.with_mediapipe", clip, sample]
        os.execve(command[0], command, {**os.environ, INSIDE: "1", "PYTHONPATH": path, "GLOG_minloglevel": "3"})
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

    from vpipe_mask.naive import SIZE, run

    with SelfieSegmentation(model_selection=1) as segmentation:

        def net(view: NDArray[np.uint8]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = segmentation.process(view).segmentation_mask
            return found.reshape(SIZE[::-1])

        print(json.dumps(run(clip, sample, net)))


if __name__ == "__main__":
    main(*sys.argv[1:])
