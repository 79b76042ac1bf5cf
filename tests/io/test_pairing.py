import os
import re
import sys

import pytest

from tinyseg.errors import InputError
from tinyseg.io import listing
from tinyseg.io.layout import Matched
from tinyseg.io.pairing import Choices, find_pairs, find_parts, images_in, masks_of, natural


def touch(folder, *names):
    """Files of these names with nothing in them: whoever opened one would find no image."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def paired(found, root):
    """{name: [image, its masks]} with files relative to a folder."""
    return {p.name: [f.relative_to(root).as_posix() for f in (p.image, *p.masks)] for p in found.pairs}


def subjects(folder, **choices):
    return {pair.name: pair.subject for pair in find_pairs(folder, Choices(**choices)).pairs}


def refusal(folder, call=find_pairs, **choices):
    """The message of a refusal, one line that names the folder; what follows the folder."""
    with pytest.raises(InputError) as caught:
        call(folder, Choices(**choices)) if choices else call(folder)
    message = str(caught.value).replace(os.sep, "/")
    assert message.isprintable() and caught.value.__cause__ is None
    return message.replace(f"{folder.as_posix()}/", "").removeprefix(f"{folder.as_posix()}: ")


# Layouts

LAYOUTS = {
    "beside": (
        ["1_10.tif", "1_10_mask.tif", "1_2.tif", "1_2_Mask.PNG"],
        {"1_2": ["1_2.tif", "1_2_Mask.PNG"], "1_10": ["1_10.tif", "1_10_mask.tif"]},
        "..._mask beside each",
    ),
    "several masks": (
        ["a (4).png", "a (4)_mask.png", "a (4)_mask_1.png", "b.png", "b_mask_10.png", "b_mask_9.png"],
        {
            "a (4)": ["a (4).png", "a (4)_mask.png", "a (4)_mask_1.png"],
            "b": ["b.png", "b_mask_9.png", "b_mask_10.png"],
        },
        "..._mask beside each",
    ),
    "beside in folders": (
        ["benign/benign (1).png", "benign/benign (1)_mask.png", "normal/1.png", "normal/1_mask.png"],
        {
            "benign/benign (1)": ["benign/benign (1).png", "benign/benign (1)_mask.png"],
            "normal/1": ["normal/1.png", "normal/1_mask.png"],
        },
        "..._mask beside each",
    ),
    "equal names": (
        ["images/a.jpg", "images/b.nii.gz", "masks/a.png", "masks/b.NII", "README.txt", "overview.png"],
        {"a": ["images/a.jpg", "masks/a.png"], "b": ["images/b.nii.gz", "masks/b.NII"]},
        "images/ and masks/",
    ),
    "large letters": (
        ["Images/a.jpg", "Masks/a.png"],
        {"a": ["Images/a.jpg", "Masks/a.png"]},
        "Images/ and Masks/",
    ),
    "a common suffix": (
        ["images/1.png", "images/10.png", "masks/1_seg.png", "masks/10_seg_1.png", "masks/10_seg_2.png"],
        {
            "1": ["images/1.png", "masks/1_seg.png"],
            "10": ["images/10.png", "masks/10_seg_1.png", "masks/10_seg_2.png"],
        },
        "images/ and masks/, masks with _seg",
    ),
    "equal names and a suffix": (
        ["images/a.png", "images/a_mask.png", "masks/a.png", "masks/a_mask.png"],
        {"a": ["images/a.png", "masks/a.png"], "a_mask": ["images/a_mask.png", "masks/a_mask.png"]},
        "images/ and masks/",
    ),
    "folders in both": (
        ["images/p1/1.png", "images/p2/1.png", "masks/p1/1.png", "masks/p2/1.png"],
        {"p1/1": ["images/p1/1.png", "masks/p1/1.png"], "p2/1": ["images/p2/1.png", "masks/p2/1.png"]},
        "images/ and masks/",
    ),
    "both in folders": (
        ["p1/images/1.png", "p1/images/2.png", "p1/masks/1.png", "p1/masks/2.png"],
        {"p1/1": ["p1/images/1.png", "p1/masks/1.png"], "p1/2": ["p1/images/2.png", "p1/masks/2.png"]},
        "images/ and masks/",
    ),
    "a folder for each image": (
        ["0f/images/0f.png", "0f/masks/7.png", "0f/masks/3.png", "a2/images/a2.png", "a2/masks/x.png"],
        {
            "0f/0f": ["0f/images/0f.png", "0f/masks/3.png", "0f/masks/7.png"],
            "a2/a2": ["a2/images/a2.png", "a2/masks/x.png"],
        },
        "for each image a folder with images/ and masks/",
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_paired_and_said(tmp_path, name):
    files, expected, words = LAYOUTS[name]
    found = find_pairs(touch(tmp_path, *files))
    assert list(paired(found, tmp_path).items()) == list(expected.items())
    assert found.layout == words and all(p.part == "" and p.runs is None for p in found.pairs)


@pytest.mark.parametrize("files", [LAYOUTS[name][0] for name in LAYOUTS if "several" not in name])
def test_the_masks_of_one_image_are_those_of_the_layout(tmp_path, files):
    found = find_pairs(touch(tmp_path, *[file.replace("_seg", "_mask") for file in files]))
    for pair in found.pairs:
        assert masks_of(pair.image) == pair.masks


@pytest.mark.parametrize("files", [layout[0] for layout in LAYOUTS.values()])
def test_the_images_of_a_folder_are_those_of_the_layout(tmp_path, files):
    found = find_pairs(touch(tmp_path, *files))
    images = images_in(tmp_path)
    assert sorted(images) == sorted(pair.image for pair in found.pairs)


def test_folders_of_other_names_are_refused_with_the_flags_that_take_them(tmp_path):
    touch(tmp_path, "imgs/a.png", "labels/a.png")
    message = refusal(tmp_path)
    assert message.startswith("expected images/ and masks/, or masks beside their images, got labels/; give ")
    images, masks = re.search("--images (.*) --masks (.*), or rename", message).groups()
    found = find_pairs(tmp_path / images, Choices(masks=tmp_path / masks))
    assert (
        paired(found, tmp_path) == {"a": ["imgs/a.png", "labels/a.png"]}
        and found.layout == "imgs/ and labels/"
    )


def test_masks_in_a_folder_beside_the_images_are_not_taken_for_images(tmp_path):
    touch(tmp_path, "a.png", "masks/a.png")
    assert refusal(tmp_path, empty=True).endswith(
        f"; give --images {tmp_path.as_posix()} --masks masks, or rename the folders"
    )
    found = find_pairs(tmp_path, Choices(masks=tmp_path / "masks"))
    assert paired(found, tmp_path) == {"a": ["a.png", "masks/a.png"]}
    assert images_in(tmp_path) == [tmp_path / "a.png"]


def test_a_folder_whose_name_is_like_that_of_masks_may_hold_pairs(tmp_path):
    touch(tmp_path, "labels/a.png", "labels/a_mask.png")
    assert paired(find_pairs(tmp_path), tmp_path) == {"labels/a": ["labels/a.png", "labels/a_mask.png"]}


def test_the_suffix_of_masks_may_be_said(tmp_path):
    touch(tmp_path, "a.png", "a_segmentation.png", "b_mask.png", "b_mask_segmentation.png")
    assert paired(find_pairs(tmp_path, Choices(suffix="_segmentation")), tmp_path) == {
        "a": ["a.png", "a_segmentation.png"],
        "b_mask": ["b_mask.png", "b_mask_segmentation.png"],
    }


def test_of_two_suffixes_the_one_that_is_said_makes_masks(tmp_path):
    touch(
        tmp_path,
        *[f"images/{i}.png" for i in "ab"],
        *[f"masks/{i}_{o}.png" for i in "ab" for o in ("1st", "2nd")],
    )
    assert "got none for 2 of 2: a.png (there is masks/a_1st.png)" in refusal(tmp_path)
    found = find_pairs(tmp_path, Choices(suffix="_2nd"))
    assert [pair.masks[0].name for pair in found.pairs] == ["a_2nd.png", "b_2nd.png"]
    assert found.passed_over == ("masks/a_1st.png", "masks/b_1st.png")


def test_beside_images_too_what_has_another_suffix_is_left_aside_and_that_is_said(tmp_path):
    touch(tmp_path, *[f"{i}{o}.png" for i in ("01L", "02R") for o in ("", "_1st", "_2nd")])
    found = find_pairs(tmp_path, Choices(suffix="_1st"))
    assert paired(found, tmp_path) == {i: [f"{i}.png", f"{i}_1st.png"] for i in ("01L", "02R")}
    assert found.passed_over == ("01L_2nd.png", "02R_2nd.png")


def test_masks_of_a_suffix_that_nobody_said_are_not_taken_for_empty_images(tmp_path):
    touch(tmp_path, "a.png", "a_mask.png", "b.png", "b_seg.png", "b_2.png")
    assert refusal(tmp_path, empty=True) == (
        "expected a mask for each image, got none for 1 of 4: b_seg.png; "
        "these may be masks: say by --mask-suffix what masks are called"
    )
    assert len(find_pairs(tmp_path, Choices(empty=True, suffix="_mask")).pairs) == 4


def test_pictures_made_of_an_image_are_not_taken_for_empty_images(tmp_path):
    touch(tmp_path, *(f"{n}{end}.png" for n in "ab" for end in ("", "_mask", "_overlay")), "c.png")
    assert "none for 2 of 5: a_overlay.png, b_overlay.png; these may be masks" in refusal(
        tmp_path, empty=True
    )
    found = find_pairs(tmp_path, Choices(empty=True, suffix="_mask"))
    assert [pair.name for pair in found.pairs] == ["a", "b", "c"]
    assert found.passed_over == ("a_overlay.png", "b_overlay.png")


def test_in_masks_numbers_tell_the_objects_of_an_image(tmp_path):
    touch(tmp_path, "images/a.png", "images/b_1.png", "images/b_2.png")
    touch(tmp_path, "masks/a_1.png", "masks/a_2.png", "masks/b_1.png", "masks/b_2.png", "masks/b_2_1.png")
    touch(tmp_path, "images/b.png", "masks/b.png")
    found = {pair.image: pair.masks for pair in find_pairs(tmp_path).pairs}
    assert [len(masks) for masks in found.values()] == [2, 1, 1, 2]
    assert all(masks_of(image) == masks for image, masks in found.items())


def test_an_empty_suffix_says_equal_names_in_two_folders(tmp_path):
    touch(tmp_path / "two", "images/a.png", "masks/a.png")
    assert len(find_pairs(tmp_path / "two", Choices(suffix="")).pairs) == 1
    assert "expected --masks DIR with --mask-suffix ''" in refusal(
        touch(tmp_path / "one", "a.png"), suffix=""
    )


def test_an_accent_is_the_same_however_a_system_writes_it(tmp_path):
    touch(tmp_path, "images/caf\u00e9.png", "masks/cafe\u0301.png")
    assert [pair.name for pair in find_pairs(tmp_path).pairs] == ["caf\u00e9"]


def test_an_image_without_a_mask_can_be_left_out(tmp_path):
    """As in Pascal VOC, where few of the images are segmented."""
    touch(tmp_path, "images/a.png", "images/b.png", "images/c.png", "masks/a.png", "masks/c.png")
    found = find_pairs(tmp_path, Choices(skip=True))
    assert [pair.name for pair in found.pairs] == ["a", "c"]
    assert found.passed_over == ("without a mask: b",)
    touch(tmp_path, "masks/d.png")
    assert "d.png" in refusal(tmp_path, skip=True)
    touch(tmp_path / "none", "a.png", "b.png")
    assert "none for 2 of 2" in refusal(tmp_path / "none", skip=True)


# Names of which images and masks share only a part

BY_PARTS = {  # name: (images, masks, suffix, {image: mask})
    "DRIVE": (["21_training.tif", "22_training.tif"], ["22_manual1.gif", "21_manual1.gif"], None),
    "nnU-Net": (
        ["case_001_0000.nii.gz", "case_002_0000.nii.gz"],
        ["case_002.nii.gz", "case_001.nii.gz"],
        None,
    ),
    "LiTS": (["volume-2.nii", "volume-10.nii"], ["segmentation-10.nii", "segmentation-2.nii"], None),
    "Cityscapes": (
        ["val/b/b_01_leftImg8bit.png", "val/b/b_02_leftImg8bit.png"],
        [f"val/b/b_{n}_gtFine_{kind}.png" for n in ("02", "01") for kind in ("labelIds", "color")],
        "_gtFine_labelIds",
    ),
    "zeros": (["img_001.png", "img_010.png"], ["mask_10.png", "mask_1.png"], None),
    "a single one": (["train-volume.tif"], ["train-labels.tif"], None),
}


@pytest.mark.parametrize(("images", "masks", "suffix"), BY_PARTS.values(), ids=BY_PARTS)
def test_names_are_paired_by_what_differs(images, masks, suffix, tmp_path):
    touch(tmp_path / "i", *images), touch(tmp_path / "m", *masks)
    found = find_pairs(tmp_path / "i", Choices(masks=tmp_path / "m", suffix=suffix))
    numbers = [
        [[int(n) for n in re.findall(r"(?<!\d)\d+", file.name)[:1]] for file in (pair.image, *pair.masks)]
        for pair in found.pairs
    ]
    assert len(numbers) == len(images) and all(image == mask for image, mask in numbers)
    assert "by what differs in their names: " in found.layout


def test_of_single_files_the_numbers_must_be_equal(tmp_path):
    touch(tmp_path / "i", "im3.png"), touch(tmp_path / "m", "im5.ah.png")
    refusal(tmp_path / "i", masks=tmp_path / "m")


@pytest.mark.parametrize(
    "masks",
    [
        ["mask_1.png", "mask_3.png"],  # 2 has none, 3 no image
        ["mask_1.png"],
        ["mask_1.png", "mask_2.png", "mask_3.png"],
        ["mask_1.png", "mask_2.png", "mask_02.png"],
        ["mask_1_left.png", "mask_1_right.png", "mask_2_left.png", "mask_2_right.png"],
    ],
)
def test_names_that_do_not_pair_one_by_one_are_refused(masks, tmp_path):
    touch(tmp_path / "i", "img_1.png", "img_2.png"), touch(tmp_path / "m", *masks)
    message = refusal(tmp_path / "i", masks=tmp_path / "m")
    assert message.endswith(
        "; rename the masks to the names of their images, or say by --mask-suffix how they end"
    )


def test_a_suffix_that_is_said_is_found_in_other_folders_too(tmp_path):
    """As in PH2: each image, lesion and region has a folder of its own."""
    for n in ("IMD002", "IMD003"):
        touch(
            tmp_path,
            f"{n}/{n}_image/{n}.bmp",
            f"{n}/{n}_lesion/{n}_lesion.bmp",
            f"{n}/{n}_roi/{n}_Label1.bmp",
        )
    found = find_pairs(tmp_path, Choices(suffix="_lesion"))
    assert paired(found, tmp_path) == {
        f"{n}/{n}_image/{n}": [f"{n}/{n}_image/{n}.bmp", f"{n}/{n}_lesion/{n}_lesion.bmp"]
        for n in ("IMD002", "IMD003")
    }
    assert found.passed_over == ("IMD002/IMD002_roi/IMD002_Label1.bmp", "IMD003/IMD003_roi/IMD003_Label1.bmp")


@pytest.mark.parametrize(
    ("image", "mask", "suffix"),
    [("image", "mask", "mask"), ("P{0}_img", "P{0}_seg", "_seg"), ("x", "gt", "gt")],
)
def test_a_folder_for_each_case_is_read_by_the_suffix_that_the_refusal_names(image, mask, suffix, tmp_path):
    files = [f"P{n}/{name.format(n)}.png" for n in range(1, 12) for name in (image, mask)]
    assert refusal(touch(tmp_path, *files)).endswith(f"; --mask-suffix {suffix}")
    found = find_pairs(tmp_path, Choices(suffix=suffix))
    assert len(found.pairs) == 11 and all(pair.image.parent == pair.masks[0].parent for pair in found.pairs)


MASK_FOLDERS = {
    "nnU-Net": (
        ["imagesTr/a.png", "imagesTs/b.png", "labelsTr/a.png"],
        ["--images imagesTr --masks labelsTr"],
    ),
    "a space": (["Original/a.png", "Ground Truth/a.png"], ["--images Original --masks 'Ground Truth'"]),
    "Carvana": (["train/a.png", "train_masks/a_mask.png"], ["--images train --masks train_masks"]),
    "CamVid": (
        ["train/a.png", "trainannot/a.png", "val/b.png", "valannot/b.png"],
        ["--images train --masks trainannot", "--images val --masks valannot"],
    ),
    "DRIVE": (
        ["images/1_training.tif", "1st_manual/1_manual1.gif", "mask/1_training_mask.gif"],
        ["--images images --masks 1st_manual", "--images images --masks mask"],
    ),
}


@pytest.mark.parametrize(("files", "ways"), MASK_FOLDERS.values(), ids=MASK_FOLDERS)
def test_folders_called_as_masks_are_named_as_the_way_out(files, ways, tmp_path):
    assert f"give {' or '.join(ways)}, or rename the folders" in refusal(touch(tmp_path, *files))


def test_a_folder_called_as_masks_that_holds_images_with_theirs_is_like_any_other(tmp_path):
    touch(
        tmp_path, "segmented/a.png", "segmented/a_mask.png", "labelled/images/b.png", "labelled/masks/b.png"
    )
    touch(tmp_path, "more/c.png", "more/c_mask.png")
    assert list(paired(find_pairs(tmp_path), tmp_path)) == ["labelled/b", "more/c", "segmented/a"]


def test_of_masks_in_several_folders_one_is_to_be_chosen(tmp_path):
    """As in Montgomery's: the left and the right lung."""
    touch(tmp_path, "i/a.png", "i/b.png", *(f"m/{side}/{n}.png" for side in ("left", "right") for n in "ab"))
    assert f"such as --masks {(tmp_path / 'm/left').as_posix()}" in str(
        pytest.raises(InputError, find_pairs, tmp_path / "i", Choices(masks=tmp_path / "m")).value
    ).replace(os.sep, "/")


