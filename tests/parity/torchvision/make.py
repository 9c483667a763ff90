"""Writes expected.safetensors: pictures of odd sizes after torchvision's Resize(42), bilinear, and
CenterCrop(42), as bytes `[N, 42, 42, 3]`, and their `sizes [N, 2]` (width, height).

    python make.py      (torch, torchvision, Pillow, safetensors needed)

The pictures are made by a formula, here and in mod.rs.
"""

import pathlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms

HERE = pathlib.Path(__file__).parent
# Rests of the crop: none, odd ones that round up and down to even, large and small pictures, and two that become longer
# than anything that is kept whole.
SIZES = [(42, 42), (61, 47), (40, 83), (43, 42), (42, 45), (47, 42), (42, 49), (101, 50), (50, 103), (21, 24), (300, 200), (7, 5),
         (900, 2), (1, 640)]


def picture(width, height):
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return Image.fromarray(((x * 7 + y * 13 + c * 85 + x * y // 3) % 256).astype(np.uint8))


def main():
    shape = transforms.Compose([transforms.Resize(42), transforms.CenterCrop(42)])
    rows = [np.asarray(shape(picture(*size))) for size in SIZES]
    out = {"pictures": torch.from_numpy(np.stack(rows)), "sizes": torch.tensor(SIZES)}
    save_file(out, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
