"""The report of `vpipe score`, looked at in a real browser: it shows what the rows and frames say, and nothing else."""

import base64
import html
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.browser import Browser, require_browser
from tests.products.videos import columns_of, failed, video_of
from vpipe.errors import ResourceError
from vpipe.task import Columns
from vpipe_score.report import write_report
from vpipe_score.results import VideoScore

HOSTILE = (
    "in/</script><script>document.title='owned'</script>.mp4",
    "in/\"><img src=x onerror=document.title='owned'>.mp4",
    "in/two\nlines.mp4",
    "in/caf\udce9.mkv",
    "in/\u202egpj.exe",
    "in/<!--<script>",
)
RUN = {
    "started": "2026-11-22 18:04:31",
    "seconds": 12.5,
    "files": 11,
    "frames_decoded": 4321,
    "frames_scored": 987,
    "fps": 79.0,
    "host": {"cpu": "A Processor", "cores": 2},
    "versions": {"vpipe": "0.1.0", "av": "18.1.0"},
    "stages": {
        "decode": {"workers": 2, "busy": 0.91, "wait": 0.09},
        "infer": {"workers": 1, "busy": 0.4, "wait": 0.6},
    },
}


def known_videos() -> tuple[list[VideoScore], dict[str, Columns]]:
    """Eleven inputs whose every number is known: scores 20 to 90, two failures, six hostile names."""
    frames = {
        "in/dip.mp4": columns_of(
            [80.0] * 20 + [12.0, 14.0] + [80.0] * 18, frozen=np.arange(40) // 4 == 7, black=np.arange(40) < 2
        ),
        "in/plain.mp4": columns_of([90.0] * 10),
        "in/long.mp4": columns_of([*[70.0] * 2500, 3.0, *[70.0] * 2499]),
        **{name: columns_of([20.0 + 10 * i] * 6) for i, name in enumerate(HOSTILE)},
    }
    rows = [video_of(path, columns) for path, columns in frames.items()]
    rows.insert(1, failed("in/empty.mp4", "empty", "The file has no bytes."))
    rows.insert(4, failed("in/<b>notes.mp4", "not_media", "This is text & no video: <plaintext>."))
    return rows, frames


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows, frames = known_videos()
    return write_report(tmp_path_factory.mktemp("report"), rows, lambda row: frames.get(row.path), RUN)


@pytest.fixture(scope="module")
def one_browser() -> Iterator[Browser]:
    require_browser()
    with Browser(1600, 1000) as started:
        yield started


@pytest.fixture
def window(one_browser: Browser) -> Iterator[Browser]:
    """An empty window; whatever page a test opens in it must complain of nothing and ask the network for nothing."""
    one_browser.show(1600, 1000)
    one_browser.complaints.clear()
    one_browser.requests.clear()
    yield one_browser
    assert one_browser.complaints == []
    assert [url for url in one_browser.requests if not url.startswith(("file:", "data:image/jpeg", "about:"))] == []
    assert one_browser.evaluate("document.title").startswith("vpipe score: ")


@pytest.fixture
def browser(window: Browser, report: Path) -> Browser:
    """A window with the report of the known videos open."""
    window.open(report)
    return window


def text_of(browser: Browser, selector: str) -> list[str]:
    """The text of every element that matches, as it is drawn, white space joined."""
    found = browser.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)")
    return [" ".join(text.split()) for text in found]


def open_panel(browser: Browser, name: str) -> None:
    """Click the row of a video and wait until its panel is there."""
    browser.evaluate(
        "for (const row of document.querySelectorAll('#videos tbody tr'))"
        f" row.id = row.querySelector('a').textContent === {json.dumps(name)} ? 'wanted' : ''"
    )
    browser.click("#wanted td:nth-child(2)")
    browser.wait_for(f"document.querySelector('#panel-name')?.textContent === {json.dumps(name)}")
    browser.wait_for("!document.querySelector('.chart') || document.querySelector('.chart svg')")


