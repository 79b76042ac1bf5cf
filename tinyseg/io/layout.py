"""Which files are images, and which are their masks: told by the layout of a folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from tinyseg.errors import InputError, listed
from tinyseg.io.listing import MOST_NAMED, Tree, one_line, relative, tree
from tinyseg.io.pixels import has_image_suffix, stem_of

IMAGE_WORDS = {"image", "images", "img", "imgs", "input", "inputs", "photos", "pictures", "scans"}
MASK_WORDS = {
    "annotation",
    "annotations",
    "ground_truth",
    "groundtruth",
    "gt",
    "label",
    "label_maps",
    "labelmaps",
}
MASK_WORDS |= {"labels", "mask", "masks", "segmentation", "segmentations", "target", "targets", "truth"}
MASK_LIKE = re.compile(
    "annot|ground.?truth|label|manual|mask|segment|target|truth|(?<![a-z])(gt|seg)(?![a-z])", re.I
)
PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
PARTS |= {"test": "test", "testing": "test"}


@dataclass
class Matched:
    """What the layout of the folder `root` makes of its files."""

    root: Path
    suffix: str | None  # between the name of an image and the ending of its mask; None: see `common`
    empty: bool  # whether an image may lack a mask
    pairs: dict[str, tuple[Path, list[Path]]] = field(default_factory=dict)  # {name: (image, its masks)}
    orphans: list[Path] = field(default_factory=list)  # masks without an image
    passed_over: list[Path] = field(default_factory=list)
    layouts: dict[str, None] = field(default_factory=dict)  # in words; a set that keeps its order

    def add(self, folder: Path, pairs: Mapping[str, tuple[Path, list[Path]]]) -> None:
        """Add a folder's pairs, by names relative to the root."""
        for name, pair in pairs.items():
            known = (folder.relative_to(self.root) / name).as_posix()
            if other := self.pairs.get(known):
                both = f"{relative(other[0], self.root)} and {relative(pair[0], self.root)}"
                raise InputError(one_line(f"{self.root}: expected one image of the name {known}, got {both}"))
            self.pairs[known] = pair


def lay_out(folder: Path, masks: Path | None, suffix: str | None, empty: bool) -> Matched:
    """Pair what is in a folder and below: with the masks in another one, or by its own layout.

    Raises:
        InputError: two files of one name, or folders of which nothing says what they are.
    """
    matched = Matched(folder, suffix, empty)
    if masks is None or os.path.realpath(masks) == os.path.realpath(folder):
        _own_layout(tree(folder), matched)
        if suffix:
            _across_folders(matched)
    else:  # either may be within the other
        images = tree(folder, (os.path.realpath(masks),))
        _two_folders(images, tree(masks, (os.path.realpath(folder),)), matched)
    return matched


def _own_layout(here: Tree, matched: Matched) -> None:
    """Pair what is in a folder and below by the layout that it has."""
    if (images := here.named(["images"])[:1]) and (masks := here.named(["masks"])[:1]):
        _two_folders(images[0], masks[0], matched)
        others = [file for other in here.folders if other not in images + masks for file in other.all()]
        matched.passed_over += [*here.files, *others]
        return
    files, suffix = image_files(here.files, here.path), matched.suffix or "_mask"
    if files and matched.suffix == "":
        raise InputError(f"{here.path}: expected --masks DIR with --mask-suffix '', got all in one folder")
    pairs, orphans = beside(files, suffix)
    if called := _mask_folders(here, suffix):
        kids = [f.path for f in here.folders if f not in called and f.has_images()]
        ways = " or ".join(
            f"--images {quote(str(_images_for(folder.path, kids, here.path, bool(files))))} "
            f"--masks {quote(str(folder.path))}"
            for folder in called
        )
        raise InputError(
            f"{here.path}: expected images/ and masks/, or masks beside their images, got "
            f"{called[0].path.name}/; give {ways}, or rename the folders"
        )
    matched.add(here.path, pairs)
    matched.orphans += orphans
    matched.passed_over += [file for file in here.files if not has_image_suffix(file.name)]
    if any(masks for _, masks in pairs.values()):
        matched.layouts[f"...{suffix} beside each"] = None
    for folder in here.folders:
        _own_layout(folder, matched)


def _images_for(masks: Path, kids: list[Path], here: Path, there: bool) -> Path | str:
    """Where the images of a folder of masks are, by the names of the folders beside it."""
    begins = [kid for kid in kids if masks.name.lower().startswith(kid.name.lower())]  # train of train_masks
    called = [kid for kid in kids if re.search("image|img|input|photo|picture|scan", kid.name, re.I)]
    ends = [kid for kid in called if kid.name[-2:] == masks.name[-2:]]  # imagesTr of labelsTr
    best = [*begins, *ends, *called, *(kids if len(kids) == 1 and not there else [])]
    return best[0] if best else here if kids or there else "DIR"