def test_a_suffix_that_begins_with_a_dash_is_named_as_it_must_be_given(tmp_path):
    touch(tmp_path, "a.png", "a-GT.png", "b.png", "b-GT.png")
    assert refusal(tmp_path).endswith("; --mask-suffix=-GT")


# Parts


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_a_split_of_their_own_is_kept(tmp_path, val):
    touch(tmp_path, "train/images/0.png", "train/masks/0.png", f"{val}/0.png", f"{val}/0_mask.png", "x.png")
    found = find_pairs(tmp_path, Choices(empty=True))
    assert [(p.name, p.part, p.subject) for p in found.pairs] == sorted(
        [("train/0", "train", "train/0"), (f"{val}/0", "val", f"{val}/0")]
    )
    assert found.passed_over == ("x",)
    assert {"train/", f"{val}/"} == set(found.layout.partition(": ")[0].split(", "))


def test_a_part_of_one_image_is_no_folder_for_that_image(tmp_path):
    files = [f"{part}/{kind}/1.png" for part in ("train", "val") for kind in ("images", "masks")]
    assert "got none for 1: train/masks/2.png" in refusal(touch(tmp_path, *files, "train/masks/2.png"))


def test_a_split_within_images_and_masks_is_kept(tmp_path):
    names = [f"{part}/{i}.png" for part in ("train", "val", "test") for i in range(2)]
    found = find_pairs(touch(tmp_path, *[f"{kind}/{name}" for kind in ("images", "masks") for name in names]))
    assert [p.part for p in found.pairs] == ["test"] * 2 + ["train"] * 2 + ["val"] * 2


