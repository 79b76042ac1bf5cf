"""The page of a run in a real Chromium: what the slider does, by keyboard too, against NumPy."""

import json
import re
import shutil

import numpy as np
import pytest
from app.small_run import train_small
from scipy.ndimage import binary_erosion

from tinyseg.app.drawing import draw
from tinyseg.app.report import Shown, page, section, slider, write_report
from tinyseg.io.pictures import PREDICTION, TRUTH, overlay
from tinyseg.metrics import confusion_matrix

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402  only where there is selenium
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

DRIVER = shutil.which("chromedriver")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(
    not (DRIVER and BROWSER), reason="Chromium and chromedriver are not installed"
)
QUIET = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*QUIET, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small run with its page."""
    small = train_small(tmp_path_factory.mktemp("run"), "modified", "--images", "40", "--epochs", "6")
    draw(small.run, small.p, small.data, small.metrics, small.history, small.frames, 1)
    names, subjects = small.data.held_out.names, small.data.held_out.subjects
    rows = [{"name": name, "subject": subject, "dice": 0.5} for name, subject in zip(names, subjects)]
    values = small.run, small.p, small.data, small.metrics, small.history
    write_report(
        *values, title="A run", command="tinyseg train " + "--flag " * 40, found="word " * 60, rows=rows
    )
    return small


@pytest.fixture
def opened(browser, small):
    """The browser with the page of the small run, just opened."""
    browser.get_log("browser"), browser.get_log("performance")  # of earlier pages
    browser.get((small.run.folder / "report.html").as_uri())
    return browser


def at(browser, name):
    return browser.find_element(By.ID, name)


def threshold_of(browser, p, *marks):
    """Where the slider stands, as a threshold: it goes from the lowest to the highest of all of these."""
    low, high = min(p.min(), *marks), max(p.max(), *marks)
    return float(low) + float(at(browser, "threshold").get_attribute("value")) * float(high - low) / 100


def said(browser):
    """(threshold, Dice, share found, share there) that the page says."""
    return [float(number) for number in re.findall(r"\d+\.\d+", at(browser, "result").text)]


def expected(small, threshold):
    """The same by NumPy."""
    found, truth = small.p[:, 0].astype(float) > threshold, small.data.held_out.labels
    return [threshold, confusion_matrix(found, truth).dice, 100 * found.mean(), 100 * truth.mean()]


def pixels(browser, number):
    """What a canvas shows, (H, W, 3)."""
    script = """const canvas = document.querySelectorAll("canvas")[arguments[0]];
        const {data, width, height} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [height, width, Array.from(data)];"""
    height, width, data = browser.execute_script(script, number)
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]  # (H * W * 4,) -> (H, W, 4)


def outlined(picture, truth):
    """The picture with the truth's edge in its colour."""
    inside = truth == 1
    picture[inside & ~binary_erosion(inside)] = TRUTH
    return picture


def test_at_first_the_slider_stands_at_one_half(opened, small):
    np.testing.assert_allclose(said(opened), expected(small, 0.5), atol=0.0501)
    assert abs(said(opened)[1] - small.metrics["dice"]) <= 5.01e-4


def test_the_mark_of_the_best_threshold_is_exact(opened, small):
    opened.find_elements(By.CSS_SELECTOR, "button")[1].click()
    threshold, dice, *_ = said(opened)
    assert abs(threshold - small.metrics["best_threshold"]) <= 5.01e-4
    assert abs(dice - small.metrics["best_threshold_dice"]) <= 5.01e-4 and dice > 0
    for k, (image, p, truth) in enumerate(
        zip(small.data.held_out.images[:, 0], small.p[:, 0], small.data.held_out.labels)
    ):
        picture = overlay(image, p > np.float32(small.metrics["best_threshold"]), PREDICTION)
        np.testing.assert_allclose(pixels(opened, k), outlined(picture, truth).astype(int), atol=1)


@pytest.mark.parametrize(
    "presses", [(Keys.HOME,), (Keys.PAGE_DOWN,), (Keys.ARROW_LEFT,) * 3, (Keys.HOME, *[Keys.ARROW_RIGHT] * 9)]
)
def test_keys_move_the_mask_and_its_dice(opened, small, presses):
    before = at(opened, "threshold").get_attribute("value")
    at(opened, "threshold").send_keys(*presses)
    threshold = threshold_of(opened, small.p, 0.5, small.metrics["best_threshold"])
    one, two, three, four = expected(small, threshold)
    np.testing.assert_allclose(said(opened)[:2], [one, two], atol=5.01e-4)
    np.testing.assert_allclose(said(opened)[2:], [three, four], atol=0.0501)
    assert at(opened, "threshold").get_attribute("aria-valuetext") == f"{said(opened)[0]:.3f}"
    assert at(opened, "threshold").get_attribute("value") != before
    image, p, truth = (
        array[0] for array in (small.data.held_out.images[:, 0], small.p[:, 0], small.data.held_out.labels)
    )
    picture = outlined(overlay(image, p.astype(float) > threshold, PREDICTION), truth)
    np.testing.assert_allclose(pixels(opened, 0), picture.astype(int), atol=1)


