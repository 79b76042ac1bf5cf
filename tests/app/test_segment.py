"""The command that segments a reader's own images: what it writes and says, and how it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from app.runs import files
from image_files import png
from PIL import Image

from tinyseg import lungnet, modified, save
from tinyseg.app import segment, train
from tinyseg.data import phantom
from tinyseg.io.masks import Meaning
from tinyseg.io.preprocessing import Preprocessing, resize
from tinyseg.io.rle import decode, encode, read_runs, write_runs
from tinyseg.metrics import confusion_matrix

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (50, 70), dtype=np.uint8)


def save_model(path, net, how):
    """A network that finds something in half of a noisy image."""
    params, state = net.init(np.random.default_rng(0))
    if net.head == "linear":
        y, _ = net(params, state, how(IMAGE)[None])
        params["output.bias"] += np.float32(0.5) - np.median(y)
    save(path, net, params, state, how)
    return str(path)


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path / "model.npz", modified(dilations=(1, 2), weight_std=0.3), Preprocessing(32))


@pytest.fixture
def many(tmp_path):
    how = Preprocessing(32, masks=Meaning((0, 7, 9), ("nothing", "bark", "leaf"), ignore=255))
    net = lungnet(maps=2, widths=(8, 4), dilations=(1, 2), classes=3)
    return save_model(tmp_path / "many.npz", net, how)


def run(model, *images, out):
    return segment.main([model, *map(str, images), "--out", str(out)])


def fails(capsys, model, *args, out):
    with pytest.raises(SystemExit) as caught:
        run(model, *args, out=out)
    said = capsys.readouterr()
    assert caught.value.code == 2
    return said


KINDS = {
    "grey.png": lambda file: imageio.imwrite(file, IMAGE),
    "grey.jpg": lambda file: imageio.imwrite(file, IMAGE),
    "grey.tif": lambda file: imageio.imwrite(file, IMAGE, plugin="pillow"),
    "deep.png": lambda file: imageio.imwrite(file, IMAGE.astype(np.uint16) * 200),
    "deep.tif": lambda file: imageio.imwrite(file, IMAGE.astype(np.uint16) * 200, plugin="pillow"),
    "colour.png": lambda file: imageio.imwrite(file, np.dstack([IMAGE] * 3)),
    "colour.tif": lambda file: imageio.imwrite(file, np.dstack([IMAGE] * 3), plugin="pillow"),
    "deep_colour.png": lambda file: png(file, np.dstack([IMAGE.astype(np.uint16) * 257] * 3), 2),
    "one_bit.png": lambda file: Image.fromarray(IMAGE > 127).save(file),
}


@pytest.mark.parametrize("name", KINDS)
def test_images_of_every_kind(name, model, tmp_path):
    KINDS[name](tmp_path / name)
    run(model, tmp_path / name, out=tmp_path / "out")
    stem = Path(name).stem
    assert files(tmp_path / "out") == {
        "segment.txt",
        "segment.json",
        "segment.html",
        *(f"{stem}_{k}.png" for k in ("mask", "probability", "overlay")),
    }
    mask, maps, overlay = (
        imageio.imread(tmp_path / f"out/{stem}_{k}.png") for k in ("mask", "probability", "overlay")
    )
    assert mask.shape == maps.shape == IMAGE.shape and overlay.shape == (*IMAGE.shape, 3)
    assert mask.dtype == overlay.dtype == np.uint8 and maps.dtype == np.uint16
    assert set(np.unique(mask)) == {0, 255}
    np.testing.assert_array_equal(mask > 0, maps > 32767)
    assert (overlay[mask == 0] == overlay[mask == 0][:, :1]).all()  # grey where nothing was found
    assert (overlay[mask > 0][:, 2] > overlay[mask > 0][:, 0]).all()  # and blue where something was


@pytest.mark.parametrize("shape", [(1, 1), (5, 90), (90, 5), (33, 32), (200, 300)])
def test_images_of_every_size(shape, model, tmp_path):
    imageio.imwrite(tmp_path / "a.png", RNG.integers(0, 256, shape, dtype=np.uint8))
    for size in ((), ("--size", "0"), ("--size", "7")):
        segment.main([model, str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *size])
        assert imageio.imread(tmp_path / "out/a_mask.png").shape == shape


def test_a_stack_gives_a_mask_for_each_page(model, tmp_path):
    pages = [Image.fromarray(page) for page in (IMAGE, IMAGE[::-1].copy(), IMAGE[:20])]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    run(model, tmp_path / "stack.tif", out=tmp_path / "out")
    shapes = [imageio.imread(tmp_path / f"out/stack_page{i}_mask.png").shape for i in (1, 2, 3)]
    assert shapes == [(50, 70), (50, 70), (20, 70)]
    imageio.imwrite(tmp_path / "alone.png", IMAGE[:20])
    run(model, tmp_path / "alone.png", out=tmp_path / "out")
    alone = (tmp_path / "out/alone_probability.png").read_bytes()
    assert alone == (tmp_path / "out/stack_page3_probability.png").read_bytes()


def test_pages_of_one_stack_have_one_scale(model, tmp_path, capsys):
    """The brighter page needs one bit more, by itself; in a stack the darker one is scaled like it."""
    pages = [(IMAGE.astype(np.uint16) * factor) for factor in (8, 9)]  # up to 2040 and 2295
    Image.fromarray(pages[0]).save(
        tmp_path / "s.tif", save_all=True, append_images=[Image.fromarray(pages[1])]
    )
    run(model, tmp_path / "s.tif", out=tmp_path / "out")
    assert capsys.readouterr().out.count("levels from 0 to 4095 become 0 to 1") == 2
    imageio.imwrite(tmp_path / "a.png", pages[1])
    run(model, tmp_path / "a.png", out=tmp_path / "out")
    maps = [(tmp_path / f"out/{name}_probability.png").read_bytes() for name in ("s_page1", "s_page2", "a")]
    assert maps[1] == maps[2] != maps[0]


def test_a_threshold_of_ones_own(model, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    segment.main([model, str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--threshold", "1"])
    p = imageio.imread(tmp_path / "out/a_probability.png") / 65535
    assert not imageio.imread(tmp_path / "out/a_mask.png").any()
    assert f"structure 0.0% (highest probability {p.max():.3f})" in capsys.readouterr().out
    segment.main([model, str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--threshold", "0.4"])
    mask = imageio.imread(tmp_path / "out/a_mask.png") > 0
    assert (mask == (p > 0.4))[abs(p - 0.4) > 1e-4].all() and mask.mean() > 0.5


def test_a_true_mask_with_other_values_is_said_and_the_image_segmented_all_the_same(tmp_path, capsys):
    how = Preprocessing(32, masks=Meaning((0, 1), ("value 0", "value 1")))
    two = save_model(tmp_path / "two.npz", lungnet(maps=2, widths=(8, 4), dilations=(1, 2)), how)
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    imageio.imwrite(tmp_path / "a_mask.png", np.where(IMAGE > 127, 255, 0).astype(np.uint8))
    said = fails(capsys, two, tmp_path / "a.png", out=tmp_path / "out")
    assert "a_mask.png: expected a mask of the values 0, 1, got 255" in said.out
    assert (tmp_path / "out/a_mask.png").exists()


def test_a_folder_and_its_true_masks(model, tmp_path, capsys):
    folder, data = tmp_path / "k", phantom(4, 40)
    folder.mkdir()
    for i, (image, mask) in enumerate(zip(data.images[:, 0], data.labels)):
        imageio.imwrite(folder / f"1_{i}.tif", (255 * image).astype(np.uint8), plugin="pillow")
        if i < 3:
            imageio.imwrite(folder / f"1_{i}_mask.tif", (255 * mask).astype(np.uint8), plugin="pillow")
    run(model, folder, out=tmp_path / "out")
    said = capsys.readouterr().out
    assert said == (tmp_path / "out/segment.txt").read_text()
    found = [imageio.imread(tmp_path / f"out/1_{i}_mask.png") for i in range(4)]
    for i, line in enumerate(said.splitlines()[:3]):
        counts = confusion_matrix(found[i] > 0, data.labels[i])
        share = (found[i] > 0).mean()
        shares = f"background {1 - share:.1%}, structure {share:.1%}"
        assert line.startswith(f"1_{i}: {shares}; 40 x 40 pixels, seen as 32 x 32; ")
        assert line.endswith(f"Dice {counts.dice:.3f}, IoU {counts.iou:.3f}")
    pooled = confusion_matrix(np.stack(found[:3]) > 0, data.labels[:3])
    assert "Dice" not in said.splitlines()[3]
    assert f"all 3 with a true mask together: Dice {pooled.dice:.3f}, IoU {pooled.iou:.3f}" in said
    assert "4 of 4 images segmented" in said


MASKS = {  # name: (image, mask, flags)
    "beside": ("i/{}.png", "i/{}_GT.png", ["--mask-suffix", "_GT"]),
    "a dash": ("i/{}.png", "i/{}-GT.png", ["--mask-suffix=-GT"]),
    "elsewhere": ("i/{}.png", "m/{}.png", ["--masks", "m"]),
    "within": ("i/{}.png", "i/manual/{}_1.png", ["--masks", "i/manual", "--mask-suffix", "_1"]),
    "below": ("i/a{0}/b/{0}.png", "m/a{0}/b/{0}.png", ["--masks", "m"]),
    "by what differs": ("i/img{}_training.png", "m/{}_manual1.gif", ["--masks", "m"]),
    "run lengths": ("i/{}.png", None, ["--masks", "runs.csv"]),
}


@pytest.mark.parametrize(("image", "mask", "flags"), MASKS.values(), ids=MASKS)
def test_true_masks_are_those_that_training_finds_by_the_same_flags(image, mask, flags, model, tmp_path,
                                                                    monkeypatch, capsys):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    truths, rows = [(phantom(3, 40, seed=1).labels[k] > 0).astype(np.uint8) for k in range(3)], {}
    for k, truth in enumerate(truths):
        for place, pixels in ((image, IMAGE[:40, :40]), (mask, 255 * truth)):
            if place:
                Path(place.format(k)).parent.mkdir(parents=True, exist_ok=True)
                imageio.imwrite(place.format(k), pixels)
        rows[str(k)] = encode(truth > 0)
    write_runs("runs.csv", rows)
    counts = run(model, "i", *flags, out="out")
    found = [imageio.imread(f"out/{Path(image.format(k)).stem}_mask.png") > 0 for k in range(3)]
    for one, mask_found, truth in zip(counts, found, truths, strict=True):
        np.testing.assert_array_equal(one, confusion_matrix(mask_found, truth).counts)
    assert "3 of 3 images segmented; the results are in out\n" in capsys.readouterr().out
    single = run(model, image.format(1), *flags, out="out")
    if image not in (
        MASKS["below"][0],
        MASKS["by what differs"][0],
    ):  # where one needs the others, or the folder
        np.testing.assert_array_equal(single, counts[1:2])


def test_without_any_true_mask_the_last_line_says_how_to_name_them(model, tmp_path, capsys):
    (tmp_path / "i").mkdir(), (tmp_path / "m").mkdir()
    imageio.imwrite(tmp_path / "i/a.png", IMAGE)
    imageio.imwrite(tmp_path / "m/b.png", IMAGE)
    run(model, tmp_path / "i", out=tmp_path / "out")
    assert "; none has a true mask to compare with (--masks and --mask-suffix" in capsys.readouterr().out
    run(model, tmp_path / "i", "--mask-suffix", "_GT", out=tmp_path / "out")
    assert capsys.readouterr().out.endswith("; none has a true mask to compare with\n")


@pytest.mark.parametrize("palette", [False, True])
def test_label_maps(palette, many, tmp_path, capsys):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    truth = RNG.choice(np.uint8([0, 7, 9, 255]), IMAGE.shape)
    imageio.imwrite(tmp_path / "images/a.png", IMAGE)
    label_map = Image.fromarray(truth)
    if palette:
        label_map.putpalette(RNG.integers(0, 256, 768).tolist())
    label_map.save(tmp_path / "masks/a.png")
    run(many, tmp_path, out=tmp_path / "out")
    assert files(tmp_path / "out") == {
        "segment.txt",
        "segment.json",
        "segment.html",
        "legend.png",
        "a_mask.png",
        "a_probability.tif",
        "a_overlay.png",
    }
    mask = imageio.imread(tmp_path / "out/a_mask.png")
    maps = imageio.imread(tmp_path / "out/a_probability.tif", index=..., plugin="pillow")
    assert maps.shape == (3, 50, 70) and set(np.unique(mask)) <= {0, 7, 9}
    np.testing.assert_allclose(maps.sum(axis=0, dtype=int), 65535, atol=3)
    chosen = np.take_along_axis(maps, np.searchsorted([0, 7, 9], mask)[None], axis=0)[0]
    np.testing.assert_array_equal(chosen, maps.max(axis=0))
    known = truth != 255
    dice = [confusion_matrix(mask[known] == v, truth[known] == v).dice for v in (0, 7, 9)]
    said = capsys.readouterr().out
    assert f"on the {known.mean():.1%} that are annotated" in said
    assert f"mean Dice {np.mean(dice):.3f}" in said and f"bark {(mask == 7).mean():.1%}" in said


def test_whole_or_in_tiles_comes_to_the_same(model, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    maps = []
    for memory in ("1", "0.0001"):
        args = [model, str(tmp_path / "a.png"), "--size", "0", "--memory", memory]
        if memory != "1":
            with pytest.raises(SystemExit):
                segment.main([*args, "--out", str(tmp_path / "out")])  # not even the smallest tile
            args[-1] = "0.0004"
        segment.main([*args, "--out", str(tmp_path / "out")])
        maps.append(imageio.imread(tmp_path / "out/a_probability.png").astype(int))
    assert "in tiles of" in capsys.readouterr().out.splitlines()[-2]
    np.testing.assert_allclose(*maps, atol=2)


def test_instance_norm_is_not_cut(many, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    said = fails(capsys, many, tmp_path / "a.png", "--size", "0", "--memory", "1e-6", out=tmp_path / "out")
    assert "a.png: instance norm takes its statistics from the whole image" in said.out


def test_an_image_that_cannot_be_read_does_not_stop_the_others(model, tmp_path, capsys):
    folder = tmp_path / "k"
    folder.mkdir()
    for name in "abc":
        imageio.imwrite(folder / f"{name}.png", IMAGE)
    (folder / "b.png").write_bytes(b"text")
    imageio.imwrite(folder / "c_mask.png", IMAGE[:9] * 0)
    said = fails(capsys, model, folder, out=tmp_path / "out")
    assert "b.png: expected an image" in said.out and "c_mask.png: expected the size of" in said.out
    assert "2 of 3 images segmented" in said.out and said.err == ""  # c only could not be judged
    assert {"a_mask.png", "c_mask.png"} < files(tmp_path / "out")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["a.png", "--out", "."], "expected another folder than that of the images"),
        (["sub/a.png", "truths/sub/a.png"], "expected images of different names"),
        (["a.png", "sub/a_page2.png"], "expected images of different names"),
        (["a.png", "--out", "truths"], "truths/a_mask.png: expected to write a result here, got a file"),
        (["a.png", "--size", "1" + "0" * 30], "--size: expected"),
        (["a.png", "--size", "-1"], "--size"),
        (["a.png", "--memory", "0"], "--memory"),
        (["empty"], "empty: expected images"),
        (["nowhere.png"], "nowhere.png: expected an image or a folder of images, got nothing of this name"),
        ([], "IMAGE"),
    ],
)
def test_what_is_refused_before_anything_is_written(args, words, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("sub", "empty", "truths/sub"):
        Path(folder).mkdir(parents=True)
    for file in ("a.png", "sub/a.png", "sub/a_page2.png", "truths/a_mask.png", "truths/sub/a.png"):
        imageio.imwrite(file, IMAGE)
    before = files(tmp_path)
    with pytest.raises(SystemExit) as caught:
        segment.main([model, *args])
    said = capsys.readouterr()
    assert caught.value.code == 2 and words in said.err and said.err.count("\n") == 1 and said.out == ""
    assert files(tmp_path) == before


@pytest.mark.parametrize("place", ["set/images", "set", "."])
def test_a_folder_of_images_is_no_folder_for_results(place, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("set/images").mkdir(parents=True)
    imageio.imwrite("set/images/a.png", IMAGE)
    said = fails(capsys, model, place, out="set/images")
    assert "expected another folder than that of the images, got a.png's own" in said.err
    assert files("set/images") == {"a.png"}


def test_images_below_the_folder_for_results_are_segmented(model, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    imageio.imwrite(tmp_path / "images/a.png", IMAGE)
    for _ in range(2):  # the second time with results there
        segment.main([model, str(tmp_path / "images"), "--out", str(tmp_path)])
        assert "1 of 1 images segmented" in capsys.readouterr().out


def test_a_model_that_is_none(tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    said = fails(capsys, str(tmp_path / "a.png"), tmp_path / "a.png", out=tmp_path / "out")
    assert "a.png: not a whole .npz file" in said.err


def test_what_else_is_in_the_folder_stays(model, tmp_path):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    (tmp_path / "out").mkdir()
    others = ("model.npz", "masks.png", "log.txt")  # of a training
    for name in others:
        (tmp_path / "out" / name).write_text("mine")
    for _ in range(2):  # and what an earlier segmentation wrote is written anew
        run(model, tmp_path / "a.png", out=tmp_path / "out")
    assert [(tmp_path / "out" / name).read_text() for name in others] == ["mine"] * 3
    assert imageio.imread(tmp_path / "out/a_mask.png").shape == IMAGE.shape


def test_pages_that_are_files_of_their_own(model, tmp_path):
    for page in (1, 2):
        imageio.imwrite(tmp_path / f"a_page{page}.png", IMAGE)
    run(model, tmp_path / "a_page1.png", tmp_path / "a_page2.png", out=tmp_path / "out")
    assert {"a_page1_mask.png", "a_page2_mask.png"} < files(tmp_path / "out")


def test_too_little_memory_is_said_of_the_image(model, tmp_path, monkeypatch, capsys):
    def too_much(*args, **options):
        raise MemoryError

    monkeypatch.setattr(segment, "probability_maps", too_much)
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    said = fails(capsys, model, tmp_path / "a.png", out=tmp_path / "out")
    assert "a.png: not enough memory; try" in said.out


def test_a_name_that_is_no_text(model, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff.png"
    (tmp_path / "a.png").write_bytes(b"")
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    os.rename(tmp_path / "a.png", name)
    command = [sys.executable, "-m", "tinyseg.app.main", "segment", model, name, "--out", tmp_path / "out"]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, env=strict)
    assert done.returncode == 0 and done.stderr == b"" and b"1 of 1 images segmented" in done.stdout
    assert b"\xff_mask.png" in os.listdir(os.fsencode(tmp_path / "out"))


def test_a_truth_that_says_nothing(many, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    imageio.imwrite(tmp_path / "a_mask.png", np.full_like(IMAGE, 255))
    run(many, tmp_path, out=tmp_path / "out")
    assert "; nothing annotated to compare with" in capsys.readouterr().out


def test_what_the_network_sees_is_what_training_showed_it(model, tmp_path, monkeypatch):
    """The image at the training's scale, whole: its middle is the centre square of the training."""
    seen = []
    monkeypatch.setattr("tinyseg.io.tiles.predict", lambda net, p, s, x: seen.append(x) or x)
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    run(model, tmp_path / "a.png", out=tmp_path / "out")
    assert seen[0].shape == (1, 1, 32, 45)
    np.testing.assert_allclose(seen[0][0, 0], resize(IMAGE, (32, 45)) / 255, atol=1e-6)


