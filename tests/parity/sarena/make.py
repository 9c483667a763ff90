"""Writes Icon/, predictions/ and expected.json: a tiny SArena in its published layout, and what independent packages say
of the same PNGs.

    python make.py      (torch, torchvision, transformers, lpips, scikit-image, pytorch-fid, scipy, Pillow, numpy needed)

CLIP and DINOv2 are the random networks of ../encoders (CLIP ViT-B/32's part is played by ../encoders/longclip_hf), LPIPS
is AlexNet's (VGG's equality is ../perceptual's), Inception is pytorch-fid's; their weights are made by `formula`, as in
../perceptual/make.py. Networks run in float64. The distance of Fréchet is pytorch-fid's formula, the trace of the
covariances' root taken as the nuclear norm of the centred features' product: with fewer pictures than features scipy's
root is accurate to three places only.
"""

import json
import math
import pathlib
import shutil

import lpips
import numpy as np
import torch
import torchvision
from PIL import Image, ImageDraw
from pytorch_fid import inception as fid
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tokenizers import Tokenizer
from torchvision import transforms
from transformers import CLIPModel, Dinov2Model, PreTrainedTokenizerFast
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

HERE = pathlib.Path(__file__).parent
ENCODERS = HERE.parent / "encoders"
TOKENIZER = HERE.parent.parent.parent / "configs" / "quickstart_tokenizer"
SIDE = 448
COLOURS = ["red", "green", "blue", "gold", "black", "purple"]


def formula(name, shape):
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    x = torch.arange(math.prod(shape), dtype=torch.int64) * 2654435761 + seed & 0xFFFFFFFF
    for _ in range(2):
        x = (x ^ x >> 16) * 73244475 & 0xFFFFFFFF
    unit = (x ^ x >> 16).double() / 2**32
    if name.startswith("lin"):
        value = 0.2 * unit
    elif len(shape) > 1:
        value = (2 * unit - 1) * math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith("weight") or name.endswith("running_var"):
        value = 0.75 + 0.5 * unit
    else:
        value = (2 * unit - 1) * 0.1
    return value.float().reshape(shape)


def fill(module):
    state = module.state_dict()
    module.load_state_dict({n: formula(n, tuple(t.shape)) if t.is_floating_point() else t for n, t in state.items()})
    return module


def shape(index, size=SIDE):
    """A drawing as its SVG and its pixels."""
    colour, side = COLOURS[index % len(COLOURS)], 40 + 13 * index % 50
    x, y = 5 + 7 * index % 60, 9 + 11 * index % 50
    tag = f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{colour}"/>'
    if index % 2:
        tag += f'<circle cx="{128 - x}" cy="{y + 20}" r="{14 + index}" fill="{COLOURS[(index + 2) % 6]}"/>'
    image = Image.new("RGB", (size, size), "white")
    draw, scale = ImageDraw.Draw(image), size / 128
    draw.rectangle([round(v * scale) for v in (x, y, x + side, y + side)], fill=colour)
    if index % 2:
        r = 14 + index
        draw.ellipse([round(v * scale) for v in (128 - x - r, y + 20 - r, 128 - x + r, y + 20 + r)], fill=COLOURS[(index + 2) % 6])
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">{tag}</svg>', image


def save(folder, name, index, size=SIDE, mode="RGB"):
    svg, image = shape(index, size)
    for part in ("svg", "images"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "svg" / f"{name}.svg").write_text(svg)
    image.convert(mode).save(folder / "images" / f"{name}.png", optimize=True)


def rows(path, items):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def question(id, words, answer="", **more):
    return {"id": id, **more, "conversations": [{"from": "human", "value": words}, {"from": "gpt", "value": answer}]}


CAPTIONS = {1: " a red circle \n", 2: "a large green square", 3: "two small triangles beside a blue star", 4: "a star"}


