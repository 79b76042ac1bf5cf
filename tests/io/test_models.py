"""A model survives its file, and a file that is not a whole model is refused with its name."""

import json
import tracemalloc
import zipfile
from dataclasses import asdict, replace

import numpy as np
import pytest

from tinyseg.errors import InputError
from tinyseg.fast import FAST
from tinyseg.io.masks import Meaning
from tinyseg.io.models import architecture, load, save, shapes
from tinyseg.io.preprocessing import Preprocessing
from tinyseg.layers import Block, Conv2d, InstanceNorm, Sequential
from tinyseg.networks import lungnet, modified, original
from tinyseg.ops import DEFINITIONS, SCIPY

FIELDS = (
    *("channels", "classes", "maps", "dilations", "widths", "norm", "running", "eps"),
    *("residual", "dropout", "head", "weight_std"),
)
SMALL = architecture(original(maps=2, dilations=(1, 3)))  # what `saved` is


@pytest.fixture
def saved(tmp_path):
    net = original(maps=2, dilations=(1, 3))
    params, state = net.init(np.random.default_rng(0))
    save(tmp_path / "model.npz", net, params, state, Preprocessing())
    return tmp_path / "model.npz"


@pytest.mark.parametrize(
    "net", [original(), modified(residual=False), lungnet(maps=2, channels=3, classes=5)]
)
def test_there_and_back(net, tmp_path):
    params, state = net.init(np.random.default_rng(0))
    values, names = range(net.classes), [f"class {k}" for k in range(net.classes)]
    how = Preprocessing(96, net.channels, (0, 4095), Meaning(values, names, ignore=99, colours=True))
    save(tmp_path / "model.npz", net, params, state, how)
    *again, how_again = load(tmp_path / "model.npz")
    assert again[0] == net and how_again == how
    for kept, loaded in zip((params, state), again[1:]):
        assert list(kept) == list(loaded)
        for name in kept:
            np.testing.assert_array_equal(kept[name], loaded[name])
    x = np.random.default_rng(1).random((1, net.channels, 8, 8), np.float32)
    np.testing.assert_array_equal(net(params, state, x)[0], again[0](*again[1:], x)[0])


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_engine_is_not_in_the_file(norm, tmp_path):
    net = lungnet(maps=2, dilations=(1, 3), norm=norm)
    params, state = net.init(np.random.default_rng(0))
    files = []
    for name, engine in {"default": None, "fast": FAST, "definitions": DEFINITIONS, "scipy": SCIPY}.items():
        same = net if engine is None else replace(net, engine=engine)
        save(tmp_path / name, same, params, state, Preprocessing())
        files.append((tmp_path / name).read_bytes())
        about = json.loads(str(entries(tmp_path / name)["tinyseg"]))
        assert set(about) == {"version", "kind", "network", "description", "preprocessing"}
        assert set(about["network"]) == {*FIELDS} and about["kind"] == "DilatedFCN" and about["version"] == 4
        assert load(tmp_path / name)[0].engine is FAST
        given, *_ = load(tmp_path / name, same)  # whoever wants another engine hands the network over
        assert given is same
    assert len(set(files)) == 1


def test_a_network_that_is_given_must_be_the_one_in_the_file(saved):
    right = original(maps=2, dilations=(1, 3))
    assert load(saved, right)[0] is right
    for wrong in (original(maps=3, dilations=(1, 3)), replace(right, eps=1e-4), modified()):
        with pytest.raises(InputError, match="its network cannot be built .it is DilatedFCN.*, expected Dil"):
            load(saved, wrong)
    with pytest.raises(InputError, match="expected a network of the kind Conv2d, got DilatedFCN"):
        load(saved, Conv2d(1, 2))


def test_a_network_of_ones_own_there_and_back(tmp_path):
    net = Sequential(Block(Conv2d(1, 3), InstanceNorm(3)), Conv2d(3, 2, 1))
    params, state = net.init(np.random.default_rng(0))
    path, how = tmp_path / "model.npz", Preprocessing(32)
    save(path, net, params, state, how)
    assert json.loads(str(entries(path)["tinyseg"]))["network"] is None and architecture(net) is None
    again, its_params, its_state, its_how = load(path, net)
    assert again is net and its_how == how and its_state == {}
    assert list(its_params) == list(params)
    for name in params:
        np.testing.assert_array_equal(its_params[name], params[name])
    with pytest.raises(InputError, match="holds a network of the kind Sequential, and a file never says"):
        load(path)
    with pytest.raises(InputError, match="expected a network of the kind DilatedFCN, got Sequential"):
        load(path, original())
    with pytest.raises(InputError, match="array '1.bias' is not of this network"):
        load(path, Sequential(Block(Conv2d(1, 3), InstanceNorm(3))))
    with pytest.raises(InputError, match=r"0.conv.weight should be float32 \(4, 1, 3, 3\), is float32 \(3"):
        load(path, Sequential(Block(Conv2d(1, 4), InstanceNorm(4)), Conv2d(4, 2, 1)))