@pytest.mark.parametrize("val", [True, False])
def test_test_images_without_masks_are_passed_over_and_that_is_said(tmp_path, val):
    parts = ["train", "val"] if val else ["train"]
    touch(
        tmp_path,
        "test/images/9.png",
        *[f"{part}/{kind}/1.png" for part in parts for kind in ("images", "masks")],
    )
    found = find_pairs(tmp_path, Choices(empty=True))
    assert [p.name for p in found.pairs] == [f"{part}/1" for part in parts]
    assert found.passed_over == ("test/ (1 images, no mask)",)


def test_a_split_below_a_folder_is_kept_and_the_part_is_not_of_the_subject(tmp_path):
    names = {"train": "P1_1", "val": "P1_2"}
    touch(tmp_path, *[f"data/{p}/{kind}/{names[p]}.png" for p in names for kind in ("images", "masks")])
    found = find_pairs(tmp_path)
    assert [(p.name, p.part) for p in found.pairs] == [("data/train/P1_1", "train"), ("data/val/P1_2", "val")]
    assert {p.subject for p in found.pairs} == {"P1"} and found.layout.startswith("train/, val/: ")


def test_train_and_test_without_val_are_one_and_that_is_said(tmp_path):
    touch(tmp_path, *[f"{part}/{name}.png" for part in ("train", "test") for name in ("a", "a_mask")])
    found = find_pairs(tmp_path)
    assert [(p.name, p.part) for p in found.pairs] == [("test/a", ""), ("train/a", "")]
    assert found.layout == "test/, train/ as one, since there is no val/: ..._mask beside each"