def suite():
    icon, predictions = HERE / "Icon", HERE / "predictions"
    for folder in (icon, predictions):
        shutil.rmtree(folder, ignore_errors=True)
    generation = icon / "generation"
    for id in CAPTIONS:
        save(generation, id, id)
    rows(generation / "text2svg.jsonl", [question(id, f"Draw. Instruction: {c}") for id, c in CAPTIONS.items()])
    rows(generation / "img2svg.jsonl", [question(id, "<image>\nDraw it.", image=f"images/{id}.png") for id in CAPTIONS])
    rows(generation / "caption.jsonl",
         [{"image": f"{id}.png", "caption": [{"generated_text": c}]} for id, c in CAPTIONS.items()])
    shutil.rmtree(generation / "svg")
    # Prediction 3 is missing in both; 1 of img2svg is its reference; 2's PNG has an alpha channel.
    for id, index in ((1, 7), (2, 2), (4, 9)):
        save(predictions / "text2svg", id, index, mode="RGBA" if id == 2 else "RGB")
    for id, index in ((1, 1), (2, 8), (4, 5)):
        save(predictions / "img2svg", id, index)
    edit = icon / "edit"
    for task, ids in (("flip", (1, 2)), ("rotate", (1, 2, 3))):
        rows(edit / f"{task}.jsonl", [question(id, f"{task} it: <svg/>") for id in ids])
        for id in ids:
            save(edit / "data" / task, id, id + 3)
            shutil.rmtree(edit / "data" / task / "svg")
    save(predictions / "edit" / "flip", 1, 6)
    save(predictions / "edit" / "rotate", 1, 4)
    # Not of the reference's size: SSIM and PSNR have no value, which the released means leave out.
    save(predictions / "edit" / "rotate", 2, 3, size=200)
    save(predictions / "edit" / "rotate", 3, 0)
    asked = [(1, "A. star", "Shape"), (2, "B", "Color"), (3, "C", "Color"), (4, "D", None)]
    rows(icon / "understanding" / "sarena_un.jsonl",
         [question(id, "Which?", a, **({"Subject": s} if s else {})) for id, a, s in asked])
    rows(predictions / "understanding" / "model_un_result.jsonl",
         [{"id": 1, "result": "A"}, {"id": 2, "result": "The answer is B"}, {"id": 3, "result": "C) red"}])
    return icon, predictions


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a, b, dim=-1).item()


class Judge:
    def __init__(self):
        self.clip = CLIPModel.from_pretrained(ENCODERS / "clip").double().eval()
        self.small = CLIPModel.from_pretrained(ENCODERS / "longclip_hf").double().eval()
        self.clip_pictures = CLIPImageProcessorPil.from_pretrained(ENCODERS / "clip")
        self.small_pictures = CLIPImageProcessorPil.from_pretrained(ENCODERS / "longclip_hf")
        self.words = PreTrainedTokenizerFast.from_pretrained(ENCODERS / "clip")
        self.dino = Dinov2Model.from_pretrained(ENCODERS / "dinov2").double().eval()
        self.dino_pictures = BitImageProcessorPil.from_pretrained(ENCODERS / "dinov2")
        self.tokens = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
        self.lpips = lpips.LPIPS(pretrained=False, net="alex", pnet_rand=True, verbose=False)
        trunk = fill(torchvision.models.alexnet(weights=None))
        slices = [self.lpips.net.slice1, self.lpips.net.slice2, self.lpips.net.slice3, self.lpips.net.slice4, self.lpips.net.slice5]
        for own in slices:
            for index, layer in own.named_children():
                layer.load_state_dict(trunk.features[int(index)].state_dict())
        for index, lin in enumerate(self.lpips.lins):
            lin.model[1].weight.data = formula(f"lin{index}.model.1.weight", tuple(lin.model[1].weight.shape))
        self.lpips.double().eval()
        real = fill(torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False))
        fid.load_state_dict_from_url = lambda *_, **__: real.state_dict()
        self.inception = fid.InceptionV3().double().eval()
        self.normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

    def picture(self, model, processor, image):
        pixels = processor(images=image, return_tensors="pt")["pixel_values"].double()
        output = model.get_image_features(pixels)
        return output if torch.is_tensor(output) else output.pooler_output

    def caption(self, text):
        ids = self.words(text, return_tensors="pt", truncation=True, max_length=77)
        output = self.clip.get_text_features(**ids)
        return output if torch.is_tensor(output) else output.pooler_output

    def of_text(self, predicted, reference, caption):
        a, b = (self.picture(self.clip, self.clip_pictures, i) for i in (predicted, reference))
        return {"clip_t2i": 100 * cosine(a, self.caption(caption)), "clip_i2i": 100 * cosine(a, b)}

    def features(self, images):
        small = torch.cat([self.picture(self.small, self.small_pictures, i) for i in images])
        pool = [self.inception(transforms.ToTensor()(i).double()[None])[0].flatten() for i in images]
        return torch.stack(pool).numpy(), small.numpy()

    def of_pair(self, predicted, reference):
        def dino(image):
            pixels = self.dino_pictures(images=image, return_tensors="pt")["pixel_values"].double()
            return self.dino(pixels).last_hidden_state.mean(dim=1)

        out = {"dino": (cosine(dino(reference), dino(predicted)) + 1) / 2}
        if predicted.size != reference.size:
            return out
        a, b = np.array(reference), np.array(predicted)
        out["ssim"] = structural_similarity(a, b, win_size=11, channel_axis=-1, sigma=1.5)
        if np.array_equal(a, b):
            out["psnr"] = 100.0
        else:
            out["psnr"] = peak_signal_noise_ratio(a, b)
        tensors = [self.normalise(transforms.ToTensor()(i)).double()[None] for i in (reference, predicted)]
        out["lpips"] = self.lpips(*tensors).item()
        return out


