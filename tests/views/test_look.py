"""Pictures to look at: they show what is there, where it is."""

import re
from html import unescape
from io import BytesIO

import imageio.v3 as imageio
import numpy as np
import pytest

from tinyseg import Dataset, begin, modified, original, predict, views
from tinyseg.data import lung_ct, phantom
from tinyseg.io.pictures import PREDICTION, TRUTH
from tinyseg.ops import UNLABELLED
from tinyseg.views.look import FORMATS

NET = modified(dilations=(1, 2), widths=(3,))
PARAMS, STATE = NET.init(np.random.default_rng(0))


def coloured(picture, colour):
    """Which pixels of a picture have a colour."""
    return (picture.pixels == np.array(colour)).all(axis=-1)


def test_a_picture_is_a_png_and_says_its_size_in_a_line(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    picture = views.Picture(pixels)
    np.testing.assert_array_equal(imageio.imread(BytesIO(picture._repr_png_())), pixels)
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(imageio.imread(tmp_path / "a.png"), pixels)
    assert repr(picture) == "Picture(7 x 5 pixels)"
    wrong = [tmp_path / f"a.{suffix}" for suffix in ("xyz", "mpg", "xbm", "svg")]
    for path in (None, 3, b"a.png", tmp_path, *wrong):
        with pytest.raises(ValueError, match="save: expected a name that ends in .png or .*, got"):
            picture.save(path)
    for suffix in (*FORMATS, ".PNG", ".Tiff", ".JPG"):
        picture.save(tmp_path / f"b{suffix}")
        assert imageio.imread(tmp_path / f"b{suffix}").shape == (5, 7, 3)


def test_an_overlay_outlines_the_masks_and_leaves_the_rest():
    image = np.full((1, 64, 64), 0.5, np.float32)
    truth = np.zeros((64, 64), np.uint8)
    truth[10:20, 10:20], truth[40:50, 40:50] = 1, UNLABELLED
    found = np.zeros((64, 64), bool)
    found[30:34, 8:16] = True
    picture = views.overlay(image, truth, found)
    assert picture.pixels.shape == (384, 384, 3)  # 6 times as large
    edges = np.zeros((64, 64), bool)
    edges[10:20, 10:20] = True
    edges[11:19, 11:19] = False
    np.testing.assert_array_equal(coloured(picture, TRUTH)[::6, ::6], edges)
    assert coloured(picture, PREDICTION)[::6, ::6].sum() == 2 * 8 + 2 * 2
    rest = ~coloured(picture, TRUTH) & ~coloured(picture, PREDICTION)
    assert (picture.pixels[rest] == 128).all()


def test_a_panel_has_a_row_for_each_image_and_a_column_for_each_thing():
    data = phantom(5, seed=1)
    plain = views.panel(data, most=3).pixels
    p = predict(NET, PARAMS, STATE, data.images)
    full = views.panel(data, p, most=3).pixels
    assert plain.shape[1] == 2 * 128 + 3 * 4 and full.shape[1] == 5 * 128 + 6 * 4
    row = plain[-4 - 128 : -4]  # the last of three
    np.testing.assert_array_equal(row[::2, 4 + 128 + 4 : -4 : 2, 0] > 0, data.labels[2] > 0)


def test_a_panel_of_many_classes_is_in_their_colours():
    data = lung_ct(2, size=64, seed=0)
    p = np.eye(data.classes, dtype=np.float32)[data.labels % data.classes].transpose(0, 3, 1, 2)
    assert len(np.unique(views.panel(data, p).pixels.reshape(-1, 3), axis=0)) > data.classes


def test_feature_maps_show_every_layer_side_by_side():
    x = phantom(2, seed=1).images
    features = NET.features(PARAMS, STATE, x)
    picture = views.feature_maps(features, image=1, most=8)
    assert picture.pixels.shape[1] == 8 * 132 + 4
    row = picture.pixels[-4 - 128 : -4]  # its last line: head1 and the output
    shown, maps = row[::2, 4:132:2, 0], features["head1"][1, 0]
    spread = (maps - maps.min()) / ((maps.max() - maps.min()) or 1)
    np.testing.assert_allclose(shown / 255, spread, atol=0.003)


def test_the_measured_receptive_field_is_the_theoretical_one():
    x = np.random.default_rng(0).normal(size=(2, 1, 21, 23)).astype(np.float32)
    seen = views.influence(NET, PARAMS, STATE, x) > 0
    far = np.abs(np.indices(seen.shape) - np.array([10, 11])[:, None, None]).max(axis=0)
    assert not seen[far > NET.receptive_field // 2].any() and seen[10, 11]
    assert seen.any(axis=0).sum() == seen.any(axis=1).sum() == NET.receptive_field == 7


@pytest.mark.parametrize(("head", "at"), [("linear", (4, 4)), ("softmax", (3, 6))])
def test_influence_is_what_a_small_change_of_a_pixel_moves(head, at):
    net = modified(dilations=(1,), widths=(2,), head=head)
    params, state = (
        {k: np.asarray(a, float) for k, a in arrays.items()} for arrays in net.init(np.random.default_rng(3))
    )
    x = np.random.default_rng(1).normal(size=(1, 1, 9, 9))
    seen = views.influence(net, params, state, x, at=at)
    assert seen.any()
    for place in (at, (3, 5), (0, 0)):
        h = np.zeros_like(x)
        h[0, 0][place] = 1e-6
        up, down = (net(params, state, x + s * h)[0][0, :, at[0], at[1]] for s in (1, -1))
        assert seen[place] == pytest.approx(np.abs(up - down).mean() / 2e-6, rel=1e-5, abs=1e-9)


def test_the_slider_is_a_page_of_its_own_with_all_images():
    data = phantom(3, seed=1)
    p = predict(NET, PARAMS, STATE, data.images)
    page = views.threshold_slider(data, p, marks={"best <1>": 0.25}, most=2)
    html = page._repr_html_()
    assert html.startswith("<iframe srcdoc=") and len(repr(page)) < 80
    inside = unescape(re.search('srcdoc="(.*?)"', html, flags=re.S)[1])
    assert inside == page.html and inside.count("<canvas") == 2 and "best &lt;1&gt;" in inside


def test_images_of_different_sizes_have_a_panel_too():
    rng = np.random.default_rng(0)
    images = [rng.random((1, h, w), dtype=np.float32) for h, w in ((20, 30), (40, 24))]
    data = Dataset(images, [(image[0] > 0.5).astype(np.uint8) for image in images])
    assert views.panel(data).pixels.shape[2] == 3


@pytest.mark.parametrize(
    ("count", "p", "said"),
    [
        (0, None, "expected images to show, got none"),
        (2, np.zeros((1, 1, 64, 64)), r"\(1, 64, 64\) for each of 2 images.*got 1 of them$"),
        (2, np.zeros((2, 2, 64, 64)), r"got \(2, 64, 64\) for image 0, which needs \(1, 64, 64\)$"),
        (2, np.full((2, 1, 64, 64), np.nan), "NaN; has training diverged.$"),
    ],
)
def test_probabilities_that_are_not_the_images_own_are_refused(count, p, said):
    data = phantom(2).take(range(count))
    with pytest.raises(ValueError, match=f"panel: .*{said}"):
        views.panel(data, p)
    with pytest.raises(ValueError, match=f"threshold_slider: .*{said}"):
        views.threshold_slider(data, p)


SNAPSHOT = begin(NET)
IMAGE, DATA = np.zeros((1, 8, 8), np.float32), phantom(2, seed=0)
P, FEATURES = DATA.images, {"a": np.zeros((2, 3, 8, 8))}


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (lambda: views.overlay(DATA.images), "one image .channels, H, W. of floats.* float32 .2, 1, 64, 64"),
        (lambda: views.overlay(np.zeros((8, 8), np.uint8)), "got uint8 .1, 8, 8.; pixels / 255 are floats"),
        (lambda: views.overlay(IMAGE, np.zeros((4, 4), bool)), "expected a truth .8, 8. of labels .* .4, 4."),
        (lambda: views.overlay(IMAGE, None, IMAGE[0]), "expected a prediction .* float32 .*by p > 0.5"),
        (lambda: views.panel(DATA.images), "panel: expected a Dataset, got float32 .2, 1"),
        (lambda: views.panel(None), "panel: expected a Dataset, got None; Dataset.images, labels. makes one"),
        (lambda: views.panel(DATA, 0.5), "panel: expected probabilities .* got 0.5"),
        (lambda: views.panel(DATA, []), "got 0 of them$"),
        (lambda: views.panel(DATA, np.array(0.5)), r"got float64 \(\)$"),
        (lambda: views.overlay(np.zeros((8, 9, 3))), r"got \(8, 9, 3\); image.transpose\(2, 0, 1\) has"),
        (
            lambda: views.influence(original(), PARAMS, STATE, P),
            "block3: conv: there is no array for 'weight'",
        ),
        (lambda: views.panel(DATA, P.astype(str)), "gives them, floats, got <U"),
        (lambda: views.panel(DATA, P.astype(complex)), "gives them, floats, got complex"),
        (lambda: views.panel(DATA, P, threshold="0.5"), "a threshold that is a number, got '0.5'"),
        (lambda: views.panel(DATA, P, threshold=np.nan), "a threshold that is a number, got nan"),
        (lambda: views.panel(DATA, P, threshold=[0.5]), r"a threshold that is a number, got \[0.5\]"),
        (lambda: views.panel(DATA, P, most=0), "expected most as a whole number of at least 1, got 0"),
        (lambda: views.panel(DATA, P, most="3"), "expected most as a whole number of at least 1, got '3'"),
        (lambda: views.threshold_slider(DATA, P, most=2.5), "expected most as a whole number .*, got 2.5"),
        (lambda: views.threshold_slider(DATA, None), "threshold_slider: expected probabilities"),
        (lambda: views.threshold_slider(DATA, P, marks={"a": np.nan}), "such as ..best.: 0.38., got nan"),
        (lambda: views.threshold_slider(DATA, P, marks={"a": "b"}), "marks, thresholds by name .*, got 'b'"),
        (lambda: views.threshold_slider(DATA, P, marks=[0.5]), r"marks, thresholds by name .*, got \[0.5\]"),
        (lambda: views.threshold_slider(DATA, P, marks={}), "marks, thresholds by name .*, got {}"),
        (lambda: views.feature_maps(FEATURES["a"]), "feature_maps: expected maps by name"),
        (lambda: views.feature_maps({}), "got {}"),
        (
            lambda: views.feature_maps(FEATURES, most=0),
            "expected most as a whole number of at least 1, got 0",
        ),
        (lambda: views.feature_maps(FEATURES, "0"), "expected an image from 0 to 1, got '0'"),
        (lambda: views.feature_maps(FEATURES, True), "expected an image from 0 to 1, got True"),
        (lambda: views.feature_maps(FEATURES, 1.0), "expected an image from 0 to 1, got 1.0"),
        (lambda: views.feature_maps({"a": [1, 2]}), r"a: expected an array .N, .*, got \[1, 2\]"),
        (lambda: views.feature_maps({"a": P.astype(str)}), "a: expected an array .* of numbers, got <U"),
        (lambda: views.feature_maps(FEATURES, 2), "expected an image from 0 to 1, got 2"),
        (
            lambda: views.feature_maps({"a": IMAGE}),
            "a: expected an array .N, channels, H, W. of numbers, got float32 .1, 8, 8.",
        ),
        (lambda: views.influence(NET, PARAMS, STATE, IMAGE[None], at=(99, 0)), "got .99, 0."),
        (lambda: views.influence(NET, PARAMS, STATE, IMAGE[None], at=()), "a row and a column of .8, 8. pix"),
        (lambda: views.influence(NET, PARAMS, STATE, IMAGE[None], at=(1.5, 2)), "got .1.5, 2."),
        (lambda: views.influence(NET, PARAMS, STATE, IMAGE[None], at=(slice(0, 2), 3)), "a row and a column"),
        (lambda: views.influence(NET, PARAMS, STATE, IMAGE[None], at=((1, 2), 3)), r"got \(\(1, 2\), 3\)"),
        (lambda: views.influence(NET, PARAMS, STATE, DATA), "got Dataset; its .images may be one"),
        (
            lambda: views.influence(NET, PARAMS, STATE, IMAGE),
            r"got \(1, 8, 8\); one image alone is images\[N",
        ),
        (
            lambda: views.influence(NET, SNAPSHOT, STATE, P),
            "expected params, a dict.*Snapshot; snapshot.params",
        ),
        (lambda: views.influence(modified, PARAMS, STATE, P), r"network such as modified\(\), got modified"),
        (lambda: views.overlay([[1.0, 2.0], [3.0]]), r"one image .*, got \[\[1.0, 2.0\], \[3.0\]\]"),
        (lambda: views.overlay(IMAGE, [[1, 2], [3]]), r"a truth \(8, 8\) .*, got \[\[1, 2\], \[3\]\]"),
        (lambda: views.receptive_field(NET, PARAMS, STATE, IMAGE[None] * np.nan), "output is not finite"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_line(view, said):
    with pytest.raises(ValueError, match=said) as caught:
        view()
    assert "\n" not in str(caught.value)


def test_what_is_odd_but_right_is_shown():
    assert views.influence(NET, PARAMS, STATE, IMAGE[None], at=np.array([3, -4])).shape == (8, 8)
    assert views.feature_maps(FEATURES, most=100).pixels.shape[1] < 400  # as wide as three maps
    marked = {"highest": P.max()}
    pages = [views.threshold_slider(DATA, p, marks=marked) for p in (P, P.tolist())]
    assert pages[0].html == pages[1].html
    assert not views.overlay(IMAGE * np.nan).pixels.any()  # without a warning
    nothing = Dataset(IMAGE[None] * np.nan, np.zeros((1, 8, 8), np.uint8))
    assert "<canvas" in views.threshold_slider(nothing, IMAGE[None]).html
    assert views.feature_maps({1: FEATURES["a"]}).pixels.any()


def test_a_norm_that_looks_at_the_whole_image_lets_it_in():
    x = np.random.default_rng(0).random((1, 1, 21, 21), dtype=np.float32)
    net = modified(dilations=(1, 2), widths=(3,), norm="instance")
    assert (views.influence(net, *net.init(np.random.default_rng(0)), x) > 0).sum() > net.receptive_field**2


def test_a_slider_is_for_two_classes():
    data = lung_ct(1, size=64)
    with pytest.raises(ValueError, match="expected two classes, got 6"):
        views.threshold_slider(data, np.zeros((1, 6, 64, 64)))


def test_a_plane_is_an_image_too():
    plane = phantom(1).images[0, 0]
    np.testing.assert_array_equal(views.overlay(plane).pixels, views.overlay(plane[None]).pixels)
