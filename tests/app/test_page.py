"""The page of a run, read as HTML: what stands in it, that it is whole, and that nothing breaks out of it."""

import base64
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from xml.etree import ElementTree

import numpy as np
import pytest
from app.small_run import train_small

from tinyseg.app import report
from tinyseg.app.drawing import draw
from tinyseg.app.report import Shown, confusion, curves, page, section, slider, table, training_page

EVIL = '</script><script>alert(1)</script> & "quoted" <img src=x>'
METRICS = {
    "classes": ["background", "nerve"],
    "dice": 0.8125,
    "iou": 0.684,
    "dice_of_each": [0.9, 0.8125],
    "iou_of_each": [0.8, None],
    "confusion": [[90, 10], [0, 0]],
    "baseline_dice": 0.125,
}
PLAIN = {
    "command": "tinyseg train",
    "versions": {"numpy": "2.0"},
    "found": "data   ten images",
    "losses": {"training": [(1, 0.5), (2, 0.25)]},
    "scores": {"Dice": [(1, 0.0), (2, 0.5)]},
    "pictures": {},
}


class Reader(HTMLParser):
    """What a browser sees: tags with their attributes, the text outside of scripts and styles, tables."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.text, self.rows, self.open = [], "", [], []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"}.intersection(self.open):
            self.text += data
        if {"th", "td"}.intersection(self.open):
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def held_out(count=2, side=8, name="one"):
    """Images with random probabilities and labels."""
    rng = np.random.default_rng(3)
    labels = np.uint8(rng.random((count, side, side)) > 0.7)
    arrays = zip(rng.random((count, side, side)), rng.random((count, side, side), np.float32) / 2, labels)
    return [Shown(name, *three) for three in arrays]


def given_to(content):
    """What the slider's script gets."""
    return json.loads(re.search(r'id="held-out">(.*?)</script>', content, re.DOTALL)[1])


