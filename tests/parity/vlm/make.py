"""Writes the folders beside it: tiny random vision-language models, and what transformers says of them.

    python make.py [NAME]               rewrites the fixtures (torch and transformers needed)
    python make.py --check DIR EXPECTED loads DIR with from_pretrained and prints the largest
                                        difference of its logits from those in EXPECTED

Weights are bfloat16 numbers, so that they are stored small and read exactly; the reference computes
in float64. transformers forces RMS norms and the vision tower's rotation to float32; here both run in
the network's own kind, and attention is SDPA. Rotary angles and the weights that interpolate learned
positions stay float32, as they are part of the networks' definition.

Each sequence runs alone: no padding; that a left-padded batch of all sequences gives the same logits is
asserted here. expected.safetensors holds the pictures `image.N` `[h, w, 3]`, and of each sequence
`ids.N` (image tokens expanded), `images.N` (its pictures' numbers), `logits.N`, `greedy.N` (12 tokens
after it, image tokens and markers never taken); then `pixel_values` of all pictures in order, the `loss`
(sum of the log-probabilities of each next token) and `grad.NAME` of every parameter under the names that
the folder's weights have.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, safe_open, save_file
from transformers import (
    AutoModelForImageTextToText, GotOcr2ImageProcessorPil, InternVLConfig, Qwen2_5_VLConfig, Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
)
from transformers.models.internvl import modeling_internvl
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.models.qwen3_vl import modeling_qwen3_vl

HERE = pathlib.Path(__file__).parent
VOCAB = 40
# Ids of the image placeholder, the video placeholder, and the markers around a picture.
IMAGE, VIDEO, START, END = 36, 37, 38, 39
SIZES = [(16, 24), (35, 20), (50, 50)]


def rms_norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def rotation(q, k, cos, sin):
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    half = modeling_qwen3_vl.rotate_half
    return q * cos + half(q) * sin, k * cos + half(k) * sin


modeling_qwen2.Qwen2RMSNorm.forward = rms_norm
modeling_qwen3_vl.Qwen3VLTextRMSNorm.forward = rms_norm
modeling_qwen2_5_vl.Qwen2_5_VLRMSNorm.forward = rms_norm
modeling_internvl.InternVLVisionRMSNorm.forward = rms_norm
for module in (modeling_qwen3_vl, modeling_qwen2_5_vl):
    module.apply_rotary_pos_emb_vision = rotation


def load(folder):
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64, attn_implementation="sdpa").eval()


def pictures():
    random = np.random.default_rng(7)
    for height, width in SIZES:
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        yield np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def processed(processor, chosen, images):
    """What the processor makes of some pictures, and the number of tokens of each."""
    if not chosen:
        return {}, []
    out = processor([Image.fromarray(images[n]) for n in chosen], return_tensors="pt")
    if "image_grid_thw" in out:
        counts = (out["image_grid_thw"].prod(-1) // processor.merge_size**2).tolist()
        return {"pixel_values": out["pixel_values"], "image_grid_thw": out["image_grid_thw"]}, counts
    return {"pixel_values": out["pixel_values"]}, [4 * n for n in out["num_patches"].tolist()]


def sequences(processor, images):
    """Ids with expanded image tokens, and the numbers of the pictures in them."""
    def text(n):
        return torch.randint(0, IMAGE, (n,)).tolist()
    for layout in ([7], [3, 0, 4], [2, 1, 1, 2, 5], [1, 0, 0, 1, 0, 2, 3]):
        # Odd places are pictures, even places are lengths of text.
        chosen = layout[1::2]
        counts = processed(processor, chosen, images)[1]
        ids = text(layout[0])
        for count, length in zip(counts, layout[2::2]):
            ids += [START] + [IMAGE] * count + [END] + text(length)
        yield ids, chosen


def inputs(ids, chosen, processor, images):
    row = torch.tensor([ids])
    vision, _ = processed(processor, chosen, images)
    if "image_grid_thw" in vision:
        vision["mm_token_type_ids"] = (row == IMAGE).int()
    return {"input_ids": row, "attention_mask": torch.ones_like(row), **vision}


def check_padded(model, rows, processor, images, logits):
    longest = max(len(ids) for ids, _ in rows)
    pad = lambda ids, filler: [filler] * (longest - len(ids)) + ids
    ids = torch.tensor([pad(ids, 0) for ids, _ in rows])
    mask = torch.tensor([pad([1] * len(ids), 0) for ids, _ in rows])
    vision, _ = processed(processor, [n for _, chosen in rows for n in chosen], images)
    if "image_grid_thw" in vision:
        vision["mm_token_type_ids"] = (ids == IMAGE).int()
    else:
        vision["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    out = model(input_ids=ids, attention_mask=mask, **vision).logits
    for row, own in zip(out, logits):
        assert torch.allclose(row[-len(own):], own, rtol=1e-9, atol=1e-10), (row[-len(own):] - own).abs().max()


def stored_names(folder, model):
    """The name in the folder's weights of each parameter of the model."""
    found = {}
    for path in folder.glob("*.safetensors"):
        if path.name.startswith("expected"):
            continue
        with safe_open(path, "pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys()}
    names = {}
    for name, parameter in model.named_parameters():
        same = [key for key, value in found.items() if value.shape == parameter.shape and torch.equal(value.double(), parameter)]
        assert len(same) == 1, (name, same)
        names[name] = same[0]
    return names


def make(name, config, processor, seed, older=None):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms and biases as well, so that each of them shows in the logits.
            centre = 1.0 if parameter.dim() == 1 and parameter.mean() == 1 else 0.0
            parameter.copy_(torch.randn_like(parameter) * 0.3 + centre)
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if older:
        older(folder)
    model = load(folder)
    names = stored_names(folder, model)
    images = list(pictures())
    out = {f"image.{n}": torch.from_numpy(image.copy()) for n, image in enumerate(images)}
    rows = list(sequences(processor, images))
    total, all_logits = 0.0, []
    for index, (ids, chosen) in enumerate(rows):
        fed = inputs(ids, chosen, processor, images)
        logits = model(**fed).logits[0]
        all_logits.append(logits.detach())
        total = total + logits[:-1].log_softmax(-1).gather(-1, torch.tensor(ids)[1:, None]).sum()
        banned = [[token] for token in (IMAGE, VIDEO, START, END)]
        greedy = model.generate(**fed, do_sample=False, max_new_tokens=12, min_new_tokens=12, bad_words_ids=banned, pad_token_id=0)[0, len(ids):]
        out |= {f"ids.{index}": torch.tensor(ids), f"images.{index}": torch.tensor(chosen, dtype=torch.int64),
                f"logits.{index}": logits.detach(), f"greedy.{index}": greedy}
    with torch.no_grad():
        check_padded(model, rows, processor, images, all_logits)
    total.backward()
    out |= {"loss": total.detach(), "pixel_values": processed(processor, range(len(images)), images)[0]["pixel_values"].flatten(1)}
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        out[f"grad.{names[key]}"] = parameter.grad
    save_file({key: value.contiguous().clone() for key, value in out.items()}, folder / "expected.safetensors")
    print(name, sum(path.stat().st_size for path in folder.iterdir()) // 1000, "kB", sorted(names.values())[:3])


TEXT = dict(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=20, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5,
)
IDS = dict(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=START, vision_end_token_id=END)


def qwen3_vl():
    config = Qwen3VLConfig(
        text_config={**TEXT, "head_dim": 12, "rope_parameters": {
            "rope_type": "default", "rope_theta": 500.0, "mrope_section": [2, 2, 2], "mrope_interleaved": True}},
        vision_config=dict(depth=3, hidden_size=16, intermediate_size=20, num_heads=2, patch_size=4, out_hidden_size=16,
                           num_position_embeddings=16, deepstack_visual_indexes=[0, 1]),
        **IDS, tie_word_embeddings=False)
    processor = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=8 * 16, max_pixels=8 * 64,
                                         image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
    make("qwen3_vl", config, processor, 1)


def qwen2_5_vl_config():
    # Windows of two tokens a side, on grids of up to six: inner and edge windows; one whole block.
    return Qwen2_5_VLConfig(
        text_config={**TEXT, "num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": None,
                     "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "mrope_section": [1, 2, 1]}},
        vision_config=dict(depth=3, hidden_size=16, intermediate_size=20, num_heads=2, patch_size=4, out_hidden_size=16,
                           window_size=16, fullatt_block_indexes=[1]),
        **IDS, tie_word_embeddings=True)


def qwen2_5_vl_processor():
    return Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=8 * 16, max_pixels=64 * 40)


def nested(folder):
    """transformers writes the names of the first checkpoints; here are those of its modules."""
    renamed = [("visual.", "model.visual."), ("language_model.lm_head", "lm_head"), ("language_model.model.", "model.language_model."),
               ("vision_tower.", "model.vision_tower."), ("multi_modal_projector.", "model.multi_modal_projector."),
               ("model.embed_tokens", "model.language_model.embed_tokens"), ("model.layers.", "model.language_model.layers."),
               ("model.norm.", "model.language_model.norm.")]
    def new(name):
        return next((after + name.removeprefix(before) for before, after in renamed if name.startswith(before)), name)
    rename(folder, lambda name, value: [(new(name), value)])


def qwen2_5_vl():
    make("qwen2_5_vl", qwen2_5_vl_config(), qwen2_5_vl_processor(), 2, nested)


def rename(folder, change):
    """Rewrites the names of a folder's weights; `change` maps a name and a tensor to a list of both."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(dict(pair for name in tensors for pair in change(name, tensors[name])), path, {"format": "pt"})


def edit(folder, name, change):
    path = folder / name
    config = json.loads(path.read_text())
    path.write_text(json.dumps(change(config), indent=2) + "\n")


def qwen2_5_vl_older():
    """The weights of qwen2_5_vl/ with names and config.json as the first checkpoints have them: flat, with rope_scaling
    and torch_dtype. transformers' answers are qwen2_5_vl's."""
    folder = HERE / "qwen2_5_vl_older"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "qwen2_5_vl", folder, ignore=shutil.ignore_patterns("expected*"))

    def flat(config):
        text = config.pop("text_config")
        rope = text.pop("rope_parameters")
        text = {key: value for key, value in text.items() if key not in ("model_type", "dtype", "layer_types")}
        vision = config["vision_config"]
        vision = {key: vision[key] for key in ("depth", "hidden_act", "hidden_size", "intermediate_size", "num_heads",
                  "patch_size", "out_hidden_size", "window_size", "fullatt_block_indexes", "spatial_merge_size")}
        config.pop("dtype")
        return text | config | {
            "torch_dtype": "bfloat16", "rope_theta": rope["rope_theta"], "vision_config": vision | {"in_chans": 3},
            "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]}}

    edit(folder, "config.json", flat)
    edit(folder, "preprocessor_config.json", lambda config: {
        key: value for key, value in config.items() if key != "size"
    } | {"min_pixels": config["size"]["shortest_edge"], "max_pixels": config["size"]["longest_edge"]})
    rename(folder, lambda name, value: [(
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."), value)])


def internvl_config(bias, norm, qk):
    return InternVLConfig(
        text_config={"model_type": "qwen2", **TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        vision_config=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20, image_size=[16, 16],
                           patch_size=[4, 4], attention_bias=bias, norm_type=norm, use_qk_norm=qk, layer_norm_eps=1e-6),
        image_token_id=IMAGE, image_seq_length=4, tie_word_embeddings=False)


def internvl_processor():
    return GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, crop_to_patches=True, max_patches=3,
                                    image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])


def added_tokens(folder):
    (folder / "added_tokens.json").write_text(json.dumps({
        "<IMG_CONTEXT>": IMAGE, "<video>": VIDEO, "<img>": START, "</img>": END}) + "\n")


def internvl():
    make("internvl", internvl_config(True, "layer_norm", False), internvl_processor(), 3, added_tokens)


def internvl_qk_norm():
    make("internvl_qk_norm", internvl_config(False, "rms_norm", True), internvl_processor(), 4,
         lambda folder: (added_tokens(folder), nested(folder)))


def internvl_chat():
    """The same weights as internvl/ in the layout as first published; transformers' answers are internvl's."""
    source, folder = HERE / "internvl", HERE / "internvl_chat"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = json.loads((source / "config.json").read_text())
    vision, text = config["vision_config"], config["text_config"]
    rope = text.pop("rope_parameters")
    folder.joinpath("config.json").write_text(json.dumps({
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "downsample_ratio": 0.5,
        "dynamic_image_size": True, "force_image_size": 16, "max_dynamic_patch": 3, "min_dynamic_patch": 1,
        "llm_config": text | {"architectures": ["Qwen2ForCausalLM"], "rope_theta": rope["rope_theta"],
                              "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
                              "tie_word_embeddings": False},
        "ps_version": "v2", "select_layer": -1, "template": "internvl2_5", "torch_dtype": "bfloat16", "use_thumbnail": True,
        "vision_config": {
            "model_type": "intern_vit_6b", "hidden_act": "gelu", "hidden_size": vision["hidden_size"], "image_size": 16,
            "intermediate_size": vision["intermediate_size"], "layer_norm_eps": vision["layer_norm_eps"],
            "norm_type": vision["norm_type"], "num_attention_heads": vision["num_attention_heads"],
            "num_hidden_layers": vision["num_hidden_layers"], "patch_size": 4, "qk_normalization": False, "qkv_bias": True},
    }, indent=2) + "\n")
    added_tokens(folder)
    names = {
        "model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head.",
        "model.multi_modal_projector.layer_norm.": "mlp1.0.", "model.multi_modal_projector.linear_1.": "mlp1.1.",
        "model.multi_modal_projector.linear_2.": "mlp1.3.", "model.vision_tower.": "vision_model.",
        "cls_token": "class_embedding", "position_embeddings": "position_embedding",
        "patch_embeddings.projection": "patch_embedding", "encoder.layer.": "encoder.layers.", "layernorm_before": "norm1",
        "layernorm_after": "norm2", "attention.projection_layer": "attn.proj", "attention.": "attn.", "lambda_1": "ls1",
        "lambda_2": "ls2",
    }
    def renamed(tensors):
        out = {}
        for name, value in tensors.items():
            for old, new in names.items():
                if not (old.startswith("attention") and "vision" not in name):
                    name = name.replace(old, new)
            out[name] = value
        for name in [name for name in out if ".attn.q_proj." in name]:
            parts = [out.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
            out[name.replace("q_proj", "qkv")] = torch.cat(parts)
        return out
    weights = load_file(source / "model.safetensors")
    native = {name if name.startswith(("model.", "lm_head")) else name.replace("language_model.model.", "model.language_model.").replace(
        "language_model.lm_head", "lm_head").replace("vision_tower.", "model.vision_tower.").replace(
        "multi_modal_projector.", "model.multi_modal_projector."): value for name, value in weights.items()}
    save_file(renamed(native), folder / "model.safetensors", {"format": "pt"})
    print("internvl_chat", sorted(weights)[:2])


def check(folder, expected):
    folder = pathlib.Path(folder)
    model, expected = load(folder), load_file(expected)
    kind = json.loads((folder / "preprocessor_config.json").read_text())["image_processor_type"]
    processor = (Qwen2VLImageProcessorPil if "Qwen2" in kind else GotOcr2ImageProcessorPil).from_pretrained(folder)
    images = list(pictures())
    worst, index = 0.0, 0
    with torch.no_grad():
        while f"ids.{index}" in expected:
            fed = inputs(expected[f"ids.{index}"].tolist(), expected[f"images.{index}"].tolist(), processor, images)
            worst = max(worst, (model(**fed).logits[0] - expected[f"logits.{index}"]).abs().max().item())
            index += 1
    print(worst)


ALL = {make.__name__: make for make in (qwen3_vl, qwen2_5_vl, qwen2_5_vl_older, internvl, internvl_qk_norm, internvl_chat)}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(*sys.argv[2:])
        sys.exit()
    for name in sys.argv[1:] or ALL:
        ALL[name]()
