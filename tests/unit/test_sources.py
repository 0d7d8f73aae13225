"""What users name becomes a list of inputs, each once, in order."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from vpipe.errors import SourceError
from vpipe.sources import is_url, resolve_sources


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.mp4", "a.MKV", "notes.txt", "deep/c.ts", "deep/d/e.webm", "other/f.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*sources: str | Path | bytes) -> list[str]:
    return [path for path, _ in resolve_sources(sources)]  # type: ignore[arg-type]


def test_a_directory_is_searched_for_videos_in_order(tree: Path) -> None:
    assert names(".") == ["./a.MKV", "./b.mp4", "./deep/c.ts", "./deep/d/e.webm", "./other/f.mp4"]


def test_a_file_is_taken_whatever_its_name_and_once(tree: Path) -> None:
    assert names("notes.txt", "b.mp4", "notes.txt", Path("b.mp4")) == ["notes.txt", "b.mp4"]
    assert resolve_sources(["b.mp4"]) == [("b.mp4", 5)]


def test_globs_are_expanded_in_order_and_into_directories(tree: Path) -> None:
    assert names("*.mp4") == ["b.mp4"]
    assert names("**/*.mp4") == ["b.mp4", "other/f.mp4"]
    assert names("d*") == ["deep/c.ts", "deep/d/e.webm"]


def test_a_file_with_the_signs_of_a_glob_in_its_name_is_that_file(tree: Path) -> None:
    Path("odd[1]*.mp4").write_bytes(b"1")
    assert names("odd[1]*.mp4") == ["odd[1]*.mp4"]


def test_what_is_not_there_is_kept_so_that_it_gets_a_row(tree: Path) -> None:
    os.symlink("nowhere", "dangling.mp4")
    assert resolve_sources(["missing.mp4", "dangling.mp4"]) == [("missing.mp4", 0), ("dangling.mp4", 0)]
    assert names("b.mp4", "no*.mp4", "empty") == ["b.mp4", "no*.mp4", "empty"]


def test_a_list_on_standard_input_is_read_as_bytes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"b.mp4\r\n\nname \xff.mp4\nother\n"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert names("-") == ["b.mp4", "name \udcff.mp4", "other/f.mp4"]


def test_urls_are_left_alone(tree: Path) -> None:
    assert resolve_sources(["http://h/a.mp4?*", "b.mp4"]) == [("http://h/a.mp4?*", 0), ("b.mp4", 5)]
    assert is_url("https://x")
    assert not is_url("a/b://c")
    assert not is_url("/tmp/http")


@pytest.mark.parametrize("sources", [[], ["empty"], ["no*.mp4", "empty"]])
def test_sources_that_name_nothing_are_an_error_that_lists_them(sources: list[str], tree: Path) -> None:
    with pytest.raises(SourceError, match="nothing to do") as error:
        resolve_sources(sources)
    assert all(source in str(error.value) for source in sources)


def test_an_empty_list_on_standard_input_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    with pytest.raises(SourceError):
        resolve_sources(["-"])
