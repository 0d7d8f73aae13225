"""The decode stage: opens files, cuts them into segments, decodes segments, makes views.

Orders: `identify` (content key), `plan` (index and segments), `decode` (one segment). Each is answered by one
report, or by `media_error`, which concerns that file only. Untrusted bytes are touched here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vpipe.control import Message
from vpipe.errors import MediaError
from vpipe.frame import FrameFlag, StreamInfo
from vpipe.host import OwnCore
from vpipe.media import Sample, Segment, content_key, open_media
from vpipe.metrics import State
from vpipe.ring import RingWriter, WriteLoan
from vpipe.trace import Recorder, Span
from vpipe.view import View, make_view
from vpipe.viewconfig import ViewConfig
from vpipe.worker import BEAT_MS, Context

if TYPE_CHECKING:
    from vpipe.media import Media, Picture
    from vpipe.media.synthetic import SyntheticMedia

SAMPLED = 5
"""The CPU clock is read around one of so many parts; a turn of pictures has one for itself and one for each view."""

GROUP_PIXELS = 12 << 20
"""Of the pictures that are decoded before the first of them is looked at. Decoding drives the code that makes views out
of the caches, and each view the decoder's: by turns of four pictures a view takes 0.85 x the time (measured). But a
picture that is looked at late has left the caches itself."""

TURN_NS = 1_000_000
"""A trace tells each frame's decoding and view where they take longer than this, and else of turns: so that it costs
little beside them."""
TURNS_NS = 2_000_000
"""Turns that follow each other are told together until they have taken this long."""

# For every frame: an enumeration's member takes 0.2 us to look up, and its operators take 1 us.
_DECODE, _VIEW, _TURN = Span.DECODE, Span.VIEW, Span.TURN
_FIRST, _CARRIED, _CORRUPT = int(FrameFlag.FIRST), int(FrameFlag.CARRIED), int(FrameFlag.CORRUPT)


class _Deadline:
    """When what a file asks for is given up."""

    def __init__(self, what: str, seconds: float) -> None:
        self._what, self._seconds = what, seconds
        self._until_ns = time.monotonic_ns() + int(seconds * 1e9)

    def check(self, now_ns: int) -> None:
        """Raise the error that says so where it is over."""
        if now_ns > self._until_ns:
            raise MediaError(
                "deadline",
                f"{self._what} took longer than {self._seconds:g} s and was given up; "
                f"raise decode.deadline_s if this is a sound file",
            )


class _Branch:
    """One branch's view and the ring that takes it away."""

    def __init__(self, writer: RingWriter, settings: Message) -> None:
        self.name: str = settings["name"]
        self.writer = writer
        self.view: View = make_view(ViewConfig.from_dict(settings["view"]))
        self.taken = 0
        """Frames of the segment under way."""
        self._segment = (0, 0, 0)
        """Its stream, its number and the attempt."""
        self._slot: WriteLoan | None = None
        """Where frames are put until they are handed on."""
        self._made: list[tuple[Picture, int]] = []
        """The pictures of which views are in it, and what the view says of each."""
        self._due_ns = 0
        self._wait_ns = int(writer.spec.coalesce_s * 1e9)
        self.capacity = writer.spec.layout.capacity
        """Frames of a slot; where there are several, every frame of the film is wanted."""
        self._every: int = settings["every"]
        self._sample = Sample.parse(settings["sample"])
        # Looked up once: this runs for every frame.
        names = [field.name for field in writer.spec.layout.fields]
        self._items = [
            [{name: rows[row] for name, rows in slot.items()} for row in range(self.capacity)]
            for slot in writer.slot_arrays(names)
        ]

    def _wants(self, picture: Picture) -> bool:
        """Return whether `picture` is among this branch's share of what is read."""
        origin, previous = picture.origin_pts, picture.previous_pts
        ticks_before = None if previous is None else previous - origin
        key = bool(picture.flags & FrameFlag.KEY)
        return self._sample.takes(picture.pts - origin, ticks_before, key, picture.time_base)

    def begin(self, stream: int, segment: int, attempt: int) -> None:
        """Begin a segment."""
        self.taken, self._segment = 0, (stream, segment, attempt)

    def put(self, context: Context, pictures: list[Picture], deadline: _Deadline, trace: Recorder | None) -> None:
        """Render those of `pictures` that are wanted; waits for slots as long as the segment's deadline allows.

        Args:
            context: The worker's.
            pictures: In the order of time.
            deadline: The segment's.
            trace: Gets a span for each view, if it is given.
        """
        if self._sample.kind != "every":
            pictures = [picture for picture in pictures if self._wants(picture)]
        made, stream, begin = self._made, self._segment[0], 0
        while begin < len(pictures):
            if self._slot is None:
                self._slot = self._loan(context, deadline)
            items = self._items[self._slot.slot]
            turn = pictures[begin : begin + self.capacity - len(made)]
            with context.counters.part:
                for picture in turn:
                    made.append((picture, self.view.render(picture, items[len(made)])))
                    if trace is not None:
                        trace.note((_VIEW, stream, picture.pts, time.monotonic_ns()))
            begin += len(turn)
            if len(made) == self.capacity:
                self.hand_on()

    def _loan(self, context: Context, deadline: _Deadline) -> WriteLoan:
        while not self.writer.ready:
            context.wait(BEAT_MS, what=Span.WAIT_SLOT)
            deadline.check(time.monotonic_ns())
        return self.writer.loan()

    def hand_on_in_time(self, now_ns: int) -> None:
        """Commit the frames that are made if they should wait no longer; to be asked as often as some are made."""
        if not self._made:
            return
        if not self._due_ns:
            self._due_ns = now_ns + self._wait_ns
        if now_ns >= self._due_ns:
            self.hand_on()

    def hand_on(self) -> None:
        """Commit the frames that are made."""
        made, slot = self._made, self._slot
        if slot is None:
            return
        self._slot = None
        self._due_ns = 0
        if not made:  # its view could not be made
            slot.abort()
            return
        time_base = made[0][0].time_base.as_integer_ratio()
        stream, segment, attempt = self._segment
        now_ns = time.monotonic_ns()
        headers = []
        for picture, found in made:
            flags = int(found) | int(picture.flags)
            if not self.taken:
                flags |= _FIRST
            if self.taken % self._every:
                flags |= _CARRIED
            self.taken += 1
            size = picture.width, picture.height
            headers.append(
                (stream, segment, picture.pts, *time_base, picture.index, *size, flags, now_ns, attempt, 0, 0)
            )
        made.clear()
        slot.count = len(headers)
        slot.frames[: slot.count] = headers
        slot.commit()

    def end(self) -> None:
        """Hand on what is made, and announce it at once: a segment is over."""
        self.hand_on()
        self.writer.flush()
        self.view.end()


