"""What the documentation shows works as it is shown.

A fenced block says after its language what to do with it:

    run           run it in a folder that has some videos in `clips/`; blocks of one page share the folder
    run exit=3    ... and expect this exit code
    run=stdin     the same, fed to the interpreter as a notebook or a prompt does, with no file
    file=NAME     write it to this file

Blocks without such a word are not run.
"""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CLIPS = ("person-good.mp4", "person-medium.mkv", "person-ruined.mp4")


@dataclasses.dataclass(frozen=True)
class Block:
    language: str
    marks: dict[str, str]
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for match in re.finditer(r"^```(\w+)[ \t]*(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        marks = {name: value for name, _, value in (word.partition("=") for word in match[2].split())}
        yield Block(match[1], marks, match[3], text[: match.start()].count("\n") + 1)


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page) if "run" in block.marks]


@pytest.fixture
def desk(tmp_path: Path, samples: Path) -> Path:
    """A folder with videos in `clips/` and the command `vpipe` in `bin/`."""
    (tmp_path / "clips").mkdir()
    for name in CLIPS:
        shutil.copy(samples / name, tmp_path / "clips")
    command = tmp_path / "bin" / "vpipe"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vpipe "$@"\n')
    command.chmod(0o755)
    return tmp_path


def run(command: list[str], folder: Path, given: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    import_path = os.pathsep.join([*more.pop("site", "").split(), *(entry for entry in sys.path if entry)])
    env = {**os.environ, "PATH": path, "PYTHONPATH": import_path, **more}
    return subprocess.run(command, cwd=folder, env=env, input=given, text=True, capture_output=True, timeout=240)


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=lambda page: page.name)
def test_page_shows_what_works(page: Path, desk: Path) -> None:
    for block in blocks(page):
        if "file" in block.marks:
            (desk / block.marks["file"]).write_text(block.text)
    for number, block in enumerate(runnable(page)):
        match block.language, block.marks["run"]:
            case "python", "stdin":
                done = run([sys.executable, "-"], desk, block.text)
            case "python", _:
                (desk / f"block{number}.py").write_text(block.text)
                done = run([sys.executable, f"block{number}.py"], desk)
            case "bash", _:
                done = run(["bash", "-e", "-c", block.text], desk)
            case other:
                pytest.fail(f"{page.name}:{block.line}: cannot run {other}")
        expected = int(block.marks.get("exit", "0"))
        assert done.returncode == expected, f"{page.name}:{block.line}\n{done.stdout}\n{done.stderr}"


def test_third_party_pipeline_of_the_how_to_installs_and_runs(desk: Path) -> None:
    files = {
        block.marks["file"]: block.text
        for block in blocks(ROOT / "docs/how-to/write-a-pipeline.md")
        if "file" in block.marks
    }
    assert sum(len(text.splitlines()) for text in files.values()) < 60
    for name, text in files.items():
        (desk / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (desk / "project" / name).write_text(text)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = run([*install, "--target", str(desk / "site"), str(desk / "project")], desk)
    assert done.returncode == 0, done.stderr

    done = run(["vpipe", "run", "brightness", "clips", "-o", "out"], desk, site=str(desk / "site"))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (desk / "out" / "brightness.jsonl").read_text().splitlines()]
    assert [Path(row["path"]).name for row in rows] == list(CLIPS)
    for row in rows:
        assert 60 < row["luma"] < 140
        assert row["dark"] == 0


def anchors(text: str) -> set[str]:
    """Names that a page's headings can be linked by."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), f"{page.name} links to {link}"


def test_every_how_to_is_in_the_index() -> None:
    index = (ROOT / "docs/how-to/README.md").read_text("utf-8")
    for page in (ROOT / "docs/how-to").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index
