"""Writes the picture files beside it and what the PIL-backed processors make of them: expected.json holds, for each
file and setting, the grid or the number of tiles, the number of values, and the CRC-32 of the 8-bit values before
normalisation in the processor's order (one of Qwen's two equal frames). JPEG is decoded by each side's own decoder,
so its pixels stand in expected.json in full, as Pillow decodes them, and `plain.png` is the picture it was made of.
"""

import base64
import json
import pathlib
import zlib

import numpy as np
from PIL import Image, ImageDraw
from transformers import GotOcr2ImageProcessorPil, Qwen2VLImageProcessorPil

HERE = pathlib.Path(__file__).parent


def drawing(width, height, mode="RGB"):
    image = Image.new(mode, (width, height), (240, 240, 230, 255)[:len(mode)])
    draw = ImageDraw.Draw(image)
    alpha = (130,) if mode == "RGBA" else ()
    draw.ellipse((width * 0.1, height * 0.2, width * 0.7, height * 0.9), fill=(200, 30, 40) + alpha)
    draw.polygon([(width * 0.4, 0), (width, height * 0.5), (width * 0.6, height)], fill=(20, 60, 220) + alpha)
    draw.line((0, height, width, 0), fill=(0, 0, 0) + alpha, width=3)
    return image


def files():
    drawing(120, 90).save(HERE / "plain.png")
    drawing(64, 200, "RGBA").save(HERE / "rgba.png")
    drawing(333, 100).quantize(16).save(HERE / "palette.png")
    clear = drawing(90, 90).quantize(8)
    clear.save(HERE / "palette_clear.png", transparency=bytes([0, 128] + [255] * 6))
    drawing(70, 51).convert("L").save(HERE / "grey.png")
    drawing(70, 51, "RGBA").convert("LA").save(HERE / "grey_alpha.png")
    drawing(40, 30).convert("1").save(HERE / "one_bit.png")
    drawing(120, 90).save(HERE / "photo.jpg", quality=90)
    drawing(121, 91).convert("L").save(HERE / "photo_grey.jpg", quality=80)
    return sorted(path for path in HERE.iterdir() if path.suffix in (".png", ".jpg"))


SETTINGS = {
    "qwen2_5_vl": Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, min_pixels=56 * 56, max_pixels=28 * 28 * 1280),
    "qwen3_vl": Qwen2VLImageProcessorPil(patch_size=16, merge_size=2, min_pixels=256 * 256, max_pixels=4096 * 4096),
    "qwen3_vl_small": Qwen2VLImageProcessorPil(patch_size=16, merge_size=2, min_pixels=1024, max_pixels=4096),
    "internvl_single": GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, crop_to_patches=False),
    "internvl_tiles": GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, crop_to_patches=True, max_patches=12),
}

if __name__ == "__main__":
    expected = {}
    for path in files():
        image = Image.open(path)
        entry = {}
        if path.suffix == ".jpg":
            pixels = np.asarray(image.convert("RGB"))
            entry["decoded"] = base64.b64encode(pixels.tobytes()).decode()
        else:
            for name, processor in SETTINGS.items():
                out = processor([image], return_tensors="np", do_rescale=False, do_normalize=False)
                values = out["pixel_values"]
                if "image_grid_thw" in out:
                    side = processor.patch_size
                    values = values.reshape(len(values), 3, 2, side * side)
                    assert (values[:, :, 0] == values[:, :, 1]).all()
                    values, grid = values[:, :, 0], out["image_grid_thw"][0, 1:].tolist()
                else:
                    grid = [int(out["num_patches"][0]), 1]
                exact = values.astype(np.uint8)
                assert (exact == values).all()
                entry[name] = {"grid": grid, "values": exact.size, "crc32": zlib.crc32(exact.tobytes())}
        expected[path.name] = entry
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
