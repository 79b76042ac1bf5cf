"""The site in a real Chromium, on a screen and on a phone: every page opens, and nothing is cut off."""

import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("selenium")
from app.test_in_a_browser import browser, pytestmark  # noqa: E402, F401  a fixture, and when it is skipped

HTML = Path(__file__).parent.parent / "docs/site/_build/html"
PAGES = sorted(path.relative_to(HTML).as_posix() for path in HTML.glob("*.html"))
if not PAGES:
    pytest.skip("the site is not built: python docs/site/build.py", allow_module_level=True)
PAGES += ["source/index.html", "source/tinyseg/ops/conv.py.html", "logs/squares.txt.html"]


@pytest.fixture(scope="module")
def address():
    """Where the site is served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=os.fspath(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole(page, width, browser, address):  # noqa: F811
    mobile = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", mobile)
    browser.get_log("browser")  # of the page before
    browser.get(f"{address}/{page}")
    overflow = browser.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0
    broken = browser.execute_script(
        "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    )
    assert broken == []
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [message for message in severe if "favicon" not in message] == []


def test_formulas_are_drawn(browser, address):  # noqa: F811
    browser.get(f"{address}/api.html")
    wide = browser.execute_script("return [...document.querySelectorAll('math')].map(m => m.clientWidth)")
    assert len(wide) >= 10 and min(wide) > 20


def test_a_formula_that_is_too_wide_for_a_phone_scrolls(browser, address):  # noqa: F811
    phone = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(f"{address}/api.html")
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.formula')].map(f => [f.scrollWidth, f.clientWidth])"
    )
    assert widths and all(inside <= 390 for _, inside in widths)
    assert max(whole for whole, _ in widths) > 390  # it is there to be scrolled to


def test_the_threshold_of_the_tour_moves_the_mask(browser, address):  # noqa: F811
    browser.get(f"{address}/tour.html")
    frame = browser.execute_script(
        "return [...document.querySelectorAll('iframe')].find(f => f.srcdoc.includes('threshold'))"
    )
    frame.location_once_scrolled_into_view  # noqa: B018  selenium scrolls when it is read
    browser.switch_to.frame(frame)
    results = []
    for place in (0, 50, 100):
        results.append(
            browser.execute_script(
                "const s = document.getElementById('threshold'); s.value = arguments[0];"
                "s.dispatchEvent(new Event('input')); return document.getElementById('result').textContent",
                place,
            )
        )
    browser.switch_to.default_content()
    assert len(set(results)) == 3 and all("of all pixels found" in result for result in results)
