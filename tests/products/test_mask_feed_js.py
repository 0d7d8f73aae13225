"""The feed's JavaScript: it decodes what Python decodes and refuses what Python refuses, in Node.js."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.mask_vectors import FILE, frame, plain, polygons, speaker
from vpipe_mask.code import CodeError, Decoder, Encoder, MaskFrame
from vpipe_mask.outline import MAX_POINTS, MAX_POLYGONS, MAX_SIDE, UNITS, trace
from vpipe_mask.wire import MAX_BYTES

MODULE = Path(__file__).resolve().parents[2] / "pipelines" / "vpipe_mask" / "server" / "static" / "mask-feed.js"

DECODE = """
const decoded = (decoder, hex) => {
  const data = Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
  try {
    const frame = decoder.decode(data);
    const { rect, polygons, pts, duration, ...same } = frame;
    if (pts !== same.ptsUs / 1e6 || duration !== same.durationUs / 1e6) throw new Error("seconds");
    const { epoch, sequence, ptsUs, key, arrivalUs } = feed.peek(data.buffer);
    if (epoch !== frame.epoch || sequence !== frame.sequence || ptsUs !== frame.ptsUs) throw new Error("peek");
    if (arrivalUs !== frame.arrivalUs || (key && decoder.needsKey)) throw new Error("peek");
    return { ...same, rect: [rect.x, rect.y, rect.width, rect.height], polygons: polygons.map((each) => [...each]) };
  } catch (error) {
    if (!(error instanceof feed.CodeError)) throw error;
    return null;
  }
};
return given.map((messages) => {
  const decoder = new feed.Decoder();
  return messages.map((hex) => ({ frame: decoded(decoder, hex), needsKey: decoder.needsKey }));
});
"""


@pytest.fixture(autouse=True)
def node() -> str:
    """Path of Node.js; without one the test is skipped, under CI it fails."""
    found = shutil.which("node")
    if found is None and not os.environ.get("CI"):
        pytest.skip("no node on PATH; install Node.js to test the feed's JavaScript")
    return found or "node"


def javascript(node: str, body: str, given: Any = None) -> Any:
    """Return what the body of a function returns that knows `feed`, the module, and `given`."""
    code = f"""
import * as feed from {json.dumps(MODULE.as_uri())};
import {{ readFileSync, writeFileSync }} from "node:fs";
const given = JSON.parse(readFileSync(0, "utf8"));
const run = () => {{ {body} }};
writeFileSync(1, JSON.stringify(run()));
"""
    command = [node, "--input-type=module", "-e", code]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_javascript(mask: MaskFrame) -> dict[str, Any]:
    """A frame's plain values under the names that the module gives them."""
    names = {"pts_us": "ptsUs", "duration_us": "durationUs", "arrival_us": "arrivalUs"}
    return {names.get(name, name): value for name, value in plain(mask).items()}


def compare(node: str, cases: Sequence[Sequence[bytes]]) -> int:
    """Check that both decoders find the same in every message; return how many they refuse."""
    answers = javascript(node, DECODE, [[data.hex() for data in case] for case in cases])
    refused = 0
    for case, answer in zip(cases, answers, strict=True):
        decoder = Decoder()
        for data, found in zip(case, answer, strict=True):
            try:
                expected = in_javascript(decoder.decode(data))
            except CodeError:
                expected = None
                refused += 1
            assert found == {"frame": expected, "needsKey": decoder.needs_key}, data.hex()
    return refused


def test_the_vectors_decode_as_in_python(node: str) -> None:
    vectors = json.loads(FILE.read_text())
    cases = [[bytes.fromhex(message["hex"]) for message in case] for case in vectors.values()]
    errors = sum("error" in message for case in vectors.values() for message in case)
    assert compare(node, cases) == errors > 25


def test_damaged_messages_are_refused_or_decode_as_in_python(node: str) -> None:
    rng = random.Random(4)
    encoder = Encoder()
    key = encoder.encode(frame(trace(speaker())))
    delta = encoder.encode(frame(trace(speaker(3.0)), 1))
    bars = Encoder().encode(frame(polygons([(0, 0), (0, 90), (90, 0)]), rect=(0.25, 0.0, 0.5, 1.0), pts_us=-5))
    cases = []
    for _ in range(3000):
        broken = bytearray(rng.choice((key, delta, delta, bars)))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(broken) + 1)
            match rng.randrange(6):
                case 0:
                    broken[at:at] = rng.randbytes(rng.randint(1, 9))
                case 1:
                    del broken[at : at + rng.randint(1, 4)]
                case 2 if rng.random() < 0.3:
                    del broken[at:]
                case _ if at < len(broken):
                    broken[at] = rng.choice((rng.randrange(256), broken[at] ^ 1 << rng.randrange(8), 255, 128))
        cases.append([key, bytes(broken), delta])
    assert 1000 < compare(node, cases) < 5000


def test_rubbish_of_any_length_is_refused_as_in_python(node: str) -> None:
    rng = random.Random(5)
    starts = (b"", b"VM", b"VM\1\1", b"VM\1\2\1\0\0\0\0\1")
    cases = [[rng.choice(starts) + rng.randbytes(rng.randrange(60))] for _ in range(1000)]
    cases += [[b"VM\1\1" + bytes(MAX_BYTES)], [b""]]
    assert compare(node, cases) > 900


