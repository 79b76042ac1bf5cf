"""The primer keeps its word: its code runs in order, prints what the page says."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs/primer.md"
TEXT = PAGE.read_text()
# A python block, and the text block one blank line below it, if there is one.
BLOCKS = re.findall(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", TEXT, flags=re.M | re.S)


def test_code_runs_in_order_and_prints_what_the_page_says(capsys):
    names = {}
    for code, printed in BLOCKS:
        exec(code, names)
        assert capsys.readouterr().out == printed, code


def test_no_block_is_left_out():
    opened = re.findall(r"^```(\w+)$", TEXT, flags=re.M)
    assert set(opened) == {"python", "text"}
    assert opened.count("python") == len(BLOCKS)
    assert opened.count("text") == len([printed for _, printed in BLOCKS if printed])


def test_reverse_mode_takes_about_forty_lines():
    (code,) = [code for code, _ in BLOCKS if "class Box" in code]
    lines = [line for line in code.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert 35 <= len(lines) <= 50


def test_links_lead_to_files_that_exist():
    targets = re.findall(r"\]\((?!http|#)([^)#]+)", TEXT)
    assert "../tinyseg/ops/conv.py" in targets
    for target in targets:
        assert (PAGE.parent / target).exists(), target