def test_each_part_may_be_a_folder_anywhere_in_a_layout_of_its_own(tmp_path):
    touch(tmp_path / "a", "P1_1.png", "P1_1_mask.png")
    touch(tmp_path / "b", "images/P1_2.png", "masks/P1_2.png")
    found = find_parts({"train": tmp_path / "a", "val": tmp_path / "b"})
    assert [(p.name, p.part, p.subject) for p in found.pairs] == [
        ("train/P1_1", "train", "P1"),
        ("val/P1_2", "val", "P1"),
    ]


def test_a_part_without_images_is_refused(tmp_path):
    touch(tmp_path, "a/1.png", "a/1_mask.png", "b/notes.txt")
    with pytest.raises(InputError, match="b: expected .*, got no image file"):
        find_parts({"train": tmp_path / "a", "val": tmp_path / "b"})


@pytest.mark.parametrize("other", ["sub/..", "sub"])
def test_a_part_within_another_is_refused(tmp_path, other):
    touch(tmp_path / other, "a.png", "a_mask.png")
    (tmp_path / "q").mkdir()
    with pytest.raises(InputError, match=r": expected a folder of its own, got one in --(train|val)"):
        find_parts({"train": tmp_path / "q" / "..", "val": tmp_path / other})


# Run lengths


def test_images_beside_a_csv_of_run_lengths_have_their_masks_there(tmp_path):
    touch(tmp_path, "1_1.tif", "a/1_2.tif", "notes.csv")
    (tmp_path / "train.csv").write_text("subject,img,pixels\n1,1,1 2\n1,1,5 2\n1,2,\n9,9,1 1\n")
    found = find_pairs(tmp_path)
    assert {p.name: (p.masks, p.runs) for p in found.pairs} == {
        "1_1": ((), ("1 2", "5 2")),
        "a/1_2": ((), ("",)),
    }
    assert found.layout == "run lengths in train.csv"
    assert found.passed_over == ("notes.csv", "train.csv: 1 images that are not here")


