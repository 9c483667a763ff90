"""How far half precision moves the cosines of transformers' DINOv2-base and CLIP-L vision towers.

    python benches/peers/transformers_half.py FILE.jsonl...

Rows hold `svg`; the first few of each file are drawn at 224 pixels. Weights are random on the scale of
trained ones (matrices keep their input's scale, times a gain; layer scales about 0.2). Needs cairosvg, PIL."""

import copy
import io
import itertools
import json
import sys

import cairosvg
import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Dinov2Config, Dinov2Model

EACH = 5


def pictures(paths):
    drawn = []
    for path in paths:
        with open(path) as rows:
            for row in itertools.islice(rows, EACH):
                svg = json.loads(row)["svg"].encode()
                png = cairosvg.svg2png(bytestring=svg, output_width=224, output_height=224, background_color="white")
                drawn.append(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")))
    pixels = torch.tensor(np.stack(drawn)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean[:, None, None]) / std[:, None, None]


def draw(network, gain):
    for name, weight in network.named_parameters():
        if weight.dim() >= 2:
            table = "embed" in name and "patch" not in name
            torch.nn.init.normal_(weight, std=0.02 if table else gain / weight[0].numel() ** 0.5)
        elif "norm" in name or "layrnorm" in name:
            torch.nn.init.normal_(weight, float(name.endswith("weight")), 0.2)
        else:
            torch.nn.init.normal_(weight, 0.2 if "lambda" in name else 0.0, 0.1)
    return network.eval()


def features(network, pixels):
    with torch.no_grad():
        out = network(pixels)
    if hasattr(out, "image_embeds"):
        return {"projected": out.image_embeds}
    return {"mean": out.last_hidden_state.mean(1), "cls": out.last_hidden_state[:, 0]}


def cosines(rows):
    rows = torch.nn.functional.normalize(rows.double(), dim=-1)
    return rows @ rows.T


def main(paths):
    torch.manual_seed(0)
    pixels = pictures(paths)
    shape = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    makers = {
        "DINOv2-base": lambda: Dinov2Model(Dinov2Config()),
        "CLIP-L vision": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=14, projection_dim=768, **shape)),
    }
    print("| network | gain | feature | bfloat16 | bfloat16, norms and sums in float32 | float16 |\n|---|---|---|---|---|---|")
    for (name, make), gain in itertools.product(makers.items(), (1.0, 1.5)):
        network = draw(make(), gain)
        full = features(network, pixels)
        narrow = [features(copy.deepcopy(network).bfloat16(), pixels.bfloat16())]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            narrow.append(features(network, pixels))
        narrow.append(features(copy.deepcopy(network).half(), pixels.half()))
        for feature, rows in full.items():
            far = [(cosines(rows) - cosines(half[feature])).abs().max().item() for half in narrow]
            print(f"| {name} | {gain} | {feature} |", " | ".join(f"{value:.1e}" for value in far), "|")


main(sys.argv[1:])
