"""Comment files of others: what is read, what is left out, what is refused."""

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpipe_mask import comments
from vpipe_mask.comments import Comment, CommentError, read_comments


def saved(folder: Path, content: bytes | str | Any) -> Path:
    path = folder / "comments"
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def bilibili(*entries: tuple[str, str]) -> str:
    body = "".join(f'<d p="{p}">{text}</d>' for p, text in entries)
    return f'<?xml version="1.0" encoding="UTF-8"?><i><chatid>1</chatid><maxlimit>100</maxlimit>{body}</i>'


def refusal(path: Path) -> str:
    with pytest.raises(CommentError) as caught:
        read_comments(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Bilibili XML


def test_bilibili_comments_have_their_time_mode_colour_and_size(tmp_path: Path) -> None:
    file = bilibili(
        ("23.5,1,25,16777215,1422201084,0,057075e9,757076900", "你好 &amp; hi"),
        ("1.25,4,18,16711680,1422201084,0,a,1", "bottom"),
        ("2,5,36,255,1422201084,0,a,2,10", "top"),
        ("3,6,25,16777215,1422201084,0,a,3", "back"),
    )
    assert read_comments(saved(tmp_path, file)) == [
        Comment(1.25, "bottom", "bottom", 0xFF0000, 0.72),
        Comment(2.0, "top", "top", 0x0000FF, 1.44),
        Comment(3.0, "back", "reverse"),
        Comment(23.5, "你好 & hi"),
    ]


def test_entries_that_are_no_comments_are_counted_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = bilibili(
        ("1,1,25,16777215", "shown"),
        ("1,8,25,16777215", "var a = 1;"),
        ("1,7,25,16777215", '["0","0","1-1","4","moves"]'),
        ("soon,1,25,16777215", "no time"),
        ("nan,1,25,16777215", "no time"),
        ("-1,1,25,16777215", "before the start"),
        ("1e9,1,25,16777215", "after the end"),
        ("1,1,25,white", "no colour"),
        ("1,1,0,16777215", "no size"),
        ("", "nothing"),
        ("1,1,25,16777215", "   "),
        ("1,1,25,16777215", "x" * (comments.MAX_TEXT + 1)),
    )
    with caplog.at_level(logging.WARNING, "vpipe"):
        assert [comment.text for comment in read_comments(saved(tmp_path, file))] == ["shown"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'comments'}: 11 of 12 entries cannot be shown and are left out"
    ]


def test_control_characters_that_xml_forbids_do_no_harm(tmp_path: Path) -> None:
    file = bilibili(("1,1,25,16777215", "a\x08b\x00c\u0085d"))
    assert [comment.text for comment in read_comments(saved(tmp_path, file))] == ["abcd"]


def test_xml_in_utf_16_is_read(tmp_path: Path) -> None:
    file = bilibili(("1,1,25,16777215", "弹幕")).replace("UTF-8", "UTF-16")
    assert [comment.text for comment in read_comments(saved(tmp_path, file.encode("utf-16")))] == ["弹幕"]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ('<!DOCTYPE i [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>', "line 1: declares entities"),
        ('<!DOCTYPE i [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "line 1: declares entities"),
        ('<!DOCTYPE i [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>', "line 1: declares entities"),
        ('<?xml version="1.0" encoding="klingon"?>', "line 1: unknown encoding"),
        ("<x>" * 40, "33 deep"),
    ],
)
def test_hostile_xml_is_refused(tmp_path: Path, head: str, words: str) -> None:
    assert words in refusal(saved(tmp_path, f'{head}<i><d p="1,1,25,0">&a;</d></i>'))


def test_outer_document_type_is_never_fetched(tmp_path: Path) -> None:
    head = '<!DOCTYPE i SYSTEM "http://127.0.0.1:9/x.dtd">'
    assert len(read_comments(saved(tmp_path, f'{head}<i><d p="1,1,25,0">a</d></i>'))) == 1


def test_xml_that_breaks_off_names_the_line(tmp_path: Path) -> None:
    assert "line 3: unclosed token; fetch it again" in refusal(saved(tmp_path, '<i>\n<d p="1,1,25,0">a</d>\n<d p="2'))


# niconico JSON


def nico(body: str, *commands: str, vpos_ms: Any = 1000) -> dict[str, Any]:
    return {"id": "1", "no": 1, "vposMs": vpos_ms, "body": body, "commands": list(commands), "nicoruId": None}