@pytest.mark.parametrize("key", ["tinyseg", "file", "allow_pickle"])
def test_a_key_that_the_format_needs_is_not_free(key, tmp_path):
    class Scale:
        def init(self, rng):
            return {key: np.ones(1, "f")}, {}

    with pytest.raises(ValueError, match=f"save: the key '{key}' is not free"):
        save(tmp_path / "model.npz", Scale(), *Scale().init(None), Preprocessing())
    assert list(tmp_path.iterdir()) == []


def test_a_parameter_and_a_statistic_may_not_share_a_key(tmp_path):
    class Scale:
        def init(self, rng):
            return {"scale": np.ones(1, "f")}, {"scale": np.ones(1, "f")}

    with pytest.raises(ValueError, match="save: the key 'scale' is not free"):
        save(tmp_path / "model.npz", Scale(), *Scale().init(None), Preprocessing())
    assert list(tmp_path.iterdir()) == []


def test_numpys_whole_numbers_are_saved_as_plain_ones(tmp_path):
    net = original(maps=np.int64(2), dilations=(np.int32(1), 3))
    save(tmp_path / "model.npz", net, *net.init(np.random.default_rng(0)), Preprocessing(np.int64(96)))
    again, *_, how = load(tmp_path / "model.npz")
    assert again == net and how == Preprocessing(96)


def test_entries_are_the_parameters_names_and_there_is_no_pickle(saved):
    with np.load(saved, allow_pickle=False) as file:
        assert {"tinyseg", "block2.conv.weight", "head1.norm.variance"} < set(file.files)


def test_same_model_same_bytes(saved, tmp_path):
    save(tmp_path / "again.npz", *load(saved))
    assert (tmp_path / "again.npz").read_bytes() == saved.read_bytes()