def _across_folders(matched: Matched) -> None:
    """Pair by names alone what lies in different folders, and pass over other x_... of an image x.

    Who says which suffix masks have says so. It needs each image's name once among those without a mask; or
    what differs in the names is enough, as of P1/image.png and P1/mask.png.
    """
    lacking = [name for name, (_, masks) in matched.pairs.items() if not masks]
    inner = {name: name.rpartition("/")[2] for name in lacking}
    often = Counter(inner.values())
    once = {short: name for name, short in inner.items() if often[short] == 1}
    for mask in matched.orphans[:]:
        fits = with_suffix(matched.suffix or "").fullmatch(stem_of(mask.name))
        if fits and fits[1] in once:
            matched.pairs[once[fits[1]]][1].append(mask)
            matched.orphans.remove(mask)
            matched.layouts[f"...{matched.suffix} by its name"] = None
    lacking = [name for name in lacking if not matched.pairs[name][1]]
    masks = image_files(matched.orphans, matched.root)
    found = aligned(lacking, masks, matched) if len(masks) == len(lacking) else {}
    for name, its in found.items():
        matched.pairs[name][1].extend(its)
        matched.orphans = []
        matched.layouts[f"...{matched.suffix} by what differs in their names"] = None
    with_mask = {name.rpartition("/")[2] for name, (_, masks) in matched.pairs.items() if masks}
    spare = [name for name in lacking if name not in found and extends(inner[name], with_mask)]
    matched.passed_over += [matched.pairs.pop(name)[0] for name in spare]


def _mask_folders(here: Tree, suffix: str) -> list[Tree]:
    """The folders that are called so as if they held all masks, and do not hold images with theirs."""
    called = [f for f in here.folders if MASK_LIKE.search(f.path.name) and f.has_images()]
    if len(called) == len(here.folders) and not any(has_image_suffix(file.name) for file in here.files):
        called = [f for f in called if re.sub("[ -]", "_", f.path.name.lower()) in MASK_WORDS]
    found = []
    for folder in called:
        below = (image_files(f.files, f.path, clash=False) for f in folder.walk())
        its_own = any(match(names, names, suffix) for names in below)
        if not its_own and not any(f.named(["masks"]) for f in folder.walk()):
            found.append(folder)
    return found


def _two_folders(images: Tree, masks: Tree, matched: Matched) -> None:
    """Pair what is in a folder of images, such as images/, with what is in a folder of masks."""
    names = f"{images.path.name}/ and {masks.path.name}/"
    above = images.path if images.path == matched.root else images.path.parent
    of_images, of_masks = image_files(images.all(), images.path), image_files(masks.all(), masks.path)
    suffix = common(list(of_images), of_masks) if matched.suffix is None else matched.suffix
    found, by = match(of_images, of_masks, suffix), f", masks with {suffix}" if suffix else ""
    if not found and (found := aligned(of_images, of_masks, matched)):
        image, masks_of_it = next(iter(found.items()))
        by = f", by what differs in their names: {name_in(masks_of_it[0], masks.path)} is of {image}"
    if (
        len(of_images) == 1
        and matched.suffix is None
        and above != matched.root
        and above.name.lower() not in PARTS
    ):
        found = {name: list(of_masks.values()) for name in of_images}
        matched.layouts[f"for each image a folder with {names}"] = None
    else:
        matched.layouts[names + by] = None
    matched.add(above, {name: (file, found.get(name, [])) for name, file in of_images.items()})
    used = {mask for its in found.values() for mask in its}
    for name, mask in of_masks.items():
        if mask not in used:  # who says which suffix masks have says that others are none
            is_mask = matched.suffix is None or with_suffix(matched.suffix).fullmatch(name)
            (matched.orphans if is_mask else matched.passed_over).append(mask)
    matched.passed_over += [file for file in images.all() + masks.all() if not has_image_suffix(file.name)]


def name_in(file: Path, root: Path) -> str:
    """A file's name in a folder, without its ending; macOS makes accents letters of their own."""
    return unicodedata.normalize("NFC", stem_of(file.relative_to(root).as_posix()))


def image_files(files: Iterable[Path], root: Path, *, clash: bool = True) -> dict[str, Path]:
    """{name: file} of image files."""
    by_name: dict[str, list[Path]] = {}
    for file in files:
        if has_image_suffix(file.name):
            by_name.setdefault(name_in(file, root), []).append(file)
    alike = [file for found in by_name.values() if found[1:] for file in found]
    if alike and clash:
        names = listed([relative(file, root) for file in alike], MOST_NAMED)
        ways = "keep one of each, or put images and masks into folders images/ and masks/"
        raise InputError(one_line(f"{root}: expected one image file of a name, got {names}; {ways}"))
    return {name: found[0] for name, found in by_name.items()}


