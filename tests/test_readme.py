"""README and docs keep their word: examples run and print what they say, the reading order is one."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import tinyseg
from tinyseg.preprocessing import Preprocessing

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.M | re.S)


def test_two_commands():
    language, commands = BLOCKS[0]
    assert language == "bash"
    assert len(commands.splitlines()) == 2


def test_examples_print_what_the_readme_says(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/modified").mkdir(parents=True)
    net = tinyseg.modified()
    tinyseg.save("runs/modified/model.npz", net, *net.init(np.random.default_rng(0)), Preprocessing())
    names = {}
    for language, code in BLOCKS:
        if language == "python" and ("onnx" not in code or find_spec("onnxruntime")):
            exec(code, names)
    assert names["masks"].shape == (4, 1, 64, 64)
    assert names["mask"].shape == (300, 300)
    if find_spec("onnxruntime"):
        expected, _ = net(names["params"], names["state"], names["images"])
        np.testing.assert_allclose(names["y"], expected, rtol=0, atol=1e-6)
    printed = capsys.readouterr().out.splitlines()
    (said,) = [text.splitlines() for language, text in BLOCKS if language == "text"]
    assert len(printed) == len(said) == 5
    assert printed[0] == said[0] and printed[1].split() == said[1].split()
    for line, promised in zip(printed[2:], said[2:]):  # which place is worst is a matter of rounding
        assert re.split(r"\s{2,}", line)[:3] == re.split(r"\s{2,}", promised)[:3]


def test_convolution_on_paper_comes_out_as_printed(capsys):
    text, names = (ROOT / "docs/convolution.md").read_text(), {}
    blocks = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", text, flags=re.M | re.S)
    assert len(blocks) == 5
    for code, printed in blocks:
        exec(code, names)
        assert capsys.readouterr().out == printed


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "docs/convolution.md", ROOT / "benchmarks/README.md"):
        for target in re.findall(r"\]\((?!http|#)([^)]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_reading_order_needs_nothing_that_comes_later():
    order = re.findall(r"^\| \[(tinyseg/[\w/]+\.py)\]", README, flags=re.M)
    library = {str(path.relative_to(ROOT)) for path in (ROOT / "tinyseg").rglob("*.py")}
    assert set(order) == {path for path in library if not path.endswith("__init__.py")}
    for i, path in enumerate(order):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("tinyseg"):
                module = ROOT / node.module.replace(".", "/")
                files = [f"{node.module.replace('.', '/')}.py"]
                if module.is_dir():  # a package hands on what its files define: each of them must come before
                    files = [str(file.relative_to(ROOT)) for file in module.glob("[!_]*.py")]
                assert set(files) <= set(order[:i]), f"{path} imports {node.module}, which comes later"


def test_the_package_hands_on_what_it_lists():
    assert all(hasattr(tinyseg, name) for name in tinyseg.__all__)