def entries(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def change(path, **changes):
    arrays = entries(path)
    np.savez(path, **{name: a for name, a in (arrays | changes).items() if a is not None})


def about(network=(), preprocessing=(), masks=(), **changes):
    """What stands in `saved`, with changes; a field that becomes `...` is left out."""
    whole = {"version": 4, "kind": "DilatedFCN", "network": SMALL}
    whole["preprocessing"] = asdict(Preprocessing())
    if masks:
        fields = whole["preprocessing"]["masks"] | masks
        preprocessing = {"masks": {k: v for k, v in fields.items() if v is not ...}}
    for key, fields in (("network", network), ("preprocessing", preprocessing)):
        altered = whole[key] | dict(fields) if isinstance(fields, dict | tuple) else fields
        whole[key] = (
            {k: v for k, v in altered.items() if v is not ...} if isinstance(altered, dict) else altered
        )
    return np.array(json.dumps(whole | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head1.conv.bias": None}, "array 'head1.conv.bias' is missing"),
        ({"surplus": np.zeros(2)}, "array 'surplus' is not of this network"),
        ({name: np.zeros(2) for name in "qwertyuiopasdfghjkl"}, "array 'a' is not of this network"),
        (
            {"head1.conv.bias": np.zeros(5, "f")},
            r"head1.conv.bias should be float32 \(12,\), is float32 \(5,\)",
        ),
        ({"head1.conv.bias": np.zeros(12)}, "is float64"),
        ({"head1.conv.bias": np.full(12, np.nan, "f")}, "head1.conv.bias holds a NaN"),
        ({"head1.conv.bias": np.array([1] * 11 + [-np.inf], "f")}, "head1.conv.bias holds a NaN or"),
        ({"tinyseg": None}, "not a tinyseg model"),
        ({"tinyseg": np.array("{")}, "not a tinyseg model"),
        ({"tinyseg": np.array("[1]")}, "not a tinyseg model"),
        ({"tinyseg": about(version=5)}, "of format version 5; this tinyseg reads version 4"),
        ({"tinyseg": about(version=2)}, "of format version 2; this tinyseg reads version 4"),
        ({"tinyseg": about(version=1)}, "of format version 1; this tinyseg reads version 4"),
        ({"tinyseg": about(network=None, kind="Mine")}, "of the kind Mine, and a file never says what code"),
        ({"tinyseg": about(network={"engine": "fast"})}, "cannot be built .engine is unknown"),
        ({"tinyseg": about(network={"conv": "scipy"})}, "cannot be built .conv is unknown"),
        ({"tinyseg": about(network={"maps": -1})}, "cannot be built .maps"),
        ({"tinyseg": about(network={"colour": 1})}, "cannot be built .colour is unknown"),
        ({"tinyseg": about(network={"residual": ...})}, "cannot be built .residual is missing"),
        ({"tinyseg": about(preprocessing={"window": ...})}, "cannot be built .window is missing"),
        ({"tinyseg": about(network={"weight_std": 10**400})}, "cannot be built"),
        ({"tinyseg": about(network={"weight_std": 1e308, "maps": 3})}, "should be float32"),
        ({"tinyseg": np.array("[" * 100000)}, "not a tinyseg model"),
        ({"tinyseg": np.array("[" * 5000 + "]" * 5000)}, "not a tinyseg model"),
        ({"tinyseg": about(network={"eps": float("nan")})}, "not a tinyseg model"),
        ({"tinyseg": about(version="x" * 10000)}, "of format version x+[.]{3}; this"),
        ({"tinyseg": about(network=None, kind="x" * 10000)}, "of the kind x+[.]{3}, and a file"),
        ({"tinyseg": about(network={"dilations": "x" * 10000})}, "cannot be built .dilations"),
        ({"tinyseg": about(network={"dilations": [[[1]]]})}, "cannot be built .dilations"),
        ({"tinyseg": about(description="x" * 10000)}, "expected DilatedFCN"),
        ({"tinyseg": about(network={"weight_std": "a"})}, "cannot be built .weight_std"),
        ({"head1.norm.variance": np.full(12, -1, "f")}, "head1.norm.variance is negative"),
        ({"head1.norm.variance": np.array([1] * 11 + [-1], "f")}, "head1.norm.variance is negative"),
        ({"tinyseg": about(network=3)}, "cannot be built"),
        ({"tinyseg": about(preprocessing=None)}, "cannot be built"),
        ({"tinyseg": about(preprocessing={"masks": 3})}, "cannot be built"),
        ({"tinyseg": about(preprocessing={"masks": ...})}, "cannot be built"),
        ({"tinyseg": about(masks={"alpha": ...})}, "cannot be built .alpha is missing"),
        ({"tinyseg": about(masks={"above": "0"})}, "cannot be built .above: expected"),
        ({"tinyseg": about(masks={"alpha": [1]})}, "cannot be built .alpha: expected true, .* got .1."),
        ({"tinyseg": about(masks={"names": [None, {}]})}, "cannot be built .names: expected texts"),
        ({"tinyseg": about(network={"residual": 1})}, "cannot be built .residual: expected true, .* got 1"),
        ({"tinyseg": about(kind="Mine")}, "cannot be built .kind: expected DilatedFCN, got 'Mine'"),
        ({"tinyseg": about(preprocessing={"window": [3]})}, "cannot be built .window: expected"),
        ({"tinyseg": about(preprocessing={"size": -1})}, "cannot be built .size: expected"),
        ({"tinyseg": about(masks={"values": [0, -1]})}, "cannot be built .values: expected"),
        ({"tinyseg": about(masks={"names": ["one"]})}, "cannot be built .names: expected"),
        (
            {"tinyseg": about(preprocessing={"channels": 3})},
            "preprocessing makes 3 channels, the network takes 1",
        ),
        (
            {"tinyseg": about(masks={"values": [1, 2, 3], "names": ["c", "a", "b"], "above": None})},
            "preprocessing has 3 classes, the network 2",
        ),
    ],
)
def test_what_is_wrong_is_named(saved, changes, words):
    change(saved, **changes)
    with pytest.raises(InputError, match=words) as caught:
        load(saved)
    assert str(caught.value).startswith(str(saved)) and len(str(caught.value)) < 1000


def test_files_that_are_no_model(saved, tmp_path):
    whole = saved.read_bytes()
    for length in (0, 10, 300, len(whole) // 2, len(whole) - 10):
        saved.write_bytes(whole[:length])
        with pytest.raises(InputError, match="not a whole .npz file"):
            load(saved)
    with pytest.raises(InputError, match="No such file"):
        load(tmp_path / "nowhere.npz")
    with pytest.raises(InputError, match="cannot be read"):
        load("a\0b")
    saved.write_text("hello")
    with pytest.raises(InputError, match="not a whole .npz file .no zip archive, or its end is missing"):
        load(saved)
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(InputError, match="one.npz"):
        load(tmp_path / "one.npz")
    np.savez(saved, tinyseg=np.array({"a": 1}, dtype=object))
    with pytest.raises(InputError, match="not a whole .npz file"):
        load(saved)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("output.bias", np.zeros(1), "output.bias should be float32"),
        ("output.bias", np.full(1, np.nan, "f"), "output.bias holds a NaN"),
        ("colour", np.zeros(1, "f"), "array 'colour' is not of this network"),
    ],
)
def test_what_load_would_refuse_is_not_saved(name, array, words, tmp_path):
    net = modified(maps=1)
    params, state = net.init(np.random.default_rng(0))
    with pytest.raises(ValueError, match=words):
        save(tmp_path / "model.npz", net, {**params, name: array}, state, Preprocessing())
    assert list(tmp_path.iterdir()) == []


