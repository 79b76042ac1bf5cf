"""Folders of images as people have them: each becomes right, or a question that names the flag.

The layouts are those that public data sets publish, or that bug reports tell of; the pictures are made here.
"""

import json
import os
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tinyseg.app.data import blank_sides, load_data
from tinyseg.app.flags import flags
from tinyseg.app.found import describe
from tinyseg.data.dataset import all_pixels
from tinyseg.errors import InputError
from tinyseg.ops import UNLABELLED


def load(*argv, network="modified"):
    """What a run with these flags finds: data, and the screen as one line."""
    args = flags("", network, "runs").parse_args([*map(str, argv)])
    data = load_data(args)
    return SimpleNamespace(data=data, screen=re.sub(r"\s+", " ", describe(data, args)), args=args)


def whole(found):
    """{name: labels} of all sides."""
    return {name: one for part in found.data.parts.values() for name, one in zip(part.names, part.labels)}


def scene(seed, height=24, width=24, *, there=True, centre=None, radius=6):
    """(image, mask): a bright disc in noise."""
    rng = np.random.default_rng(seed)
    y, x = centre or rng.uniform(0.35, 0.65, 2) * (height, width)
    mask = (np.hypot(*(np.mgrid[:height, :width].T - (y, x)).T) < radius) & there
    return np.clip(rng.normal(90, 20, mask.shape) + 70 * mask, 0, 255).astype(np.uint8), mask


def save(path, pixels, palette=None, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette)
    image.save(path, **how)


def save_pairs(
    folder, names, image="images/{}.png", mask="masks/{}.png", code=lambda m: 255 * np.uint8(m), **how
):
    """Scenes under these names; {name: mask}."""
    truth = {}
    for seed, name in enumerate(names):
        pixels, truth[name] = scene(seed, **how)
        save(folder / image.format(name), pixels)
        save(folder / mask.format(name), code(truth[name]))
    return truth


def right(found, truth, size=24):
    """Whether all labels are the truth, at the same size."""
    labels = whole(found)
    assert labels.keys() == truth.keys()
    return all(np.array_equal(labels[name], truth[name]) for name in truth)


NAMES = [str(i) for i in range(10)]


# Pairs of images and masks


