"""Writes predictions/ and expected.json: results as VectorGym's released code leaves them, and what independent packages say
of the same PNGs.

    python make.py      (what ../sarena/make.py needs; its networks and drawings are used)

MSE in 0..1; LPIPS on pictures that torchvision resizes to 384 pixels; DINO over all tokens; CLIP as 100 * cosine; SSIM with
uniform windows of 11. Where nothing compiled the picture is white.
"""

import importlib.util
import json
import pathlib
import shutil

import numpy as np
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torchvision import transforms

HERE = pathlib.Path(__file__).parent
spec = importlib.util.spec_from_file_location("sarena", HERE.parent / "sarena" / "make.py")
sarena = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sarena)
SIDE = 512
WISHES = {"a1": "a red circle", "b2": "a large green square", "c3": "two small triangles"}
PROMPTS = {
    "sketch": lambda _: "Convert the input sketch image into an SVG",
    "edit": lambda wish: f"Edit this SVG with the following instruction: {wish}\n\nOriginal SVG:\n<svg/>",
    "text": lambda wish: f"Convert the input text into an SVG: {wish}",
}


def main():
    folder = HERE / "predictions"
    shutil.rmtree(folder, ignore_errors=True)
    judge, out = sarena.Judge(), {}
    resize = transforms.Resize((384, 384), antialias=True)
    for place, (task, prompt) in enumerate(PROMPTS.items()):
        for index, (id, wish) in enumerate(WISHES.items()):
            own = folder / task / id
            own.mkdir(parents=True)
            svg, predicted = sarena.shape(2 * index + place, SIDE)
            _, reference = sarena.shape(index + 3, SIDE)
            void = task == "edit" and id == "b2"
            if void:
                svg, predicted = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"></svg>', Image.new("RGB", (SIDE, SIDE), "white")
            (own / f"{id}.svg").write_text(svg)
            predicted.save(own / f"{id}_generated.png", optimize=True)
            reference.save(own / f"{id}_original.png", optimize=True)
            (own / f"{id}_input_prompt.txt").write_text(prompt(wish))
            (own / "metadata.json").write_text(json.dumps({"no_compile": void, "post_processed": void}))
            values = {"dino": judge.of_pair(predicted, reference)["dino"], "success_rate": 0.0 if void else 100.0}
            if not void:
                values["tokens"] = len(judge.tokens.encode(svg, add_special_tokens=False).ids)
            if task == "text":
                features = judge.picture(judge.small, judge.small_pictures, predicted)
                ids = sarena.PreTrainedTokenizerFast.from_pretrained(sarena.ENCODERS / "longclip_hf")(wish, return_tensors="pt")
                words = judge.small.get_text_features(**ids)
                words = words if torch.is_tensor(words) else words.pooler_output
                values["clip"] = 100 * sarena.cosine(features, words)
            else:
                a, b = (transforms.ToTensor()(i) for i in (reference, predicted))
                values["mse"] = torch.nn.functional.mse_loss(a, b).item()
                values["ssim"] = structural_similarity(np.array(reference), np.array(predicted), win_size=11, channel_axis=-1)
                small = [judge.normalise(transforms.ToTensor()(resize(i))).double()[None] for i in (reference, predicted)]
                values["lpips"] = judge.lpips(*small).item()
            out.setdefault(task, {})[id] = values
    (folder / "text" / "results").mkdir()
    (folder / "text" / "results" / "results_avg.json").write_text("{}")
    captions = [("a1", "a red circle", "a red circle"), ("b2", "a circle above stars", "a large green square"), ("c3", "", "two small triangles")]
    (folder / "caption").mkdir()
    rows = "".join(json.dumps({"id": i, "answer": a, "reference": r}) + "\n" for i, a, r in captions)
    (folder / "caption" / "output.jsonl").write_text(rows)
    (HERE / "expected.json").write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    with torch.no_grad():
        main()
