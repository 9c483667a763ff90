"""Writes the first corpus of the fuzz target: small icons of the repository, one document for each
feature the parser treats in its own way, and shapes of completions."""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
NS = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
BODIES = [
    '<path d="M1 2h3v4L5 6c1 2 3 4 5 6s1 1 2 2q1 1 2 2t1 1a1 2 3 0 1 4 5z"/>',
    '<g transform="translate(1 2) scale(3) rotate(4 5 6) skewX(7) matrix(1 0 0 1 2 3)"><rect width="9" height="9" rx="2"/></g>',
    '<defs><linearGradient id="a" x2="1"><stop offset="0" stop-color="red"/><stop offset="50%" stop-color="#0f08"/></linearGradient></defs><circle r="9" fill="url(#a)"/>',
    '<clipPath id="c"><circle r="5"/></clipPath><rect width="9" height="9" clip-path="url(#c)"/>',
    '<mask id="m"><rect width="5" height="5" fill="#fff"/></mask><rect width="9" height="9" mask="url(#m)"/>',
    '<pattern id="p" width="3" height="3" patternUnits="userSpaceOnUse"><circle r="1"/></pattern><rect width="9" height="9" fill="url(#p)"/>',
    '<filter id="f"><feGaussianBlur stdDeviation="2"/><feColorMatrix type="hueRotate" values="9"/></filter><rect width="9" height="9" filter="url(#f)"/>',
    '<g id="u"><rect width="2" height="2"/></g><use href="#u" x="3"/><use xlink:href="#u" y="3"/>',
    '<symbol id="s" viewBox="0 0 2 2"><circle r="1"/></symbol><use href="#s" width="5" height="5"/>',
    '<marker id="k" orient="auto"><path d="M0 0h1"/></marker><path d="M0 0h5v5" marker-end="url(#k)" stroke="red"/>',
    '<style>.a{fill:red;stroke:blue} rect > g, #b{opacity:.5}</style><rect class="a" id="b" width="9" height="9"/>',
    '<text x="1" y="9" font-size="8">ab<tspan dx="1">c</tspan></text>',
    '<image href="data:image/png;base64,iVBORw0KGgo=" width="3" height="3"/><switch><g/></switch>',
    '<polyline points="1,2 3,4 5 6" stroke-dasharray="1 2" stroke="red"/><ellipse rx="3" ry="4"/><line x2="9" stroke="red"/>',
    "<!-- c --><![CDATA[x]]><?pi x?><text>&amp;&#65;&#x1F600;&lt;</text>",
]
WHOLE = [
    '<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE svg PUBLIC "a" "b" [<!-- x -->]>' + f"<svg {NS} width='9' height='9'/>",
    "<svg viewBox='0 0 9 9'><rect width='9' height='9'",
    f"<s:svg xmlns:s='http://www.w3.org/2000/svg' width='50%' height='1in' viewBox='0 0 9 9'/>",
    "<think>a</think>\n```svg\n<svg viewBox='0 0 9 9'/>\n```",
    "</think> <answer><svg viewBox='0 0 9 9'><g></answer>",
]


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [f'<svg {NS} viewBox="0 0 16 16">{body}</svg>' for body in BODIES] + WHOLE
    with open(HERE.parents[1] / "configs/icons/train.jsonl") as icons:
        found = [json.loads(line)["svg"] for line in icons]
    seeds += [svg for svg in found if len(svg) < 1000][::10]
    for index, seed in enumerate(seeds):
        for choice in (index % 8, (index + 1) % 8):
            (folder / f"seed-{index:04}-{choice}").write_bytes(bytes([choice]) + seed.encode())


main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "corpus/render"))