@pytest.mark.parametrize("wrap", ["data", "nvComment", "bare", "list"])
def test_niconico_threads_are_read_in_every_wrapping(tmp_path: Path, wrap: str) -> None:
    threads = [
        {"id": "1", "fork": "owner", "comments": [nico("@置換 a"), nico("owner", vpos_ms=0)]},
        {"id": "1", "fork": "main", "commentCount": 3, "comments": [nico("a\r\nb", "184", "ue", "big", "red2")]},
        {"id": "1", "fork": "easy", "comments": [nico("c", "shita", "small", "#00ff7F", vpos_ms=1500)]},
        {"id": "1", "fork": "easy"},
    ]
    whole: Any = {"threads": threads}
    if wrap == "list":
        whole = threads
    elif wrap != "bare":
        whole = {"meta": {"status": 200}, wrap: whole}
    assert read_comments(saved(tmp_path, whole)) == [
        Comment(0.0, "owner"),
        Comment(1.0, "a\nb", "top", 0xCC0033, 1.5),
        Comment(1.5, "c", "bottom", 0x00FF7F, 0.65),
    ]


def test_older_niconico_chat_list_is_read(tmp_path: Path) -> None:
    file = [
        {"ping": {"content": "rs:0"}},
        {"thread": {"resultcode": 0, "thread": "1"}},
        {"chat": {"thread": "1", "no": 1, "vpos": 250, "mail": "naka pink", "content": "hello"}},
        {"chat": {"thread": "1", "no": 2, "vpos": 100, "content": "no look"}},
        {"chat": {"thread": "1", "no": 3, "vpos": 100, "deleted": 1}},
        {"chat": "?"},
    ]
    assert read_comments(saved(tmp_path, file)) == [Comment(1.0, "no look"), Comment(2.5, "hello", color=0xFF8080)]


def test_entries_of_the_wrong_type_are_left_out(tmp_path: Path) -> None:
    comments = [nico("good"), nico("x", vpos_ms="1"), nico("x", vpos_ms=True), nico("x", vpos_ms=10**400), None, {}]
    assert (
        len(read_comments(saved(tmp_path, {"threads": [{"comments": [*comments, {"body": 5, "vposMs": 1}]}, 7]}))) == 1
    )


# JSON Lines


def test_plain_lines_need_no_more_than_time_and_text(tmp_path: Path) -> None:
    lines = [
        {"time_s": 2, "text": "two"},
        {"time_s": 1.5, "text": "one", "mode": "top", "color": "#FFcc00", "size": 2},
        {"time_s": 3, "text": "number", "color": 255},
    ]
    text = "\ufeff" + "\n\n".join(json.dumps(line) for line in lines)
    assert read_comments(saved(tmp_path, text)) == [
        Comment(1.5, "one", "top", 0xFFCC00, 2.0),
        Comment(2.0, "two"),
        Comment(3.0, "number", color=255),
    ]


def test_a_single_plain_line_is_enough(tmp_path: Path) -> None:
    assert read_comments(saved(tmp_path, {"time_s": 0, "text": "a"})) == [Comment(0.0, "a")]


def test_bad_lines_are_left_out(tmp_path: Path) -> None:
    lines = [
        '{"time_s": 1, "text": "good"}',
        '{"time_s": 1, "te',
        "[1]",
        "7",
        '{"text": "no time"}',
        '{"time_s": "1", "text": "a"}',
        '{"time_s": 1, "text": 5}',
        '{"time_s": 1, "text": "a", "mode": "sideways"}',
        '{"time_s": 1, "text": "a", "color": "red"}',
        '{"time_s": 1, "text": "a", "color": true}',
        '{"time_s": 1, "text": "a", "size": -1}',
        '{"time_s": 1, "text": "\\ud800"}',
        '{"time_s": NaN, "text": "a"}',
        "[" * 100_000,
    ]
    assert read_comments(saved(tmp_path, "\n".join(lines))) == [Comment(1.0, "good")]


# what is none of them


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\x00" * 50,
        b"<html><body>404</body></html>",
        b"{}",
        b"[]",
        b'[{"a": 1}]',
        b'{"threads": 1}',
        b"[" * 9999,
    ],
)
def test_file_without_comments_is_refused_and_told_what_is_known(tmp_path: Path, content: bytes) -> None:
    assert "expected Bilibili XML" in refusal(saved(tmp_path, content))


def test_bytes_that_are_not_utf_8_are_named(tmp_path: Path) -> None:
    assert "byte 10: is not UTF-8" in refusal(saved(tmp_path, b'{"text": "\xff"}'))


def test_missing_file_and_directory_are_told(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "gone")
    assert "Is a directory" in refusal(tmp_path)


def test_file_beyond_the_limit_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, bilibili(("1,1,25,0", "a")))
    monkeypatch.setattr(comments, "MAX_BYTES", path.stat().st_size - 1)
    assert "too many comments" in refusal(path)


@given(st.binary(max_size=200), st.sampled_from([b"", b"<i><d p='1,1,25,0'>", b'{"text":', b'[{"chat":{']))
def test_any_bytes_give_comments_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, head: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(head + data)
    with contextlib.suppress(CommentError):
        assert all(comment.text.strip() for comment in read_comments(path))