LAYOUTS = {  # image, mask, flags that name folders below the one that holds all
    "flat, as Kaggle's nerves": ("{}.png", "{}_mask.png", ()),
    "images and masks": ("images/{}.png", "masks/{}.png", ()),
    "a suffix in masks/ (LGG, Carvana)": ("images/{}.png", "masks/{}_mask.png", ()),
    "a suffix that is said (ISIC)": ("images/{}.png", "gt/{}_segm.png", ("images", "gt", "_segm")),
    "imgs and masks": ("imgs/{}.png", "masks/{}.png", ("imgs", "masks")),
    "in words (CVC)": ("Original/{}.tif", "Ground Truth/{}.tif", ("Original", "Ground Truth")),
    "photographs (VOC)": ("JPEGImages/{}.jpg", "Classes/{}.png", ("JPEGImages", "Classes")),
    "a suffix in one folder (GlaS)": ("{}.bmp", "{}_anno.bmp", (".", ".", "_anno")),
    "a folder an image (Data Science Bowl)": ("{0}/images/{0}.png", "{0}/masks/a_{0}.png", ()),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout(layout, tmp_path):
    image, mask, named = LAYOUTS[layout]
    truth = save_pairs(tmp_path, NAMES, image, mask)
    how = ["--data", tmp_path]
    if named:
        how = ["--images", tmp_path / named[0], "--masks", tmp_path / named[1]]
        how += ["--mask-suffix", named[2]] if named[2:] else []
    found = load(*how, "--size", 24)
    labels = {name.rpartition("/")[2]: one for name, one in whole(found).items()}
    assert labels.keys() == truth.keys()
    for name in truth:
        np.testing.assert_array_equal(labels[name], truth[name])


def test_folders_of_other_names_are_a_question_that_names_the_flags(tmp_path):
    save_pairs(tmp_path, NAMES, "imgs/{}.png", "masks/{}.png")
    with pytest.raises(InputError, match=r"--images .*imgs --masks .*masks"):
        load("--data", tmp_path)


def test_one_folder_a_patient(tmp_path):
    """As the kaggle_3m set of gliomas: patients' folders, with a table beside them."""
    names = [f"TCGA_{p}/TCGA_{p}_{i}" for p in range(6) for i in (1, 2)]
    save_pairs(tmp_path, names, "{}.tif", "{}_mask.tif")
    (tmp_path / "data.csv").write_text("Patient,age\n")
    found = load("--data", tmp_path, "--size", 24)
    assert found.data.subjects == 6 and "passed over data.csv" in found.screen


def test_its_own_split_is_kept(tmp_path):
    for part, names in (("train", NAMES), ("val", ["20", "21", "22"])):
        save_pairs(tmp_path / part, names)
    found = load("--data", tmp_path, "--size", 24)
    assert sorted(found.data.held_out.names) == ["val/20", "val/21", "val/22"]
    assert len(found.data.validation) == 2 and len(found.data.train) == 8
    again = load("--train", tmp_path / "train", "--val", tmp_path / "val", "--size", 24)
    assert again.data.held_out.names == found.data.held_out.names
    save_pairs(tmp_path / "test", ["30"])
    found = load("--data", tmp_path, "--size", 24)
    assert [len(part) for part in found.data.parts.values()] == [10, 3, 1]
    with pytest.raises(InputError, match="expected --folds to part the subjects"):
        args = flags("", "modified", "runs").parse_args(["--data", str(tmp_path)])
        args.fold = (0, 3)
        load_data(args)


def test_a_subject_on_both_sides_of_ones_own_split_is_warned_of(tmp_path):
    save_pairs(tmp_path / "train", ["P1_1", "P2_1", "P3_1"])
    save_pairs(tmp_path / "val", ["P1_2", "P4_1"])
    warnings = load("--data", tmp_path, "--size", 24).data.warnings
    assert any("1 subject in train/ and in val/ or test/ as well (P1)" in warning for warning in warnings)


def test_several_masks_of_one_image_are_one(tmp_path):
    """Breast ultrasound: `benign (4)_mask.png` and `benign (4)_mask_1.png`."""
    truth = save_pairs(
        tmp_path, [f"benign ({i})" for i in range(1, 9)], "{}.png", "{}_mask.png", code=lambda m: m
    )
    _, second = scene(50, centre=(4, 4), radius=4)
    save(tmp_path / "benign (4)_mask_1.png", second)
    truth["benign (4)"] = truth["benign (4)"] | second
    found = load("--data", tmp_path, "--size", 24)
    assert right(found, truth) and found.data.subjects == 8


def test_images_without_a_mask_are_empty_on_request(tmp_path):
    truth = save_pairs(tmp_path, NAMES)
    for name in ("3", "6"):
        (tmp_path / f"masks/{name}.png").unlink()
        truth[name] &= False
    with pytest.raises(InputError, match="3.png.*6.png.*--empty-without-mask"):
        load("--data", tmp_path)
    found = load("--data", tmp_path, "--empty-without-mask", "--size", 24)
    assert right(found, truth) and "nothing is to be found in 2 images" in found.screen


def test_all_masks_of_another_size_are_named_at_once(tmp_path):
    truth = save_pairs(tmp_path, NAMES)
    for name in NAMES[::3]:
        save(tmp_path / f"masks/{name}.png", np.pad(255 * np.uint8(truth[name]), (0, 2)))
    with pytest.raises(
        InputError, match="4 files cannot be used: .*0.png.*3.png.*6.png.*9.png.*24x24, got 26x26"
    ) as error:
        load("--data", tmp_path)
    assert "\n" not in str(error.value)


def test_the_pages_of_a_file_are_images_of_one_subject(tmp_path):
    truth = {}
    for patient in range(5):
        scenes = [scene(10 * patient + i) for i in range(3)]
        for kind, pages in zip(("images", "masks"), zip(*scenes)):
            pages = [Image.fromarray(np.uint8(page) * (255 if kind == "masks" else 1)) for page in pages]
            path = tmp_path / kind / f"p{patient}.tif"
            path.parent.mkdir(exist_ok=True)
            pages[0].save(path, save_all=True, append_images=pages[1:])
        truth |= {f"p{patient}_page{i + 1}": mask for i, (_, mask) in enumerate(scenes)}
    found = load("--data", tmp_path, "--size", 24)
    assert right(found, truth) and found.data.subjects == 5
    one = Image.fromarray(np.zeros((24, 24), np.uint8))
    one.save(tmp_path / "masks/p3.tif")
    with pytest.raises(InputError, match="p3.tif: expected 3 pages, as .*p3.tif has, got 1"):
        load("--data", tmp_path)


def turned_photographs(folder, orientation, turned):
    truth = {}
    for i in range(6):
        image, truth[f"IMG_{i}"] = scene(i, 36, 24)
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(folder / f"images/IMG_{i}.jpg", turned(image).copy(), exif=exif, quality=95)
        save(folder / f"masks/IMG_{i}.png", 255 * np.uint8(truth[f"IMG_{i}"]))
    return truth


def test_photographs_are_set_upright(tmp_path):
    truth = turned_photographs(tmp_path, 6, np.rot90)
    found = load("--data", tmp_path, "--size", 0, "--crop", 24)
    assert right(found, truth) and "6 set upright by their EXIF tag" in found.screen
    for part in found.data.parts.values():
        for image, labels in zip(part.images, part.labels):
            assert image[0][labels == 1].mean() > image[0][labels == 0].mean() + 0.15


def test_masks_that_lie_while_their_photographs_are_upright_are_refused(tmp_path):
    truth = turned_photographs(tmp_path, 6, np.rot90)
    for name, mask in truth.items():
        save(tmp_path / f"masks/{name}.png", np.rot90(255 * np.uint8(mask)).copy())
    with pytest.raises(
        InputError, match="the image was set upright by its EXIF tag: draw the mask on the upright image"
    ):
        load("--data", tmp_path)


# What masks mean


def runs_by_definition(mask):
    """Kaggle's run lengths, pixel by pixel: numbered from 1, top to bottom, then left to right."""
    runs, before = [], False
    for number, there in enumerate(mask.T.ravel(), 1):
        if there and not before:
            runs.append([number, 0])
        if there:
            runs[-1][1] += 1
        before = there
    return " ".join(f"{start} {length}" for start, length in runs)


@pytest.mark.parametrize("explicit", [True, False])
def test_masks_as_run_lengths(explicit, tmp_path):
    truth, lines = {}, ["subject,img,pixels"]
    for subject in range(1, 6):
        image, mask = scene(subject, 20, 30, there=subject != 2)
        save(tmp_path / f"{subject}_1.tif", image)
        truth[f"{subject}_1"] = mask
        lines.append(f"{subject},1,{runs_by_definition(mask)}")
    (tmp_path / "train_masks.csv").write_text("\n".join(lines) + "\n")
    how = (
        ["--images", tmp_path, "--masks", tmp_path / "train_masks.csv"] if explicit else ["--data", tmp_path]
    )
    found = load(*how, "--size", 0, "--crop", 16)
    assert right(found, truth) and "run lengths" in found.screen


CODES = {
    "0 and 254": lambda m: 254 * np.uint8(m),
    "0 and 128": lambda m: 128 * np.uint8(m),
    "16 bits": lambda m: 65535 * m.astype(np.uint16),
    "red on black": lambda m: np.dstack([255 * np.uint8(m), np.zeros((*m.shape, 2), np.uint8)]),
    "alpha": lambda m: np.dstack([np.full((*m.shape, 3), 255, np.uint8), 255 * np.uint8(m)]),
}


@pytest.mark.parametrize("code", CODES)
def test_a_mask_in_another_code(code, tmp_path):
    truth = save_pairs(tmp_path, NAMES, code=CODES[code])
    assert right(load("--data", tmp_path, "--size", 24), truth)


def test_masks_as_jpeg(tmp_path):
    """Kvasir: values near 0 and near 255."""
    for i in range(8):
        image, mask = scene(i, 100, 130, radius=30)
        save(tmp_path / f"images/cju{i}k.jpg", np.dstack([image] * 3))
        save(tmp_path / f"masks/cju{i}k.jpg", 255 * np.uint8(mask), quality=90)
    found = load("--data", tmp_path, "--size", 0, "--crop", 64)
    for name, labels in whole(found).items():
        assert np.mean(labels != scene(int(name[3]), 100, 130, radius=30)[1]) < 0.002
    assert "is structure: 0 and 255" in found.screen


def three_levels(folder, names=NAMES):
    truth = {}
    for seed, name in enumerate(names):
        image, disc = scene(seed, radius=8)
        truth[name] = disc + np.uint8(scene(seed, radius=4)[1])
        save(folder / f"images/{name}.png", image)
        save(folder / f"masks/{name}.png", np.uint8([255, 128, 0])[truth[name]])
    return truth


def test_levels_spread_to_be_seen_are_a_question_in_label_maps(tmp_path):
    """Cup and disc of the eye: 0, 128 and 255."""
    truth = three_levels(tmp_path)
    with pytest.raises(InputError, match="--ignore none"):
        load("--data", tmp_path, network="lungnet")
    found = load("--data", tmp_path, "--ignore", "none", "--size", 24, network="lungnet")
    assert right(found, {name: 2 - labels for name, labels in truth.items()})
    found = load("--data", tmp_path, "--mask-values", "255,128,0", "--size", 24, network="lungnet")
    assert right(found, truth)


def test_a_network_of_two_classes_asks_which_of_three_values_is_the_structure(tmp_path):
    truth = three_levels(tmp_path)
    with pytest.raises(InputError, match="expected a mask of two values, got 255 .*--network lungnet"):
        load("--data", tmp_path)
    found = load("--data", tmp_path, "--mask-values", "above:200", "--size", 24)
    assert right(found, {name: labels == 0 for name, labels in truth.items()})


def test_void_borders_as_in_voc(tmp_path):
    """A palette, classes by number, and 255 around each object."""
    palette, truth = np.random.default_rng(0).integers(0, 256, 768).tolist(), {}
    for seed, name in enumerate(NAMES):
        image, disc = scene(seed, radius=8)
        labels = np.where(scene(seed, radius=6)[1], 15, np.where(disc, 255, 0)).astype(np.uint8)
        save(tmp_path / f"images/{name}.jpg", image)
        save(tmp_path / f"masks/{name}.png", labels, palette)
        truth[name] = np.where(labels == 15, 1, labels)
    found = load("--data", tmp_path, "--size", 24, network="lungnet")
    assert right(found, truth) and "255 is taken for not annotated" in found.screen
    with pytest.raises(InputError, match="--mask-values nonzero"):
        load("--data", tmp_path)


def test_colours_as_in_camvid(tmp_path):
    colours = np.uint8([(128, 128, 128), (128, 0, 0), (0, 0, 0)])
    truth = {}
    for seed, name in enumerate(NAMES):
        image, disc = scene(seed, radius=8)
        truth[name] = disc + np.uint8(scene(seed, radius=4)[1])
        save(tmp_path / f"images/{name}.png", image)
        save(tmp_path / f"masks/{name}.png", colours[truth[name]])
    (tmp_path / "classes.csv").write_text("R,G,B,name\n128,128,128,sky\n128,0,0,house\n0,0,0,ignore\n")
    how = ("--data", tmp_path, "--size", 24)
    found = load(*how, "--colours", tmp_path / "classes.csv", network="lungnet")
    assert right(found, {name: np.uint8([0, 1, UNLABELLED])[one] for name, one in truth.items()})
    assert found.data.train.class_names == ("sky", "house")
    found = load(*how, network="lungnet")  # listed in the order of their numbers
    assert right(found, {name: np.uint8([2, 1, 0])[one] for name, one in truth.items()})
    assert "colour (128,0,0)" in found.screen


def test_trimaps_as_in_oxfords_pets(tmp_path):
    truth = save_pairs(tmp_path, NAMES, code=lambda m: np.uint8(2 - m))  # 1: the pet, 2: not
    assert right(load("--data", tmp_path, "--mask-values", "2,1", "--size", 24), truth)


def test_objects_that_have_numbers(tmp_path):
    truth = save_pairs(tmp_path, NAMES, code=lambda m: np.cumsum(m, axis=0).astype(np.uint8) * m)
    with pytest.raises(InputError, match="--mask-values nonzero"):
        load("--data", tmp_path, "--size", 24)
    assert right(load("--data", tmp_path, "--mask-values", "above:0", "--size", 24), truth)


def test_what_is_bright_in_most_of_the_masks_is_doubted(tmp_path):
    truth = save_pairs(tmp_path, NAMES, code=lambda m: 255 * np.uint8(~m))
    found = load("--data", tmp_path, "--size", 24)
    assert any(
        "structure fills 8" in warning and "--mask-values HIGH,LOW" in warning
        for warning in found.data.warnings
    )
    found = load("--data", tmp_path, "--mask-values", "255,0", "--size", 24)
    assert right(found, truth) and not found.data.warnings


# Subjects


HABITS = {
    "breasts (INbreast)": (
        [f"P{p:02d}_{s}_{v}" for p in range(6) for s in "LR" for v in ("CC", "MLO")],
        r"^(P\d+)",
    ),
    "patient in four digits": ([f"genius_{p:02d}{v:02d}" for p in range(6) for v in range(3)], r"_(\d\d)"),
    "patient at the end": ([f"slice{k:03d}_P{p}" for p in range(6) for k in range(3)], r"_(P\d+)$"),
    "a hyphen": ([f"P{p:02d}-{k:03d}" for p in range(6) for k in range(3)], r"^([^-]+)"),
}


@pytest.mark.parametrize("habit", HABITS)
def test_which_part_of_a_name_is_the_subject_is_said_and_can_be_chosen(habit, tmp_path):
    names, regex = HABITS[habit]
    save_pairs(tmp_path, names)
    found = load("--data", tmp_path, "--size", 24)
    assert re.search(r"subjects \d+.* of \S+\.png", found.screen) and "--subject" in found.screen
    chosen = load("--data", tmp_path, "--size", 24, "--subject", regex)
    assert chosen.data.subjects == 6
    table = tmp_path / "subjects.csv"
    table.write_text("image,subject\n" + "".join(f"{n},{re.search(regex, n)[1]}\n" for n in names))
    by_table = load("--data", tmp_path, "--size", 24, "--subjects", table)
    for one in (chosen, by_table):
        sides = [set(part.subjects) for part in one.data.parts.values()]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 6


def test_names_that_all_begin_alike_are_a_collection(tmp_path):
    save_pairs(tmp_path, [f"img_{i}" for i in range(1, 11)], "{}.png", "{}_mask.png")
    assert load("--data", tmp_path, "--size", 24).data.subjects == 10


# Sizes


def test_nothing_is_cut_away(tmp_path):
    """Structures near the left and the right edge of wide images: a centre square lost half of them."""
    truth = {}
    for i in range(12):
        image, truth[f"{i}_1"] = scene(i, 42, 58, centre=(21, (4, 54, 29)[i % 3]), radius=4)
        save(tmp_path / f"{i}_1.tif", image)
        save(tmp_path / f"{i}_1_mask.tif", 255 * np.uint8(truth[f"{i}_1"]))
    found = load("--data", tmp_path, "--size", 21)
    assert found.data.train.images.shape[2:] == (21, 29)
    assert all(labels.any() for labels in whole(found).values())
    assert "12 images" in found.screen and "nothing is to be found in 0 images" in found.screen
    own = found.data.held_out.own_labels
    for name, labels in zip(found.data.held_out.names, own):
        np.testing.assert_array_equal(labels, truth[name])


def test_what_resizing_erases_is_counted_and_the_way_out_is_named(tmp_path):
    for i in range(8):
        image, mask = scene(i, 200, 200, radius=30 if i % 2 else 2)
        save(tmp_path / f"images/p{i}_1.png", image)
        save(tmp_path / f"masks/p{i}_1.png", 255 * np.uint8(mask))
    found = load("--data", tmp_path, "--size", 16)
    (warning,) = [text for text in found.data.warnings if "erases" in text]
    assert warning.startswith(
        "resizing to --size 16 erases all of structure in 4 of the 8 images that have it"
    )
    assert "--size 0 all" in warning and "in 0 images, after resizing in 4" in found.screen
    assert not load("--data", tmp_path, "--size", 0).data.warnings


def test_images_of_different_sizes(tmp_path):
    truth = {}
    for i in range(8):
        image, truth[f"{i}"] = scene(i, 30 + 3 * i, 50 - 2 * i)
        save(tmp_path / f"images/{i}.png", image)
        save(tmp_path / f"masks/{i}.png", 255 * np.uint8(truth[f"{i}"]))
    found = load("--data", tmp_path, "--size", 0, "--crop", 16)
    assert right(found, truth) and "random squares of 16 x 16" in found.screen
    with pytest.raises(InputError, match="--crop 0: expected images of one size"):
        describe(found.data, SimpleNamespace(**vars(found.args) | {"crop": 0}))


# Something to find on each side


def test_a_single_positive_subject_trains_and_no_side_pretends_to_be_judged(tmp_path):
    for i in range(20):
        image, mask = scene(i, there=i == 5)
        save(tmp_path / f"images/{i}.png", image)
        save(tmp_path / f"masks/{i}.png", 255 * np.uint8(mask))
    for seed in range(4):
        found = load("--data", tmp_path, "--size", 24, "--seed", seed)
        assert all_pixels(found.data.train.labels).any()
        assert [text[:42] for text in blank_sides(found.data)] == [
            "nothing is there in the 4 images to choose",
            "nothing is there in the 4 images to judge ",
        ]
        assert "12 images of 12 subjects, 1 with structure" in found.screen


def test_few_positive_subjects_are_shared_out_over_the_sides(tmp_path):
    for i in range(20):
        image, mask = scene(i, there=i in (3, 5, 8))
        save(tmp_path / f"images/{i}.png", image)
        save(tmp_path / f"masks/{i}.png", 255 * np.uint8(mask))
    for seed in range(6):
        parts = load("--data", tmp_path, "--size", 24, "--seed", seed).data.parts
        assert [len(part) for part in parts.values()] == [12, 4, 4]
        assert all(all_pixels(part.labels).any() for part in parts.values())


# Levels


def deep_folder(folder, levels, mask_of=lambda m: 255 * np.uint8(m), suffix=".tif"):
    for i in range(10):
        image, mask = scene(i)
        pixels = levels(image, i)
        path = folder / f"images/p{i}_1{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, pixels) if suffix == ".npy" else Image.fromarray(pixels).save(path)
        save(folder / f"masks/p{i}_1.png", mask_of(mask))


def test_the_scale_of_deep_images_is_the_trainings(tmp_path):
    """One image is ten times as bright as the others: it counts where it trains, and nowhere else."""
    deep_folder(tmp_path, lambda image, i: image.astype(np.uint16) * (100 if i == 7 else 4))
    windows = set()
    for seed in range(8):
        data = load("--data", tmp_path, "--size", 24, "--seed", seed).data
        high = data.train.preprocessing.window[1]
        assert high == (32767 if "p7_1" in data.train.names else 1023)
        windows.add(high)
    assert len(windows) == 2


def test_a_hot_pixel_is_warned_of_and_percentiles_mend_it(tmp_path):
    def hot(image, i):
        pixels = 100 + 2 * image.astype(np.uint16)
        pixels[0, 0] = 65535
        return pixels

    deep_folder(tmp_path, hot)
    found = load("--data", tmp_path, "--size", 24)
    (warning,) = [text for text in found.data.warnings if "dark" in text]
    assert "--window 0%,99.9%" in warning
    mended = load("--data", tmp_path, "--size", 24, "--window", "1%,99%")
    low, high = mended.data.train.preprocessing.window
    assert 100 < low < 250 and 350 < high < 620 and not mended.data.warnings


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_hounsfield_units_need_a_window(dtype, tmp_path):
    deep_folder(tmp_path, lambda image, i: (image * 8.0 - 1000).astype(dtype), suffix=".npy")
    with pytest.raises(InputError, match="levels from -.* to .*--window LOW,HIGH says it"):
        load("--data", tmp_path)
    found = load("--data", tmp_path, "--size", 24, "--window", "-1000,1040")
    image, _ = scene(int(found.data.train.names[0][1]))
    np.testing.assert_allclose(found.data.train.images[0, 0], image / 255, atol=1e-6)


def test_a_window_for_images_of_8_bits_is_refused(tmp_path):
    save_pairs(tmp_path, NAMES)
    with pytest.raises(InputError, match="--window: expected images of more than 8 bits, got none"):
        load("--data", tmp_path, "--window", "0,100")


def test_images_of_four_channels_train(tmp_path):
    deep_folder(tmp_path, lambda image, i: np.dstack([image, 255 - image, image // 2, image]), suffix=".npy")
    with pytest.raises(InputError, match="p0_1.npy: expected an image of 1 channels, got 4; --channels 4"):
        load("--data", tmp_path)
    found = load("--data", tmp_path, "--size", 24, "--channels", 4)
    assert found.data.train.images.shape[1] == 4


# Public sets, as docs/your-images.md has them

DOCS = Path(__file__).parents[2] / "docs/your-images.md"


def volume(path, pixels):
    nibabel = pytest.importorskip("nibabel")
    path.parent.mkdir(parents=True, exist_ok=True)
    # (H, W) -> (X, Y, Z) that come back as they were, in two slices
    turned = np.stack([pixels[::-1, :].T] * 2, axis=-1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(turned, np.eye(4)), path)


def save_any(path, pixels):
    (volume if path.name.endswith(".nii.gz") else save)(path, pixels)


PUBLIC = {  # name in the page: (image, mask, numbers of the images, other files)
    "Kaggle's ultrasound nerves": ("train/{0}_1.tif", "train/{0}_1_mask.tif", range(1, 7),
                                   ["train_masks.csv"]),
    "DRIVE": ("training/images/{0}_training.tif", "training/1st_manual/{0}_manual1.gif", range(21, 27),
              ["training/mask/{0}_training_mask.gif"]),
    "ISIC": ("ISIC-2017_Training_Data/ISIC_000000{0}.jpg",
             "ISIC-2017_Training_Part1_GroundTruth/ISIC_000000{0}_segmentation.png", range(6),
             ["ISIC-2017_Training_Data/ISIC_000000{0}_superpixels.png"]),
    "PH2": ("PH2/IMD00{0}/IMD00{0}_Dermoscopic_Image/IMD00{0}.bmp",
            "PH2/IMD00{0}/IMD00{0}_lesion/IMD00{0}_lesion.bmp", range(2, 8),
            ["PH2/IMD00{0}/IMD00{0}_roi/IMD00{0}_R1_Label4.bmp"]),
    "Pascal VOC": ("JPEGImages/2007_00000{0}.jpg", "SegmentationClass/2007_00000{0}.png", range(6),
                   ["JPEGImages/2007_10000{0}.jpg"]),
    "Cityscapes": ("leftImg8bit/train/ulm/ulm_00000{0}_000019_leftImg8bit.png",
                   "gtFine/train/ulm/ulm_00000{0}_000019_gtFine_labelIds.png", range(6),
                   ["gtFine/train/ulm/ulm_00000{0}_000019_gtFine_color.png"]),
    "nnU-Net and Medical Decathlon": ("imagesTr/case_00{0}_0000.nii.gz", "labelsTr/case_00{0}.nii.gz",
                                      range(6), ["imagesTr/._case_00{0}_0000.nii.gz"]),
    "ACDC": ("training/patient00{0}/patient00{0}_frame01.nii.gz",
             "training/patient00{0}/patient00{0}_frame01_gt.nii.gz", range(6),
             ["training/patient00{0}/patient00{0}_4d.nii.gz", "training/patient00{0}/Info.cfg"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_public_sets_are_read_by_the_flags_of_the_page(name, tmp_path, monkeypatch):
    (said,) = re.findall(rf"^\| {name} \| `(.*)` \|$", DOCS.read_text(), re.M)
    monkeypatch.chdir(tmp_path)
    image, mask, numbers, others = PUBLIC[name]
    truth = []
    for n in numbers:
        pixels, there = scene(n)
        truth.append(there)
        save_any(Path(image.format(n)), pixels)
        save_any(
            Path(mask.format(n)), (255 if mask.endswith((".tif", ".gif", ".bmp")) else 1) * np.uint8(there)
        )
        for other in others:
            file = Path(other.format(n))
            save_any(file, pixels) if file.suffix in (".gif", ".bmp", ".png", ".jpg", ".gz") else file.touch()
    network = "lungnet" if name in ("Pascal VOC", "Cityscapes") else "modified"
    argv = shlex.split(said.replace("LOW,HIGH", "0,255"))
    found = load(*argv, "--size", 24, network=network)
    slices = 2 if image.endswith(".nii.gz") else 1
    labels = [labels for _, labels in sorted(whole(found).items())]
    np.testing.assert_array_equal(labels, np.repeat(truth, slices, axis=0))
    images = np.concatenate([part.images for part in found.data.parts.values()])
    assert 0.25 < images.mean() < 0.6  # and the images are the images
    assert len({subject for part in found.data.parts.values() for subject in part.subjects}) == 6


# What is in doubt


def test_not_a_number_is_named_whatever_the_window(tmp_path):
    for n, name in enumerate(NAMES):
        image, mask = scene(n)
        levels = image.astype(np.float32)
        levels[0, 0] = np.nan if n == 3 else 0
        (tmp_path / "images").mkdir(exist_ok=True)
        np.save(tmp_path / f"images/{name}.npy", levels)
        save(tmp_path / f"masks/{name}.png", 255 * np.uint8(mask))
    for window in ((), ("--window=0,255",), ("--window=1%,99%",)):
        with pytest.raises(InputError, match=f"{NAMES[3]}.npy: expected finite levels, got NaN"):
            load("--data", tmp_path, *window)


def test_images_that_a_window_makes_white_are_warned_of(tmp_path):
    save_pairs(tmp_path, NAMES)
    for n, name in enumerate(NAMES):
        image = scene(n)[0].astype(np.uint16)
        save(tmp_path / f"images/{name}.png", 4 * image if n else 5000 + image)
    found = load("--data", tmp_path, "--window=0,1000")
    assert any(
        f"in 1 image nearly all pixels end black or white ({NAMES[0]})" in w for w in found.data.warnings
    )


@pytest.mark.parametrize(
    ("orientation", "shape", "told"), [(6, (24, 24), True), (3, (24, 36), True), (6, (24, 36), False)]
)
def test_a_turned_image_whose_mask_may_not_be_is_warned_of(orientation, shape, told, tmp_path):
    for n, name in enumerate(NAMES):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image, mask = scene(n, *shape)
        save(tmp_path / f"images/{name}.jpg", np.rot90(image, 1 if orientation == 6 else 2).copy(), exif=exif)
        save(tmp_path / f"masks/{name}.png", 255 * np.uint8(mask))
    warnings = load("--data", tmp_path).data.warnings
    assert told == any("set upright by the EXIF tag, and no mask" in text for text in warnings)


def test_transparency_that_is_left_out_is_said(tmp_path):
    save_pairs(tmp_path, NAMES)
    for n, name in enumerate(NAMES):
        image = scene(n)[0]
        save(tmp_path / f"images/{name}.png", np.dstack([image, image, image, 255 - image]))
    assert "8-bit colour (transparency left out)" in load("--data", tmp_path).screen


def test_results_do_not_go_into_a_folder_of_images(tmp_path):
    save_pairs(tmp_path, NAMES)
    for place in ("images", "masks"):
        with pytest.raises(
            InputError, match="--out .*: expected another folder than that of .*, got its own"
        ):
            load("--data", tmp_path, "--out", tmp_path / place)
    load("--data", tmp_path, "--out", tmp_path / "runs")


# Flags


def test_what_images_without_a_mask_are_is_said_in_one_way(tmp_path):
    save_pairs(tmp_path, NAMES)
    with pytest.raises(InputError, match="--skip-without-mask: expected one of them, got both"):
        load("--data", tmp_path, "--empty-without-mask", "--skip-without-mask")


def test_a_single_stack_is_refused_with_the_way_out(tmp_path):
    """As of the ISBI challenge of 2012: one file of slices, one of masks."""
    pages = [Image.fromarray(scene(n)[0]) for n in range(4)]
    masks = [Image.fromarray(255 * np.uint8(scene(n)[1])) for n in range(4)]
    for kind, name, of in (("images", "volume", pages), ("masks", "labels", masks)):
        (tmp_path / kind).mkdir()
        of[0].save(tmp_path / kind / f"train-{name}.tif", save_all=True, append_images=of[1:])
    with pytest.raises(InputError, match="at least 2 subjects.*got 1: train-volume; .*split the file"):
        load("--data", tmp_path)


def test_ones_own_images_in_two_ways_are_refused(tmp_path):
    save_pairs(tmp_path, NAMES)
    with pytest.raises(InputError, match="--data and --images: expected the images in one way, got 2"):
        load("--data", tmp_path, "--images", tmp_path / "images", "--masks", tmp_path / "masks")
    with pytest.raises(InputError, match="--images .*: expected the masks by --masks"):
        load("--images", tmp_path / "images")
    with pytest.raises(InputError, match="--masks .*: expected the images by --images"):
        load("--data", tmp_path, "--masks", tmp_path / "masks")
    with pytest.raises(InputError, match="--train, --val: expected both, got one"):
        load("--train", tmp_path)
    with pytest.raises(InputError, match="--subject: expected your own images"):
        load("--subject", "(.)")


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--window", "-1000,400"], "window", (-1000.0, 400.0)),
        (["--window", "-.5,1%"], "window", (-0.5, "1%")),
        (["--mask-suffix=-1st"], "mask_suffix", "-1st"), (["--mask-suffix", "-1"], "mask_suffix", "-1"),
        (["--mask-suffix", " mask"], "mask_suffix", " mask"),
    ],
)  # fmt: skip
def test_values_that_begin_with_a_dash_or_a_space_stay_as_they_are(argv, name, value):
    assert getattr(flags("", "modified", "runs").parse_args(argv), name) == value


@pytest.mark.parametrize(
    ("flag", "wrong"),
    [
        ("--mask-values", "zero"), ("--mask-values", "above:x"), ("--mask-values", "3"),
        ("--mask-values", "1,1"), ("--mask-values", "-1,2"), ("--window", "5"), ("--window", "5,4"),
        ("--window", "a,b"),
        ("--window", "1%,200%"), ("--window", "nan,3"), ("--images", "3"), ("--size", "-1"), ("--crop", "-1"),
        ("--channels", "0"), ("--memory", "0"),
    ],
)  # fmt: skip
def test_a_flag_that_makes_no_sense_is_one_line(flag, wrong, capsys):
    with pytest.raises(SystemExit) as caught:
        flags("", "modified", "runs").parse_args([flag, wrong])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and flag in said and "expected" in said


def test_flags_of_ones_own_images_are_kept_for_resume():
    from tinyseg.app.flags import restored, saved

    argv = ["--images", "a", "--masks", "b.csv", "--mask-suffix", "_x", "--subject", "(.)"]
    argv += ["--mask-values", "0,7", "--window", "-5,1%"]
    args = flags("", "lungnet", "runs").parse_args(argv)
    again = restored(json.loads(json.dumps(saved(args))))
    assert {name: value for name, value in vars(args).items() if name in vars(again)} == vars(again)
    assert again.window == (-5.0, "1%") and again.mask_values == (0, 7) and again.images.name == "a"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "0,0,0,sky\n1,2,300,house\n",
            "classes.csv, line 2: expected R,G,B,NAME, each name once, got 1,2,300,house",
        ),
        ("0,0,0,sky\n1,2,3,sky\n", "line 2: expected R,G,B,NAME, each name once"),
        ("0,0,0,sky\n1,2,3\n", "line 2: expected R,G,B,NAME"),
        ("R,G,B,NAME\n0,0,0,sky\n", "expected 2 to 254 colours, got 1"),
    ],
)
def test_a_list_of_colours_that_makes_no_sense(lines, words, tmp_path):
    save_pairs(tmp_path, NAMES)
    (tmp_path / "classes.csv").write_text(lines)
    with pytest.raises(InputError, match=words):
        load("--data", tmp_path, "--colours", tmp_path / "classes.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.parametrize("flag", ["--colours", "--subjects"])
def test_a_pipe_in_place_of_a_table_is_refused_and_not_waited_for(flag, tmp_path):
    save_pairs(tmp_path, NAMES)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match="pipe.csv: expected a CSV file"):
        load("--data", tmp_path, flag, tmp_path / "pipe.csv")


def test_a_long_thin_image_is_not_enlarged_without_end(tmp_path):
    """A line of 5000 pixels would become 64 x 320000."""
    for name in ("a", "b", "c"):
        for kind in ("images", "masks"):
            save(tmp_path / kind / f"{name}.png", np.full((1, 5000), 255, np.uint8))
    with pytest.raises(
        InputError, match="3 files cannot be used: .*a.png: expected .* not so long and thin, got 5000 x 1"
    ):
        load("--data", tmp_path)