def test_an_image_without_a_row_is_refused_or_empty(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "m.csv").write_text("ImageId,EncodedPixels\na.png,1 2\n")
    assert refusal(tmp_path) == (
        "expected a row with run lengths for each image, got none for 1 of 2: b.png; "
        "1 has one; --skip-without-mask leaves the others out, "
        "--empty-without-mask says that nothing is in them"
    )
    assert [p.runs for p in find_pairs(tmp_path, Choices(empty=True)).pairs] == [("1 2",), ("",)]


def test_of_two_csv_files_one_has_to_be_said(tmp_path):
    touch(tmp_path, "a.png")
    for name in ("train", "sample"):
        (tmp_path / f"{name}.csv").write_text(f"id,rle\na,{len(name)} 1\n")
    assert refusal(tmp_path).endswith("got 2; give --masks sample.csv or --masks train.csv")
    found = find_pairs(tmp_path, Choices(masks=tmp_path / "train.csv"))
    assert found.pairs[0].runs == ("5 1",) and found.passed_over == ("sample.csv",)


def test_a_row_of_two_images_is_refused(tmp_path):
    touch(tmp_path, "p/1.png", "q/1.png")
    (tmp_path / "m.csv").write_text("id,rle\n1,1 1\n")
    assert refusal(tmp_path) == "m.csv: expected 1 with its folder, since p/1 and q/1 are there"


# Refusals


def test_every_image_without_a_mask_is_named_with_the_way_out(tmp_path):
    touch(tmp_path, *[f"images/{i}.png" for i in range(30)], *[f"masks/{i}.png" for i in range(25, 30)])
    named = ", ".join(f"{i}.png" for i in range(20))
    assert refusal(tmp_path) == (
        f"expected a mask for each image, got none for 25 of 30: {named}, ... (25 values); "
        "5 have one; --skip-without-mask leaves the others out, "
        "--empty-without-mask says that nothing is in them"
    )
    found = find_pairs(tmp_path, Choices(empty=True))
    assert [p.name for p in found.pairs if not p.masks] == [str(i) for i in range(25)]


@pytest.mark.parametrize("folders", [("images/", "masks/"), ("", "")])
def test_the_nearest_name_and_the_suffix_that_mends_it_are_named(tmp_path, folders):
    images, masks = folders
    touch(tmp_path, f"{images}p_1.png", f"{images}p_2.png", f"{images}p_3.png")
    touch(tmp_path, f"{masks}p_1_seg.png", f"{masks}p_2_seg.png")
    message = refusal(tmp_path)
    assert f"p_1.png (there is {masks}p_1_seg.png)" in message and "; --mask-suffix _seg" in message
    found = find_pairs(tmp_path, Choices(suffix="_seg", empty=True))
    assert [len(p.masks) for p in found.pairs] == [1, 1, 0]


def test_a_suffix_that_was_tried_is_no_way_out(tmp_path):
    touch(tmp_path, "images/p/a.png", "images/q/a.png", "images/b.png", "masks/a_seg.png", "masks/b_seg.png")
    assert "--mask-suffix" not in refusal(tmp_path, suffix="_seg")


def test_masks_without_an_image_are_named_even_if_images_may_lack_masks(tmp_path):
    touch(tmp_path, "img10.png", "img10_mask.png", "img2.png", "odd_mask.png", "image2_mask.png")
    assert refusal(tmp_path, empty=True) == (
        "expected an image for each mask, got none for 2: image2_mask.png, odd_mask.png; "
        "rename these masks, or take them away"
    )


@pytest.mark.parametrize("empty", [True, False])
def test_images_of_which_none_has_a_mask_are_refused(tmp_path, empty):
    touch(tmp_path, "a.png", "b.png")
    message = refusal(tmp_path, empty=empty)
    assert "got none for 2 of 2: a.png, b.png; x.png beside x_mask.png, or images/ and masks/" in message


@pytest.mark.parametrize(
    "names", [["a.png", "a.tif", "a_mask.png"], ["images/a.nii", "images/a.NII.GZ", "masks/a.png"]]
)
def test_two_files_of_one_name_are_refused(tmp_path, names):
    first, second = (name.rpartition("/")[2] for name in names[:2])
    message = refusal(touch(tmp_path, *names))
    assert "expected one image file of a name, got " in message and first in message and second in message


def test_clutter_is_silently_passed_over_and_strays_are_said(tmp_path):
    touch(tmp_path, "a.png", "a_mask.png", ".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", ".git/x.png")
    touch(tmp_path, "__MACOSX/a.png", "labels.json", "sub/notes.txt")
    assert find_pairs(tmp_path).passed_over == ("labels.json", "sub/notes.txt")


@pytest.mark.parametrize("place", ["nothing", "a.png", "x" * 5000, "nul\0"])
def test_what_is_no_folder_is_refused_in_one_line(tmp_path, place):
    touch(tmp_path, "a.png")
    with pytest.raises(InputError, match="expected a folder of images, got: "):
        find_pairs(tmp_path / place)


def test_results_of_ours_below_are_no_images(tmp_path):
    touch(tmp_path, "a.png", "a_mask.png", "run/masks.png", "seg/a_mask.png", "mine/b.png", "mine/b_mask.png")
    touch(tmp_path, "seg/c.png", "seg/c_mask.png", "run/more/d.png", "run/more/d_mask.png")
    (tmp_path / "run/run.json").write_text('{"version": 1, "flags": {}}')
    (tmp_path / "seg/segment.json").write_text('{"version": 1, "results": ["a_mask.png"]}')
    (tmp_path / "mine/run.json").write_text('{"scanner": "x"}')
    assert list(paired(find_pairs(tmp_path), tmp_path)) == ["a", "mine/b", "run/more/d", "seg/c"]


