"""What masks mean: one reading where there is one, else a question that names the flag."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from tinyseg.errors import InputError
from tinyseg.io.masks import Census, Meaning, meaning_of, numbers_of
from tinyseg.io.pixels import Page, read_pages
from tinyseg.ops import UNLABELLED

RNG = np.random.default_rng(0)
DISC = np.hypot(*np.mgrid[-20:20, -20:20]) < 9


def read(files, tmp_path, *, two=True, suffix=".png", **flags):
    """(meaning, words, labels of each) of arrays, or of functions that write a file."""
    census, paths = Census(), []
    for i, file in enumerate(files):
        path = tmp_path / f"{i}{suffix}"
        file(path) if callable(file) else Image.fromarray(file).save(path)
        paths.append(path)
        for page in read_pages(path, mask=True):
            census.add(page, path)
    meaning, words = meaning_of(census, two=two, source=tmp_path, **flags)
    return meaning, words, [meaning.labels(read_pages(path, mask=True)[0], path) for path in paths]


def grey(low, high, where=DISC):
    return np.where(where, high, low).astype(np.uint8 if high < 256 else np.uint16)


# Masks of one structure


@pytest.mark.parametrize("high", [1, 128, 200, 254, 255, 65535])
def test_two_values_are_a_mask(high, tmp_path):
    _, words, labels = read([grey(0, high), grey(0, high, ~DISC), grey(0, high, DISC & False)], tmp_path)
    np.testing.assert_array_equal(labels, [DISC, ~DISC, DISC & False])
    assert words == f"{high} is structure, 0 is background"


def test_zero_and_one_in_some_files_and_zero_and_255_in_others_are_the_same(tmp_path):
    _, words, labels = read([grey(0, 1), grey(0, 255), grey(0, 255, DISC | True)], tmp_path)
    np.testing.assert_array_equal(labels, [DISC, DISC, DISC | True])
    assert words == "1 and 255 are structure, each in its files; 0 is background"


def test_two_values_above_zero_are_background_and_structure(tmp_path):
    meaning, words, labels = read([grey(1, 2), grey(1, 2, ~DISC)], tmp_path)
    np.testing.assert_array_equal(labels, [DISC, ~DISC])
    assert words == "2 is structure, 1 is background" and meaning.values == (1, 2)


def test_different_values_in_different_files_are_a_question(tmp_path):
    with pytest.raises(
        InputError, match=r"got 0 \(.*\), 1 \(.*\), 2 .*--mask-values nonzero .* BACKGROUND,STRUCTURE"
    ):
        read([grey(0, 1), grey(0, 2)], tmp_path)


def jpeg(mask, quality=90):
    return lambda path: Image.fromarray(grey(0, 255, mask)).save(path, "JPEG", quality=quality)


def test_a_jpeg_mask_is_cut_at_half(tmp_path):
    big = DISC.repeat(3, axis=0).repeat(3, axis=1)
    meaning, words, labels = read([jpeg(big), jpeg(~big)], tmp_path, suffix=".jpg")
    np.testing.assert_array_equal(labels, [big, ~big])
    assert 120 < meaning.above < 135 and "is structure" in words and "between" in words


def test_smoothed_edges_are_cut_at_half(tmp_path):
    big = DISC.repeat(4, axis=0).repeat(4, axis=1)
    soft = np.rint(255 * gaussian_filter(big.astype(float), 1)).astype(np.uint8)
    _, _, (labels,) = read([soft], tmp_path)
    np.testing.assert_array_equal(labels, soft > 127)
    assert (labels != big).mean() < 0.01


@pytest.mark.parametrize("quality", [30, 60, 90, 98])
def test_jpeg_of_small_objects_is_cut_at_half(quality, tmp_path):
    truth = np.zeros((64, 64), bool)
    truth[4::12, 4::12] = truth[5::12, 4::12] = truth[4::12, 5::12] = truth[5::12, 5::12] = True
    truth = truth.repeat(2, axis=0).repeat(2, axis=1)
    image = Image.fromarray(255 * truth.astype(np.uint8))
    _, _, (labels,) = read([lambda path: image.save(path, quality=quality)], tmp_path, suffix=".jpg")
    np.testing.assert_array_equal(labels, truth)


def test_small_objects_with_smooth_edges_are_cut_at_half(tmp_path):
    """Where edges are half of what is bright."""
    truth = np.hypot(*np.mgrid[-6:7, -6:7]) < 4.5
    soft = np.tile(np.rint(255 * gaussian_filter(truth.astype(float), 0.8)).astype(np.uint8), (5, 5))
    _, words, (labels,) = read([soft], tmp_path)
    np.testing.assert_array_equal(labels, soft > 127)
    assert "between" in words and np.mean((soft > 32) & (soft < 223)) > 0.05


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_third_level_is_a_question_however_small_its_objects(suffix, tmp_path):
    levels = np.zeros((60, 60), np.uint8)
    levels[10:30, 10:50] = 255
    levels[40:46, 10:16] = 128
    soft = np.rint(gaussian_filter(levels.astype(float), 0.6)).astype(np.uint8)
    with pytest.raises(InputError, match="expected a mask of two values"):
        read([soft], tmp_path, suffix=suffix)


def test_jpeg_files_of_two_brightnesses_are_a_question(tmp_path):
    images = [Image.fromarray(level * np.uint8(DISC)) for level in (255, 128)]
    with pytest.raises(InputError, match="expected a mask of two values"):
        read([image.save for image in images], tmp_path, suffix=".jpg")


def test_numbers_of_classes_with_an_unlabelled_border_are_a_question_for_two_classes(tmp_path):
    """As Pascal VOC has them: 0 to 20, and 255 between; no smooth edge of a bright structure."""
    files = [np.full((30, 30), k, np.uint8) for k in range(21)]
    for file in files:
        file[14:16] = 255
    with pytest.raises(InputError, match="expected a mask of two values"):
        read(files, tmp_path)


@pytest.mark.parametrize("values", [None, "half"])
def test_a_file_of_0_and_1_among_soft_masks_is_refused_by_name(values, tmp_path):
    soft = np.rint(255 * gaussian_filter(DISC.astype(float), 1)).astype(np.uint8)
    with pytest.raises(
        InputError, match="2.png: expected masks of one kind, got levels up to 1 here, and to 255"
    ):
        read([soft, soft, grey(0, 1)], tmp_path, values=values)
    assert read([soft, 0 * soft], tmp_path, values=values)[2][1].max() == 0  # an empty one is no other kind


def test_numbers_from_0_to_1_are_compared_in_their_own_units(tmp_path):
    share = gaussian_filter(DISC.astype(np.float32), 3)
    np.save(tmp_path / "0.npy", share)
    (page,) = read_pages(tmp_path / "0.npy", mask=True)
    census = Census()
    census.add(page, tmp_path / "0.npy")
    meaning, _ = meaning_of(census, two=True, values="above:0.5")
    assert abs(np.mean(meaning.labels(page, tmp_path / "0.npy")) - np.mean(share > 0.5)) < 0.01


def painted(path, numbers, palette):
    image = Image.fromarray(numbers.astype(np.uint8), "P")
    image.putpalette(palette)
    image.save(path)


def test_palettes_that_swap_their_numbers_are_a_question(tmp_path):
    """As a program leaves them that makes a palette of its own for each file."""
    files = [
        lambda path: painted(path, DISC, [0, 0, 0, 255, 0, 0]),
        lambda path: painted(path, ~DISC, [255, 0, 0, 0, 0, 0]),
    ]
    for two in (True, False):
        with pytest.raises(InputError, match="1.png: expected one colour for each number of all palettes"):
            read(files, tmp_path, two=two)
    _, _, labels = read(files, tmp_path, values=(0, 1))
    np.testing.assert_array_equal(labels, [DISC, ~DISC])


def test_the_black_of_a_palette_is_the_background_whatever_its_number(tmp_path):
    _, words, (labels,) = read([lambda path: painted(path, ~DISC, [255, 0, 0, 0, 0, 0])], tmp_path)
    np.testing.assert_array_equal(labels, DISC)
    assert words == "0 is structure, 1 is black, the background"


def test_numbers_beyond_16_bits_are_one_line(tmp_path):
    for two in (True, False):
        with pytest.raises(InputError, match="values: expected whole numbers from 0 to 65535.*nonzero"):
            read([np.where(DISC, 70001, 1).astype(np.int32)], tmp_path, two=two, suffix=".tif")


def objects(count, side=100):
    """So many discs in rows, numbered from 1: what an instance map looks like."""
    numbers = np.zeros((side, side), np.uint8)
    for k in range(count):
        top, left = divmod(k, side // 5)
        numbers[5 * top : 5 * top + 3, 5 * left : 5 * left + 3] = k + 1
    return numbers


@pytest.mark.parametrize("count", [3, 20, 60, 200])
def test_numbers_of_objects_are_a_question_and_not_smoothed_edges(count, tmp_path):
    with pytest.raises(InputError, match="--mask-values nonzero .numbers of objects."):
        read([objects(count)], tmp_path)


def test_a_third_level_with_jpegs_noise_is_a_question(tmp_path):
    three = np.full((120, 120), 0, np.uint8)
    three[:80, :80], three[:12, :12] = 255, 128
    with pytest.raises(InputError, match="expected a mask of two values"):
        read([lambda path: Image.fromarray(three).save(path, "JPEG", quality=95)], tmp_path, suffix=".jpg")


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 90, 30), (255, 255, 0)])
def test_one_colour_on_black_is_a_mask(colour, tmp_path):
    picture = (DISC[..., None] * np.array(colour)).astype(np.uint8)
    _, words, labels = read([picture, picture * 0], tmp_path)
    np.testing.assert_array_equal(labels, [DISC, DISC & False])
    assert "({},{},{}) is structure".format(*colour) in words


def test_two_colours_without_black_are_a_question(tmp_path):
    picture = np.where(DISC[..., None], [255, 0, 0], [0, 0, 255]).astype(np.uint8)
    with pytest.raises(InputError, match=r"one of them black, got \(0,0,255\), \(255,0,0\).*--colours FILE"):
        read([picture], tmp_path)
    colours = {255: "sky", 255 << 16: "sun"}
    meaning, words, (labels,) = read([picture], tmp_path, colours=colours)
    np.testing.assert_array_equal(labels, DISC)
    assert words == "(0,0,255) is sky, (255,0,0) is sun"
    np.testing.assert_array_equal(meaning.picture(labels), picture)


def test_the_shape_may_be_in_the_alpha_channel(tmp_path):
    white = np.full((40, 40, 4), 255, np.uint8)
    white[..., 3] = grey(0, 255)
    meaning, words, labels = read([white, np.dstack([white[..., :3], 0 * white[..., 3]])], tmp_path)
    np.testing.assert_array_equal(labels, [DISC, DISC & False])
    assert meaning.alpha and "alpha" in words


def test_a_palettes_numbers_count_and_of_black_and_white_what_one_sees(tmp_path):
    def palette(*colours):
        def write(path):
            image = Image.fromarray(DISC.astype(np.uint8))
            image.putpalette([level for colour in colours for level in colour])
            image.save(path)

        return write

    for colours, expected in (
        (((0, 0, 0), (128, 0, 0)), DISC),
        (((9, 80, 7), (255, 255, 255)), DISC),
        (((0, 0, 0), (255, 255, 255)), DISC),
        (((255, 255, 255), (0, 0, 0)), ~DISC),
    ):
        _, _, (labels,) = read([palette(*colours)], tmp_path)
        np.testing.assert_array_equal(labels, expected)


def test_floats_from_0_to_1_are_a_mask(tmp_path):
    for dtype in (np.float32, np.float64):
        _, _, (labels,) = read([lambda p, d=dtype: np.save(p, DISC.astype(d))], tmp_path, suffix=".npy")
        np.testing.assert_array_equal(labels, DISC)
    page = Page(np.float32([[0, 0.25, 1]]))
    np.testing.assert_array_equal(numbers_of(page, tmp_path), [[0, 64, 255]])
    for wrong in ([[0, 0.5, 7]], [[np.nan, 1]]):
        with pytest.raises(InputError, match="expected a mask of whole numbers"):
            numbers_of(Page(np.float32(wrong)), tmp_path)


# What the flags say


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("nonzero", lambda x: x > 0),
        ("above:0", lambda x: x > 0),
        ("above:7", lambda x: x > 7),
        ("half", lambda x: x > 30),
    ],
)
@pytest.mark.parametrize("two", [True, False])
def test_a_threshold_says_what_structure_is(rule, expected, two, tmp_path):
    numbers = objects(60)
    meaning, words, (labels,) = read([numbers], tmp_path, values=rule, two=two)
    np.testing.assert_array_equal(labels, expected(numbers))
    assert words.endswith("is structure") and meaning.names == ("background", "structure")


def test_values_are_classes_in_their_order(tmp_path):
    numbers = RNG.choice(np.uint8([0, 128, 255]), (30, 30))
    meaning, words, (labels,) = read([numbers], tmp_path, two=False, values=(255, 128, 0))
    np.testing.assert_array_equal(
        labels, np.searchsorted([0, 128, 255], numbers).max() - np.searchsorted([0, 128, 255], numbers)
    )
    assert meaning.names == ("value 255", "value 128", "value 0") and meaning.ignore is None
    np.testing.assert_array_equal(meaning.picture(labels), numbers)
    _, _, (labels,) = read([grey(0, 255)], tmp_path, values=(255, 0))
    np.testing.assert_array_equal(labels, ~DISC)


def test_values_that_are_not_named_are_refused_with_their_file(tmp_path):
    with pytest.raises(InputError, match=r"1.png: expected the values 0, 1 that --mask-values names, got 2$"):
        read([grey(0, 1), grey(0, 2)], tmp_path, values=(0, 1))
    with pytest.raises(InputError, match="expected 2 values for a network of two classes, got 3"):
        read([grey(0, 1)], tmp_path, values=(0, 1, 2))


# Label maps


def visible(levels):
    return RNG.choice(np.uint8(levels), (30, 30))


@pytest.mark.parametrize(
    "levels", [(0, 128, 255), (0, 85, 170, 255), (0, 127, 255), (0, 64, 128, 192, 255), (0, 64, 255)]
)
def test_levels_that_are_spread_to_be_seen_make_255_a_question(levels, tmp_path):
    with pytest.raises(
        InputError, match="what 255 means, got .*--ignore none: a class .*--ignore 255: nobody annotated"
    ):
        read([visible(levels)], tmp_path, two=False)
    numbers = visible(levels)
    meaning, words, (labels,) = read([numbers], tmp_path, two=False, ignore="none")
    assert meaning.values == levels
    np.testing.assert_array_equal(np.array(levels)[labels], numbers)
    meaning, words, (labels,) = read([numbers], tmp_path, two=False, ignore=255)
    assert meaning.values == levels[:-1] and "255 is taken for not annotated" in words
    np.testing.assert_array_equal(labels == UNLABELLED, numbers == 255)


@pytest.mark.parametrize(
    "levels",
    [
        (0, 1, 255),
        (0, 1, 2, 3, 255),
        (0, 15, 255),
        (0, 3, 10, 255),
        (0, 10, 20, 30, 40, 50, 255),
        (*range(20), 255),
    ],
)
def test_beside_numbers_of_classes_255_is_what_nobody_annotated(levels, tmp_path):
    numbers = visible(levels)
    numbers.flat[: len(levels)] = levels
    meaning, words, (labels, *_) = read([numbers] * 2 * len(levels), tmp_path, two=False)
    assert meaning.values == levels[:-1] and meaning.ignore == 255
    assert f"255 is taken for not annotated ({np.mean(numbers == 255):.1%} of all pixels)" in words
    np.testing.assert_array_equal(labels == UNLABELLED, numbers == 255)


def test_65535_of_16_bits_is_taken_as_255_is_of_8(tmp_path):
    numbers = visible((0, 1, 2, 255)).astype(np.uint16)
    numbers[numbers == 255] = 65535
    meaning, words, (labels,) = read([numbers], tmp_path, two=False)
    assert meaning.values == (0, 1, 2) and "65535 is taken for not annotated" in words
    np.testing.assert_array_equal(labels == UNLABELLED, numbers == 65535)
    assert read([numbers], tmp_path, two=False, ignore="none")[0].values == (0, 1, 2, 65535)


def squares(*numbers):
    """A label map with a square of each number."""
    return np.repeat([np.repeat([0, *numbers], 3)], 3, axis=0).astype(np.uint8)


def test_numbers_that_count_the_objects_of_each_file_are_a_question(tmp_path):
    files = [squares(*range(1, count + 1)) for count in (4, 12, 7, 9) * 10]
    with pytest.raises(InputError, match="--mask-values nonzero: they number objects; --mask-values 0,1,2,"):
        read(files, tmp_path, two=False)
    meaning, _, labels = read(files, tmp_path, two=False, values="nonzero")
    assert meaning.above == 0 and np.array_equal(labels[0], files[0] > 0)
    assert len(read(files, tmp_path, two=False, values=tuple(range(13)))[0].values) == 13


def test_numbers_that_few_files_share_are_a_question(tmp_path):
    """Patches of one large image, in which each object has a number."""
    files = [squares(n, n + 1) for n in range(1, 20)]
    with pytest.raises(InputError, match="expected to know what 21 values in 19 label maps are"):
        read(files, tmp_path, two=False)


def test_twenty_classes_of_which_each_file_has_some_are_no_question(tmp_path):
    """As in Pascal VOC: a file has few of them, with gaps."""
    files = [squares(1 + n % 20, 1 + 7 * n % 20) for n in range(60)]
    meaning, words, _ = read(files, tmp_path, two=False)
    assert meaning.values == tuple(range(21)) and "--mask-values nonzero" in words


@pytest.mark.parametrize("counts", [(3, 2, 1, 3), (8, 7, 6, 5, 8)])
def test_a_few_classes_within_each_other_are_no_question(counts, tmp_path):
    files = [squares(*range(1, count + 1)) for count in counts]
    assert len(read(files, tmp_path, two=False)[0].values) == max(counts) + 1


def test_label_maps_of_0_and_1_beside_masks_of_0_and_255_are_a_question(tmp_path):
    files = [grey(0, 1), grey(0, 255)]
    with pytest.raises(
        InputError, match="1.png: expected to know what 255 means.*--mask-values nonzero: 0 and 255"
    ):
        read(files, tmp_path, two=False)
    _, _, labels = read(files, tmp_path, two=False, values="nonzero")
    np.testing.assert_array_equal(labels, [DISC, DISC])
    _, _, labels = read(files, tmp_path, two=False, ignore=255)
    np.testing.assert_array_equal(labels[1] == UNLABELLED, DISC)


def test_any_value_can_be_ignored(tmp_path):
    numbers = visible((0, 1, 2, 9))
    meaning, words, (labels,) = read([numbers], tmp_path, two=False, ignore=9)
    assert meaning.values == (0, 1, 2) and "9 is taken for not annotated" in words
    np.testing.assert_array_equal(labels == UNLABELLED, numbers == 9)
    negative = np.where(DISC, -1, RNG.integers(0, 3, DISC.shape)).astype(np.int32)
    write = lambda path: np.save(path, negative)  # noqa: E731
    with pytest.raises(InputError, match="values of at least 0, got -1; --ignore -1 leaves it out"):
        read([write], tmp_path, two=False, suffix=".npy")
    _, _, (labels,) = read([write], tmp_path, two=False, suffix=".npy", ignore=-1)
    np.testing.assert_array_equal(labels, np.where(DISC, UNLABELLED, negative))


def test_colours_are_classes_and_are_written_as_such(tmp_path):
    colours = np.uint8([(0, 0, 0), (0, 128, 0), (255, 255, 255), (128, 0, 0)])
    picture = colours[RNG.integers(0, 4, (30, 30))]
    meaning, words, (labels, black) = read([picture, picture[..., 0] * 0], tmp_path, two=False)
    assert not black.any()
    assert meaning.names == ("colour (0,0,0)", "colour (0,128,0)", "colour (128,0,0)", "colour (255,255,255)")
    np.testing.assert_array_equal(meaning.picture(labels), picture)
    named = {0: "ground", 128 << 8: "tree", 0xFFFFFF: "ignore", 128 << 16: "house"}
    meaning, words, (labels,) = read([picture], tmp_path, two=False, colours=named)
    assert meaning.names == ("ground", "tree", "house") and "(255,255,255) is ignore" in words
    np.testing.assert_array_equal(labels == UNLABELLED, (picture == 255).all(axis=2))
    with pytest.raises(InputError, match=r"expected the colours of --colours, got also \(255,255,255\)"):
        read([picture], tmp_path, two=False, colours={k: v for k, v in named.items() if v != "ignore"})


# A meaning


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"values": (0, 70000)}, "values: expected whole numbers from 0 to 65535"),
        ({"values": (-1, 0)}, "values: expected whole numbers"),
        ({"values": (0, "1")}, "values: expected whole numbers"),
        ({"values": (0, 2**24), "colours": True}, "values: expected whole numbers from 0 to 16777215"),
        ({"values": (0, 1, 2)}, "names: expected one for each of different values"),
        ({"values": (1, 1)}, "names: expected one for each of different values"),
        ({"values": (0, 1, 2), "names": "abc", "above": 0}, "above: expected a number, and two classes"),
        ({"above": "0"}, "above: expected a number"),
        ({"above": True}, "above: expected a number"),
        ({"values": (0, True)}, "values: expected whole numbers"),
        ({"names": ("a", "b\n")}, "names: expected texts"),
        ({"names": ("a", "b" * 101)}, "names: expected texts"),
        ({"ignore": 255}, "ignore: expected another whole number than the classes', got 255"),
        ({"ignore": 1.5}, "ignore: expected another whole number"),
        ({"values": (3, 4), "ignore": True}, "ignore: expected another whole number"),
    ],
)
def test_fields_that_make_no_sense(fields, words):
    with pytest.raises(ValueError, match=words):
        Meaning(**fields)


def test_fields_become_plain_values():
    how = Meaning(values=np.array([3, 7]), names=iter("ab"))
    assert how == Meaning((3, 7), ("a", "b")) and all(type(value) is int for value in how.values)
    assert Meaning((0, 65535)).values == (0, 65535)


def test_a_mask_with_another_value_is_refused_by_its_name(tmp_path):
    how = Meaning((9, 2, 4), ("a", "b", "c"), ignore=255)
    page = Page(np.uint8([[9, 2, 255], [2, 4, 9]]))
    np.testing.assert_array_equal(how.labels(page, tmp_path / "a.png"), [[0, 1, 255], [1, 2, 0]])
    with pytest.raises(InputError, match="a.png: expected a mask of the values 9, 2, 4, got 1, 8$"):
        how.labels(Page(np.uint8([[8, 1, 2]])), tmp_path / "a.png")
    assert how.picture(np.uint8([[0, 1, 2]])).dtype == np.uint8
    assert Meaning((0, 300)).picture(np.uint8([[0, 1]])).tolist() == [[0, 300]]


def test_photographs_in_place_of_masks_are_refused_before_all_are_counted(tmp_path):
    photographs = [RNG.integers(0, 256, (90, 90, 3), dtype=np.uint8) for _ in range(3)]
    for two in (True, False):
        with pytest.raises(
            InputError, match="0.png: expected a mask, got more than 4096 colours, as of a photo"
        ):
            read(photographs, tmp_path, two=two)
    census = Census()
    census.add(Page(photographs[0]), tmp_path / "0.png")
    assert census.of_photographs and len(census.colours) < 5000
    _, _, labels = read(photographs, tmp_path, values="half")
    assert 0.5 < np.mean(labels[0]) < 1


def test_label_maps_of_two_codings_are_refused(tmp_path):
    small, large = visible((0, 1, 2)), visible((0, 127, 254))
    with pytest.raises(
        InputError, match="1.png: expected label maps of one kind, got 127, 254 here, and 1, 2 in"
    ):
        read([small, large], tmp_path, two=False)
    _, _, labels = read([small, large], tmp_path, two=False, values=(0, 1, 2, 127, 254))
    assert {*np.unique(labels[1])} == {0, 3, 4}
    meaning, _, _ = read([small, visible((0, 2, 127))], tmp_path, two=False)  # one file has both
    assert meaning.values == (0, 1, 2, 127)