def with_suffix(suffix: str) -> re.Pattern[str]:
    """What masks are called: an image's name, the suffix, and perhaps _1, _2, ..."""
    return re.compile(rf"(.{'*' if suffix else '+?'}){re.escape(suffix)}(_[0-9]+)?", re.I | re.S)


def match(images: Iterable[str], masks: Mapping[str, Path], suffix: str) -> dict[str, list[Path]]:
    """{name of an image: its masks}, of those that have any."""
    pattern, names = with_suffix(suffix), set(images)
    matched: dict[str, list[Path]] = {}
    for name, mask in masks.items():
        found = pattern.fullmatch(name)
        image = name if not suffix and name in names else found and found[1]  # x_1 may be an image's own name
        if image in names:
            matched.setdefault(image, []).append(mask)
    return matched


def beside(files: Mapping[str, Path], suffix: str) -> tuple[dict[str, tuple[Path, list[Path]]], list[Path]]:
    """Images and masks of one folder: {name: (image, its masks)}, and masks without an image."""
    masks = {name: file for name, file in files.items() if with_suffix(suffix).fullmatch(name)}
    matched = match(files.keys() - masks.keys(), masks, suffix)
    used = {mask for its in matched.values() for mask in its}
    pairs = {name: (file, matched.get(name, [])) for name, file in files.items() if name not in masks}
    return pairs, [mask for mask in masks.values() if mask not in used]


def common(images: list[str], masks: Mapping[str, Path]) -> str:
    """The suffix by which every image has a mask: "" if that does, else the only one; "" of several."""
    if all(image in masks for image in images):
        return ""
    rests = [{mask[len(image) :] for mask in masks if mask.startswith(image)} for image in images[:5]]
    suffixes = set.intersection(*({re.sub("_[0-9]+$", "", rest) or rest for rest in of} for of in rests))
    good = [suffix for suffix in suffixes if suffix and len(match(images, masks, suffix)) == len(images)]
    return good[0] if len(good) == 1 else ""


def aligned(images: Iterable[str], masks: Mapping[str, Path], matched: Matched) -> dict[str, list[Path]]:
    """{name of an image: its mask} by what differs: 21 of 21_training and 21_manual1, 1 of img1 and mask1.

    What all images have in common, before and behind, is no part of that, nor is what all masks have in
    common. None, if not each mask is some image's; or not each image has one, where nothing allows that.
    """
    wanted = {name: mask for name, mask in masks.items() if with_suffix(matched.suffix or "").fullmatch(name)}
    images = list(images)
    of_images, of_masks = differing(images), differing(wanted)
    lacking, spare = of_images.keys() - of_masks.keys(), of_masks.keys() - of_images.keys()
    if spare or len(of_images) < len(images) or len(of_masks) < len(wanted):
        return {}
    if lacking and not (matched.empty or matched.suffix):
        return {}
    if len(images) == 1 and len({*map(tuple, (re.findall(r"\d+", name) for name in (*images, *wanted)))}) > 1:
        return {}  # of single ones nothing differs, but 3 is not 5
    return {of_images[key]: [masks[mask]] for key, mask in of_masks.items()}


def differing(names: Iterable[str]) -> dict[tuple, str]:
    """{what differs in a name from the others: the name}, in whole words and numbers; 01 is 1."""
    parts = {name: re.findall(r"(?:0(?=\d))*(\d+)|([^\W\d_]+|.)", name, re.S) for name in names}
    start = len(os.path.commonprefix([*parts.values()]))
    rests = {name: part[start:] for name, part in parts.items()}
    end = len(os.path.commonprefix([rest[::-1] for rest in rests.values()]))
    return {tuple(rest[: len(rest) - end]): name for name, rest in rests.items()}


def added(name: str, other: str) -> str | None:
    """What the longer of two names adds to the other, such as _mask, or None: a number adds nothing."""
    short, long = sorted((name, other), key=len)
    rest = long[len(short) :]
    says = not rest or (not rest[0].isdigit() and re.search("[a-z]{2}", rest, re.I))
    return re.sub("_[0-9]+$", "", rest) if long.startswith(short) and says else None


def extends(name: str, names: Container[str]) -> bool:
    """Whether a name is another one and more, as b_seg of b."""
    return any(name[:i] in names and added(name[:i], name) for i in range(len(name)))
