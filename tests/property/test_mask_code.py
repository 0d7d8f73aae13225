"""The code of the feed: whatever goes in comes out, whatever is lost or damaged does no more harm than it must."""

import json
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.mask_vectors import FILE, frame, plain, polygons, speaker, text
from vpipe_mask.code import WHOLE, CodeError, Decoder, Encoder, MaskFrame, is_key, peek
from vpipe_mask.outline import MAX_POINTS, MAX_POLYGONS, UNITS, Outline, fill, trace
from vpipe_mask.wire import MAX_BYTES, Base, Numbers, varints, written

Vectors = dict[str, list[dict[str, Any]]]


def some_outline(rng: np.random.Generator, width: int, height: int) -> Outline:
    """An outline of any polygons on a grid; they may cross themselves and each other."""
    corner = (width * UNITS + 1, height * UNITS + 1)
    parts = [rng.integers(0, corner, (rng.integers(3, 30), 2)).astype(np.int16) for _ in range(rng.integers(0, 5))]
    return Outline(width, height, tuple(parts))


def next_outline(rng: np.random.Generator, outline: Outline) -> Outline:
    """An outline that has parts of another: points moved, polygons gone, joined, cut or begun elsewhere."""
    corner = (outline.width * UNITS, outline.height * UNITS)
    parts = []
    for polygon in outline.polygons:
        turned = np.roll(polygon, rng.integers(len(polygon)), axis=0)
        for at in rng.integers(0, len(polygon), rng.integers(0, 4)):
            turned[at] = np.clip(turned[at] + rng.integers(-9, 10, 2), 0, corner)
        parts.append(turned[: max(3, len(polygon) - rng.integers(0, 4))])
    if parts and rng.random() < 0.3:
        parts.pop(rng.integers(len(parts)))
    if parts and rng.random() < 0.3 and outline.points < 500:
        parts.append(np.concatenate(parts))
    return Outline(outline.width, outline.height, tuple(parts))


