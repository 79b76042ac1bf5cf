"""Damaged and hostile files, drawn at random: each gives a result or one line, in bounded time and memory.

A child process reads many files, one after the other. It ends at the first that breaks the rule, or dies of
it; the failure names the seed, which makes the same file again, and another child goes on behind it.

    python tests/test_fuzz.py FOLDER SEED SEED+1        # reads that one file, and leaves it in FOLDER
"""

import json
import os
import signal
import struct
import subprocess
import sys
import warnings
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pytest
from PIL import Image

from tinyseg import load, original, save
from tinyseg.errors import InputError
from tinyseg.io.checkpoint import read_checkpoint, write_checkpoint
from tinyseg.io.pixels import read_pages
from tinyseg.io.preprocessing import Preprocessing

SECONDS, BYTES = 20, 2**30  # what one file may take
EXTREMES = (
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    2**15,
    2**16 - 1,
    2**16,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
VALUES = (
    None,
    True,
    -1,
    0,
    1.5,
    6000,
    10**9,
    10**30,
    "x" * 1000,
    "\0\x1b\n",
    [],
    [1] * 1000,
    {},
    float("nan"),
)
LARGE = (2, 6000, 10**5, 10**9, 10**30)
MANY = [[1], [12000, 12000], [10**9], [300] * 10000, [1] * 10**5]


def tiled_tiff(pixels: np.ndarray) -> bytes:
    """A TIFF (16, 32) uint8 in two tiles of 16 x 16, by its definition: Pillow writes none."""
    tags = [(256, 32), (257, 16), (258, 8), (259, 1), (262, 1), (277, 1), (322, 16), (323, 16)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags]
    end = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries += [struct.pack("<HHII", 324, 4, 2, end), struct.pack("<HHII", 325, 4, 2, end + 8)]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    lists = struct.pack("<4I", end + 16, end + 16 + 256, 256, 256)
    return (
        struct.pack("<2sHI", b"II", 42, 8)
        + directory
        + lists
        + pixels[:, :16].tobytes()
        + pixels[:, 16:].tobytes()
    )


@cache
def whole() -> dict[str, bytes]:
    """Whole files to damage, by name; the suffix says how each is read."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (16, 32), np.uint8)
    image, colour = Image.fromarray(grey), Image.fromarray(rng.integers(0, 256, (16, 32, 3), np.uint8))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)

    def saved(image, kind, **how):
        content = BytesIO()
        image.save(content, kind, **how)
        return content.getvalue()

    npy = BytesIO()
    np.save(npy, grey)
    pages = {"save_all": True, "append_images": [image, deep]}
    return archives() | {
        "grey.png": saved(image, "PNG"),
        "deep.png": saved(deep, "PNG"),
        "palette.png": saved(image.convert("P"), "PNG"),
        "bits.png": saved(image.convert("1"), "PNG"),
        "stripped.tif": saved(colour, "TIFF"),
        "lzw.tif": saved(image, "TIFF", compression="tiff_lzw"),
        "deflate.tif": saved(deep, "TIFF", compression="tiff_adobe_deflate"),
        "pages.tif": saved(image, "TIFF", **pages),
        "tiled.tif": tiled_tiff(grey),
        "float.tif": saved(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        "colour.jpg": saved(colour, "JPEG"),
        "pages.gif": saved(image, "GIF", save_all=True, append_images=[colour.convert("P")]),
        "grey.bmp": saved(image, "BMP"),
        "colour.webp": saved(colour, "WEBP", lossless=True),
        "grey.pgm": saved(image, "PPM"),
        "grey.npy": npy.getvalue(),
    }


def archives() -> dict[str, bytes]:
    """Model and state files, stored as we write them and compressed as others may."""
    net = original(maps=1, dilations=(1, 2), widths=(2,))
    params, state = net.init(np.random.default_rng(0))
    folder = Path(sys.argv[1] if __name__ == "__main__" else ".")
    place = folder / f"fuzz-{os.getpid()}.npz"
    found = {}
    try:
        save(place, net, params, state, Preprocessing())
        found["stored.model"] = place.read_bytes()
        tree = {
            "last": {"params": params, "step": 3},
            "frames": [(0, np.zeros((8, 8), np.uint8))],
            "best": 0.5,
        }
        write_checkpoint(place, tree)
        found["stored.state"] = place.read_bytes()
    finally:
        place.unlink(missing_ok=True)
    for kind in ("model", "state"):
        found[f"packed.{kind}"] = zipped(members(found[f"stored.{kind}"]), ZIP_DEFLATED)
    return found


def members(content: bytes) -> list[tuple[str, bytes]]:
    with ZipFile(BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def zipped(entries: list[tuple[str, bytes]], how: int = ZIP_STORED) -> bytes:
    content = BytesIO()
    with warnings.catch_warnings(), ZipFile(content, "w", how) as archive:
        warnings.simplefilter("ignore")  # two of one name are what we want
        for name, data in entries:
            archive.writestr(name, data)
    return content.getvalue()


# The ways to damage a file: of its bytes, and of any other file's, with a source of chance.


def flipped(data: bytearray, other: bytes, rng: Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 3, 20))):
        data[place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def cut(data: bytearray, other: bytes, rng: Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def spliced(data: bytearray, other: bytes, rng: Random) -> bytearray:
    at, begin = rng.randrange(len(data)), rng.randrange(len(other))
    length = rng.choice((1, 4, 50, 10**6))
    return data[:at] + other[begin : begin + length] + data[at + rng.choice((0, length)) :]


def extreme(data: bytearray, other: bytes, rng: Random) -> bytearray:
    """A size, a count or an offset somewhere becomes an extreme one."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        width, at = rng.choice((1, 2, 4, 8)), place(data, rng)
        value = rng.choice(EXTREMES) % 256**width
        data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return data


def place(data: bytearray, rng: Random) -> int:
    """Anywhere, but most often in the beginning or the end, where sizes and directories stand."""
    near = min(len(data), rng.choice((40, 300, len(data))))
    return rng.choice((rng.randrange(near), len(data) - 1 - rng.randrange(near)))


def sealed(data: bytearray) -> bytearray:
    """A PNG whose checksums are right again, so that what was damaged is looked at."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        data[end : end + 4] = (
            zlib.crc32(data[at + 4 : end]).to_bytes(4, "big") if end + 4 <= len(data) else b""
        )
        at = end + 4
    return data


def rezipped(content: bytes, rng: Random) -> bytes:
    """An archive with sound checksums, one entry of which is not what it should be."""
    entries = members(content)
    i = rng.randrange(len(entries))
    name, data = entries[i]
    way = rng.randrange(10)
    if way == 0:
        odd = ("/x.npy", "../x.npy", "x", "\x1b[31m.npy", "a\\b.npy", name.upper(), "tinyseg.npy", "é" * 9000)
        entries[i] = rng.choice(odd), data
    elif way == 1:
        entries.append((name, rng.choice(entries)[1]))
    elif way == 2:
        entries[i] = name, data + bytes(rng.choice((1, 1000, 10**8)))
    elif way == 3:
        entries[i] = name, bytes(damaged_once(bytearray(data), content, rng))
    elif way == 4:  # an array that claims another shape or dtype
        old, new = rng.choice(
            (
                (b"(1,)", b"(9,)"),
                (b"<f4", b"<f8"),
                (b"<f4", b"|O4"),
                (b"(1,)", b"(-1,"),
                (b"shape", b"sha" * 2),
            )
        )
        entries[i] = name, data.replace(old, new)
    elif way == 5:
        entries.pop(i)
    else:
        entries = [(n, described(d, rng) if n in ("tinyseg.npy", "tree.npy") else d) for n, d in entries]
    return zipped(entries, rng.choice((ZIP_STORED, ZIP_DEFLATED)))


def described(entry: bytes, rng: Random) -> bytes:
    """The JSON of an archive, with a value somewhere replaced by one that nobody foresees."""
    about = json.loads(str(np.load(BytesIO(entry))))
    node = about
    if "network" in about and rng.random() < 0.4:  # a network of a size that no file holds
        fields = {"maps": LARGE, "channels": LARGE, "widths": MANY, "dilations": MANY}
        name = rng.choice(list(fields))
        about["network"][name] = rng.choice(fields[name])
        node = {}
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(keys) if keys else None
        if key is None or not isinstance(node[key], dict | list) or not node[key] or rng.random() < 0.2:
            break
        node = node[key]
    if key is not None:
        node[key] = rng.choice(VALUES)
    text = "[" * 10**5 if rng.random() < 0.02 else json.dumps(about)
    content = BytesIO()
    np.save(content, np.array(text))
    return content.getvalue()


def damaged_once(data: bytearray, other: bytes, rng: Random) -> bytearray:
    return rng.choice((flipped, cut, spliced, extreme, extreme))(data, other, rng) if data else data


def damaged(seed: int) -> tuple[str, bytes]:
    """(kind, content) of a damaged file."""
    rng, files = Random(seed), whole()
    name = rng.choice(
        [name for name in files for _ in range(4 if name.endswith((".model", ".state")) else 1)]
    )
    content, other = files[name], files[rng.choice(list(files))]
    if name.endswith((".model", ".state")) and rng.random() < 0.6:
        return Path(name).suffix, rezipped(content, rng)
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = damaged_once(data, other, rng)
    return Path(name).suffix, bytes(sealed(data) if name.endswith(".png") and rng.random() < 0.7 else data)


READERS = {".model": load, ".state": read_checkpoint}


DEEDS = {
    "raise": lambda: 1 / 0,
    "warn": lambda: warnings.warn("odd", stacklevel=1),
    "die": lambda: os._exit(9),
    "grow": lambda: b"x" * (BYTES + BYTES // 8),
}


def main(folder: str, first: str, last: str, deed: str = "") -> None:
    """The child: for each seed a word, whether the file was read or refused; the last word may be missing."""
    base = limit()
    warnings.simplefilter("error")  # nor may a file make a warning
    for seed in range(int(first), int(last)):
        print(seed, end=" ", flush=True)
        kind, content = damaged(seed)
        file = Path(folder) / f"damaged{kind}"
        file.write_bytes(content)
        if hasattr(signal, "alarm"):
            signal.alarm(SECONDS)  # which ends the process, wherever it hangs
        try:
            if deed and not seed:
                DEEDS[deed]()
            READERS.get(kind, read_pages)(file)
            outcome = "read"
        except InputError as error:
            assert str(error).startswith(str(file)) and "\n" not in str(error), str(error)
            assert not isinstance(error.__context__, MemoryError), "asked for more memory than it may take"
            outcome = "refused"
        if base is not None:
            taken = peak() - base
            assert taken < BYTES, f"took {taken} bytes"
        print(outcome, flush=True)  # not before: what took too much is no outcome


def limit() -> int | None:
    """Let no file take more than twice what it may; the peak so far, in bytes; None where nobody can tell."""
    if not sys.platform.startswith("linux"):
        return None
    import resource

    for name in (".model", ".state", ".tif", ".png", ".jpg", ".webp"):  # what is loaded once counts for none
        whole_file = next(content for file, content in whole().items() if file.endswith(name))
        place = Path(sys.argv[1]) / f"whole{name}"
        place.write_bytes(whole_file)
        READERS.get(name, read_pages)(place)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGESIZE") + 2 * BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return peak()


def peak() -> int:
    """The most memory, in bytes, that this process had; `getrusage` begins with its parent's."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["VmHWM"].removesuffix("kB"))


def broken(folder: Path, first: int, last: int, *deed: str) -> tuple[list[str], list[str]]:
    """(a line for each file that breaks the rule, what became of the others)."""
    found, outcomes = [], []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    while first < last and len(found) < 20:
        command = [sys.executable, __file__, str(folder), str(first), str(last), *deed]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        words = done.stdout.split()
        outcomes += words[1::2]
        if done.returncode == 0:
            break
        assert words, done.stderr
        seed = words[-1 if len(words) % 2 else -2]
        found.append(f"seed {seed}: status {done.returncode}, {done.stderr.strip()[-1500:]}")
        first = int(seed) + 1
    return found, outcomes


def test_a_damaged_file_is_read_or_refused_in_a_line(tmp_path):
    found, outcomes = broken(tmp_path, 0, 200)
    assert found == []
    assert (
        len(outcomes) == 200 and 10 < outcomes.count("read") < 190
    )  # else they were damaged too much, or not


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process's peak")


@pytest.mark.fuzz
@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("raise", "division by zero"),
        ("warn", "Warning: odd"),
        ("die", "status 9"),
        pytest.param("grow", "took 1", marks=linux),
    ],
)
def test_the_fuzzer_notices_what_no_file_may_do_and_goes_on_with_the_next(deed, words, tmp_path):
    found, outcomes = broken(tmp_path, 0, 3, deed)
    assert len(found) == 1 and found[0].startswith("seed 0: ") and words in found[0]
    assert len(outcomes) == 2


@pytest.mark.fuzz
@linux
def test_a_child_s_peak_is_not_its_parent_s():
    code = f"import sys; sys.path[:] = {sys.path}; from test_fuzz import peak; print(peak())"
    parent = (
        "import subprocess, sys; x = b'x' * 2**29; "
        f"subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 2**24 < int(done.stdout) < 2**29


@pytest.mark.fuzz
def test_ten_thousand_damaged_files_are_read_or_refused_in_a_line(tmp_path):
    found, outcomes = broken(tmp_path, 1000, 1000 + int(os.environ.get("FUZZ_FILES", "10000")))
    assert found == [], "\n\n".join(found)
    print({word: outcomes.count(word) for word in set(outcomes)})


if __name__ == "__main__":
    main(*sys.argv[1:])