def test_below_each_image_stands_its_own_dice(opened, small):
    at(opened, "threshold").send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 5)
    threshold = threshold_of(opened, small.p, 0.5, small.metrics["best_threshold"])
    captions = [one.text.split("\n") for one in opened.find_elements(By.CSS_SELECTOR, ".images figcaption")]
    assert [name for name, _ in captions] == list(small.data.held_out.names)
    for (_, words), p, truth in zip(captions, small.p[:, 0], small.data.held_out.labels):
        found = p.astype(float) > threshold
        if truth.any():
            assert abs(float(words.removeprefix("Dice ")) - confusion_matrix(found, truth).dice) <= 5.01e-4
        elif found.any():
            share = float(re.fullmatch(r"nothing there, ([\d.]+)% found", words)[1])
            assert abs(share - 100 * found.mean()) <= 0.0501
        else:
            assert words == "nothing there or found"


def test_probabilities_can_stand_in_place_of_the_images(opened, small):
    at(opened, "behind").send_keys(Keys.SPACE)
    ends = [small.p.min(), small.p.max(), 0.5, small.metrics["best_threshold"]]
    level = 255 * (small.p[0, 0].astype(float) - min(ends)) / (max(ends) - min(ends))
    truth = small.data.held_out.labels[0]
    untouched = (small.p[0, 0] <= 0.5) & ~(truth == 1)
    assert untouched.mean() > 0.5
    np.testing.assert_allclose(
        pixels(opened, 0)[untouched], np.repeat(level[untouched][:, None], 3, 1), atol=1
    )


def test_nothing_is_asked_of_a_network_and_nothing_goes_wrong(opened):
    at(opened, "threshold").send_keys(Keys.ARROW_LEFT)
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [
        one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.startswith("file:") for url in asked)
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert opened.get_log("browser") == []


def test_what_has_a_function_has_a_name_for_a_screen_reader(opened):
    assert at(opened, "threshold").accessible_name == "Threshold"
    assert at(opened, "behind").accessible_name == "probabilities in place of the images"
    for tag in ("canvas", "img", "button", "figure > svg", ".scroll"):
        named = opened.find_elements(By.CSS_SELECTOR, tag)
        assert named and all(one.accessible_name for one in named if one.is_displayed()), tag


@pytest.mark.parametrize("width", [320, 400, 1200])
def test_the_page_does_not_scroll_sideways(opened, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened.refresh()
        opened.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
        wide, seen = opened.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide <= seen <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_name_that_looks_like_a_script_is_a_name(browser, tmp_path):
    evil = (
        "</script><script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">"
    )
    p = np.float32([[0.25, 0.75], [0.5, 1.0]])
    images = [Shown(evil, p, p), Shown("wide", np.zeros((1, 3)), np.float32([[0, 0.5, 1]]))]
    content = page("good", [section(evil, slider(images, {evil: 0.5}))])
    (tmp_path / "page.html").write_text(content, encoding="utf-8")
    browser.get_log("browser")
    browser.get((tmp_path / "page.html").as_uri())
    assert browser.title == "good" and browser.get_log("browser") == []
    assert at(browser, "result").text == "threshold 0.500: 42.9% of all pixels found"  # no truth, no Dice
    assert browser.find_element(By.TAG_NAME, "figcaption").text == f"{evil}\n50.0% found"


@pytest.mark.parametrize("found", [0.25, 0.75], ids=["nothing found", "something found"])
def test_where_nothing_is_there_in_any_image_the_page_claims_no_dice(browser, tmp_path, found):
    p = np.full((4, 6), found, np.float32)
    images = [Shown(name, p, p, np.zeros((4, 6), np.uint8)) for name in ("a", "b")]
    (tmp_path / "page.html").write_text(page("t", [section("s", slider(images, {"half": 0.5}))]))
    browser.get((tmp_path / "page.html").as_uri())
    share = 100 * (found > 0.5)
    words = f"threshold 0.500: no Dice; {share:.1f}% of all pixels found; the truth has 0.0%"
    assert at(browser, "result").text == words