def test_limits_are_the_same_as_in_python(node: str) -> None:
    found = javascript(node, "const { Decoder, ...rest } = feed; return rest;")
    names = {"UNITS": UNITS, "MAX_BYTES": MAX_BYTES, "MAX_SIDE": MAX_SIDE}
    names |= {"MAX_POLYGONS": MAX_POLYGONS, "MAX_POINTS": MAX_POINTS, "VERSION": 1}
    assert {name: found[name] for name in names} == names


HISTORY = """
const mask = (pts, more = {}) => ({ epoch: 1, pts, duration: 0.04, applied: true, ...more });
const history = new feed.History(10);
const told = (seconds, stale) => history.maskAt(seconds, stale)?.pts ?? null;
"""


def test_the_mask_of_a_time_is_the_last_that_is_not_later(node: str) -> None:
    body = """
for (const pts of [1, 1.04, 1.12, 1.08, 2]) history.add(mask(pts));
return [0.99, 1, 1.0399999, 1.05, 1.08, 1.119, 1.2, 1.7, 2.3].map((seconds) => told(seconds));
"""
    assert javascript(node, HISTORY + body) == [None, 1, 1.04, 1.04, 1.08, 1.08, 1.12, None, 2]


def test_a_mask_too_old_or_not_applied_lets_comments_show(node: str) -> None:
    body = """
history.add(mask(1));
history.add(mask(2, { applied: false }));
history.add(mask(3, { duration: 4 }));
return [told(1.4), told(1.6), told(1.3, 0.2), told(2.1), history.at(2.1).pts, told(6.9), told(7.1)];
"""
    assert javascript(node, HISTORY + body) == [1, None, None, None, 2, 3, None]


def test_history_forgets_what_is_old_and_other_epochs(node: str) -> None:
    body = """
for (let i = 0; i < 1000; i += 1) history.add(mask(i / 10));
const kept = [history.length, history.at(87)?.pts ?? null, history.at(95).pts];
history.add(mask(95, { duration: 0.1 }));
const replaced = [history.length === kept[0], history.at(95).duration];
history.add(mask(50, { epoch: 2 }));
const other = [history.length, told(95.1), told(50)];
history.clear();
return [kept, replaced, other, history.length, told(50)];
"""
    kept, replaced, other, *cleared = javascript(node, HISTORY + body)
    assert 100 <= kept[0] <= 117
    assert kept[1:] == [None, 95]
    assert replaced == [True, 0.1]
    assert other == [1, None, 50]
    assert cleared == [0, None]


@pytest.mark.parametrize(
    ("rotation", "rect", "expected"),
    [
        (0, (0, 0, 1, 1), [[100, 50], [420, 50], [420, 230], [100, 230]]),
        (180, (0, 0, 1, 1), [[420, 230], [100, 230], [100, 50], [420, 50]]),
        (90, (0, 0, 1, 1), [[420, 50], [420, 230], [100, 230], [100, 50]]),
        (270, (0, 0, 1, 1), [[100, 230], [100, 50], [420, 50], [420, 230]]),
        (0, (0.25, 0, 0.5, 1), [[-60, 50], [580, 50], [580, 230], [-60, 230]]),
        (90, (0.25, 0, 0.5, 1), [[420, -40], [420, 320], [100, 320], [100, -40]]),
    ],
)
def test_a_mask_is_laid_over_the_picture(
    node: str, rotation: int, rect: tuple[float, ...], expected: list[list[float]]
) -> None:
    body = """
const [x, y, width, height] = given.rect;
const frame = { width: 320, height: 180, rotation: given.rotation, rect: { x, y, width, height } };
const [a, b, c, d, e, f] = feed.matrix(frame, { x: 100, y: 50, width: 320, height: 180 });
return [[0, 0], [1280, 0], [1280, 720], [0, 720]].map(([u, v]) => [a * u + c * v + e, b * u + d * v + f]);
"""
    found = javascript(node, body, {"rotation": rotation, "rect": rect})
    assert found == [pytest.approx(point) for point in expected]


def test_a_clip_path_is_the_box_with_the_people_as_holes(node: str) -> None:
    body = """
const rect = { x: 0, y: 0, width: 1, height: 1 };
const polygons = [Int16Array.of(0, 0, 0, 720, 640, 720), Int16Array.of(0, 0, 4, 4, 4, 0)];
const frame = { applied: true, width: 320, height: 180, rotation: 0, rect, polygons };
const box = feed.fitted(640, 400, 1920, 1080);
const path = (mask) => feed.clipPath(mask, box, 640, 400);
return [box, path(frame), path({ ...frame, applied: false }), path({ ...frame, polygons: [] }), path(null)];
"""
    box, path, *without = javascript(node, body)
    assert box == {"x": 0, "y": 20, "width": 640, "height": 360}
    assert path == 'path(evenodd, "M0 0H640V400H0ZM0 20L0 380L320 380ZM0 20L2 22L2 20Z")'
    assert without == ["none"] * 3