def run_with_a_page(folder):
    """(a small run, drawn; its page)."""
    small = train_small(folder)
    draw(small.run, small.p, small.data, small.metrics, small.history, small.frames, 1)
    rows = [{"name": "a", "subject": "s", "dice": 0.5, "iou": None}]
    values = small.run, small.p, small.data, small.metrics, small.history
    report.write_report(*values, title="A run", command="tinyseg train", found="data   ten", rows=rows)
    return small, (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return run_with_a_page(tmp_path_factory.mktemp("page"))


def test_the_same_run_gives_the_same_bytes(written, tmp_path):
    small, content = written
    assert run_with_a_page(tmp_path)[1] == content


def test_a_page_asks_for_nothing_from_elsewhere(written):
    read = Reader(written[1])
    assert not read.open  # every element is closed
    links = [value for _, attrs in read.tags for key, value in attrs.items() if key in ("src", "href")]
    assert len(links) > 6 and all(link.startswith("data:") for link in links)
    assert not re.search(r"https?://|@import|url\(", written[1])


def test_a_page_holds_each_picture_whole(written):
    small, content = written
    for name in report.PICTURES:
        encoded = base64.b64encode((small.run.folder / name).read_bytes()).decode()
        assert content.count(encoded) == 1, name
    assert all(attrs["alt"] for attrs in Reader(content).all("img"))


def test_a_page_says_what_was_done_found_and_measured(written):
    small, content = written
    read = Reader(content)
    for words in ("tinyseg train", "data   ten", f"numpy {np.__version__}", "Python 3."):
        assert words in read.text
    for key in ("dice", "best_threshold_dice", "baseline_dice"):
        assert any(f"{small.metrics[key]:.3f}" in row for row in read.rows)
    assert ["a", "s", "0.500", "–"] in read.rows


def test_a_wheel_has_the_form_of_the_page():
    assert "<!--body-->" in files("tinyseg.app").joinpath("report.html").read_text(encoding="utf-8")


def test_what_comes_from_outside_stays_text():
    names = ["background", EVIL]
    content = training_page(
        EVIL,
        metrics=METRICS | {"classes": names, "warnings": [EVIL]},
        images=held_out(name=EVIL),
        rows=[{"name": EVIL, "subject": EVIL, "dice": 1.0}],
        **PLAIN | {"command": EVIL, "found": EVIL, "losses": {EVIL: [(1, 0.5)]}},
    )
    read = Reader(content)
    assert len(read.all("script")) == 2 and not read.all("img")
    assert read.text.count(EVIL) >= 10
    assert [attrs["aria-label"] for attrs in read.all("canvas")] == [
        f"{EVIL} with the mask at the threshold"
    ] * 2


def test_the_slider_gets_the_probabilities_themselves():
    images = held_out()
    given = given_to(slider(images, {"a": 0.5, "b": 0.1}))
    every = np.stack([one.p for one in images])
    assert given["low"] == every.min() and given["high"] == 0.5 > every.max()  # marks lie within
    for sent, one in zip(given["images"], images, strict=True):
        p, image, truth = (base64.b64decode(sent[key]) for key in ("p", "image", "truth"))
        np.testing.assert_array_equal(np.frombuffer(p, "<f4").reshape(8, 8), one.p)  # (64,) -> (8, 8)
        np.testing.assert_allclose(np.frombuffer(image, "u1"), 255 * one.image.ravel(), atol=0.51)
        np.testing.assert_array_equal(np.frombuffer(truth, "u1"), one.truth.ravel())
    for place, at in given["marks"]:
        assert given["low"] + place / 100 * (given["high"] - given["low"]) == pytest.approx(at, abs=1e-12)


def test_the_slider_needs_no_truth_and_no_range():
    flat = Shown("flat", np.zeros((2, 3)), np.full((2, 3), 0.5, "f"))
    content = slider([flat], {"0.5": 0.5})
    assert given_to(content)["images"][0]["truth"] is None and "outline" not in content
    assert Reader(content).all("input")[1]["value"] == "0.0"


@pytest.mark.parametrize(("count", "side", "kept"), [(60, 4, 60), (61, 4, 60), (3, 1000, 1), (2, 1300, 0)])
def test_a_page_says_how_many_images_it_leaves_out(count, side, kept):
    one = Shown("one", np.zeros((side, side)), np.zeros((side, side), "f"))
    content = slider([one] * count, {"0.5": 0.5})
    assert len(Reader(content).all("canvas")) == kept and len(content) < 12.1e6
    assert (f"{count - kept} of {count} images are left out" in content) == (kept < count)


def test_of_many_classes_there_is_no_slider(tmp_path):
    small = train_small(tmp_path, "lungnet", "--size", "32")
    data = small.run, small.p, small.data, small.metrics, small.history
    report.write_report(*data, title="A run", command="x", found="y")
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    read = Reader(content)
    assert not read.all("input") and not read.open
    assert [row[0] for row in read.rows if len(row) == 9][1:] == list(small.data.train.class_names)
    assert "0.5, as in the masks" not in content


def test_figures_show_what_there_is():
    of_subjects = {
        "count": 9,
        "dice": {"mean": 0.75, "std": 0.0625, "interval": [0.5, 0.875]},
        "iou": {"mean": 0.6},
    }
    no_spread = {"count": 1, "dice": {"mean": 0.75, "std": None, "interval": None}, "iou": {"mean": None}}
    more = {"best_threshold": 0.25, "best_threshold_dice": 0.875, "whole_dice": 0.375}

    def rows(metrics):
        return {row[0]: row[1:] for row in Reader(training_page("t", metrics=metrics, **PLAIN)).rows}

    less, all_of_it = rows(METRICS), rows(METRICS | more | {"by_subject": of_subjects, "by_image": no_spread})
    assert less["all pixels together"] == ["0.812", "0.684", "", ""]
    assert all_of_it["mean over 9 subjects"] == ["0.750", "0.600", "0.062", "0.500 to 0.875"]
    assert all_of_it["mean over 1 image"] == ["0.750", "–", "–", ""]
    assert all_of_it["at the threshold chosen, 0.250"][0] == "0.875"
    assert set(all_of_it) - set(less) == {
        "mean over 9 subjects",
        "mean over 1 image",
        "at the threshold chosen, 0.250",
        "every pixel, annotated or not",
    }


def test_the_confusion_matrix_has_pixels_and_shares_of_each_row():
    read = Reader(confusion([[90, 10], [0, 0]], ["rest", "nerve"], Dice=[0.9, None]))
    assert read.rows == [
        ["truth", "taken for rest", "taken for nerve", "Dice"],
        ["rest", "90 (90.0%)", "10 (10.0%)", "0.900"],
        ["nerve", "0 (0.0%)", "0 (0.0%)", "–"],
    ]
    assert [attrs["style"] for attrs in read.all("td") if "style" in attrs][:2] == [
        "--share:0.900",
        "--share:0.100",
    ]


def test_curves_go_through_their_points_and_leave_a_gap():
    svg = re.search("<svg.*?</svg>", curves("Loss", {"a": [(0, 0.0), (5, 0.2), (7, np.nan), (10, 0.4)]}))[0]
    root = ElementTree.fromstring(svg)
    (path,) = (one.get("d") for one in root.iter("path") if one.get("class") == "line0")
    assert re.findall("[ML]", path) == ["M", "L", "M", "L"]  # the last point is drawn again, as the end
    points = np.array(re.findall(r"[\d.]+ [\d.]+", path))
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split()) for point in points[:3])
    assert x0 < x1 < x2 and x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y0 > y1 > y2 and y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    texts = {one.text: (float(one.get("x")), float(one.get("y"))) for one in root.iter("text")}
    assert texts["0.4"][1] == y2 and texts["10"][0] == x2
    assert root.get("aria-label") == "Loss by step: a from 0.000 to 0.400"


@pytest.mark.parametrize("line", [[], [(1, 0.0)], [(1, np.nan)], [(k, 1e-9 * k) for k in range(5000)]])
def test_curves_of_any_length_are_small_and_well_formed(line):
    content = curves("Loss", {"a": line, "b": [(1, -0.5)]})
    assert len(content) < 12_000 and "nan" not in content
    ElementTree.fromstring(re.search("<svg.*?</svg>", content)[0])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2000), (-0.3, 0.7), (0, 1e-9), (0, 3), (-5, 12345)])
def test_ticks_are_few_round_and_within(low, high):
    found = report.ticks(low, high)
    assert 3 <= len(found) <= 7 and low <= found[0] and found[-1] <= high * (1 + 1e-9)
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0])
    assert f"{steps[0]:.0e}"[0] in "125"


def test_pieces_make_another_page():
    """As a comparison has it: a table, a picture, curves of several runs."""
    rows = [{"network": "original", "Dice": 0.0}, {"network": "modified", "Dice": 0.8}]
    lines = {name: [(0, 0.0), (1, 1.0)] for name in ("a", "b", "c", "d", "e")}
    content = page(
        "Both", [section("Table", table("Networks", rows)), section("Curves", curves("Dice", lines))]
    )
    read = Reader(content)
    assert not read.open and read.rows[1:] == [["original", "0.000"], ["modified", "0.800"]]
    assert [attrs["class"] for attrs in read.all("path") if "line" in attrs["class"]][:5] == [
        "line0", "line1", "line2", "line3", "line0",
    ]  # fmt: skip
