"""Writes data/, predictions/ and expected.json: a tiny SGP-GenBench in its published layout, and what independent packages say
of the same drawings.

    python make.py      (torch, transformers, Pillow, numpy needed)

Drawings are of upright rectangles on whole pixels, so that any renderer paints the same picture; here Pillow does. CLIP, SigLIP and
DINOv2 are the random networks of ../encoders (ViT-B/32's part is played by ../encoders/longclip_hf), in float64. As in SGP-RL's
evaluation: raw cosines, 0 for what is not drawn, sums over the number of drawings; diversity from class tokens of pictures
that are brought to size by the bilinear filter; references squashed to 224 pixels first. The judge of compositions answers as
JUDGE says.
"""

import json
import pathlib
import shutil

import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import CLIPModel, Dinov2Model, PreTrainedTokenizerFast, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

HERE = pathlib.Path(__file__).parent
ENCODERS = HERE.parent / "encoders"
SAMPLES = 3
# What the stand-in judge says to a question that holds the words; the first that fits counts.
JUDGE = [("separate things", "SCORE: 50"), ("Which of these", "SCORE: 100"), ("How many cats", "SCORE: 30"),
         ("How many dogs", "30 or so. SCORE: 100"), ("marble", "SCORE: 70"), ("left of", "It is right: 50")]


