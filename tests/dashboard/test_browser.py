"""The dashboard in a browser: quick, shareable by its address, readable on a phone."""

import statistics
import time

import pytest

pytestmark = pytest.mark.browser

OPEN_S = 5.0
REDRAW_S = 0.5
SLACK = 2  # a test machine may be busy with something else; the bars hold on an idle one
PHONE = {"width": 390, "height": 844}
FULL_CHARTS = "document.querySelectorAll('.js-plotly-plot .legend .traces').length >= 6"
SCENARIO_IN_LEGEND = """() => [...document.querySelectorAll('.legendtext')]
  .map(text => text.textContent).filter(text => text.startsWith('This scenario'))[0]"""
# Resolves with the milliseconds from the key press to the frame in which words and chart show it.
REDRAWN_MS = """users => new Promise(resolve => {
  let pressed
  addEventListener('keydown', () => { pressed = performance.now() }, {once: true, capture: true})
  const look = () => {
    const said = document.querySelector('[data-testid=stAlert]')?.textContent ?? ''
    const drawn = [...document.querySelectorAll('.legendtext')].map(text => text.textContent)
    const shown = said.includes(`${users} users see`) && drawn.includes(`This scenario, ${users} users`)
    if (pressed && shown) resolve(performance.now() - pressed)
    else requestAnimationFrame(look)
  }
  look()
})"""


def opened(page, address="/"):
    page.goto(address)
    page.wait_for_selector("[data-testid=stMetricValue]")
    page.wait_for_function(FULL_CHARTS)
    return page


def verdict(page):
    return page.locator("[data-testid=stAlert]").inner_text()


def slider(page, label):
    return page.get_by_role("slider", name=label)


def test_page_is_complete_soon_after_opening(page):
    start = time.monotonic()
    opened(page)
    page.wait_for_selector("[data-testid=stCode]")
    seconds = time.monotonic() - start
    print(f"complete after {seconds:.2f} s")
    assert seconds < OPEN_S * SLACK
    assert page.locator("h1").all_inner_texts() == ["Plan"]
    assert "Fits on 4" in verdict(page)


def test_slider_redraws_at_once(page):
    opened(page)
    slider(page, "Users at once").focus()
    milliseconds = []
    for users, key in ((32, "ArrowLeft"), (16, "ArrowLeft"), (32, "ArrowRight"), (64, "ArrowRight")) * 3:
        page.evaluate(f"users => {{ window.redrawn = ({REDRAWN_MS})(users) }}", users)
        page.keyboard.press(key)
        milliseconds.append(page.evaluate("window.redrawn"))
    median = statistics.median(milliseconds) / 1000
    print(f"redrawn after {median:.2f} s, at most {max(milliseconds) / 1000:.2f} s")
    assert median < REDRAW_S * SLACK


def test_copied_address_reproduces_the_scenario(page, chromium, app_url):
    opened(page)
    slider(page, "Users at once").press("ArrowLeft")
    page.wait_for_function("document.querySelector('[data-testid=stAlert]').textContent.includes('32 users')")
    page.get_by_role("radio", name="8", exact=True).click()
    page.wait_for_function("document.querySelector('[data-testid=stAlert]').textContent.includes('8 × ')")
    assert "users=32" in page.url
    assert "tp=8" in page.url
    other = chromium.new_context(base_url=app_url).new_page()
    opened(other, page.url)
    assert verdict(other) == verdict(page)
    assert other.evaluate(SCENARIO_IN_LEGEND) == "This scenario, 32 users"
    other.context.close()


@pytest.mark.parametrize("query", ["tp=abc", "tp=3&users=-4&gpu=none&output=1e999"])
def test_bad_address_falls_back_and_is_cleaned(page, query):
    opened(page, f"/?{query}")
    assert "Fits on 4" in verdict(page)
    page.wait_for_function("!location.search")
    assert page.locator("[data-testid=stException]").count() == 0


def test_reset_clears_the_address(page):
    opened(page, "/?users=32&tp=8")
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("!location.search")
    page.wait_for_function("document.querySelector('[data-testid=stAlert]').textContent.includes('64 users')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_keep_their_colours(page, scheme):
    page.emulate_media(color_scheme=scheme)
    opened(page)
    fills = page.eval_on_selector_all(
        ".legend .legendbar path, .legend .legendundefined path, .legend .legendsymbols path",
        "paths => paths.map(path => getComputedStyle(path).fill)",
    )
    for colour in ("rgb(0, 114, 178)", "rgb(230, 159, 0)", "rgb(0, 158, 115)", "rgb(213, 94, 0)"):
        assert colour in fills


def test_explanation_opens_with_formula_and_sources(page):
    opened(page)
    page.get_by_role("button", name="Explain").nth(2).click()
    page.wait_for_selector("[data-testid=stPopoverBody] .katex")
    body = page.locator("[data-testid=stPopoverBody]")
    assert body.locator("table").count() >= 1
    assert body.locator("a[href^=http]").count() >= 1


@pytest.mark.parametrize("query", ["", "?tp=1", "?tp=2"])
def test_phone_needs_no_sideways_scrolling(page, query):
    page.set_viewport_size(PHONE)
    page.goto(f"/{query}")
    page.wait_for_selector("[data-testid=stExpander]")
    page.wait_for_timeout(1000)
    widths = page.evaluate(
        "[document.documentElement, document.querySelector('[data-testid=stMain]')].map(e => e.scrollWidth)"
    )
    assert max(widths) <= PHONE["width"]


def test_every_input_and_chart_has_a_name(page):
    opened(page)
    for role in ("slider", "spinbutton", "combobox", "textbox"):
        for control in page.get_by_role(role).all():
            assert control.evaluate(
                "e => e.ariaLabel || e.labels?.[0]?.textContent || e.getAttribute('aria-labelledby')"
            )
    assert page.locator("[role=figure][aria-label]").count() == 2