def test_headline_tells_videos_median_failures_and_throughput(browser: Browser) -> None:
    videos, middle, lowest, throughput = text_of(browser, ".tile")
    assert videos == "Videos 11 9 scored 2 failed"
    assert middle == "Median score 60.0 from 20.0 to 90.0, of 100"
    assert lowest == "Lowest score 20.0 Bad script>.mp4"
    assert throughput.startswith("Throughput 79 frames/s 12.5 s")


def test_distribution_counts_every_scored_video_under_its_grade(browser: Browser) -> None:
    legend = text_of(browser, "#histogram .legend li")
    assert legend == ["Excellent 1 from 90", "Good 2 from 70", "Fair 3 from 50", "Poor 2 from 30", "Bad 1"]
    drawn = browser.evaluate("[...document.querySelectorAll('#histogram rect')].map((e) => e.getAttribute('class'))")
    assert {name: drawn.count(f"fill {name}") for name in ("excellent", "good", "fair", "poor", "bad")} == {
        "excellent": 1,
        "good": 2,
        "fair": 3,
        "poor": 2,
        "bad": 1,
    }  # no two of the nine lie in one bin


def test_table_has_a_row_per_input_lowest_score_first_and_failures_last(browser: Browser) -> None:
    scores = text_of(browser, "#videos tbody .c-score b")
    assert scores == ["20.0", "30.0", "40.0", "50.0", "60.0", "70.0", "70.0", "76.7", "90.0"]
    rows = text_of(browser, "#videos tbody tr")
    assert len(rows) == 11
    assert all("Failed" in row for row in rows[-2:])
    assert text_of(browser, "#count") == ["11 videos"]


@pytest.mark.parametrize("column", ["Video", "Score", "Worst", "Length", "Size", "Grade", "Main fault"])
def test_click_on_a_heading_sorts_by_it_and_a_second_click_turns_the_order(browser: Browser, column: str) -> None:
    heads = text_of(browser, "#videos thead th")
    place = heads.index(column) + 1
    before = browser.evaluate("document.querySelector('[aria-sort]').textContent")
    browser.click(f"#videos thead th:nth-child({place}) button")
    way = "descending" if before == column else "ascending"
    assert browser.evaluate(f"document.querySelector('th:nth-child({place})').ariaSort") == way
    up = text_of(browser, f"#videos tbody tr:not(.failed) > :nth-child({place})")
    browser.click(f"#videos thead th:nth-child({place}) button")
    down = text_of(browser, f"#videos tbody tr:not(.failed) > :nth-child({place})")
    assert browser.evaluate("document.querySelectorAll('[aria-sort]').length") == 1
    if column in ("Score", "Worst"):
        numbers = [float(text) for text in up]
        assert numbers == sorted(numbers, reverse=way == "descending")
    assert sorted(up) == sorted(down)
    if len(set(up)) > 1:
        assert up != down
    if column != "Video":
        assert all("Failed" in row for row in text_of(browser, "#videos tbody tr")[-2:])


def test_text_grade_and_fault_filters_show_only_what_fits(browser: Browser) -> None:
    browser.click("#search")
    browser.write("DIP")
    assert text_of(browser, "#videos tbody a") == ["dip.mp4"]
    assert text_of(browser, "#count") == ["1 of 11 videos"]
    browser.write(" nowhere")
    assert text_of(browser, "#videos tbody tr") == ["No video fits the filter."]
    browser.click("#show-failed")
    assert text_of(browser, "#videos tbody a") == ["<b>notes.mp4", "empty.mp4"]
    browser.click("[data-grade=good]")
    assert text_of(browser, "#videos tbody a") == ["<!--<script>", "dip.mp4"]
    browser.click("[data-grade='']")
    assert len(text_of(browser, "#videos tbody a")) == 11
    browser.click("#faults button")  # the most frequent fault: all scored videos have it
    assert len(text_of(browser, "#videos tbody a")) == 9
    assert browser.evaluate("document.querySelector('#fault').value") == "compression"


def test_failed_rows_show_kind_and_message_as_text(browser: Browser) -> None:
    last = text_of(browser, "#videos tr.failed .why")
    assert last == ["Failed not_media This is text & no video: <plaintext>.", "Failed empty The file has no bytes."]
    open_panel(browser, "<b>notes.mp4")
    assert text_of(browser, "#panel .alert") == ["not_media This is text & no video: <plaintext>."]


