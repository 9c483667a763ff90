"""The reward curve of one or several runs' GRPO stage as an SVG picture, from their metrics.jsonl.

    python benches/curve.py OUT.svg RUN [RUN ...]
"""

import json
import math
import pathlib
import sys

W, H, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 50, 20, 20, 40
COLOURS = ["#2563eb", "#d9480f", "#2b8a3e", "#862e9c"]


def main():
    out, runs = pathlib.Path(sys.argv[1]), [pathlib.Path(run) for run in sys.argv[2:]]
    curves = []
    for run in runs:
        rows = [json.loads(line) for line in open(run / "metrics.jsonl")]
        stage = rows[-1]["stage"]
        train = [row["reward/total/mean"] for row in rows if row["stage"] == stage and "reward/total/mean" in row]
        held = [(row["step"], row["eval/heldout/reward/total/mean"]) for row in rows
                if row["stage"] == stage and "eval/heldout/reward/total/mean" in row]
        curves.append((run.name, train, held))
    steps = max(len(train) for _, train, _ in curves)
    every = [value for _, train, held in curves for value in [*train, *(v for _, v in held)]]
    low, high = math.floor(min(every) * 20) / 20, math.ceil(max(every) * 20) / 20
    x = lambda step: LEFT + (W - LEFT - RIGHT) * step / steps
    y = lambda value: H - BOTTOM - (H - TOP - BOTTOM) * (value - low) / (high - low)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="sans-serif" font-size="12">',
             f'<rect width="{W}" height="{H}" fill="white"/>']
    for tick in range(round(low * 20), round(high * 20) + 1):
        value = tick / 20
        parts.append(f'<line x1="{LEFT}" x2="{W - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#e5e7eb"/>'
                     f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for index, (name, train, held) in enumerate(curves):
        colour = COLOURS[index % len(COLOURS)]
        smooth = [sum(train[max(0, i - 4):i + 5]) / len(train[max(0, i - 4):i + 5]) for i in range(len(train))]
        points = " ".join(f"{x(i + 1):.1f},{y(v):.1f}" for i, v in enumerate(smooth))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="4" fill="{colour}"/>' for step, value in held]
        parts.append(f'<text x="{W - RIGHT - 10}" y="{H - BOTTOM - 12 - 16 * index}" text-anchor="end" fill="{colour}">{name}</text>')
    parts.append(f'<text x="{W / 2}" y="{H - 10}" text-anchor="middle">GRPO step (line: training reward; dots: held-out reward)</text></svg>')
    out.write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