class _Decoder:
    """Keeps the file that was opened last, since a file's orders mostly follow each other."""

    def __init__(self, context: Context) -> None:
        self._context = context
        settings = context.assignment["settings"]
        self._max_pixels: int = settings["max_pixels"]
        self._skip_loop_filter: str = settings["skip_loop_filter"]
        self._sample = Sample.parse(settings["sample"])
        self._pair: bool = any(branch["view"]["pair"] for branch in settings["branches"])
        self._branches = [_Branch(context.writers[branch["ring"]], branch) for branch in settings["branches"]]
        self._together = max(branch.capacity for branch in self._branches)
        self._core = OwnCore(settings["number"], settings["workers"])
        self._path: str | None = None
        self._media: Media | SyntheticMedia | None = None

    def _open(self, path: str) -> Media | SyntheticMedia:
        if self._media is None or self._path != path:
            self.close()
            with self._context.counters.part:
                self._media = open_media(path, self._max_pixels, self._skip_loop_filter)
            self._path = path
        return self._media

    def end(self) -> None:
        """Hand on all frames that are made."""
        for branch in self._branches:
            branch.end()

    def close(self) -> None:
        """Close the file that is open."""
        if self._media is not None:
            self._media.close()
        self._media = self._path = None

    def identify(self, order: Message) -> dict[str, Any]:
        """Return the file's content key; does not demux."""
        return {"key": content_key(order["path"])}

    def plan(self, order: Message) -> dict[str, Any]:
        """Index the file; returns its facts and its segments."""
        self._core.stay(alone=False)  # the first picture is decoded in a thread of its own
        media = self._open(order["path"])
        info: StreamInfo
        counters, deadline = self._context.counters, _Deadline("indexing it", order["deadline_s"])

        def beat() -> None:
            deadline.check(counters.beat())

        info, segments = media.plan(self._sample, pair=self._pair, stream=order["stream"], beat=beat, key=order["key"])
        return {"info": info.to_dict(), "segments": [segment.to_dict() for segment in segments]}

    def _next(self, pictures: Iterator[Picture], count: int, stream: int, trace: Recorder | None) -> list[Picture]:
        with self._context.counters.part:
            if trace is None:
                return list(itertools.islice(pictures, count))
            group = []
            for picture in itertools.islice(pictures, count):
                trace.note((_DECODE, stream, picture.pts, time.monotonic_ns()))
                group.append(picture)
            return group

    def decode(self, order: Message) -> dict[str, Any]:
        """Decode one segment into the rings; returns counts."""
        context, counters, trace = self._context, self._context.counters, self._context.trace
        stream: int = order["stream"]
        began = time.process_time()
        segment = Segment.from_dict(order["segment"])
        deadline = _Deadline(f"segment {segment.number}", order["deadline_s"])
        self._core.stay(alone=order["threads"] == 1)
        media = self._open(order["path"])
        corrupt = 0
        seen: set[int] = set()
        seen_before = media.stats.decoded
        for branch in self._branches:
            branch.begin(stream, segment.number, order["attempt"])

        def beat() -> None:
            counters.add("items", 1)
            deadline.check(counters.beat())

        pictures = media.read(segment, self._sample, pair=self._pair, threads=order["threads"], beat=beat)
        counters.sample_parts(SAMPLED)
        start = time.monotonic_ns()
        together, counted = 1, 0
        each = trace  # which is told of each frame; None where it is told of turns
        # Of turns that it is not told of yet: their frames, how long they were decoded, and when it was last told.
        turned, decoding_ns, told = 0, 0, start
        while group := self._next(pictures, together, stream, each):
            decoded = time.monotonic_ns()
            fresh = []
            for picture in group:
                if picture.pts not in seen:  # a frame is known by its pts: a second one would be taken for a repeat
                    seen.add(picture.pts)
                    fresh.append(picture)
                    if int(picture.flags) & _CORRUPT:
                        corrupt += 1
            for branch in self._branches:
                branch.put(context, fresh, deadline, each)
            now = time.monotonic_ns()
            if trace is not None:
                if each is None:
                    turned += len(group)
                    # Of what came before a wait the trace has heard, as of work.
                    decoding_ns += decoded - start if context.woke_ns <= start else 0
                slow = now - start > TURN_NS * len(group)
                if turned and (slow or now - told > TURNS_NS):
                    trace.note((_TURN, turned, decoding_ns, now))
                    turned, decoding_ns, told = 0, 0, now
                if now > trace.due_ns:
                    trace.flush(now)
                each = trace if slow else None
            for branch in self._branches:
                branch.hand_on_in_time(now)
            counters.add("frames", len(seen) - counted)
            counted = len(seen)
            counters.observe((now - start) // len(group), len(group))
            start = now
            together = min(self._together, max(GROUP_PIXELS // (group[0].width * group[0].height), 1))
            group.clear()  # before more are decoded
            fresh.clear()
        self.end()
        if trace is not None and turned:
            trace.note((_TURN, turned, decoding_ns, start))
        counters.add("corrupt", corrupt)
        return {
            "taken": {branch.name: branch.taken for branch in self._branches},
            "seen": media.stats.decoded - seen_before,
            "corrupt": corrupt,
            **dataclasses.asdict(segment.weight),
            "cpu_s": time.process_time() - began,
        }


def run(context: Context) -> None:
    """Serve orders until the supervisor says stop."""
    # Before the first file: where the decoder itself cannot be loaded, that must not be laid to files.
    importlib.import_module("vpipe.media.media")
    decoder = _Decoder(context)
    serve = {"identify": decoder.identify, "plan": decoder.plan, "decode": decoder.decode}
    context.ready()
    while True:
        order = context.order()
        if order is None:
            context.wait(BEAT_MS, State.IDLE, Span.WAIT_ORDER)
            continue
        context.counters.beat(State.WORKING)
        about = {"file": order["file"], "job": order["job"]}
        try:
            answer = serve[order["op"]](order)
        except MediaError as error:
            decoder.close()
            decoder.end()
            context.report("media_error", **about, kind=error.kind, message=str(error))
        else:
            context.report(f"{order['op']}_done", **about, **answer)
        finally:
            context.counters.sample_parts(1)
