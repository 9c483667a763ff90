"""CairoSVG's svg2png of drawings at 224 pixels with the PNG decoded, which is what a Python reward does.
Prints pictures a second of the clock and of processor time as JSON."""

import argparse
import io
import json
import time

import cairosvg
import numpy as np
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
parser.add_argument("--every", type=int, default=1, help="take every n-th drawing")
args = parser.parse_args()
rows = [json.loads(line)["svg"].encode() for line in open(args.data, encoding="utf-8")][:: args.every]


def draw(source):
    png = cairosvg.svg2png(bytestring=source, output_width=224, output_height=224, background_color="white")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


for source in rows[:20]:
    draw(source)
wall, cpu = time.perf_counter(), time.process_time()
for source in rows:
    draw(source)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({"documents": len(rows), "per_s": len(rows) / wall, "per_cpu_s": len(rows) / cpu}))