def frechet(a, b):
    """Of features of references and predictions, fewer than their numbers."""
    a, b = (x.astype(np.float64) for x in (a, b))
    apart = a.mean(0) - b.mean(0)
    a, b = a - a.mean(0), b - b.mean(0)
    scale = (len(a) - 1, len(b) - 1)
    trace = np.linalg.norm(a @ b.T, "nuc") / math.sqrt(scale[0] * scale[1])
    return float(apart @ apart + (a * a).sum() / scale[0] + (b * b).sum() / scale[1] - 2 * trace)


def main():
    icon, predictions = suite()
    judge, items, means = Judge(), {}, {}
    black = Image.new("RGB", (SIDE, SIDE))
    tasks = [("text2svg", icon / "generation" / "images", CAPTIONS), ("img2svg", icon / "generation" / "images", CAPTIONS)]
    tasks += [(f"edit/{t}", icon / "edit" / "data" / t / "images", ids) for t, ids in (("flip", (1, 2)), ("rotate", (1, 2, 3)))]
    for task, images, ids in tasks:
        pairs = []
        for id in ids:
            own = predictions / task
            path = own / "images" / f"{id}.png"
            predicted = Image.open(path).convert("RGB") if path.exists() else black
            reference = Image.open(images / f"{id}.png").convert("RGB")
            pairs.append((reference, predicted))
            values = {"success_rate": 100.0 * path.exists()}
            if task == "text2svg":
                values |= judge.of_text(predicted, reference, CAPTIONS[id].strip())
            else:
                values |= judge.of_pair(predicted, reference)
            if path.exists():
                values["tokens"] = len(judge.tokens.encode((own / "svg" / f"{id}.svg").read_text(), add_special_tokens=False).ids)
            items.setdefault(task, {})[str(id)] = values
        of_task = items[task].values()
        names = dict.fromkeys(name for values in of_task for name in values)
        means[task] = {n: float(np.mean([v[n] for v in of_task if n in v])) for n in names}
        if task == "text2svg":
            sides = [judge.features(side) for side in zip(*pairs)]
            means[task]["fid"] = frechet(sides[0][0], sides[1][0])
            means[task]["fid_c"] = frechet(sides[0][1], sides[1][1])
    edits = [v for task, own in items.items() if task.startswith("edit/") for v in own.values()]
    overall = {f"edit/{n}": float(np.mean([v[n] for v in edits if n in v])) for n in means["edit/flip"]}
    i2s = means["img2svg"]
    overall["final"] = 0.3 * means["text2svg"]["clip_i2i"] + 30 * i2s["dino"] + 20 * i2s["ssim"] + 20 * (1 - i2s["lpips"])
    understanding = {"accuracy": 50.0, "accuracy/Color": 50.0, "accuracy/Shape": 100.0, "accuracy/unknown": 0.0}
    out = {"items": items, "means": means | {"understanding": understanding}, "overall": overall}
    (HERE / "expected.json").write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps({"means": means, "overall": overall}, indent=1))


if __name__ == "__main__":
    with torch.no_grad():
        main()