def test_a_folder_without_images_is_refused(tmp_path):
    assert "or --images DIR --masks DIR, got no image file (" in refusal(touch(tmp_path, "a.txt"))
    assert "(.txt, no ending); save them as one of these" in refusal(touch(tmp_path, "IM0001"))
    with pytest.raises(InputError, match="expected images .*got none"):
        images_in(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_that_lead_back_are_not_followed_and_others_are(tmp_path):
    touch(tmp_path / "data", "images/a.png", "shown/a.png", "images/p/b.png", "shown/p/b.png")
    (tmp_path / "data" / "masks").symlink_to("shown")
    (tmp_path / "data" / "images" / "up").symlink_to("..")
    (tmp_path / "data" / "images" / "p" / "here").symlink_to(".")
    assert list(paired(find_pairs(tmp_path / "data"), tmp_path / "data")) == ["a", "p/b"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_to_itself_is_refused_by_its_name(tmp_path):
    touch(tmp_path, "a.png", "a_mask.png")
    (tmp_path / "b.png").symlink_to("b.png")
    assert refusal(tmp_path).startswith("b.png: expected a folder of images, got: Too many levels")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_without_permission_is_refused_by_its_name(tmp_path):
    touch(tmp_path, "a.png", "a_mask.png", "locked/b.png")
    (tmp_path / "locked").chmod(0)
    try:
        assert refusal(tmp_path) == "locked: expected a folder of images, got: Permission denied"
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_there_is_an_end_to_files_and_to_folders(tmp_path, monkeypatch):
    touch(tmp_path, "a/b/c/d.png", "a/b/c/d_mask.png")
    monkeypatch.setattr(listing, "MOST_FILES", 4)
    assert refusal(tmp_path).startswith("a/b/c: expected at most 4 files and 50 folders within each other")
    monkeypatch.setattr(listing, "MOST_FILES", 5)
    monkeypatch.setattr(listing, "MOST_LEVELS", 3)
    assert refusal(tmp_path).startswith("a/b/c: expected at most 5 files and 3 folders within each other")


def test_a_name_of_many_lines_makes_a_message_of_one(tmp_path):
    if sys.platform == "win32":
        pytest.skip("no such names there")
    assert "a?b.png" in refusal(touch(tmp_path, "images/a\nb.png", "images/c.png", "masks/c.png"))


# Subjects


def pairs_of(folder, names):
    return touch(folder, *[f"{name}{end}.png" for name in names for end in ("", "_mask")])


BY_NAME = {
    "before the last underscore": {"1_2": "1", "01_2": "01", "1_2_3": "1_2", "PA_x": "PA", "scan": "scan"},
    "a collection": {"img_1": "img_1", "img_2": "img_2"},
    "one patient": {"P01_1": "P01", "P01_2": "P01"},
    "folders of patients": {f"P{p}/P{p}-{i}": f"P{p}" for p in range(3) for i in range(2)},
    "folders of patients in a folder": {f"all/{p}/{i}": f"{p}" for p in range(3) for i in range(2)},
    "two folders": {"a/P1_1": "P1", "a/P2_1": "P2", "b/P1_2": "P1"},
    "folders of classes": {
        f"{c}/{c} ({i})": f"{c}/{c} ({i})" for c in ("good", "bad", "odd") for i in range(2)
    },
    "a folder for each": {f"{c}/{c}": f"{c}/{c}" for c in "abcd"},
}


@pytest.mark.parametrize("of", BY_NAME.values(), ids=BY_NAME)
def test_subjects_are_told_by_names(tmp_path, of):
    assert subjects(pairs_of(tmp_path, of)) == of


def test_a_collection_is_one_in_images_and_masks_too(tmp_path):
    touch(tmp_path, *[f"{kind}/img_{i}.png" for kind in ("images", "masks") for i in (1, 2)])
    assert subjects(tmp_path) == {"img_1": "img_1", "img_2": "img_2"}


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (["P01_R_3", "P02_R_3"], "what stands before the last underscore: P01_R of P01_R_3.png"),
        (["img_1", "img_2"], "each file by itself: img_1 of img_1.png"),
        (["P1/1", "P1/2", "P2/1", "P3/1"], "the folder: P1 of P1/1"),
    ],
)
def test_the_rule_is_said_with_an_example(tmp_path, names, rule):
    assert find_pairs(pairs_of(tmp_path, names)).rule == rule


HABITS = {
    "genius": (
        [f"genius_{p:02}{v:02}" for p in range(6) for v in range(3)],
        {"00", "01", "02", "03", "04", "05"},
    ),
    "sides": (
        [f"P0{p}_{s}_{v}" for p in range(6) for s in "LR" for v in ("CC", "MLO")],
        {f"P0{p}" for p in range(6)},
    ),
    "slices": ([f"slice{k:03}_P{p}" for p in range(6) for k in range(3)], {f"P{p}" for p in range(6)}),
    "dashes": ([f"P0{p}-{k:03}" for p in range(6) for k in range(3)], {f"P0{p}" for p in range(6)}),
    "dots": ([f"P0{p}.{k:03}" for p in range(6) for k in range(3)], {f"P0{p}" for p in range(6)}),
    "no separator": (
        [f"P0{p}{s}{k}" for p in range(6) for s in "LR" for k in "ab"],
        {f"P0{p}" for p in range(6)},
    ),
    "sides first": (
        [f"{s}_P{p}_{k}" for p in range(6) for s in "LR" for k in range(2)],
        {f"P{p}" for p in range(6)},
    ),
    "two numbers": ([f"P{p}_{s}_{k}_x" for p in range(2) for s in range(3) for k in range(2)], {"P0", "P1"}),
}


@pytest.mark.parametrize("habit", HABITS)
def test_the_first_hint_is_the_reading_that_a_person_would_make(tmp_path, habit):
    names, patients = HABITS[habit]
    hint = find_pairs(pairs_of(tmp_path, names)).hints[0]
    regex, count, one, of = re.fullmatch(
        r"--subject '(.*)' makes (\d+) subjects, (.*) of (.*)\.png", hint
    ).groups()
    found = subjects(tmp_path, subject=regex)
    assert set(found.values()) == patients and int(count) == len(patients)
    assert found[of] == one