def test_panel_marks_the_worst_second_and_the_spans_where_they_are(browser: Browser) -> None:
    open_panel(browser, "dip.mp4")
    assert text_of(browser, "#panel .figure")[:2] == ["Score 76.7 Good", "Worst second 12.0 at 0:10.0"]
    mark, span, low = browser.evaluate(
        "['#worst-mark text', '.span.frozen', '#worst-mark circle'].map((s) => document.querySelector('#panel ' + s))"
        ".map((e) => e.textContent || e.getAttribute('cy'))"
    )
    assert mark == "worst second 0:10.0: 12.0"
    assert span == "frozen 0:14.0 to 0:16.0"
    assert float(low) == pytest.approx(26 + 190 * 0.88)  # 12 of 100 on the chart's axis
    assert [text for text in text_of(browser, "#panel .legend li") if "Score" not in text] == [
        "Black 1.00 s",
        "Frozen 2.00 s",
    ]
    worst = text_of(browser, "#panel .moments li")
    assert worst[0] == "0:10.5 14.0"
    assert len(worst) == 6
    browser.wait_for("[...document.querySelectorAll('.moments img')].every((i) => i.complete)")
    assert browser.evaluate("[...document.querySelectorAll('.moments img')].every((i) => i.naturalWidth === 160)")
    assert text_of(browser, "#panel .bars li") == ["Compression 80 %", "Blurred 40 %", "Noisy 27 %"]
    facts = " ".join(text_of(browser, "#panel .facts div"))
    for fact in ("Length 20.0 s", "1920\u00d71080", "h264", "1.2 MB", "40 scored of 160, 2 damaged", "vpipe-score 1"):
        assert fact in facts
    assert "Frozen 10 % of the time" in facts


def test_pointer_and_arrow_keys_read_time_and_value(browser: Browser) -> None:
    open_panel(browser, "dip.mp4")
    browser.evaluate("document.querySelector('.chart').focus()")
    browser.press("End")
    assert text_of(browser, ".tip") == ["0:19.5 score 80.0 compression 80 %"]
    browser.press("Home")
    browser.press("ArrowRight")
    assert text_of(browser, ".tip") == ["0:00.5 score 80.0 black compression 80 %"]
    assert browser.evaluate("document.querySelector('.chart').getAttribute('aria-valuetext')") == (
        "0:00.5, score 80.0, black, compression 80 %"
    )
    x0, x1 = 104, browser.box(".chart")[2] - 14  # the plot's left and right edges
    browser.hover(".chart", (x0 + (x1 - x0) * 10.2 / 20) / (x1 + 14))
    assert text_of(browser, ".tip")[0].startswith("0:10.0 score 12.0")


def test_long_video_is_thinned_says_so_and_keeps_its_one_bad_frame(browser: Browser) -> None:
    open_panel(browser, "long.mp4")
    assert "5,000 frames drawn as 600 points: the line is their mean, the shade goes down to their lowest." in text_of(
        browser, "#panel .legend li"
    )
    browser.click("#close")
    browser.wait_for("!document.querySelector('#panel').open")


def test_panel_opens_from_its_link_moves_on_and_closes_on_escape(browser: Browser, report: Path) -> None:
    link = browser.evaluate("document.querySelector('#videos tbody tr:nth-child(8) a').getAttribute('href')")
    browser.open(report, fragment=link.removeprefix("#"))
    assert text_of(browser, "#panel-name") == ["dip.mp4"]
    browser.click("#panel nav button:nth-child(2)")
    browser.wait_for("document.querySelector('#panel-name').textContent === 'plain.mp4'")
    browser.press("Escape")
    browser.wait_for("!document.querySelector('#panel').open && !location.hash")
    browser.open(report, fragment="v=nothing-here")
    assert browser.evaluate("document.querySelector('#panel').open") is False


