"""What the report shows of the model's own doubt, in a real browser."""

from dataclasses import replace
from pathlib import Path

from tests.browser import Browser, require_browser
from tests.products.videos import columns_of, video_of
from vpipe_score.report import write_report


def test_panel_shows_the_bounds_and_warns_of_what_is_out_of_scope(tmp_path: Path) -> None:
    require_browser()
    columns = columns_of([70.0] * 6)
    sure = replace(video_of("sure.mp4", columns), score_low=62.5, score_high=75.25, novelty=0.4, out_of_scope=False)
    strange = replace(video_of("strange.mp4", columns), score_low=20.0, score_high=99.0, novelty=3.0, out_of_scope=True)
    silent = video_of("silent.mp4", columns)
    page = write_report(tmp_path, [sure, strange, silent], lambda _: columns, {})
    with Browser(1600, 1000) as browser:
        browser.open(page)
        told = {}
        for name in ("sure.mp4", "strange.mp4", "silent.mp4"):
            browser.evaluate(
                "location.hash = [...document.querySelectorAll('#videos a')]"
                f".find((link) => link.textContent === '{name}').getAttribute('href')"
            )
            browser.wait_for(f"document.querySelector('#panel-name')?.textContent === '{name}'")
            told[name] = browser.evaluate("document.querySelector('#panel').innerText")
    assert "62.5 \u2013 75.3" in told["sure.mp4"] or "62.5 \u2013 75.2" in told["sure.mp4"]
    assert "unlike" not in told["sure.mp4"]
    assert "20.0 \u2013 99.0" in told["strange.mp4"]
    assert "unlike all that the model learned from" in told["strange.mp4"]
    assert "of 10 videos" not in told["silent.mp4"]