@pytest.mark.parametrize(
    "names", [[f"{i:04}" for i in range(120)], [f"img_{i}" for i in range(30)], ["a", "b"]]
)
def test_names_that_merely_count_have_no_other_reading(tmp_path, names):
    assert find_pairs(pairs_of(tmp_path, names)).hints == ()


@pytest.mark.parametrize(
    "names", [names for names, _ in HABITS.values()] + [list(of) for of in BY_NAME.values()]
)
def test_every_hint_makes_several_subjects_but_fewer_than_images_and_others_than_the_rule(tmp_path, names):
    def groups(of):  # which names go together, whatever the subjects are called
        return {frozenset(name for name in of if of[name] == subject) for subject in of.values()}

    found = find_pairs(pairs_of(tmp_path, names))
    seen = [groups({pair.name: pair.subject for pair in found.pairs})]
    readings = [hint for hint in found.hints if not hint.endswith("takes each image by itself")]
    assert len(readings) <= 3
    for hint in readings:
        regex, count = re.match(r"--subject '(.*)' makes (\d+) subjects", hint).groups()
        made = groups(subjects(tmp_path, subject=regex))
        assert 2 <= len(made) == int(count) < len(names) and made not in seen
        seen.append(made)


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        ("(", "--subject (: expected a regex, got: "),
        ("P", "--subject P: expected a group in (), got none; for example"),
        (
            "P(2)",
            "--subject P(2): expected to find a subject in each name, got none in 1 of 2: P1_1; for example",
        ),
        (
            "(x*)",
            "--subject (x*): expected to find a subject in each name, got none in 2 of 2: P1_1, P2_1; for",
        ),
    ],
)
def test_a_regex_that_finds_no_subject_is_refused_with_an_example(tmp_path, regex, message):
    assert refusal(pairs_of(tmp_path, ["P1_1", "P2_1"]), subject=regex).startswith(message)


def test_a_table_of_subjects_knows_images_by_their_names_in_any_form(tmp_path):
    folder = pairs_of(tmp_path / "data", ["x/a", "x/b", "y/c.1"])
    (tmp_path / "s.csv").write_text(
        "\ufeffimage,Subject\na.png,P1\nx/b,P2\ny\\c.1.PNG,P1\ngone,P9\n", "utf-8"
    )
    assert subjects(folder, subjects=tmp_path / "s.csv", subject="(") == {
        "x/a": "P1",
        "x/b": "P2",
        "y/c.1": "P1",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.csv, line 1: expected the columns image,subject with a comma between, got nothing"),
        (
            "image,patient\n",
            "s.csv, line 1: expected the columns image,subject with a comma between, got image,patient",
        ),
        ("image,subject\na,1\nb\n", "s.csv, line 3: expected an image and its subject, got b"),
        ("image,subject\na,1\na.png,2\n", "s.csv, line 3: expected one subject of a, got 1 as well"),
        ("image,subject\nb,1\n", "s.csv: expected a row of each image, got none of 2 of 3: a, c"),
    ],
)
def test_a_table_without_an_image_is_refused_with_all_that_are_missing(tmp_path, text, message):
    pairs_of(tmp_path, "abc")
    (tmp_path / "s.csv").write_text(text)
    assert refusal(tmp_path, subjects=tmp_path / "s.csv") == message


# For segmenting


def test_images_of_a_folder_are_not_its_masks_but_an_odd_one_is(tmp_path):
    touch(
        tmp_path,
        "1_10.png",
        "1_2.png",
        "1_2_mask.png",
        "1_2_mask_1.png",
        "odd_mask.png",
        ".hidden.png",
        "notes.txt",
    )
    touch(tmp_path, "album.png/b.png")
    names = [file.relative_to(tmp_path).as_posix() for file in images_in(tmp_path)]
    assert names == ["1_2.png", "1_10.png", "album.png/b.png", "odd_mask.png"]
    assert images_in(tmp_path / "1_2_mask.png") == [tmp_path / "1_2_mask.png"]


def test_an_image_without_a_true_mask_has_none(tmp_path):
    touch(tmp_path, "a.png", "images/b.png", "images/c.png", "masks/c.png", "a_masks.png")
    assert masks_of(tmp_path / "a.png") == masks_of(tmp_path / "images" / "b.png") == ()


def test_numbers_in_names_sort_as_numbers():
    assert sorted(["a10", "a9", "10", "9", "b", "a"], key=natural) == ["9", "10", "a", "a9", "a10", "b"]


# Nothing leads round in a circle, and no name means two things


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    touch(tmp_path, "secret.png", "data/images/a.png", "data/masks/a.png")
    os.symlink("..", tmp_path / "data/masks/up")
    os.symlink(tmp_path, tmp_path / "data/images/top")
    os.symlink("/", tmp_path / "data/masks/root")
    assert [pair.name for pair in find_pairs(tmp_path / "data").pairs] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_itself_is_refused(tmp_path):
    touch(tmp_path, "images/a.png")
    loop = tmp_path / "loop"
    os.symlink("loop", loop)
    for folder, masks in ((loop, loop), (tmp_path / "images", loop), (loop, tmp_path / "images")):
        with pytest.raises(InputError, match="loop: expected"):
            find_pairs(folder, Choices(masks=masks))
    for parts in ({"train": tmp_path / "images", "val": loop}, {"train": loop, "val": tmp_path / "images"}):
        with pytest.raises(InputError, match="loop: expected|expected images and masks"):
            find_parts(parts)


