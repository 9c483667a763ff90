"""Writes a JSONL of many short rows: rows.py FILE [COUNT]. Ids, prompts and drawings differ; a row has
about 200 bytes, drawings are 80 to 220 characters long. Standard library only."""

import random
import sys

COLOURS = ["red", "green", "blue", "black", "orange", "purple", "teal", "grey"]


def row(number: int, chance: random.Random) -> str:
    parts = []
    for _ in range(chance.randint(1, 3)):
        x, y, r = (chance.randint(4, 124) for _ in range(3))
        colour = chance.choice(COLOURS)
        parts.append(f"<circle cx='{x}' cy='{y}' r='{r}' fill='{colour}'/>")
    svg = "<svg viewBox='0 0 128 128'>" + "".join(parts) + "</svg>"
    return f'{{"id": {number}, "prompt": "{len(parts)} discs, number {number}", "svg": "{svg}"}}\n'


def main() -> None:
    path, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000_000
    chance = random.Random(0)
    with open(path, "w", encoding="utf-8", buffering=1 << 20) as file:
        for start in range(0, count, 10_000):
            file.write("".join(row(n, chance) for n in range(start, min(start + 10_000, count))))


if __name__ == "__main__":
    main()