def test_keyboard_alone_opens_and_closes_a_video(browser: Browser) -> None:
    browser.evaluate("document.querySelector('#videos tbody a').focus()")
    browser.press("Enter")
    browser.wait_for("document.querySelector('#panel').open")
    browser.press("Tab")
    assert browser.evaluate("document.querySelector('#panel').contains(document.activeElement)")
    browser.press("Escape")
    browser.wait_for("!document.querySelector('#panel').open")
    assert browser.evaluate("document.activeElement.matches('#videos tbody a')")


def test_hostile_names_are_shown_as_text_and_change_nothing(browser: Browser) -> None:
    names = text_of(browser, "#videos tbody a")
    for shown in ("script>.mp4", "two\u240alines.mp4", "caf\ufffd.mkv", "\ufffdgpj.exe", "<!--<script>"):
        assert shown in names
    assert browser.evaluate("document.querySelectorAll('#videos img, main script').length") == 0
    for name in names:
        if name.startswith('"'):
            open_panel(browser, name)
            assert text_of(browser, "#panel .path")[0] == HOSTILE[1]
    assert browser.evaluate("document.title") == "vpipe score: 11 videos, median 60.0, 2 failed"


def test_page_would_refuse_to_run_or_fetch_anything_else(one_browser: Browser, report: Path) -> None:
    one_browser.open(report)
    one_browser.complaints.clear()
    one_browser.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'document.title = \"owned\"';"
        " document.body.append(s); const i = new Image();"
        " const refused = new Promise((done) => (i.onerror = () => done()));"
        " i.src = 'https://example.invalid/x.png';"
        " return fetch('https://example.invalid/').catch(() => refused); })()"
    )
    assert one_browser.evaluate("document.title") != "owned"
    assert len([text for text in one_browser.complaints if "Content Security Policy" in text]) >= 3


def test_run_section_shows_the_share_of_each_stage(browser: Browser) -> None:
    assert text_of(browser, "#stages li") == [
        "Decode \u00d7 2 91 % busy, 9 % waiting",
        "Infer \u00d7 1 40 % busy, 60 % waiting",
    ]
    widths = browser.evaluate("[...document.querySelectorAll('#stages .busy')].map((bar) => bar.style.width)")
    assert widths == ["91%", "40%"]
    facts = " ".join(text_of(browser, "#run-facts div"))
    for fact in ("Took 12.5 s", "Frames decoded 4,321", "Frames scored 987", "A Processor", "vpipe 0.1.0, av 18.1.0"):
        assert fact in facts


@pytest.mark.parametrize(("width", "dark"), [(360, False), (768, True), (1280, False), (1600, True)])
def test_page_fits_its_window_and_its_text_stands_out(browser: Browser, width: int, dark: bool) -> None:
    browser.show(width, 900, dark=dark)
    open_panel(browser, "dip.mp4")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelector('#panel').scrollWidth") <= width
    contrasts = browser.evaluate(
        """(() => {
          const light = (rgb) => rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const rgb = (text) => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
          const ground = light(rgb(getComputedStyle(document.querySelector('.card')).backgroundColor));
          return ['.muted', '.label', 'a', '.bad-ink', 'th', '.folder', '.bars .note'].map((selector) => {
            const ink = light(rgb(getComputedStyle(document.querySelector(selector)).color));
            return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
          });
        })()"""
    )
    assert min(contrasts) >= 4.5


def test_print_shows_every_row_on_white_without_controls(browser: Browser) -> None:
    browser.show(794, 1123, dark=True, media="print")
    assert browser.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("getComputedStyle(document.querySelector('#search')).display") == "none"
    pdf = base64.b64decode(browser.call("Page.printToPDF")["data"])
    assert pdf.startswith(b"%PDF")


