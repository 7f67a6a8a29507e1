"""The report in a real browser, from a file: it plays, steps, sorts and swipes, without an error or a request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from chromium import BINARY, browser, new_page, wait, watch
from report_material import add_scored_clips, build_report, built_report, make_results

pytestmark = pytest.mark.skipif(BINARY is None, reason="needs Debian's chromium (apt-get install chromium)")
PLAYER = "document.querySelector('#player')"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    report, _ = built_report(tmp_path_factory.getbasetemp() / "report")
    return report.as_uri()


@pytest.fixture(scope="module")
def tab(chromium: Browser) -> Page:
    return new_page(chromium, 1280, 900)


@pytest.fixture
def page(tab: Page, address: str) -> Page:
    show(tab, address)
    return tab


def show(page: Page, address: str) -> None:
    page.goto("about:blank")
    page.goto(address)
    wait(page, f"{PLAYER}.dataset.painted === '0' && {PLAYER}.dataset.state === 'paused'")


def cursor(page: Page) -> float:
    return float(page.evaluate("document.querySelector('.chart .cursor').getAttribute('x1')"))


def test_nothing_is_logged_and_nothing_is_requested(tab: Page, address: str) -> None:
    seen = watch(tab)
    show(tab, address)
    tab.wait_for_timeout(300)
    assert address in seen.requests
    assert seen.problems == []
    assert seen.from_outside() == []


def test_pictures_are_drawn_and_differ(page: Page) -> None:
    read = """['ori', 'rec', 'error'].map(slot => document.querySelector(`.pane[data-slot=${slot}] canvas`))
        .map(canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)
        .map(data => { let sum = 0; for (let i = 0; i < data.length; i += 4) sum += data[i]; return sum })"""
    sums = page.evaluate(read)
    assert len(set(sums)) == 3
    assert min(sums) > 0


def test_clips_really_play_and_loop_in_step(page: Page) -> None:
    page.evaluate(f"{PLAYER}.focus({{preventScroll: true}})")
    page.keyboard.press(" ")
    wait(page, f"{PLAYER}.dataset.state === 'playing' && Number({PLAYER}.dataset.frame) > 3")
    wait(page, f"Number({PLAYER}.dataset.frame) > 12")
    wait(page, f"Number({PLAYER}.dataset.frame) < 6")
    page.keyboard.press(" ")
    wait(page, f"{PLAYER}.dataset.state === 'paused' && {PLAYER}.dataset.painted === {PLAYER}.dataset.frame")


def test_the_scrubber_moves_pictures_readouts_and_the_linked_cursor(page: Page) -> None:
    before, readout = cursor(page), page.evaluate("document.querySelector('.chart output').textContent")
    picture = "document.querySelector('.pane[data-slot=ori] canvas').toDataURL()"
    seen = page.evaluate(picture)
    page.evaluate("Object.assign(document.querySelector('.scrub'), {value: 10}).dispatchEvent(new Event('input'))")
    wait(page, f"{PLAYER}.dataset.painted === '10'")
    assert cursor(page) > before + 100
    assert page.evaluate("document.querySelector('.chart output').textContent") != readout
    assert page.evaluate(picture) != seen


def test_the_keyboard_steps_changes_clip_and_swipes(page: Page) -> None:
    page.evaluate(f"{PLAYER}.focus()")
    for key, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 19), ("Home", 0)):
        page.keyboard.press(key)
        wait(page, f"{PLAYER}.dataset.painted === '{frame}'")
    first = page.evaluate(f"{PLAYER}.dataset.clip")
    page.keyboard.press("ArrowDown")
    wait(page, f"{PLAYER}.dataset.clip !== '{first}' && {PLAYER}.dataset.state === 'paused'")
    page.keyboard.press("s")
    wait(page, "document.querySelector('.pane[data-slot=swipe] canvas').clientWidth > 300")
    page.keyboard.press("s")
    page.keyboard.press("z")
    assert page.evaluate("document.querySelector('[data-set=zoom]').value") == "2"


def test_a_click_on_a_chart_goes_to_that_frame(page: Page) -> None:
    page.click(".chart[data-metric=ssim] svg")
    wait(page, f"Math.abs(Number({PLAYER}.dataset.painted) - 10) <= 1")


def test_clips_sort_by_any_metric_the_worst_first_and_open_from_the_table(page: Page) -> None:
    column = "[...document.querySelectorAll('#clip-table tbody tr')].map(row => Number(row.cells[4].textContent))"
    page.click("#clip-table th:nth-child(5) button")
    falling = page.evaluate(column)
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) > 1
    page.click("#clip-table th:nth-child(5) button")
    assert page.evaluate(column) == falling[::-1]
    name = page.evaluate("document.querySelector('#clip-table tbody tr:last-child td').textContent")
    page.click("#clip-table tbody tr:last-child button")
    wait(page, f"{PLAYER}.dataset.clip === '{name}' && {PLAYER}.dataset.state === 'paused'")


def test_the_player_orders_its_clips_and_the_keys_follow(page: Page) -> None:
    shown = "[...document.querySelectorAll('.picker .name')].map(name => name.textContent)"
    assert "worst PSNR" in page.evaluate("document.querySelector('.picker .notes').textContent")
    choose = "Object.assign(document.querySelector('[data-order]'), {value: '%s'}).dispatchEvent(new Event('change'))"
    by_score = page.evaluate(shown)
    page.evaluate(choose % "name")
    by_name = page.evaluate(shown)
    assert by_name == sorted(by_name) != by_score
    page.evaluate(f"{PLAYER}.focus()")
    place = by_name.index(page.evaluate(f"{PLAYER}.dataset.clip"))
    page.keyboard.press("ArrowDown")
    wait(
        page,
        f"{PLAYER}.dataset.clip === '{by_name[(place + 1) % len(by_name)]}' && {PLAYER}.dataset.state === 'paused'",
    )
    page.evaluate(choose % "lpips")
    assert page.evaluate(shown) == by_score


def test_a_thousand_clips_are_shown_in_pages_and_found_by_name(page: Page, tmp_path: Path) -> None:
    config = make_results(tmp_path / "results", clips=2, frames=6)
    add_scored_clips(tmp_path / "results", 1000)
    text = build_report(config, tmp_path / "results", tmp_path / "report.html")
    assert len(text) < 20e6
    seen = watch(page)
    page.goto((tmp_path / "report.html").as_uri())
    wait(page, "document.querySelector('#clip-count').textContent === '1002 clips'")
    rows = "document.querySelectorAll('#clip-table tbody tr').length"
    assert page.evaluate(rows) < 50
    page.click("#clip-more")
    assert 50 < page.evaluate(rows) < 200
    find = (
        "Object.assign(document.querySelector('#clip-filter'), {value: 'more_0777'}).dispatchEvent(new Event('input'))"
    )
    page.evaluate(find)
    assert page.evaluate(rows) == 1
    assert seen.problems == []


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_the_page_without_scrolling_sideways(
    chromium: Browser, address: str, tmp_path: Path, dark: bool
) -> None:
    with new_page(chromium, 390, 844, phone=True) as page:
        page.emulate_media(color_scheme="dark" if dark else "light")
        show(page, address)
        assert page.evaluate("window.innerWidth") == 390
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        background = page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(",")
        assert (sum(map(int, background)) < 200) == dark
        page.screenshot(path=tmp_path / "phone.png")
        assert (tmp_path / "phone.png").stat().st_size > 10_000
