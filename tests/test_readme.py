"""README and docs keep their word: examples run and print what they say, the reading order is one."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import tinyseg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def blocks(text):
    return re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.M | re.S)


def test_two_commands():
    language, commands = blocks(README)[0]
    assert language == "bash"
    assert len(commands.splitlines()) == 2


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model where the examples look for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/modified").mkdir(parents=True)
    net = tinyseg.modified()
    params, state = net.init(np.random.default_rng(0))
    tinyseg.save("runs/modified/model.npz", net, params, state, tinyseg.Preprocessing())
    return net, params, state


def test_examples_print_what_the_readme_says(capsys, model):
    names = {}
    for language, code in blocks(README):
        if language == "python":
            exec(code, names)
    assert names["masks"].shape == (4, 1, 64, 64)
    printed = capsys.readouterr().out.splitlines()
    (said,) = [text.splitlines() for language, text in blocks(README) if language == "text"]
    assert len(printed) == len(said) == 5
    assert printed[0] == said[0] and printed[1].split() == said[1].split()
    for line, promised in zip(printed[2:], said[2:]):  # which place is worst is a matter of rounding
        assert re.split(r"\s{2,}", line)[:3] == re.split(r"\s{2,}", promised)[:3]


def test_examples_for_your_own_images_run(model):
    names, (net, params, state) = {}, model
    text = (ROOT / "docs/your-images.md").read_text() + (ROOT / "docs/runs.md").read_text()
    for language, code in blocks(text):
        if language == "python" and ("onnx" not in code or find_spec("onnxruntime")):
            exec(code, names)
    assert names["mask"].shape == (300, 300)
    if find_spec("onnxruntime"):
        expected, _ = net(params, state, names["phantom"](4, seed=7).images)
        np.testing.assert_allclose(names["y"], expected, rtol=0, atol=1e-6)


def test_convolution_on_paper_comes_out_as_printed(capsys):
    text, names = (ROOT / "docs/convolution.md").read_text(), {}
    blocks = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", text, flags=re.M | re.S)
    assert len(blocks) == 6
    for code, printed in blocks:
        exec(code, names)
        assert capsys.readouterr().out == printed


def test_the_network_page_prints_what_it_says(capsys):
    ((code, printed),) = re.findall(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```",
        (ROOT / "docs/network.md").read_text(),
        flags=re.M | re.S,
    )
    exec(code, {})
    assert capsys.readouterr().out == printed


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


OFF_THE_PATH = ("fast", "gradcheck", "io", "parallel", "app", "views")


def test_reading_order_needs_nothing_that_comes_later():
    order = re.findall(r"^\| \[(tinyseg/[\w/]+\.py)\]", README, flags=re.M)
    library = {path.relative_to(ROOT) for path in (ROOT / "tinyseg").rglob("*.py")}
    path = {file.as_posix() for file in library if file.parts[1] not in OFF_THE_PATH}
    assert set(order) == {file for file in path if not file.endswith("__init__.py")}
    off = []
    for i, file in enumerate(order):
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("tinyseg"):
                module = ROOT / node.module.replace(".", "/")
                files = [f"{node.module.replace('.', '/')}.py"]
                if module.is_dir():  # a package hands on what its files define: those must come before
                    init = ast.parse((module / "__init__.py").read_text())
                    origins = {a.name: n.module for n in ast.walk(init)
                               if isinstance(n, ast.ImportFrom) for a in n.names}  # fmt: skip
                    files = [
                        f"{origins[a.name].replace('.', '/')}.py" for a in node.names if a.name in origins
                    ]
                if node.module.split(".")[1:2] and node.module.split(".")[1] in OFF_THE_PATH:
                    off.append((file, node.module))
                else:
                    assert set(files) <= set(order[:i]), f"{file} imports {node.module}, which comes later"
    assert off == [("tinyseg/layers.py", "tinyseg.fast")]  # the one line by which the library takes the twins


def test_the_package_hands_on_what_it_lists():
    assert all(hasattr(tinyseg, name) for name in tinyseg.__all__)
