"""Build the site: `python docs/site/build.py`. It is then in docs/site/_build/html, and needs no internet.

The pages are the repository's own: README.md is the home page, docs/ and demos/tour.ipynb are the others.
They are written for a reader of the repository, so their links lead to files. Here each link to a file
becomes a link to a page: that of the file, or one that shows its source. Sphinx then makes HTML of all pages,
and runs the tour.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import nbformat

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PAGES, HTML = HERE / "_build/pages", HERE / "_build/html"

# Which page a file becomes. All other text files that a page links to become pages of source.
NAMES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "speed.md",
    "demos/tour.ipynb": "tour.ipynb",
    **{f"docs/{path.name}": path.name for path in (ROOT / "docs").glob("*.*")},
    **{
        f"docs/drawings/{path.name}": f"drawings/{path.name}"
        for path in (ROOT / "docs/drawings").glob("*.svg")
    },
    **{f"docs/logs/{path.name}": f"logs/{path.name}.md" for path in (ROOT / "docs/logs").glob("*.txt")},
}
FINISHED = "*This is the notebook after its run. [Run it](../README.md#run-it) says how to open it yourself.*"
LANGUAGES = {".py": "python", ".html": "html", ".toml": "toml", ".yml": "yaml", ".cff": "yaml", ".sh": "bash"}
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]*)(#[^)\s]*)?(?=\))")


class Site:
    """The pages, and the sources that they link to."""

    def __init__(self):
        self.wanted: list[str] = [
            f"tinyseg/{path.relative_to(ROOT / 'tinyseg').as_posix()}" for path in reading_path()
        ]

    def page_of(self, file: str) -> str:
        """The page of a file or folder of the repository; a source is remembered, to be made a page later."""
        if file in NAMES:
            return NAMES[file]
        if file not in self.wanted:
            self.wanted.append(file)
        return f"source/{file}/index.md" if (ROOT / file).is_dir() else f"source/{file}.md"

    def linked(self, text: str, file: str, page: str) -> str:
        """A file's Markdown with its links as they are to be on its page."""

        def new(match):
            target, anchor = match[1], match[2] or ""
            path = os.path.normpath(PurePosixPath(file).parent / target).replace(os.sep, "/")
            if not target or not (ROOT / path).exists():
                raise SystemExit(f"{file}: the link {target or anchor!r} leads nowhere")
            return relative(self.page_of(path), page) + anchor

        return LINK.sub(new, text)

    def write(self) -> None:
        """All pages, in the folder that Sphinx takes."""
        shutil.rmtree(PAGES, ignore_errors=True)
        for file, page in NAMES.items():
            place, source = PAGES / page, ROOT / file
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".md":
                more = (HERE / "contents.md").read_text(encoding="utf-8") if page == "index.md" else ""
                text = self.linked(source.read_text(encoding="utf-8"), file, page)
                place.write_text(text + more, encoding="utf-8")
            elif source.suffix == ".ipynb":
                notebook = nbformat.read(source, 4)
                title, _, rest = notebook.cells[0].source.partition("\n\n")
                notebook.cells[0].source = f"{title}\n\n{FINISHED}\n\n{rest}"
                for cell in notebook.cells:
                    if cell.cell_type == "markdown":
                        cell.source = self.linked(cell.source, file, page)
                nbformat.write(notebook, place)
            elif source.suffix == ".txt":
                place.write_text(shown(file, source.read_text(encoding="utf-8"), "text"), encoding="utf-8")
            else:
                shutil.copy(source, place)
        for name in ("conf.py", "api.md", "style.css"):
            shutil.copy(HERE / name, PAGES / name)
        done = 0
        while done < len(self.wanted):  # a folder's page wants the pages of its files
            self.write_source(self.wanted[done])
            done += 1
        order = "\n".join(f"{path}.md" for path in self.wanted[: len(reading_path())])
        text = f"# The source, in reading order\n\n```{{toctree}}\n:maxdepth: 1\n\n{order}\n```\n"
        (PAGES / "source/index.md").write_text(text, encoding="utf-8")

    def write_source(self, file: str) -> None:
        """The page of a file of source, or of a folder's files."""
        source, place = ROOT / file, PAGES / self.page_of(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not source.is_dir():
            language = LANGUAGES.get(source.suffix, "text")
            place.write_text(shown(file, source.read_text(encoding="utf-8"), language), encoding="utf-8")
            return
        tracked = subprocess.run(
            ["git", "ls-files", file], cwd=ROOT, capture_output=True, text=True, check=True
        )
        files = [one for one in tracked.stdout.split() if one.endswith(".py") and (ROOT / one).stat().st_size]
        lines = [f"- [{one}]({relative(self.page_of(one), self.page_of(file))})" for one in files]
        place.write_text(
            "\n".join(["---\norphan: true\n---\n", f"# {file}", "", *lines, ""]), encoding="utf-8"
        )


def relative(page: str, other: str) -> str:
    """The way to a page from another one."""
    return os.path.relpath(page, PurePosixPath(other).parent).replace(os.sep, "/")


def reading_path() -> list[Path]:
    """The files of the README's reading order, as they stand there."""
    table = re.findall(
        r"^\| \[(tinyseg/[\w/]+\.py)\]", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M
    )
    return [ROOT / file for file in table]


def shown(file: str, text: str, language: str) -> str:
    """A page of a file's text; that of no list of contents (an orphan) needs to say so."""
    fence = "`" * 8
    orphan = "" if ROOT / file in reading_path() else "---\norphan: true\n---\n\n"
    return f"{orphan}# {file}\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n"


def main() -> None:
    Site().write()
    shutil.rmtree(HTML, ignore_errors=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (HERE, ROOT, ROOT / "demos")))}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(HERE / "_build/cache")]
    if status := subprocess.run([*command, str(PAGES), str(HTML)], env=environment).returncode:
        raise SystemExit(status)
    print(f"the site is in {HTML}")


if __name__ == "__main__":
    main()
