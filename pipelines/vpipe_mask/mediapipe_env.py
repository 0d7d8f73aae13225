"""An environment of its own for MediaPipe's runtime, which wants another numpy than vpipe: the yardstick of the nets.

Made once, in the user's cache, by `vpipe bench mask --against mediapipe` and by the tests; nothing else needs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vpipe.errors import ResourceError
from vpipe.models import cache_folder

REQUIREMENTS = (
    "mediapipe==0.10.21",
    "numpy==1.26.4",
    "protobuf==4.25.8",
    "absl-py==2.3.1",
    "attrs==25.3.0",
    "flatbuffers==25.2.10",
    "opencv-python-headless==4.11.0.86",
    "av==18.1.0",  # for the baseline, which uses mask files of vpipe
    # Its drawing helpers import this when the solutions are imported.
    "matplotlib==3.9.4",
    "contourpy==1.3.0",
    "cycler==0.12.1",
    "fonttools==4.59.2",
    "kiwisolver==1.4.7",
    "packaging==25.0",
    "pillow==11.3.0",
    "pyparsing==3.2.3",
    "python-dateutil==2.9.0.post0",
    "six==1.17.0",
)
"""What `mediapipe.solutions` and the baseline import, and no more; all that its wheel asks for is twice as large."""

VERSIONS = ((3, 12), (3, 11))
"""Pythons that both its wheels and vpipe's own code are for."""


def interpreter(folder: Path | None = None) -> Path:
    """Return a Python that imports `mediapipe`, making its environment first where there is none.

    Args:
        folder: Where environments are kept; None for the user's cache.

    Raises:
        ResourceError: There is no suitable Python, or pip could not install it.
    """
    home = _python()
    version = _version(home)
    place = (folder or cache_folder() / "environments") / f"mediapipe-0.10.21-python{version}"
    python = place / "bin" / "python"
    if python.exists():
        return python
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    try:
        _run([home, "-m", "venv", "--without-pip", str(made)])
        pip = [sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"), "install"]
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary=:all:"]
        _run([*pip, *options, "--no-compile", *REQUIREMENTS])
        if not place.exists():  # another process may have been faster
            made.rename(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return python


def _python() -> str:
    if sys.version_info[:2] in VERSIONS:
        return sys.executable
    for major, minor in VERSIONS:
        if found := shutil.which(f"python{major}.{minor}"):
            return found
    wanted = ", ".join(f"{major}.{minor}" for major, minor in VERSIONS)
    raise ResourceError(f"mediapipe 0.10.21 needs Python {wanted}; put one on PATH (this is {sys.version.split()[0]})")


def _version(python: str) -> str:
    return _run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()


def _run(command: list[str]) -> str:
    # The new environment must not see what this one has on its path.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise ResourceError(f"mediapipe's environment: {' '.join(command[:4])} ... failed: {last}")
    return done.stdout