def test_two_images_of_one_name_in_different_layouts_are_refused(tmp_path):
    touch(tmp_path, "x/images/a.png", "x/masks/a.png", "x/a.png", "y/b.png", "y/b_mask.png")
    touch(tmp_path, "images/c/z.png", "masks/c/z.png")
    touch(tmp_path / "two", "images/a/x.png", "masks/a/x.png")
    assert "a/x" in [pair.name for pair in find_pairs(tmp_path / "two").pairs]
    matched = Matched(tmp_path, None, False)
    matched.add(tmp_path, {"a/x": (tmp_path / "images/a/x.png", [])})
    with pytest.raises(InputError, match="one image of the name a/x, got images/a/x.png and a/images/x.png"):
        matched.add(tmp_path / "a", {"x": (tmp_path / "a/images/x.png", [])})


def test_a_csv_stands_for_masks_beside_images(tmp_path):
    touch(tmp_path, "images/1_1.tif", "images/1_2.tif")
    (tmp_path / "train_masks.csv").write_text("subject,img,pixels\n1,1,1 3\n1,2,\n")
    found = find_pairs(tmp_path)
    assert [(pair.name, pair.runs) for pair in found.pairs] == [("1_1", ("1 3",)), ("1_2", ("",))]


def test_a_misspelt_row_does_not_make_an_empty_image(tmp_path):
    touch(tmp_path, "scan_1.png", "scan_2.png")
    (tmp_path / "runs.csv").write_text("img,pixels\nscan_1,1 3\nscann_2,4 5\n")
    with pytest.raises(InputError, match="got none of scan_2, and rows of scann_2, which are not here"):
        find_pairs(tmp_path, Choices(empty=True))
    (tmp_path / "runs.csv").write_text("img,pixels\nscan_1,1 3\n")
    assert [pair.runs for pair in find_pairs(tmp_path, Choices(empty=True)).pairs] == [("1 3",), ("",)]


def test_folders_of_classes_are_no_subjects(tmp_path):
    for name in ("benign", "malignant", "normal"):
        touch(tmp_path, *[f"{name}/{i}.png" for i in (1, 2)], *[f"{name}/{i}_mask.png" for i in (1, 2)])
    assert len({pair.subject for pair in find_pairs(tmp_path).pairs}) == 6


def test_kaggles_names_need_no_hint(tmp_path):
    assert not find_pairs(pairs_of(tmp_path, [f"{s}_{i}" for s in range(1, 9) for i in range(1, 5)])).hints


def test_each_part_may_be_a_collection(tmp_path):
    """As in ADE20K: training/ADE_train_1, validation/ADE_val_1."""
    for part, name in {"training": "ADE_train", "validation": "ADE_val"}.items():
        touch(tmp_path, *(f"{part}/{name}_{n}{end}.png" for n in (1, 2) for end in ("", "_mask")))
    assert len(set(subjects(tmp_path).values())) == 4
    assert {pair.part for pair in find_pairs(tmp_path).pairs} == {"train", "val"}


DOUBTS = {
    "two sides": (["P01_L_1", "P01_R_1", "P02_L_1", "P02_R_1"], "P01"),
    "two eyes": (["Image_01L", "Image_01R", "Image_02L", "Image_02R"], "Image_01"),
    "the last word": (["slice1_P1", "slice2_P1", "slice1_P2", "slice2_P2"], "P1"),
    "numbers": (["1-1", "1-2", "2-1", "2-2"], "1"),
    "digits": (["genius_0100", "genius_0102", "genius_0800", "genius_0801"], "01"),
    "patches": (["patient1_x0_y0", "patient1_x1_y0", "patient2_x0_y0", "patient2_x1_y0"], "patient1"),
}


@pytest.mark.parametrize(("names", "patient"), DOUBTS.values(), ids=DOUBTS)
def test_subjects_that_may_be_one_patient_leave_a_doubt(names, patient, tmp_path):
    touch(tmp_path, *(f"{name}{end}.png" for name in names for end in ("", "_mask")))
    found = find_pairs(tmp_path)
    assert found.doubt == found.hints[0] and f" makes 2 subjects, {patient} of {names[0]}.png" in found.doubt
    regex = re.search("'(.*)'", found.doubt)[1]
    assert find_pairs(tmp_path, Choices(subject=regex)).doubt == ""


@pytest.mark.parametrize(
    "names",
    [
        [f"{i}_{j}" for i in range(1, 5) for j in range(1, 4)],
        [f"P{i:02}_{j}" for i in range(1, 5) for j in range(1, 4)],
        [f"slice_{k}" for k in range(1, 30)],
        [f"P{i:02}_T{j}" for i in range(1, 5) for j in (1, 2)],
        [f"vol{i}_s{j:03}" for i in range(1, 5) for j in range(4)],
        [f"benign ({k})" for k in range(1, 30)],
        *(
            [f"frame{k:04}" for k in range(start, start + count)]
            for start in (0, 1, 7)
            for count in (9, 12, 120)
        ),
    ],
)
def test_names_that_are_read_in_the_usual_way_leave_no_doubt(names, tmp_path):
    touch(tmp_path, *(f"{name}{end}.png" for name in names for end in ("", "_mask")))
    assert find_pairs(tmp_path).doubt == ""


def test_names_without_a_number_may_be_no_patients(tmp_path):
    touch(
        tmp_path, *(f"{eye}_{k}{end}.png" for eye in ("OD", "OS") for k in (1, 2, 3) for end in ("", "_mask"))
    )
    hints = find_pairs(tmp_path).hints
    assert " makes 3 subjects, 1 of OD_1.png" in hints[0]
    assert hints[-1] == "--subject '(.*)' takes each image by itself"


def test_few_subjects_of_many_images_may_be_none(tmp_path):
    """As in Pascal VOC: 2007_000032 is of the year 2007."""
    names = [f"{year}_{n:06}" for year in (2007, 2008) for n in range(40)]
    touch(tmp_path, *(f"{name}{end}.png" for name in names for end in ("", "_mask")))
    assert find_pairs(tmp_path).hints[-1] == "--subject '(.*)' takes each image by itself"
    assert len(set(subjects(tmp_path, subject="(.*)").values())) == 80
