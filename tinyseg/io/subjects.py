"""Whose image it is, told by its name; and other readings of the names, for their owner to choose from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tinyseg.errors import InputError, listed
from tinyseg.io.listing import MOST_NAMED, one_line
from tinyseg.io.pixels import stem_of
from tinyseg.io.rle import table

MOST_HINTS = 3
PATIENT = re.compile("(p|pt|pat|patient|sub|subj|subject|case|donor|animal)[-_ ]?\\d", re.I)
FEW = 10  # subjects of many images each, who may be none
EXAMPLE = "for example --subject '^([^_]+)', P01 of P01_L_3.png"
T = TypeVar("T")


def by_rule(
    names: Sequence[str], files: Sequence[str], own: Sequence[str], of_parts: Sequence[str]
) -> tuple[list[str], str, list[str], str]:
    """Subjects where nobody says who they are.

    At least three folders that hold several images are subjects, if most of their names have a digit (those
    of classes have none). Else it is what stands before a name's last underscore. If that is the same of all
    images and has no digit (img_1, img_2), it is a collection's name: then each image is by itself, as is one
    without an underscore. Images that come in parts are a collection each.

    Args:
        names: of the images, without endings, with "/" between folders.
        files: of the images, for examples.
        own: what to call an image's subject where it is by itself; each is there once.
        of_parts: of the images: "train", "val" or "test", or "" if they come in one.

    Returns:
        The subject of each image, the rule in words, other readings of the names; and the first of these, if
        by it images of one patient would be called those of several, else "".
    """
    parts = [name.split("/") for name in names]
    for level in range(min(map(len, parts)) - 1):
        folders = [part[level] for part in parts]
        numbered = sum(bool(re.search(r"\d", folder)) for folder in set(folders))
        if 3 <= len(set(folders)) < len(names) and 2 * numbered > len(set(folders)):
            others, doubt = hints(names, files, folders)
            return folders, f"the folder: {folders[0]} of {names[0]}", others, doubt
    before = [part[-1].rpartition("_")[0] for part in parts]
    of_part: dict[str, set[str]] = {}
    for part, one in zip(of_parts, before):
        of_part.setdefault(part, set()).add(one)
    collections = {
        min(ones) for ones in of_part.values() if len(ones) == 1 and not re.search(r"\d", min(ones))
    }
    if len(names) > 1:
        before = ["" if one in collections else one for one in before]
    subjects = [subject or name for subject, name in zip(before, own)]
    rule = f"each file by itself: {subjects[0]} of {files[0]}"
    if any(before):
        i = max(range(len(names)), key=lambda i: bool(before[i]))
        rule = f"what stands before the last underscore: {before[i]} of {files[i]}"
    others, doubt = hints(names, files, subjects)
    return subjects, rule, others, doubt


def by_regex(names: Sequence[str], regex: str) -> list[str]:
    """Subjects by a regex, whose first group is the subject.

    Raises:
        InputError: it is no such regex, or does not fit all names.
    """
    try:
        found = [re.search(regex, name) for name in names]
        subjects = [match[1] if match else None for match in found]
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"--subject {regex}: expected a regex, got: {error}; {EXAMPLE}") from None
    except IndexError:
        raise InputError(f"--subject {regex}: expected a group in (), got none; {EXAMPLE}") from None
    if odd := [name for name, subject in zip(names, subjects) if not subject]:
        raise InputError(
            one_line(
                f"--subject {regex}: expected to find a subject in each name, got none in {len(odd)} of "
                f"{len(names)}: {listed(odd, MOST_NAMED)}; {EXAMPLE}"
            )
        )
    return [str(subject) for subject in subjects]


def by_table(names: Sequence[str], file: Path) -> list[str]:
    """Subjects by a CSV file with the columns image and subject; rows of other images may be there, too.

    Raises:
        InputError: it is no such file, or an image is missing in it or there twice.
    """
    rows = table(file)
    line, header = next(rows, (1, []))
    header = [title.lower() for title in header]
    if not {"image", "subject"} <= set(header):
        got = ",".join(header)[:80] or "nothing"
        raise InputError(
            f"{file}, line {line}: expected the columns image,subject with a comma between, got {got}"
        )
    image, subject = header.index("image"), header.index("subject")
    given: dict[str, str] = {}
    for line, row in rows:
        if len(row) != len(header) or not row[image] or not row[subject]:
            raise InputError(
                f"{file}, line {line}: expected an image and its subject, got {','.join(row)[:80]}"
            )
        name = stem_of(row[image].replace("\\", "/").removeprefix("./"))
        if given.setdefault(name, row[subject]) != row[subject]:
            raise InputError(
                f"{file}, line {line}: expected one subject of {name}, got {given[name]} as well"
            )
    found = of_images(given, names, file)
    if missing := [name for name in names if name not in found]:
        raise InputError(
            one_line(
                f"{file}: expected a row of each image, got none of {len(missing)} of {len(names)}: "
                f"{listed(missing, MOST_NAMED)}"
            )
        )
    return [found[name] for name in names]


def of_images(given: Mapping[str, T], names: Sequence[str], file: Path) -> dict[str, T]:
    """{name: what a file has of it}; folders may be left out if no other image then has the same name.

    Raises:
        InputError: an entry of several images.
    """
    found: dict[str, T] = {}
    meant: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        for key in ("/".join(parts[i:]) for i in range(len(parts))):
            if key in given:
                if other := meant.get(key):
                    raise InputError(
                        f"{file}: expected {key} with its folder, since {other} and {name} are there"
                    )
                found[name], meant[key] = given[key], name
                break
    return found


def hints(names: Sequence[str], files: Sequence[str], subjects: Sequence[str]) -> tuple[list[str], str]:
    """(other readings of the names, likely ones first; the first of them again, if it leaves a doubt, or "").

    They make at least 2 subjects, but fewer than images. A reading that joins subjects leaves a doubt, if it
    is by letters and digits (P01 for P01_L and P01_R) or by the first number. So does one that finds what is
    called like a patient, where the subjects are not (P1 of slice003_P1).
    """
    seen, nested = {_partition(subjects)}, any("/" in name for name in names)
    numbered = any(re.search(r"\d", subject) for subject in subjects)  # left and right are no patients' names
    ranked: list[tuple[int, str]] = []
    for regex in _readings(names):
        found = [re.search(regex, name) for name in names]
        groups = [match[1] for match in found if match]
        if len(groups) < len(names) or not 2 <= len(set(groups)) < len(set(names)):
            continue
        if (partition := _partition(groups)) not in seen:
            seen.add(partition)
            example = f"{groups[0]} of {names[0] if nested else files[0]}"
            # P00 is a patient, 0 perhaps only an image's number, L and R are sides.
            digits, letters = (all(re.search(of, group) for group in groups) for of in (r"\d", r"[^\W\d_]"))
            rank = 0 if digits and letters else 1 if digits else 2
            if rank == 1 and len(set(subjects)) < len(names) and numbered:
                continue  # where images have subjects, more numbers are most often their own
            first = regex.startswith(("^([^", r"(\d+)\d{"))  # 1 of 1-3, 08 of 0801
            pairs = len({*zip(groups, subjects)})
            joined = (rank == 0 or rank == 1 and first) and pairs == len({*subjects})
            joined |= all(map(PATIENT.match, groups)) and not all(map(PATIENT.match, subjects))
            ranked.append(
                (rank - 2 * joined, f"--subject '{regex}' makes {len(set(groups))} subjects, {example}")
            )
    ranked.sort(key=lambda r: r[0])
    others = [hint for _, hint in ranked[:MOST_HINTS]]
    doubt = others[0] if ranked and ranked[0][0] < 0 else ""
    count = len(set(subjects))
    if count < len(names) and (not numbered or count < FEW and len(names) >= 20 * count):  # 2007_000032
        others.append("--subject '(.*)' takes each image by itself")
    return others, doubt


def _partition(groups: Sequence[str]) -> tuple[int, ...]:
    """The same of two ways to name the same groups: each group as the place of its first member."""
    first: dict[str, int] = {}
    return tuple(first.setdefault(group, i) for i, group in enumerate(groups))


def _readings(names: Sequence[str]) -> list[str]:
    """Regexes for the ways of cutting names into parts, likely ones first."""
    nested = any("/" in name for name in names)
    start, end = ("^(?:.*/)?", "[^/]*$") if nested else ("^", "")
    seps = [sep for sep in "_-. " if all(sep in name.rpartition("/")[2] for name in names)]
    readings = [
        f"{start}([^{sep}/]+){sep}{end}" if nested else f"^([^{sep}]+)"
        for sep in (sep.replace(".", r"\.") for sep in seps)
    ]
    for sep in (sep.replace(".", r"\.") for sep in seps):
        readings += [f"{sep}([^{sep}/]+)$", f"{start}([^{sep}/]+{sep}[^{sep}/]+){end}"]
        readings += [f"{start}[^{sep}/]+{sep}([^{sep}/]+){sep}{end}"]
    readings += [rf"{start}([^\d/]*\d+){end}", r"(\d+)[^\d/]*$", rf"{start}([^\W\d_]+){end}"]
    readings += ["([^/]+)/[^/]*$", "^([^/]+)/"] if nested else []
    return readings + _leading_digits(names)


def _leading_digits(names: Sequence[str]) -> list[str]:
    """Regexes for a subject's digits before an image's, 08 in genius_0801, if numbers do not just count."""
    last = [re.search(r"(\d+)[^\d/]*$", name) for name in names]
    numbers = [match[1] for match in last if match]
    widths = set(map(len, numbers))
    if len(numbers) < len(names) or len(widths) > 1:
        return []
    readings = []
    for tail in sorted(range(1, widths.pop()), key=lambda tail: (abs(tail - 2), tail)):
        tails: dict[str, set[str]] = {}
        for number in numbers:
            tails.setdefault(number[:-tail], set()).add(number[-tail:])
        full = max(map(len, tails.values())) == 10**tail  # 0000 to 0349
        if not full and len({min(of) for of in tails.values()}) == 1:
            readings.append(rf"(\d+)\d{{{tail}}}[^\d/]*$")
    return readings
