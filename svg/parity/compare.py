"""CairoSVG beside svgrl on real drawings: which render, and how far the pixels are apart.

    python svg/parity/compare.py target/release/svgrl FILE.jsonl... > table.md

Rows hold `id` and `svg`. Each drawing goes through `svgrl render --mode strict` at 224 pixels on white,
and through CairoSVG onto the same canvas. Differences are per drawing: the mean absolute difference of
8-bit channels, and the share of pixels off by more than 32 in some channel. Needs cairosvg, numpy, PIL."""

import collections
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import warnings

import cairosvg
import numpy as np
from PIL import Image

LIMIT_S = 10
# A folder for one JSON file a set, with every drawing's figures.
KEEP = os.environ.get("PARITY_KEEP")


class Late(Exception):
    pass


def late(*_):
    raise Late


def ours(program, texts):
    """Pictures by index, and reasons by index."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        files = []
        for index, text in enumerate(texts):
            files.append(folder / f"{index}.svg")
            files[-1].write_text(text, encoding="utf-8", newline="")
        pictures, reasons = {}, {}
        for start in range(0, len(files), 500):
            run = subprocess.run(
                [program, "render", *files[start : start + 500], "--out", folder, "--size", "224", "--mode", "strict"],
                capture_output=True, text=True,
            )
            for line in run.stderr.splitlines():
                place, _, reason = line.partition(".svg: ")
                if reason:
                    reasons[int(place.rsplit("/", 1)[-1])] = reason
        for index in range(len(texts)):
            png = folder / f"{index}.png"
            if png.exists():
                pictures[index] = np.asarray(Image.open(png).convert("RGB"), dtype=np.int16)
    return pictures, reasons


def theirs(text, size):
    """CairoSVG's picture on a canvas of `size`, or why there is none. Whether it renders at all is
    asked without a forced size, as the format rewards do."""
    try:
        signal.alarm(LIMIT_S)
        source = text.encode("utf-8", "surrogatepass")
        cairosvg.svg2png(bytestring=source)
        if size is None:
            return None
        png = cairosvg.svg2png(bytestring=source, output_width=size[0], output_height=size[1], background_color="white")
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.int16)
    except Late:
        return "deadline"
    except Exception as error:
        return type(error).__name__
    finally:
        signal.alarm(0)


def compare(program, path):
    rows = [json.loads(line) for line in open(path, encoding="utf-8")]
    pictures, reasons = ours(program, [row["svg"] for row in rows])
    found = []
    for index, row in enumerate(rows):
        mine = pictures.get(index)
        other = theirs(row["svg"], None if mine is None else mine.shape[1::-1])
        entry = {"id": row["id"], "here": mine is not None, "there": not isinstance(other, str)}
        entry["why"] = reasons.get(index, "") if mine is None else other if isinstance(other, str) else ""
        if entry["here"] and entry["there"]:
            gap = np.abs(mine - other)
            entry["mean"] = float(gap.mean())
            entry["far"] = float((gap.max(axis=2) > 32).mean())
        found.append(entry)
    return found


def line(name, found):
    both = [e for e in found if "mean" in e]
    agree = sum(e["here"] == e["there"] for e in found)
    means = np.array([e["mean"] for e in both] or [0.0])
    far = np.array([e["far"] for e in both] or [0.0])
    only_here = sum(e["here"] and not e["there"] for e in found)
    only_there = sum(e["there"] and not e["here"] for e in found)
    cells = [name, len(found), f"{100 * agree / len(found):.1f} %", only_here, only_there, f"{np.median(means):.2f}", f"{np.quantile(means, 0.95):.2f}", f"{means.max():.1f}", f"{100 * (far > 0.01).mean():.1f} %"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main(program, paths):
    signal.signal(signal.SIGALRM, late)
    warnings.simplefilter("ignore")
    print("| set | drawings | agree whether it renders | only svgrl | only CairoSVG | median difference | 95 % | largest | over 1 % of pixels far apart |")
    print("|---|---|---|---|---|---|---|---|---|")
    details = []
    for path in map(pathlib.Path, paths):
        found = compare(program, path)
        print(line(f"{path.parent.name}/{path.stem}", found), flush=True)
        kinds = collections.defaultdict(list)
        for entry in found:
            if "/" in entry["id"]:
                kinds["/".join(entry["id"].split("/")[:2])].append(entry)
        details += [(kind, entries) for kind, entries in sorted(kinds.items())]
        if KEEP:
            name = f"{path.parent.name}-{path.stem}.json"
            (pathlib.Path(KEEP) / name).write_text(json.dumps(found))
    if details:
        print("\n| feature | drawings | agree whether it renders | only svgrl | only CairoSVG | median difference | 95 % | largest | over 1 % of pixels far apart |")
        print("|---|---|---|---|---|---|---|---|---|")
        for kind, entries in details:
            print(line(kind, entries))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
