"""The console command: its help, and the way from a training to a mask and to another runtime."""

import json
import subprocess
import sys

import imageio.v3 as imageio
import numpy as np
import pytest
from app.runs import ALWAYS, KEYS, NUMBERS, OF_TWO, OF_WHOLE, PICTURES, SMALL, files, refused

from tinyseg import load, modified
from tinyseg.app.main import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("trained")
    main(["train", *SMALL, "--out", str(folder)])
    return folder


def test_help_in_a_process_of_its_own():
    command = [sys.executable, "-m", "tinyseg.app.main", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert all(f"tinyseg {word}" in done.stdout for word in ("train", "segment", "export"))


@pytest.mark.parametrize(
    "args", [[], ["--help"], ["train", "--help"], ["segment", "--help"], ["export", "--help"]]
)
def test_help(args, capsys):
    with pytest.raises(SystemExit) as caught:
        main(args)
    said = capsys.readouterr()
    assert caught.value.code == 0 and said.err == ""
    assert said.out.startswith(f"usage: {' '.join(['tinyseg', *args[:-1]])}")


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out.startswith("tinyseg ")


def test_each_network_has_its_own_flags(capsys):
    texts = {}
    for name in ("modified", "original", "lungnet"):
        with pytest.raises(SystemExit):
            main(["train", "--network", name, "--help"])
        texts[name] = capsys.readouterr().out
    assert "--patience" in texts["lungnet"] and "default cosine" in texts["lungnet"]
    assert "--patience" not in texts["modified"] and "default linear-end" in texts["modified"]
    assert f"default runs/{'original'}" in " ".join(texts["original"].split())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["train", "--network", "unet"], "--network: invalid choice: 'unet'"),
        (["train", "--patience", "3"], "--patience"),
        (["train", "--network", "lungnet", "--channels", "3"], "--channels 3: expected images from --data"),
        (["export", "nowhere.npz", "a.onnx"], "nowhere.npz: cannot be read"),
        (["export", "model.npz", "model.npz"], "model.npz: expected a name that ends in .onnx"),
        (["export", "model.npz"], "OUT.onnx"),
    ],
)
def test_what_is_refused(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert words in refused(main, capsys, args)
    assert files(tmp_path) == set()


def test_train(trained):
    assert files(trained) >= PICTURES | NUMBERS
    assert json.loads((trained / "metrics.json").read_text()).keys() == KEYS | OF_TWO
    assert load(trained / "model.npz")[0] == modified(maps=1, dilations=(1, 2))


@pytest.mark.parametrize("name", ["original", "lungnet"])
def test_train_the_others(name, tmp_path):
    main(["train", "--network", name, *SMALL, "--size", "32", "--out", str(tmp_path)])
    keys = json.loads((tmp_path / "metrics.json").read_text()).keys()
    assert keys == KEYS | (OF_WHOLE if name == "lungnet" else OF_TWO)
    assert files(tmp_path) >= ALWAYS | NUMBERS
    assert load(tmp_path / "model.npz")[0].classes == (6 if name == "lungnet" else 2)


def test_a_command_comes_to_what_the_demo_comes_to(trained, tmp_path):
    import train_modified

    train_modified.main([*SMALL, "--out", str(tmp_path)])
    for name in (PICTURES | NUMBERS) - {"log.txt"}:  # which tells the time
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes(), name


def test_segment(trained, tmp_path, capsys):
    imageio.imwrite(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8))
    main(["segment", str(trained / "model.npz"), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")])
    assert "1 of 1 images segmented" in capsys.readouterr().out
    assert imageio.imread(tmp_path / "out/a_mask.png").shape == (20, 30)


def test_export(trained, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    main(["export", str(trained / "model.npz"), str(tmp_path / "m.onnx")])
    assert (
        capsys.readouterr().out == f"{tmp_path / 'm.onnx'} computes what {trained / 'model.npz'} computes\n"
    )
    graph = onnx.load(tmp_path / "m.onnx")
    how = json.loads({prop.key: prop.value for prop in graph.metadata_props}["preprocessing"])
    assert how["size"] == 16
    net, params, state, _ = load(trained / "model.npz")
    x = np.random.default_rng(0).random((1, 1, 16, 16), np.float32)
    (y,) = ReferenceEvaluator(graph).run(None, {"image": x})
    np.testing.assert_allclose(y, net(params, state, x)[0], atol=1e-5)


def test_export_without_its_packages(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    words = refused(main, capsys, ["export", trained / "model.npz", tmp_path / "m.onnx"])
    assert "pip install onnx onnxruntime" in words and files(tmp_path) == set()


def test_export_writes_not_over_the_model(trained, tmp_path, capsys):
    model = tmp_path / "model.onnx"
    model.write_bytes((trained / "model.npz").read_bytes())
    words = refused(main, capsys, ["export", model, model.parent / "." / "model.onnx"])
    assert "expected another file than the model itself" in words
    assert load(model)[0] == load(trained / "model.npz")[0]


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", "file/x"])
def test_names_that_no_file_can_have_are_refused_in_a_line(name, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    imageio.imwrite("i.png", np.zeros((16, 16), np.uint8))
    (tmp_path / "file").write_text("")
    model = trained / "model.npz"
    for args in ([name, "i.png"], [model, name], [model, "i.png", "--out", name]):
        refused(main, capsys, ["segment", "--out", "out", *args])
    for args in ([name, "o.onnx"], [model, f"{name}.onnx"]):
        refused(main, capsys, ["export", *args])
    assert files(tmp_path) == {"file", "i.png"}