def test_a_preprocessing_of_another_network_is_not_saved(tmp_path):
    net = modified(maps=1)
    with pytest.raises(ValueError, match="save: preprocessing makes 3 channels, the network takes 1"):
        save(tmp_path / "model.npz", net, *net.init(np.random.default_rng(0)), Preprocessing(channels=3))
    assert list(tmp_path.iterdir()) == []


def test_every_entry_is_of_the_first_npy_format_and_little_endian(saved):
    """NumPy's oldest array format, of plain types: what any NumPy reads on any machine."""
    with zipfile.ZipFile(saved) as file:
        for name in file.namelist():
            header = file.read(name)[:128]
            assert header.startswith(b"\x93NUMPY\x01\x00")
            assert b"'descr': '<f4'" in header or b"'descr': '<U" in header


def test_nothing_half_written(tmp_path):
    net = modified(maps=1)
    with pytest.raises(InputError, match="cannot be written"):
        save(tmp_path / "nowhere" / "model.npz", net, *net.init(np.random.default_rng(0)), Preprocessing())
    assert list(tmp_path.iterdir()) == []


def test_a_variance_of_exactly_0_is_no_flaw(saved):
    """That of a map which is the same everywhere."""
    change(saved, **{"head1.norm.variance": np.zeros(12, "f")})
    np.testing.assert_array_equal(load(saved)[2]["head1.norm.variance"], 0)


def test_a_network_of_the_same_name_or_the_same_arrays_is_not_yet_the_same(saved, tmp_path):
    class Scale:
        def init(self, rng):
            return {"scale": np.ones(1, "f")}, {}

    class Shift(Scale):
        pass

    save(tmp_path / "scale.npz", Scale(), *Scale().init(None), Preprocessing())
    with pytest.raises(InputError, match="expected a network of the kind Shift, got Scale"):
        load(tmp_path / "scale.npz", Shift())
    Scale.__name__ = "DilatedFCN"
    with pytest.raises(InputError, match="expected a network of the kind DilatedFCN, got DilatedFCN"):
        load(saved, Scale())


def test_a_parameter_called_variance_may_be_negative(tmp_path):
    class Spread:
        def init(self, rng):
            return {"variance": -np.ones(1, "f")}, {}

    save(tmp_path / "model.npz", Spread(), *Spread().init(None), Preprocessing())
    assert load(tmp_path / "model.npz", Spread())[1]["variance"] == -1


@pytest.mark.parametrize(
    "net",
    [original(), modified(classes=2), lungnet(maps=2, channels=3, classes=5), lungnet(norm="batch", maps=3)],
)
def test_the_shapes_that_follow_from_the_fields_are_those_of_the_arrays_that_are_made(net):
    for made, said in zip(net.init(np.random.default_rng(0)), shapes(net)):
        assert {name: (array.dtype, array.shape) for name, array in made.items()} == said
        assert list(made) == list(said)


def test_batch_norm_without_running_statistics_has_no_state():
    net = original(running=False)
    assert shapes(net)[1] == net.init(np.random.default_rng(0))[1] == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"maps": 6000}, {"channels": 10**9}, {"widths": [10**5, 10**5]}, {"dilations": [1] * 10**5},
        {"maps": 10**30}, {"maps": 10**9, "weight_std": None},
    ],
)  # fmt: skip
def test_a_network_larger_than_its_file_is_refused_before_memory_is_taken(fields, saved):
    channels = min(fields.get("channels", 1), 2**16)
    change(saved, tinyseg=about(network=fields, preprocessing={"channels": channels}))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="model.npz: "):
            load(saved)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