def test_thousands_of_rows_come_a_page_at_a_time_and_print_all(window: Browser, tmp_path: Path) -> None:
    frames = columns_of([60.0] * 4)
    rows = [video_of(f"in/{number:04}.mp4", frames) for number in range(1234)]
    window.open(write_report(tmp_path, rows, lambda row: frames, {}))
    assert len(text_of(window, "#videos tbody tr")) == 50
    assert text_of(window, "#where") == ["Page 1 of 25"]
    window.click("#later")
    assert text_of(window, "#videos tbody a")[0] == "0050.mp4"
    window.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert window.evaluate("document.querySelectorAll('#videos tbody tr').length") == 1234
    window.evaluate("dispatchEvent(new Event('afterprint'))")
    assert text_of(window, "#videos tbody a")[0] == "0050.mp4"


@pytest.mark.parametrize(
    "rows", [[], [failed("x.mp4", "empty", "No bytes.")], [video_of("y.mp4", columns_of([50.0]))]], ids=len
)
def test_page_of_nothing_or_of_one_still_opens(window: Browser, tmp_path: Path, rows: list[VideoScore]) -> None:
    window.open(write_report(tmp_path, rows, lambda row: None, {}))
    assert window.evaluate("document.documentElement.dataset.ready") == ""


def test_throughput_says_so_where_nothing_was_left_to_do(window: Browser, tmp_path: Path) -> None:
    columns = columns_of([50.0])
    window.open(write_report(tmp_path, [video_of("a.mp4", columns)], lambda row: columns, {"files": 0, "fps": 0.0}))
    videos, *_, throughput = text_of(window, ".tile")
    assert videos == "Videos 1 1 scored none failed"
    assert throughput == "Throughput \u2013 all results were there already"


def test_video_without_frames_says_so_and_one_frame_is_drawn(window: Browser, tmp_path: Path) -> None:
    columns = columns_of([50.0])
    rows = [video_of("none.mp4", columns), video_of("one.mp4", columns)]
    page = write_report(tmp_path, rows, lambda row: columns if row.path == "one.mp4" else None, {})
    window.open(page)
    open_panel(window, "none.mp4")
    assert "No frames of this video were kept." in text_of(window, "#panel .muted")
    window.press("Escape")
    window.wait_for("!document.querySelector('#panel').open")
    open_panel(window, "one.mp4")
    assert window.evaluate("document.querySelectorAll('#panel .point').length") == 1


def test_video_asked_for_while_another_panel_is_closing_is_shown(browser: Browser) -> None:
    rows = "[...document.querySelectorAll('#videos tr[data-id]')].slice(0, 2)"
    first, second = browser.evaluate(f"{rows}.map((row) => row.dataset.id)")
    shown = "document.querySelector('#panel').open && location.hash"
    browser.evaluate(f"location.hash = 'v={first}'")
    browser.wait_for(f"({shown}) === '#v={first}'")
    # `close` is told to listeners a moment later; the next address is there by then.
    browser.evaluate(f"document.querySelector('#panel').close(); location.hash = 'v={second}'")
    browser.wait_for(f"({shown}) === '#v={second}'")
    time.sleep(0.2)  # long enough for a late `close` to do its harm
    assert browser.evaluate(shown) == f"#v={second}"


def test_page_names_no_address_outside_itself(report: Path) -> None:
    text = report.read_text("utf-8")
    addresses = set(re.findall(r"(?:https?|ftp|wss?):?//[^\s\"'<]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of SVG's elements, never fetched
    assert "default-src 'none'" in html.unescape(text)


def test_page_is_complete_or_absent(tmp_path: Path) -> None:
    rows, frames = known_videos()

    def breaks(row: VideoScore) -> Columns | None:
        if row.path == "in/long.mp4":
            raise RuntimeError("the ledger is gone")
        return frames[row.path]

    with pytest.raises(RuntimeError, match="the ledger is gone"):
        write_report(tmp_path, rows, breaks, RUN)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ResourceError):
        write_report(tmp_path / "missing", rows, lambda row: None, RUN)


def test_three_hundred_videos_stay_within_a_few_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = columns_of(rng.uniform(0, 100, 1500).tolist())
    frames["fault_noisy"] = rng.uniform(0, 1, 1500).astype(np.float32)
    rows = [video_of(f"in/{number:04}.mp4", frames) for number in range(300)]
    page = write_report(tmp_path, rows, lambda row: frames, RUN)
    assert page.stat().st_size < 6e6
