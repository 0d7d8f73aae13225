"""MediaPipe's own runtime on OpenCV's frames, for `vpipe bench mask CLIP --against mediapipe`.

`python -m vpipe_mask.with_mediapipe CLIP SAMPLE` runs it by itself. MediaPipe needs older libraries than vpipe, so it
lives in an environment of its own in the user's cache, made at the first use. All but the net's runtime is as in
`vpipe_mask.naive`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REQUIREMENTS = ("mediapipe==0.10.21", "av>=18.0")
DONE = "vpipe-complete"
"""Written last: an environment without it was cut off and is made again."""


def environment() -> Path:
    """Return the Python of an environment that has MediaPipe; makes it where it is missing."""
    from vpipe.engine.store import cache_folder

    folder = cache_folder() / "mediapipe"
    python = folder / "bin" / "python"
    if not (folder / DONE).exists():
        venv.EnvBuilder(clear=True, with_pip=True).create(folder)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
        subprocess.run(command, check=True, stdout=sys.stderr)
        (folder / DONE).touch()
    return python


def main(clip: str, sample: str) -> None:
    """Make the masks of `clip` and print what it took."""
    try:
        import mediapipe
    except ImportError:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path if "site-packages" not in entry)
        command = [str(environment()), "-m", "vpipe_mask.with_mediapipe", clip, sample]
        os.execve(command[0], command, {**os.environ, "PYTHONPATH": path, "GLOG_minloglevel": "3"})
    from vpipe_mask.naive import SIZE, run

    with mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=1) as segmentation:

        def net(view: NDArray[np.uint8]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = segmentation.process(view).segmentation_mask
            return found.reshape(SIZE[::-1])

        print(json.dumps(run(clip, sample, net)))


if __name__ == "__main__":
    main(*sys.argv[1:])
