"""The primer keeps its word: its code runs in order and prints what the page says."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs/primer.md"


def test_code_runs_in_order_and_prints_what_the_page_says(capsys):
    names = {}
    pattern = r"^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?"
    blocks = re.findall(pattern, PAGE.read_text(), flags=re.M | re.S)
    assert len(blocks) == 6
    for code, printed in blocks:
        exec(code, names)
        assert capsys.readouterr().out == printed


def test_reverse_mode_takes_about_forty_lines():
    first = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S)[1]
    assert 30 <= len([line for line in first.splitlines() if line.strip()]) <= 45
