"""How objects look: a short repr, and HTML that a notebook can show."""

from dataclasses import replace

import numpy as np
import pytest
from app.test_page import Reader

from tinyseg import Dataset, begin, check_gradients, check_layer, fit, lungnet, modified, ops
from tinyseg.data import phantom
from tinyseg.gradcheck.report import Report

EVIL = '<script>alert(1)</script> & "quoted"'


@pytest.fixture(scope="module")
def snapshot():
    net = modified(dilations=(1, 2), widths=(3,))
    *_, last = fit(net, phantom(8, size=32, seed=0), begin(net), epochs=2)
    return last


def test_a_dataset_says_what_it_holds_in_a_line():
    assert repr(phantom(3)) == "Dataset(3 images 1 x 64 x 64, 3 subjects, classes background, structure)"
    ragged = Dataset(
        [np.zeros((1, 8, 9)), np.zeros((1, 7, 9))], [np.zeros((8, 9), int), np.zeros((7, 9), int)]
    )
    assert repr(ragged) == "Dataset(2 images of different sizes, 2 subjects, classes background, structure)"


def test_a_snapshot_says_where_it_stands_in_a_line(snapshot):
    count = sum(array.size for array in snapshot.params.values())
    assert repr(snapshot) == f"Snapshot(epoch 2, step 8, loss {snapshot.loss:.4g}, {count:,} parameters)"


def test_a_report_counts_its_verdicts_in_a_line():
    report = check_gradients(ops.add, {"x": np.ones((1, 1, 2, 2)), "y": np.ones((1, 1, 2, 2))})
    assert repr(report) == "Report(2 right)"


def test_a_dataset_shows_its_images():
    html = phantom(3)._repr_html_()
    assert Reader(html).tags[-1][0] == "img" and "data:image/png;base64," in html
    assert Reader(phantom(3).take([])._repr_html_()).text.startswith("Dataset(0 images")


def test_a_snapshot_shows_the_losses_of_its_epoch_and_every_array(snapshot):
    page = Reader(snapshot._repr_html_())
    (points,) = [attributes["points"].split() for tag, attributes in page.tags if tag == "polyline"]
    heights = [-float(point.split(",")[1]) for point in points]
    assert np.argsort(heights).tolist() == np.argsort(snapshot.losses).tolist()
    assert [row[0] for row in page.rows[1:]] == [*snapshot.params, *snapshot.state]
    long = replace(snapshot, losses=tuple(np.random.default_rng(0).random(100_000)))
    assert len(long._repr_html_()) < len(snapshot._repr_html_()) + 15_000
    assert "<svg" not in begin(modified())._repr_html_()  # before the first step there are no losses


def test_a_report_shows_its_table_and_what_is_wrong_in_red():
    report = check_layer(
        modified(dilations=(1,), widths=(2,)), np.random.default_rng(0).normal(size=(1, 1, 5, 5))
    )
    page = Reader(report._repr_html_())
    heads, rows = report.table()
    assert page.rows == [heads, *rows] and not any(
        "style" in attributes for tag, attributes in page.tags if tag == "tr"
    )
    wrong = Report(
        tuple(row.__class__(**vars(row) | {"verdict": "WRONG", "note": EVIL}) for row in report.rows)
    )
    page = Reader(wrong._repr_html_())
    assert sum("style" in attributes for tag, attributes in page.tags if tag == "tr") == len(report.rows)
    assert EVIL in page.text and "<script>" not in wrong._repr_html_()


def test_a_network_is_drawn_with_its_fields():
    page = Reader(lungnet()._repr_html_())
    assert ["dilations", str(lungnet().dilations)] in page.rows and "svg" in {tag for tag, _ in page.tags}
