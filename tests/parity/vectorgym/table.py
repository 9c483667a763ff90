"""Writes table/data/test-00000-of-00001.parquet: three rows in the columns that ServiceNow/VectorGym publishes.

    python table.py      (pyarrow, Pillow needed)

One drawing stands in two rows, for its two edits; one row has no drawing, and is a sample of nothing.
"""

import io
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

HERE = pathlib.Path(__file__).parent
COLOURS = ["red", "blue"]


def svg(colour, x):
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect x="{x}" y="8" width="32" height="32" fill="{colour}"/></svg>'


def sketch(x):
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).rectangle([x, 8, x + 31, 39], outline="black")
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def row(id, index, colour, wish, original):
    return {
        "svg_id": id, "sketch_category": "shapes", "text_caption": f"a {colour} square",
        "sketch_image": {"bytes": sketch(4 + 8 * index), "path": f"{id}.png"}, "editing_prompt": wish,
        "editing_target_svg": svg("green", 4 + 8 * index), "split": "test", "editing_annotation_index": index,
        "original_svg": original, "is_chart": False,
    }


def main():
    rows = [
        row("a", 0, "red", "make it green", svg("red", 4)),
        row("a", 1, "red", "make it green, to the right", svg("red", 4)),
        row("b", 0, "blue", "make it green", svg("blue", 4)),
        row("c", 0, "grey", "make it green", None),
    ]
    folder = HERE / "table" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")


if __name__ == "__main__":
    main()
