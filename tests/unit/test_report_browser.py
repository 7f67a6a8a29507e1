"""The report in a real browser, from a file: it plays, steps, sorts and swipes, without an error or a request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chromium import BINARY, Page, browser
from report_material import add_scored_clips, build_report, built_report, make_results

pytestmark = pytest.mark.skipif(BINARY is None, reason="needs Debian's chromium (apt-get install chromium)")
PLAYER = "document.querySelector('#player')"


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture
def page(tab: Page, tmp_path_factory: pytest.TempPathFactory) -> Page:
    report, _ = built_report(tmp_path_factory.getbasetemp() / "report")
    tab.problems.clear()
    tab.requests.clear()
    tab.size(1280, 900)
    tab.call("Page.navigate", url="about:blank")
    tab.open(report.as_uri())
    tab.wait(f"{PLAYER}.dataset.painted === '0' && {PLAYER}.dataset.state === 'paused'")
    return tab


def cursor(page: Page) -> float:
    return float(page.eval("document.querySelector('.chart .cursor').getAttribute('x1')"))


def test_nothing_is_logged_and_nothing_is_requested(page: Page) -> None:
    page.eval("new Promise(done => setTimeout(done, 300))")
    assert page.problems == []
    assert [address for address in page.requests if not address.startswith(("file:", "data:", "blob:", "about:"))] == []


def test_pictures_are_drawn_and_differ(page: Page) -> None:
    read = """['ori', 'rec', 'error'].map(slot => document.querySelector(`.pane[data-slot=${slot}] canvas`))
        .map(canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)
        .map(data => { let sum = 0; for (let i = 0; i < data.length; i += 4) sum += data[i]; return sum })"""
    sums = page.eval(read)
    assert len(set(sums)) == 3
    assert min(sums) > 0


def test_clips_really_play_and_loop_in_step(page: Page) -> None:
    page.eval(f"{PLAYER}.focus({{preventScroll: true}})")
    page.key(" ")
    page.wait(f"{PLAYER}.dataset.state === 'playing' && Number({PLAYER}.dataset.frame) > 3")
    page.wait(f"Number({PLAYER}.dataset.frame) > 12")
    page.wait(f"Number({PLAYER}.dataset.frame) < 6")
    page.key(" ")
    page.wait(f"{PLAYER}.dataset.state === 'paused' && {PLAYER}.dataset.painted === {PLAYER}.dataset.frame")


def test_the_scrubber_moves_pictures_readouts_and_the_linked_cursor(page: Page) -> None:
    before, readout = cursor(page), page.eval("document.querySelector('.chart output').textContent")
    picture = "document.querySelector('.pane[data-slot=ori] canvas').toDataURL()"
    seen = page.eval(picture)
    page.eval("Object.assign(document.querySelector('.scrub'), {value: 10}).dispatchEvent(new Event('input'))")
    page.wait(f"{PLAYER}.dataset.painted === '10'")
    assert cursor(page) > before + 100
    assert page.eval("document.querySelector('.chart output').textContent") != readout
    assert page.eval(picture) != seen


def test_the_keyboard_steps_changes_clip_and_swipes(page: Page) -> None:
    page.eval(f"{PLAYER}.focus()")
    for key, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 19), ("Home", 0)):
        page.key(key)
        page.wait(f"{PLAYER}.dataset.painted === '{frame}'")
    first = page.eval(f"{PLAYER}.dataset.clip")
    page.key("ArrowDown")
    page.wait(f"{PLAYER}.dataset.clip !== '{first}' && {PLAYER}.dataset.state === 'paused'")
    page.key("s")
    page.wait("document.querySelector('.pane[data-slot=swipe] canvas').clientWidth > 300")
    page.key("s")
    page.key("z")
    assert page.eval("document.querySelector('[data-set=zoom]').value") == "2"


def test_a_click_on_a_chart_goes_to_that_frame(page: Page) -> None:
    page.click(".chart[data-metric=ssim] svg")
    page.wait(f"Math.abs(Number({PLAYER}.dataset.painted) - 10) <= 1")


def test_clips_sort_by_any_metric_the_worst_first_and_open_from_the_table(page: Page) -> None:
    column = "[...document.querySelectorAll('#clip-table tbody tr')].map(row => Number(row.cells[4].textContent))"
    page.click("#clip-table th:nth-child(5) button")
    falling = page.eval(column)
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) > 1
    page.click("#clip-table th:nth-child(5) button")
    assert page.eval(column) == falling[::-1]
    name = page.eval("document.querySelector('#clip-table tbody tr:last-child td').textContent")
    page.click("#clip-table tbody tr:last-child button")
    page.wait(f"{PLAYER}.dataset.clip === '{name}' && {PLAYER}.dataset.state === 'paused'")


def test_the_player_orders_its_clips_and_the_keys_follow(page: Page) -> None:
    shown = "[...document.querySelectorAll('.picker .name')].map(name => name.textContent)"
    assert "worst PSNR" in page.eval("document.querySelector('.picker .notes').textContent")
    choose = "Object.assign(document.querySelector('[data-order]'), {value: '%s'}).dispatchEvent(new Event('change'))"
    by_score = page.eval(shown)
    page.eval(choose % "name")
    by_name = page.eval(shown)
    assert by_name == sorted(by_name) != by_score
    page.eval(f"{PLAYER}.focus()")
    place = by_name.index(page.eval(f"{PLAYER}.dataset.clip"))
    page.key("ArrowDown")
    page.wait(
        f"{PLAYER}.dataset.clip === '{by_name[(place + 1) % len(by_name)]}' && {PLAYER}.dataset.state === 'paused'"
    )
    page.eval(choose % "lpips")
    assert page.eval(shown) == by_score


def test_a_thousand_clips_are_shown_in_pages_and_found_by_name(page: Page, tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=6)
    add_scored_clips(tmp_path / "results", 1000)
    text = build_report(config, tmp_path / "results", tmp_path / "report.html")
    assert len(text) < 20e6
    page.problems.clear()
    page.open((tmp_path / "report.html").as_uri())
    page.wait("document.querySelector('#clip-count').textContent === '1002 clips'")
    rows = "document.querySelectorAll('#clip-table tbody tr').length"
    assert page.eval(rows) < 50
    page.click("#clip-more")
    assert 50 < page.eval(rows) < 200
    find = (
        "Object.assign(document.querySelector('#clip-filter'), {value: 'more_0777'}).dispatchEvent(new Event('input'))"
    )
    page.eval(find)
    assert page.eval(rows) == 1
    assert page.problems == []


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_the_page_without_scrolling_sideways(page: Page, tmp_path: Path, dark: bool) -> None:
    page.size(390, 844, dark=dark, phone=True)
    page.wait("window.innerWidth === 390")
    assert page.eval("document.documentElement.scrollWidth") == 390
    background = page.eval("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(",")
    assert (sum(map(int, background)) < 200) == dark
    page.screenshot(tmp_path / "phone.png")
    assert (tmp_path / "phone.png").stat().st_size > 10_000
