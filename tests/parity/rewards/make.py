"""Writes rows.jsonl, the pictures of every SVG in it, and expected.json: the totals of the rewards of
CTRL-S, VectorGym/RLRF and SGP-RL, computed here from the same pictures.

    python make.py SVGRL      (SVGRL: the program; needs what ../encoders and ../perceptual need, and OpenCV)

The configs are configs/*_reward.yaml with the small encoders of ../encoders and the formula's networks of
../perceptual. Pictures stand in for CairoSVG's: `svgrl render` draws them once, and the test checks
that it still draws them alike. Everything after the pictures is NumPy, OpenCV, lpips, dreamsim and
transformers, in float64.
"""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import cv2
import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torchvision import transforms
from transformers import AutoModel, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
ENCODERS = HERE.parent / "encoders"
ROOT = HERE.parents[2]


def sibling(name):
    spec = importlib.util.spec_from_file_location(name, HERE.parent / name / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


perceptual, encoders = sibling("perceptual"), sibling("encoders")


def svg(inner, size=64, extra=""):
    return f'<svg xmlns="http://www.w3.org/2000/svg" {extra}viewBox="0 0 {size} {size}">{inner}</svg>'


CIRCLE = svg('<circle cx="30" cy="32" r="20" fill="red"/><rect x="4" y="4" width="12" height="9" fill="navy"/>')
NEAR = svg('<circle cx="32" cy="33" r="18" fill="orange"/><rect x="5" y="4" width="12" height="10" fill="navy"/>')
FAR = svg('<path d="M4 60L32 6L60 60Z" fill="green" stroke="black" stroke-width="3"/>')
BLANK = svg('<circle cx="30" cy="32" r="20" fill="white"/>')
LONG = svg("".join(f'<rect x="{x}" y="{x}" width="9" height="7" fill="teal"/>' for x in range(0, 56, 4)))
OWN = svg('<circle cx="40" cy="30" r="19" fill="purple"/>', extra='width="96" height="96" ')
PROMPT = "a red circle above a blue star"

THINK = "<think>a circle</think>\n```svg\n{}\n```"
ANSWER = "it is round</think> <answer>{}</answer>"
ROWS = [
    ("ctrl_s", "text_to_svg", THINK.format(NEAR), {"svg": CIRCLE}),
    ("ctrl_s", "text_to_svg", THINK.format(FAR), {"svg": CIRCLE, "text": "two small triangles"}),
    ("ctrl_s", "text_to_svg", THINK.format(LONG), {"svg": CIRCLE}),
    ("ctrl_s", "text_to_svg", NEAR, {"svg": CIRCLE}),
    ("ctrl_s", "text_to_svg", THINK.format(CIRCLE), {"svg": CIRCLE}),
    ("vectorgym", "draw", NEAR, {"svg": CIRCLE}),
    ("vectorgym", "draw", "Here it is: " + FAR, {"svg": CIRCLE}),
    ("vectorgym", "draw", BLANK, {"svg": CIRCLE}),
    ("vectorgym", "draw", "<svg", {"svg": CIRCLE}),
    ("vectorgym", "draw", CIRCLE, {"svg": CIRCLE}),
    ("vectorgym", "caption", "two small triangles beside a star", {"text": PROMPT}),
    ("vectorgym", "caption", PROMPT, {"text": PROMPT}),
    ("vectorgym", "caption", " ", {"text": PROMPT}),
    ("sgp", "text_to_svg", ANSWER.format(NEAR), {"svg": CIRCLE}),
    ("sgp", "text_to_svg", ANSWER.format(OWN), {"svg": CIRCLE, "text": "a large star"}),
    ("sgp", "text_to_svg", NEAR, {"svg": CIRCLE}),
    ("sgp", "text_to_svg", ANSWER.format("a circle"), {"svg": CIRCLE}),
]
# Longer side in pixels, as the configs draw; SGP-RL keeps the drawing's own.
SIZES = {"ctrl_s": 448, "vectorgym": 512, "sgp": None}


def drawing(text):
    start, end = text.find("<svg "), text.find("</svg>")
    return text[start : end + 6] if start >= 0 and end > start else None


def draw(program):
    """Each drawing at its size, as `svgrl render` draws it; SVGs without a size are 64 pixels wide."""
    folder = HERE / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = {}
    for system, _, completion, reference in ROWS:
        for source in (drawing(completion), reference.get("svg")):
            if source is None or (system, source) in names:
                continue
            name = f"{system}_{len(names)}"
            size = SIZES[system] or (96 if "width=\"96\"" in source else 64)
            with tempfile.TemporaryDirectory() as scratch:
                path = pathlib.Path(scratch) / f"{name}.svg"
                path.write_text(source)
                subprocess.run([program, "render", str(path), "--size", str(size), "--out", str(folder)], check=True)
            names[system, source] = name
    (HERE / "pictures.json").write_text(json.dumps([[s, source, name] for (s, source), name in names.items()]) + "\n")
    return {key: Image.open(folder / f"{name}.png").convert("RGB") for key, name in names.items()}


def unit(row):
    return row / row.norm()


class Dino:
    def __init__(self, name, pool):
        self.model = AutoModel.from_pretrained(ENCODERS / name).double().eval()
        settings = json.loads((ENCODERS / name / "preprocessor_config.json").read_text())
        kept = ("size", "crop_size", "image_mean", "image_std")
        self.processor = encoders.BitImageProcessorPil(**{key: settings[key] for key in kept})
        self.pool = pool

    def __call__(self, picture):
        values = self.processor(picture, return_tensors="pt")["pixel_values"].double()
        hidden = self.model(values).last_hidden_state[0]
        return unit(hidden[0] if self.pool == "cls" else hidden.mean(0))


class SgpDino(Dino):
    """SGP-RL's: torchvision's transform at the side of the tiny network, the reference squashed to 224 before."""

    def __init__(self, name):
        super().__init__(name, "cls")
        side = 42
        self.shape = transforms.Compose([
            transforms.Resize(side), transforms.CenterCrop(side), transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
        self.processor = lambda picture, return_tensors: {"pixel_values": self.shape(picture)[None]}

    def target(self, picture):
        return self(picture.resize((224, 224), Image.BILINEAR))


class LongClip:
    def __init__(self):
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

        state = {key: value.double() for key, value in torch.load(ENCODERS / "longclip/longclip.pt").items()}
        rest = state.pop("positional_embedding_res")
        state["positional_embedding"] = torch.cat([state["positional_embedding"][:20], rest[20:]])
        vocab = state["token_embedding.weight"].shape[0]
        self.model = CLIP(24, CLIPVisionCfg(image_size=16, patch_size=8, width=64, layers=1),
                          CLIPTextCfg(context_length=248, vocab_size=vocab, width=64, heads=1, layers=1), quick_gelu=True, cast_dtype=None)
        self.model = self.model.double().eval()
        self.model.load_state_dict(state, strict=False)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(ENCODERS / "longclip")
        self.shape = transforms.Compose([
            transforms.Resize(16, interpolation=transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(16), transforms.ToTensor(),
            transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))])

    def __call__(self, picture, text):
        ids = torch.zeros(1, 248, dtype=torch.long)
        own = self.tokenizer(text)["input_ids"]
        ids[0, : len(own)] = torch.tensor(own)
        image = self.model.encode_image(self.shape(picture)[None].double())[0]
        return (unit(image) @ unit(self.model.encode_text(ids)[0])).item()


class Siglip:
    def __init__(self, name):
        self.model = AutoModel.from_pretrained(ENCODERS / name).double().eval()
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(ENCODERS / name)
        self.processor = encoders.SiglipImageProcessorPil(size={"height": 48, "width": 48}, resample=3)

    def __call__(self, picture, text):
        values = self.processor(picture, return_tensors="pt")["pixel_values"].double()
        ids = self.tokenizer([text], padding="max_length", max_length=64, truncation=True, return_tensors="pt")["input_ids"]
        image, words = self.model.get_image_features(values), self.model.get_text_features(ids)
        return (unit(encoders.tensor_of(image)[0]) @ unit(encoders.tensor_of(words)[0])).item()


class Bge:
    def __init__(self):
        from transformers import XLMRobertaConfig, XLMRobertaModel

        self.model = XLMRobertaModel(XLMRobertaConfig.from_pretrained(ENCODERS / "bge_m3"))
        self.model.load_state_dict(torch.load(ENCODERS / "bge_m3/pytorch_model.bin"))
        self.model.double().eval()
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(ENCODERS / "bge_m3")

    def __call__(self, a, b):
        rows = [self.model(**self.tokenizer(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[0, 0] for text in (a, b)]
        return (unit(rows[0]) @ unit(rows[1])).item()


def standard(values):
    return (values - values.mean()) / values.std()


def l2(a, b):
    return float(np.clip(1 - np.mean((standard(a) - standard(b)) ** 2), -1, 1))


def edges(picture):
    grey = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY)
    return cv2.dilate((cv2.Canny(grey, 50, 150) > 0).astype(np.uint8), np.ones((3, 3), np.uint8))


def blurred(picture):
    return cv2.GaussianBlur(edges(picture).astype(np.float64), (13, 13), 0)


def edge_picture(picture):
    return Image.fromarray(np.repeat(edges(picture)[..., None] * 255, 3, axis=2))


def rlrf(lpips_model, dreamsim_model, a, b):
    def lpips_reward(x, y):
        x, y = (transforms.ToTensor()(p.resize((256, 256), Image.BICUBIC)).double()[None] for p in (x, y))
        return float(np.clip(1 - 2 * lpips_model(x, y).item(), -1, 1))

    def dreamsim_reward(x, y):
        x, y = (transforms.ToTensor()(p.resize((224, 224), Image.BICUBIC)).double()[None] for p in (x, y))
        return 1 - 2 * dreamsim_model(x, y).item()

    pixels = [np.asarray(p) / 255 for p in (a, b)]
    terms = {
        "l2": l2(*pixels), "l2_canny": l2(blurred(a), blurred(b)), "lpips": lpips_reward(a, b), "dreamsim": dreamsim_reward(a, b),
        "dreamsim_canny": dreamsim_reward(edge_picture(a), edge_picture(b))}
    return terms, sum(0.2 * term for term in terms.values())


def blank(picture):
    data = np.asarray(picture)
    return data.mean() >= 254 or int(data.max()) - int(data.min()) < 5


def main(program):
    pictures = draw(program)
    count = Tokenizer.from_file(str(ROOT / "configs/quickstart_tokenizer/tokenizer.json"))
    length = lambda text: len(count.encode(text, add_special_tokens=False).ids)
    dino, lclip, sgp_dino, siglip, bge = Dino("dinov2", "mean"), LongClip(), SgpDino("dinov2_giant"), Siglip("siglip"), Bge()
    lpips_model, dreamsim_model = perceptual.lpips_model("alex"), perceptual.dreamsim_model()
    out = []
    for system, task, completion, reference in ROWS:
        source, text = drawing(completion), reference.get("text", PROMPT)
        parts, total = None, None
        if task == "caption":
            total = -1.0
            if completion.strip():
                total = bge(completion.strip(), text)
                parts = {"text_similarity": total}
        elif system == "ctrl_s":
            total = 0.0
            if completion.startswith("<think>"):
                mine, target = pictures[system, source], pictures[system, reference["svg"]]
                ratio = max(0, length(source) - length(reference["svg"]) / 2) / length(reference["svg"])
                parts = {
                    "dino": ((dino(mine) @ dino(target)).item() + 1) / 2, "long_clip": lclip(mine, text), "code_efficiency": 1 - ratio**2}
                total = 2 * parts["dino"] + parts["long_clip"] + parts["code_efficiency"]
        elif system == "vectorgym":
            total = -1.0
            if source is not None and not blank(pictures[system, source]):
                parts, total = rlrf(lpips_model, dreamsim_model, pictures[system, source], pictures[system, reference["svg"]])
        else:
            total = 0.0
            if "</think> <answer>" in completion and completion.endswith("</answer>") and source is not None:
                mine, target = pictures[system, source], pictures[system, reference["svg"]]
                parts = {"image_text": (siglip(mine, text) + 1) / 2, "dino": ((sgp_dino(mine) @ sgp_dino.target(target)).item() + 1) / 2}
                total = sum(parts.values())
        out.append({"system": system, "total": total, "parts": parts})
        print(out[-1])
    rows = [
        {"id": index, "system": system, "task": task, "prompt": PROMPT, "completion": completion, "reference": reference}
        for index, (system, task, completion, reference) in enumerate(ROWS)
    ]
    (HERE / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (HERE / "expected.json").write_text(json.dumps(out, indent=0) + "\n")


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1])