def svg(size, boxes):
    tags = "".join(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{c}"/>' for x, y, w, h, c in boxes)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}">{tags}</svg>'


def picture(size, boxes):
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for x, y, w, h, c in boxes:
        draw.rectangle([x, y, x + w - 1, y + h - 1], fill=c)
    return image


def drawing(index):
    colours = ["red", "green", "blue", "gold", "black"]
    size = [(64, 64), (80, 60), (48, 72)][index % 3]
    boxes = [(4 + 3 * index % 20, 6 + 5 * index % 17, 12 + index, 20, colours[index % 5]),
             (20, 30, 16, 10 + index % 7, colours[(index + 2) % 5])]
    return size, boxes


OBJECTS = ["a red brick", "a green bottle"]
SCENES = ["two boxes on a table", "a dark door"]
# By prompt and sample: a drawing, or what an answer says instead.
ANSWERS = {
    "object": {0: [0, 1, "sorry"], 1: [2, "cut", None]},
    "scene": {0: [3, 4, 5], 1: ["unformatted", "text", 6]},
}


def answer(what):
    if isinstance(what, int):
        return f"I think.</think> <answer>{svg(*drawing(what))}</answer>"
    good = svg(*drawing(7))
    return {"sorry": "no</think> <answer>I cannot</answer>", "cut": f"</think> <answer>{good}",
            "unformatted": good, "text": f"</think> <answer>{good.replace('</svg>', '<text>a</text></svg>')}</answer>"}[what]


def compositions():
    def row(id, prompt, major, minor, **metadata):
        return {"id": id, "prompt": prompt, "gen_type": "template", "major_type": major, "minor_type": minor, "metadata": metadata}
    counts = [{"noun": "cats", "count": 2}, {"noun": "dogs", "count": 3}]
    return [
        row("texture_1", "a marble glove", "binding", "texture", textures=["marble"], nouns=["glove"]),
        row("color_1", "a red cup", "binding", "color", colors=["red"], nouns=["cup"]),
        row("relation_1", "a cup left of a bed", "relation", "2d_spatial", relation="left of", nouns=["cup", "bed"]),
        row("numeracy_1", "two cats and three dogs", "numeracy", "numeracy", total_count=5, object_counts=counts),
    ]


def said(question_words):
    for words, reply in JUDGE:
        if words in question_words:
            return reply
    return "no idea"


class Judge:
    def __init__(self):
        names = {"clip_small": "longclip_hf", "clip_large": "clip"}
        self.clip = {m: CLIPModel.from_pretrained(ENCODERS / f).double().eval() for m, f in names.items()}
        self.clip_pictures = {m: CLIPImageProcessorPil.from_pretrained(ENCODERS / f) for m, f in names.items()}
        self.clip_words = {m: PreTrainedTokenizerFast.from_pretrained(ENCODERS / f) for m, f in names.items()}
        self.siglip = SiglipModel.from_pretrained(ENCODERS / "siglip").double().eval()
        self.siglip_pictures = SiglipImageProcessorPil.from_pretrained(ENCODERS / "siglip")
        self.siglip_words = PreTrainedTokenizerFast.from_pretrained(ENCODERS / "siglip")
        names = {"dino_base": "dinov2", "dino_giant": "dinov2_giant"}
        self.dino = {m: Dinov2Model.from_pretrained(ENCODERS / f).double().eval() for m, f in names.items()}

    def words(self, image, caption):
        out = {}
        for metric, model in self.clip.items():
            pixels = self.clip_pictures[metric](images=image, return_tensors="pt")["pixel_values"].double()
            ids = self.clip_words[metric](caption, return_tensors="pt")
            out[metric] = cosine(plain(model.get_image_features(pixels)), plain(model.get_text_features(**ids)))
        pixels = self.siglip_pictures(images=image, return_tensors="pt")["pixel_values"].double()
        longest = self.siglip.config.text_config.max_position_embeddings
        ids = self.siglip_words(caption, return_tensors="pt", padding="max_length", max_length=longest, truncation=True)["input_ids"]
        out["siglip_small"] = cosine(plain(self.siglip.get_image_features(pixels)), plain(self.siglip.get_text_features(ids)))
        return out

    def class_tokens(self, image):
        side, (width, height) = 42, image.size
        if width < height:
            size = (side, int(side * height / width))
        else:
            size = (int(side * width / height), side)
        image = image.resize(size, Image.BILINEAR)
        left, top = int(round((size[0] - side) / 2)), int(round((size[1] - side) / 2))
        image = image.crop((left, top, left + side, top + side))
        pixels = torch.tensor(np.array(image)).double().permute(2, 0, 1)[None] / 255
        mean, std = (torch.tensor(v).double()[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        pixels = (pixels - mean) / std
        return {m: model(pixels).last_hidden_state[:, 0] for m, model in self.dino.items()}


def plain(output):
    return output if torch.is_tensor(output) else output.pooler_output


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a, b, dim=-1).item()


def main():
    data, predictions = HERE / "data", HERE / "predictions"
    for folder in (data, predictions):
        shutil.rmtree(folder, ignore_errors=True)
    (data / "val2017").mkdir(parents=True)
    objects = [{"description": words, "svg_content": svg(*drawing(10 + i)), "major_class": "things", "sub_class": "thing",
                "appearance": "plain", "api_call_success": True, "classification": {"is_of_class": True}}
               for i, words in enumerate(OBJECTS)]
    (data / "SGP-Object.json").write_text(json.dumps(objects, indent=1) + "\n")
    scenes = []
    for i, words in enumerate(SCENES):
        name = f"{i:012}.png"
        picture(*drawing(20 + i)).save(data / "val2017" / name, optimize=True)
        scenes.append({"image_id": i, "caption": words, "image_path": f"/elsewhere/coco/val2017/{name}", "prompt": ""})
    (data / "coco_test_data.json").write_text(json.dumps(scenes, indent=1) + "\n")
    (data / "sgp-compbench-prompts.json").write_text(json.dumps(compositions(), indent=1) + "\n")
    # Objects lie as the released script leaves them, in two batches, scenes as rows of ids.
    captions = {"object": OBJECTS, "scene": SCENES}
    for prompt, all in ANSWERS["object"].items():
        folder = predictions / "SGP-Single-9k" / f"batch_{prompt}"
        folder.mkdir(parents=True)
        responses = [{"index": i, "text": answer(what), "valid": isinstance(what, int)} for i, what in enumerate(all) if what is not None]
        info = {"prompts": {"0": {"caption": OBJECTS[prompt], "responses": responses}}, "metadata": {"batch_idx": prompt}}
        (folder / "batch_info.json").write_text(json.dumps(info, indent=1) + "\n")
    (predictions / "scene").mkdir()
    lines = [json.dumps({"id": f"{prompt}/{i}", "answer": answer(what)}) for prompt, all in ANSWERS["scene"].items() for i, what in enumerate(all)]
    (predictions / "scene" / "output.jsonl").write_text("\n".join(lines) + "\n")
    (predictions / "composition").mkdir()
    drawn = [{"id": row["id"], "svg": svg(*drawing(30 + i)), "success": True} for i, row in enumerate(compositions())]
    drawn[1]["svg"] = "<svg><rect></svg>"
    (predictions / "composition" / "model_all_result.json").write_text(json.dumps(drawn, indent=1) + "\n")

    judge, items, means, prompts, released = Judge(), {}, {}, {}, {}
    for task, all in ANSWERS.items():
        for prompt, answers in all.items():
            reference = picture(*drawing((10 if task == "object" else 20) + prompt)).resize((224, 224), Image.BILINEAR)
            wanted = judge.class_tokens(reference)
            features = {m: [] for m in judge.dino}
            for sample, what in enumerate(answers):
                values = {m: 0.0 for m in ("clip_small", "clip_large", "siglip_small", *judge.dino)}
                if isinstance(what, int):
                    image = picture(*drawing(what))
                    values = judge.words(image, captions[task][prompt])
                    for metric, tokens in judge.class_tokens(image).items():
                        values[metric] = cosine(tokens, wanted[metric])
                        features[metric].append(tokens)
                values["success_rate"] = 100.0 if isinstance(what, int) else 0.0
                items.setdefault(task, {})[f"{prompt}/{sample}"] = values
            spread = {}
            for metric, own in features.items():
                pairs = [cosine(a, b) for i, a in enumerate(own) for b in own[i + 1:]]
                spread[f"diversity/{metric}"] = 1 - float(np.mean(pairs)) if pairs else 0.0
            spread["diversity"] = float(np.mean(list(spread.values())))
            prompts.setdefault(task, {})[str(prompt)] = spread
        count = len(items[task])
        means[task] = {m: sum(v[m] for v in items[task].values()) / count for m in next(iter(items[task].values()))}
        own = prompts[task].values()
        means[f"{task}/prompts"] = {m: sum(v[m] for v in own) / len(own) for m in next(iter(own))}
        released[task] = sum(v["diversity"] for v in own) / count
    # int(0.2 * total + 0.2 * items + 0.6 * mean of counts), nonsense being 0, and what is no XML.
    numeracy = int(0.2 * 50 + 0.2 * 100 + 0.6 * np.mean([30, 100]))
    scores = {"texture_1": 0, "color_1": 0, "relation_1": 50, "numeracy_1": numeracy}
    overall = {"composition": sum(scores.values()) / 4, "composition/binding": 0.0, "composition/relation": 50.0,
               "composition/numeracy": numeracy, "diversity_as_released": sum(released.values()) / 2,
               "diversity": (means["object/prompts"]["diversity"] + means["scene/prompts"]["diversity"]) / 2,
               **{m: (means["object"][m] + means["scene"][m]) / 2 for m in ("clip_small", "clip_large", "siglip_small", "dino_base", "dino_giant")}}
    out = {"judge": JUDGE, "items": items, "means": means, "prompts": prompts, "scores": scores, "overall": overall}
    (HERE / "expected.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    with torch.no_grad():
        main()
