"""The wheel holds all that is needed: it installs and runs without the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = ("vpipe_mask", "vpipe_score")
PACKAGES = {"vpipe": ROOT / "vpipe", **{name: ROOT / "pipelines" / name for name in PRODUCTS}}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the wheel is built offline, by the hatchling of the test extra")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed in, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def run(site: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in `folder`, where `site` comes first and the repository is not on the path that it is given."""
    # A second copy of every file would count as not covered.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    env["PYTHONPATH"] = str(site)
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    if not (shutil.which("git") and (ROOT / ".git").exists()):
        pytest.skip("not a checkout, so what belongs to the packages is not known")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).exists()}
    wanted = {
        f"{name}/{path.relative_to(folder)}"
        for name, folder in PACKAGES.items()
        for path in tracked
        if path.is_relative_to(folder)
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wanted <= names
    assert "vpipe/py.typed" in names


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {*PACKAGES, "vpipe-0.1.0.dist-info"}


def test_installed_command_tells_its_use(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "-m", "vpipe", "--help")
    assert done.returncode == 0, done.stderr
    assert "score" in done.stdout


def test_installed_entry_points_name_what_exists(site: Path, tmp_path: Path) -> None:
    code = """
from importlib.metadata import entry_points
import vpipe
print(vpipe.__file__)
print(entry_points(group="vpipe.pipelines")["score"].load().pipeline)
(command,) = entry_points(group="console_scripts", name="vpipe")
print(command.load().__module__)
"""
    done = run(site, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    package, pipeline, module = done.stdout.split()
    assert Path(package).is_relative_to(site)
    assert Path(pipeline).is_relative_to(site)
    assert module == "vpipe.cli"


def test_installed_product_scores_with_its_own_model(site: Path, tmp_path: Path, samples: Path) -> None:
    shutil.copy(samples / "person-medium.mkv", tmp_path)
    done = run(site, tmp_path, "-m", "vpipe", "score", "person-medium.mkv", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert {"scores.jsonl", "frames.parquet", "report.html"} <= {path.name for path in (tmp_path / "out").iterdir()}