@st.composite
def streams(draw: st.DrawFn) -> list[MaskFrame]:
    """Frames of one stream in order."""
    width, height = draw(st.sampled_from([(320, 180), (1, 1), (180, 320), (4096, 4096)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    outline = some_outline(rng, width, height)
    frames = []
    epoch, sequence, pts_us = (
        draw(st.integers(0, 2**32 - 9)),  # 32 bits for the last of eight, too
        draw(st.integers(0, 2**31)),
        draw(st.integers(-(2**51), 2**51)),
    )
    rect = draw(st.sampled_from([WHOLE, WHOLE, (13107 / 65535, 0.0, 26214 / 65535, 1.0)]))
    for _ in range(draw(st.integers(1, 8))):
        frames.append(
            MaskFrame(
                epoch=epoch,
                sequence=sequence,
                pts_us=pts_us,
                duration_us=draw(st.integers(0, 2**53 - 1)),
                arrival_us=draw(st.integers(0, 2**53 - 1)),
                rect=rect,
                rotation=draw(st.sampled_from([0, 90, 180, 270])),
                applied=draw(st.booleans()),
                outline=outline,
            )
        )
        outline = next_outline(rng, outline)
        sequence += draw(st.integers(1, 3))
        pts_us += draw(st.sampled_from([33_333, 40_000, 700_000, -1_000_000]))
        if draw(st.integers(0, 9)) == 0:
            epoch, sequence = epoch + 1, 0
    return frames


@settings(max_examples=150, deadline=None)
@given(streams())
def test_what_is_encoded_is_decoded(frames: list[MaskFrame]) -> None:
    encoder, decoder = Encoder(max_bytes=MAX_BYTES), Decoder()
    for each in frames:
        message = encoder.encode(each)
        assert decoder.decode(message) == each
        assert peek(message) == (each.epoch, each.sequence, each.pts_us, is_key(message), each.arrival_us)
        assert not decoder.needs_key


@settings(max_examples=100, deadline=None)
@given(streams(), st.data())
def test_a_lost_message_harms_only_itself_and_a_lost_key_only_its_deltas(
    frames: list[MaskFrame], data: st.DataObject
) -> None:
    encoder, decoder = Encoder(max_bytes=MAX_BYTES), Decoder()
    sent = held = -1  # the last key sent, and the last one that came
    for number, each in enumerate(frames):
        message = encoder.encode(each)
        sent = number if is_key(message) else sent
        if not data.draw(st.booleans(), label="arrives"):
            continue
        held = number if is_key(message) else held
        if held == sent:
            assert decoder.decode(message) == each
        else:
            with pytest.raises(CodeError, match="not the last key seen"):
                decoder.decode(message)
        assert decoder.needs_key == (held != sent)


def test_a_delta_that_comes_late_does_not_make_the_newer_key_useless() -> None:
    encoder, decoder = Encoder(), Decoder()
    assert decoder.needs_key
    old = [encoder.encode(frame(trace(speaker()), i)) for i in range(2)]
    new = [encoder.encode(frame(trace(speaker(9)), i), key=i == 2) for i in (2, 3)]
    decoder.decode(old[0])
    decoder.decode(new[0])
    with pytest.raises(CodeError, match="of key 0, which is not the last key seen"):
        decoder.decode(old[1])
    assert not decoder.needs_key
    assert decoder.decode(new[1]).sequence == 3


@settings(max_examples=400, deadline=None)
@given(streams(), st.data())
def test_damage_is_told_or_gives_a_frame_within_the_limits(frames: list[MaskFrame], data: st.DataObject) -> None:
    encoder, decoder = Encoder(max_bytes=MAX_BYTES), Decoder()
    messages = [encoder.encode(each) for each in frames]
    decoder.decode(messages[0])
    broken = bytearray(data.draw(st.sampled_from(messages)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken)))
        match data.draw(st.sampled_from(["change", "insert", "cut", "remove"])):
            case "change" if at < len(broken):
                broken[at] = data.draw(st.integers(0, 255))
            case "insert":
                broken[at:at] = data.draw(st.binary(max_size=9))
            case "cut":
                del broken[at:]
            case _:
                del broken[at : at + data.draw(st.integers(1, 5))]
    try:
        found = decoder.decode(bytes(broken))
    except CodeError:
        pass
    else:
        assert len(found.outline.polygons) <= MAX_POLYGONS
        assert found.outline.points <= MAX_POINTS
        assert Decoder().decode(Encoder(max_bytes=MAX_BYTES).encode(found)) == found
    try:
        peek(bytes(broken))
        is_key(bytes(broken))
    except CodeError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
@example(b"VM\1\1" + bytes(40))
def test_rubbish_is_told(data: bytes) -> None:
    for decode in (Decoder().decode, peek):
        try:
            decode(data)
        except CodeError:
            continue
        assert data.startswith(b"VM\1")


def test_a_small_message_cannot_grow_into_a_large_outline() -> None:
    # Each copy of the whole key is three bytes.
    circle = polygons([(round(600 + 500 * np.cos(i / 20)), round(360 + 300 * np.sin(i / 20))) for i in range(120)])
    key = Encoder().encode(frame(circle))
    head = b"VM\1\2" + varints([1, 1, 0, 0, 0, 1])
    assert Decoder().decode(key).outline.points == 120
    for copies, fits in ((34, True), (35, False)):
        decoder = Decoder()
        decoder.decode(key)
        bomb = head + varints([1, copies, *[120 << 1 | 1, 0] * copies])
        if fits:
            assert decoder.decode(bomb).outline.points == 34 * 120
        else:
            with pytest.raises(CodeError, match="more than 4096 points"):
                decoder.decode(bomb)
    with pytest.raises(CodeError, match="70000 bytes"):
        Decoder().decode(bytes(70_000))


@settings(max_examples=50, deadline=None)
@given(streams())
def test_the_same_masks_give_the_same_bytes(frames: list[MaskFrame]) -> None:
    first, second = Encoder(), Encoder()
    assert [first.encode(each) for each in frames] == [second.encode(each) for each in frames]


def keys(frames: list[MaskFrame], **options: Any) -> list[int]:
    encoder = Encoder(**options)
    return [each.sequence for each in frames if is_key(encoder.encode(each))]


def test_a_key_comes_as_often_as_asked_for() -> None:
    frames = [frame(trace(speaker()), i, pts_us=i * 40_000) for i in range(121)]
    assert keys(frames) == [0, 50, 100]
    assert keys(frames, keyframe_every_s=0.4) == list(range(0, 121, 10))


def test_whatever_a_delta_cannot_tell_makes_a_key() -> None:
    outline = trace(speaker())
    bars = (0.1, 0.0, 0.8, 1.0)
    frames = [
        frame(outline, 0),
        frame(outline, 1, epoch=2),
        frame(outline, 2, epoch=2, rect=bars),
        frame(outline, 3, epoch=2, rect=bars, rotation=90, applied=False),
        frame(trace(speaker(), width=180, height=320), 4, epoch=2, rect=bars),
        frame(trace(speaker(), width=180, height=320), 5, epoch=2, rect=bars, pts_us=-1),
        frame(trace(speaker(), width=180, height=320), 5, epoch=2, rect=bars),
    ]
    assert keys(frames) == [0, 1, 2, 4, 5, 5]
    encoder = Encoder()
    assert [is_key(encoder.encode(frame(outline, i), key=i == 1)) for i in range(3)] == [True, True, False]


def test_a_delta_that_saves_nothing_is_a_key() -> None:
    frames = [frame(trace(speaker(9 * (i % 2))), i) for i in range(3)]
    encoder = Encoder()
    sizes = [len(encoder.encode(each)) for each in frames]
    assert sizes[2] < sizes[0] / 2  # back where the key was
    # Wherever the head goes it has not been before.
    assert keys([frame(trace(cv2.flip(speaker(7.3 * i), i % 3 - 1)), i) for i in range(4)]) == [0, 1, 2, 3]


def test_of_a_still_person_little_is_sent() -> None:
    encoder = Encoder()
    outline = trace(speaker())
    key, *deltas = [encoder.encode(frame(outline, i)) for i in range(30)]
    assert len(key) > 80
    assert max(map(len, deltas)) <= 30
    # Who has moved stays there: a new key costs once what every delta would cost again.
    moved = [encoder.encode(frame(trace(speaker(1.5)), i)) for i in range(30, 40)]
    assert [is_key(message) for message in moved] == [True] + [False] * 9
    assert max(map(len, moved[1:])) <= 30


def test_where_only_the_head_turns_the_shoulders_are_not_sent_again() -> None:
    encoder = Encoder()
    key, turned = [encoder.encode(frame(trace(speaker(turn)), i)) for i, turn in enumerate((0.0, 3.0))]
    assert not is_key(turned)
    assert len(turned) < 0.85 * len(key)


@pytest.mark.parametrize("max_bytes", [64, 200, 1000])
def test_a_message_is_never_longer_than_asked_for(max_bytes: int) -> None:
    rng = np.random.default_rng(2)
    encoder, decoder = Encoder(max_bytes=max_bytes), Decoder()
    for i in range(4):
        noise = rng.integers(0, 256, (144, 256), dtype=np.uint8)
        message = encoder.encode(frame(trace(np.maximum(speaker(4 * i), noise // 2 + 30)), i))
        assert len(message) <= max_bytes
        outline = decoder.decode(message).outline
        if max_bytes >= 200:
            person = fill(trace(speaker(4 * i)))
            both = np.count_nonzero(person & fill(outline))
            assert both > 0.8 * np.count_nonzero(person)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"epoch": 2**32}, "32 bits"),
        ({"sequence": -1}, "32 bits"),
        ({"pts_us": 2**52}, "52 bits"),
        ({"duration_us": -1}, "0 or more"),
        ({"arrival_us": 2**53}, "0 or more"),
        ({"rect": (0.0, 0.0, 0.0, 1.0)}, "within 0..1"),
        ({"rect": (-0.1, 0.0, 1.0, 1.0)}, "within 0..1"),
        ({"rotation": 45}, "rotation 45"),
        ({"outline": Outline(0, 180, ())}, "sides"),
        ({"outline": Outline(4097, 180, ())}, "sides"),
        ({"outline": polygons([(0, 0), (4, 4)])}, "less than 3 points"),
        ({"outline": polygons([(0, 0), (4, 4), (-1, 9)])}, "off the grid"),
        ({"outline": polygons([(0, 0), (4, 4), (1281, 9)])}, "off the grid"),
        ({"outline": polygons(*[[(0, 0), (4, 4), (0, 4)]] * 256)}, "256 polygons"),
        ({"outline": polygons([(i % 1280, i // 1280) for i in range(4097)])}, "4097 points"),
    ],
)
def test_a_frame_that_the_code_cannot_hold_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(CodeError, match=problem):
        Encoder().encode(frame(**{"outline": polygons()} | values))


def test_a_rectangle_keeps_its_place_to_a_part_in_65535() -> None:
    rect = (0.21875, 1 / 3, 0.5625, 2 / 3)
    found = Decoder().decode(Encoder().encode(frame(polygons(), rect=rect))).rect
    assert found == pytest.approx(rect, abs=1 / 65535)
    assert found[1] + found[3] <= 1


def test_points_are_copied_from_any_polygon_of_the_key() -> None:
    left = [(0, 0), (0, 400), (400, 400), (400, 0)]
    right = [(600, 0), (600, 400), (1000, 400), (1000, 0)]
    base = Base(Numbers(polygons(left, right).polygons))
    joined = Numbers(polygons([*left[1:3], *right[1:3], (1000, 8), (0, 8)]).polygons)
    assert base.copies(joined.places[0]) == [(0, 2, 1), (2, 2, 5)]
    assert len(written(joined, base)) < len(written(joined))
    # All around once, however often it goes around.
    twice = Numbers(polygons([*left, *left]).polygons)
    assert base.copies(twice.places[0]) == [(0, 4, 0), (4, 4, 0)]


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    found: Vectors = json.loads(FILE.read_text())
    return found


def test_the_vectors_are_what_this_code_writes() -> None:
    assert FILE.read_text() == text(), "the code has changed: run python -m tests.mask_vectors, raise the version"


def test_the_vectors_decode_to_what_they_say(vectors: Vectors) -> None:
    assert len(vectors) > 30
    for name, messages in vectors.items():
        decoder = Decoder()
        for message in messages:
            if "error" in message:
                with pytest.raises(CodeError):
                    decoder.decode(bytes.fromhex(message["hex"]))
            else:
                assert plain(decoder.decode(bytes.fromhex(message["hex"]))) == message["frame"], name


def test_the_decoder_of_the_specification_decodes_the_vectors(vectors: Vectors) -> None:
    page = (FILE.parents[2] / "docs" / "mask-feed.md").read_text("utf-8")
    code = page.split("```python run\n")[1].split("\ndecoder = Decoder()")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    for name, messages in vectors.items():
        decoder = names["Decoder"]()
        for message in messages:
            data = bytes.fromhex(message["hex"])
            if "error" in message:
                with pytest.raises(names["Damaged"]):
                    decoder.decode(data)
            else:
                found = decoder.decode(data)
                flat = [[value for point in polygon for value in point] for polygon in found["polygons"]]
                assert found | {"polygons": flat} == message["frame"], name