def test_the_page_shows_what_was_found(many, model, tmp_path):
    """Of two classes with the slider, of more with each overlay; what would make it heavy is left out."""
    for name in ("a", "b"):
        imageio.imwrite(tmp_path / f"{name}.png", IMAGE)
    for one in (model, many):
        run(one, tmp_path / "a.png", tmp_path / "b.png", out=tmp_path / "out")
        content = (tmp_path / "out/segment.html").read_text()
        assert content.count("<figcaption>a") == content.count("<figcaption>b") == 1
        assert ('type="range"' in content) == (one is model) and "http:" not in content


def test_files_of_one_name_in_different_folders_are_told_apart_by_these(model, tmp_path):
    for patient in ("p1", "p2"):
        (tmp_path / "k" / patient).mkdir(parents=True)
        imageio.imwrite(tmp_path / "k" / patient / "1.png", IMAGE)
    run(model, tmp_path / "k", out=tmp_path / "out")
    assert {"p1_1_mask.png", "p2_1_mask.png"} < files(tmp_path / "out")


def test_earlier_results_below_the_folder_of_images_are_none_of_them(model, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    for _ in range(2):
        run(model, tmp_path, out=tmp_path / "out")
        assert "1 of 1 images segmented" in capsys.readouterr().out


def test_masks_are_written_as_run_lengths(model, tmp_path):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    segment.main(
        [model, str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--rle", str(tmp_path / "r.csv")]
    )
    (text,) = read_runs(tmp_path / "r.csv")["a"]
    mask = imageio.imread(tmp_path / "out/a_mask.png") > 0
    assert mask.any() and np.array_equal(decode(text, mask.shape), mask)


def test_run_lengths_that_cannot_be_written_are_refused_before_the_work(model, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    (tmp_path / "mine.csv").write_text("name,age\nann,7\n")
    for place in (tmp_path / "no/r.csv", tmp_path / "mine.csv"):
        assert (
            f"{place}: " in fails(capsys, model, tmp_path / "a.png", "--rle", place, out=tmp_path / "out").err
        )
    assert not (tmp_path / "out").exists() and (tmp_path / "mine.csv").read_text() == "name,age\nann,7\n"


def test_a_table_of_ones_own_run_lengths_is_not_overwritten(model, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    (tmp_path / "r.csv").write_text("img,pixels\na,1 2\nprecious,3 4\n")
    flags = ["--rle", tmp_path / "r.csv", "--masks", tmp_path / "r.csv"]
    assert "r.csv: expected a new file" in fails(capsys, model, tmp_path, *flags, out=tmp_path / "out").err
    assert "precious" in (tmp_path / "r.csv").read_text()
    for _ in range(2):  # but one's own of the last time
        run(model, tmp_path / "a.png", "--rle", tmp_path / "new.csv", out=tmp_path / "out")


CODINGS = {
    "jpg": lambda path, truth: Image.fromarray(255 * truth).save(path.with_suffix(".jpg"), quality=70),
    "1 and 2": lambda path, truth: imageio.imwrite(path, truth + 1),
    "0 and 1": lambda path, truth: imageio.imwrite(path, truth),
    "0 and 255": lambda path, truth: imageio.imwrite(path, 255 * truth),
}


@pytest.mark.parametrize("meaning", [Meaning(above=0), Meaning(above=127.5), Meaning((0, 255))], ids=str)
@pytest.mark.parametrize("coding", CODINGS)
def test_true_masks_need_not_be_coded_as_the_training_s(coding, meaning, tmp_path):
    net = modified(dilations=(1, 2), weight_std=0.3)
    model = save_model(tmp_path / "m.npz", net, Preprocessing(32, masks=meaning))
    truth = np.zeros(IMAGE.shape, np.uint8)
    truth[10:30, 20:50] = 1
    (tmp_path / "images").mkdir(), (tmp_path / "masks").mkdir()
    imageio.imwrite(tmp_path / "images/a.png", IMAGE)
    CODINGS[coding](tmp_path / "masks/a.png", truth)
    (counts,) = run(model, tmp_path / "images", out=tmp_path / "out")
    assert counts.sum(axis=1).tolist() == [truth.size - truth.sum(), truth.sum()]


def test_true_masks_of_bright_background_are_read_as_training_read_them(tmp_path):
    how = Preprocessing(32, masks=Meaning((255, 0)))
    model = save_model(tmp_path / "m.npz", modified(dilations=(1, 2), weight_std=0.3), how)
    truth = IMAGE > 250
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    imageio.imwrite(tmp_path / "a_mask.png", 255 * np.uint8(~truth))
    (counts,) = run(model, tmp_path / "a.png", out=tmp_path / "out")
    assert counts.sum(axis=1).tolist() == [truth.size - truth.sum(), truth.sum()]


def test_run_lengths_of_more_than_two_classes_are_refused(many, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    said = fails(capsys, many, tmp_path / "a.png", "--rle", tmp_path / "r.csv", out=tmp_path / "out")
    assert "--rle: expected a model of two classes, got 3" in said.err


def test_images_of_the_networks_channels_are_segmented_and_others_refused(tmp_path, capsys):
    four = save_model(
        tmp_path / "four.npz",
        lungnet(channels=4, maps=2, widths=(8, 4), dilations=(1, 2)),
        Preprocessing(32, 4),
    )
    np.save(tmp_path / "a.npy", np.dstack([IMAGE] * 4))
    run(four, tmp_path / "a.npy", out=tmp_path / "out")
    assert "a_mask.png" in files(tmp_path / "out")
    imageio.imwrite(tmp_path / "b.png", IMAGE)
    said = fails(capsys, four, tmp_path / "b.png", out=tmp_path / "out")
    assert "b.png: expected an image of 4 channels, got 1" in said.out


def test_the_mask_lies_on_the_image_in_colour_where_the_network_sees_colour(tmp_path):
    net, colour = (
        modified(channels=3, dilations=(1, 2), weight_std=0.3),
        np.dstack([IMAGE, 255 - IMAGE, IMAGE // 2]),
    )
    params, state = net.init(np.random.default_rng(0))
    params["output.bias"] -= np.float32(9)  # finds nothing
    save(tmp_path / "m.npz", net, params, state, Preprocessing(32, 3))
    imageio.imwrite(tmp_path / "a.png", colour)
    run(str(tmp_path / "m.npz"), tmp_path / "a.png", out=tmp_path / "out")
    np.testing.assert_array_equal(imageio.imread(tmp_path / "out/a_overlay.png"), colour)


def test_floats_need_a_window_where_training_had_none(model, tmp_path, capsys):
    np.save(tmp_path / "a.npy", IMAGE * 8.0 - 1000)
    said = fails(capsys, model, tmp_path / "a.npy", out=tmp_path / "out")
    assert "a.npy: expected to know which levels are black and white" in said.out
    run(model, tmp_path / "a.npy", "--window", "-1000,1040", out=tmp_path / "out")
    as_floats = (tmp_path / "out/a_probability.png").read_bytes()
    imageio.imwrite(tmp_path / "b.png", IMAGE)
    run(model, tmp_path / "b.png", out=tmp_path / "out")
    assert (
        np.abs(
            imageio.imread(as_floats).astype(int)
            - imageio.imread(tmp_path / "out/b_probability.png").astype(int)
        ).max()
        <= 1
    )


@pytest.mark.parametrize(
    "name",
    ["a_overlay.png", "a_page3_mask.png", "a_probability.tif", "legend.png", "segment.txt", "segment.json"],
)
def test_a_file_of_a_result_s_name_that_is_not_on_the_list_is_not_overwritten(name, model, tmp_path, capsys):
    imageio.imwrite(tmp_path / "b.png", IMAGE)
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    run(model, tmp_path / "b.png", out=tmp_path / "out")
    (tmp_path / "out" / name).write_text("mine")
    if name in ("segment.txt", "legend.png"):
        (tmp_path / "out/segment.json").unlink()
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    said = fails(capsys, model, tmp_path / "a.png", out=tmp_path / "out")
    assert (
        "a file that is not from here; --out DIR is another folder" in said.err and said.err.count("\n") == 1
    )
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_the_list_names_all_that_is_there_and_nothing_else(model, many, tmp_path, capsys):
    for file in ("a", "b"):
        imageio.imwrite(tmp_path / f"{file}.png", IMAGE)
    (tmp_path / "bad.png").write_bytes(b"text")
    run(model, tmp_path / "a.png", out=tmp_path / "out")
    fails(capsys, many, tmp_path / "b.png", tmp_path / "bad.png", out=tmp_path / "out")
    names = json.loads((tmp_path / "out/segment.json").read_text())["results"]
    assert {*names} == files(tmp_path / "out") - {"segment.json"}


def test_the_list_is_written_before_the_files_it_names(model, tmp_path, monkeypatch):
    """A kill between the two leaves no file that the next segmentation would take for somebody's."""

    def killed(path, *args):
        listed = json.loads((path.parent / "segment.json").read_text())["results"]
        assert {"a_mask.png", "a_probability.png", "a_overlay.png"} < {*listed}
        raise SystemError("killed")

    imageio.imwrite(tmp_path / "a.png", IMAGE)
    with monkeypatch.context() as patch, pytest.raises(SystemError):
        patch.setattr(segment, "write", killed)
        run(model, tmp_path / "a.png", out=tmp_path / "out")
    run(model, tmp_path / "a.png", out=tmp_path / "out")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_that_go_round_are_refused_in_a_line(model, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    os.symlink("loop", tmp_path / "loop")
    said = fails(capsys, model, tmp_path / "a.png", out=tmp_path / "loop/out")
    assert "symbolic links" in said.err and said.err.count("\n") == 1


def test_the_held_out_figures_of_a_training_are_what_segment_says_of_the_same_files(tmp_path, capsys):
    """Wide images of different sizes, resized in training: judged is what comes back at their own size."""
    folder, rng = tmp_path / "k", np.random.default_rng(0)
    folder.mkdir()
    for i in range(10):
        height, width = 40 + i, 60 - i
        mask = np.hypot(*(np.mgrid[:height, :width].T - rng.uniform(12, 28, 2)).T) < 8
        imageio.imwrite(folder / f"{i}_1.png", np.uint8(rng.uniform(40, 90, mask.shape) + 120 * mask))
        imageio.imwrite(folder / f"{i}_1_mask.png", 255 * np.uint8(mask))
    flags = ["--data", folder, "--size", 20, "--epochs", 15, "--rate", 0.01, "--dilations", "1,2,4"]
    metrics = train.main([*map(str, flags), "--out", str(tmp_path / "run")])
    held_out = [folder / f"{name}.png" for name in metrics["held_out"]]
    assert 0.2 < metrics["dice"] < 1
    counts = run(str(tmp_path / "run/model.npz"), *held_out, out=tmp_path / "out")
    np.testing.assert_array_equal(np.sum(counts, axis=0), metrics["confusion"])
    assert f"Dice {metrics['dice']:.3f}, IoU {metrics['iou']:.3f}" in capsys.readouterr().out


def test_an_image_in_which_nothing_is_there_has_no_dice(model, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", IMAGE)
    imageio.imwrite(tmp_path / "a_mask.png", 0 * IMAGE)
    run(model, tmp_path / "a.png", out=tmp_path / "out")
    found = int((imageio.imread(tmp_path / "out/a_mask.png") > 0).sum())
    said = capsys.readouterr().out
    assert f"nothing is there, so no Dice: {found} pixels falsely found" in said and "Dice 0" not in said
