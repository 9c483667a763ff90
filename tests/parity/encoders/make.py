"""Writes the encoder folders beside it: tiny random networks, and what their reference
implementations say of two pictures and some texts in float64.

    python make.py      rewrites all fixtures (torch, transformers, open_clip, Pillow needed)

Weights are float32 (float16 in the Long-CLIP checkpoint), so that float64 holds them exactly.
Pictures go through the PIL processors of transformers, for Long-CLIP through torchvision's
transforms, from the PNG on. `expected.safetensors` of each folder holds `images [N, D]`, `texts
[N, D]` and `ids.N` of every text in texts.json; DINOv2 has `cls` and `mean`.
"""

import json
import os
import pathlib
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import PIL
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torchvision import transforms
from transformers import (
    CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, PreTrainedTokenizerFast, SiglipConfig, SiglipModel,
    XLMRobertaConfig, XLMRobertaModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

HERE = pathlib.Path(__file__).parent
TEXTS = [
    "a red circle above a blue star",
    "A Large  green square, beside two small triangles!",
    "circle " * 300,
    "",
]


def pictures():
    """Two pictures whose every pixel matters: 61x47, and 40x83 with transparency, which Pillow 13 resizes
    down before across where older versions do it the other way round."""
    assert int(PIL.__version__.split(".")[0]) >= 13
    rng = np.random.default_rng(7)
    for name, (width, height), channels in [("wide", (61, 47), 3), ("tall", (40, 83), 4)]:
        coarse = rng.integers(0, 256, (9, 11, channels), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.NEAREST)
        noise = 4 * rng.integers(-4, 5, (height, width, channels))
        data = np.clip(np.asarray(image).astype(int) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(data).save(HERE / f"{name}.png", optimize=True)


def load_pictures():
    """Transparent pixels lie over white, where transformers' own processors lay them."""
    pictures = [Image.open(HERE / f"{name}.png").convert("RGBA") for name in ("wide", "tall")]
    return [Image.alpha_composite(Image.new("RGBA", p.size, "white"), p).convert("RGB") for p in pictures]


def randomise(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            width = parameter.shape[-1] if parameter.dim() > 1 else 9
            parameter.copy_(torch.randn(parameter.shape) * min(0.5, 1.5 * width**-0.5) + scale)
    return model.eval()


def letters(extra):
    """A character vocabulary: what the texts use, whole words for some of it, and `extra`."""
    chars = sorted(set("".join(TEXTS).lower()) - {" "})
    return list(extra), chars


def clip_tokenizer():
    """CLIP's tokenizer over a small alphabet: byte-level pieces with `</w>`, a few merges."""
    _, chars = letters([])
    vocab = chars + [c + "</w>" for c in chars] + ["ci", "cir", "re", "red</w>", "st", "ar</w>", "star</w>"]
    merges = [("c", "i"), ("ci", "r"), ("r", "e"), ("re", "d</w>"), ("s", "t"), ("a", "r</w>"), ("st", "ar</w>")]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    table = {piece: index for index, piece in enumerate(vocab)}
    tokenizer = Tokenizer(models.BPE(
        vocab=table, merges=merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    words = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(words), behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    end, start = table["<|endoftext|>"], table["<|startoftext|>"]
    tokenizer.post_processor = processors.RobertaProcessing(("<|endoftext|>", end), ("<|startoftext|>", start), False, False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|startoftext|>", eos_token="<|endoftext|>",
                                   pad_token="<|endoftext|>", unk_token="<|endoftext|>", model_max_length=77)
    return fast, len(table), start, end


def unigram_tokenizer(specials, template, pad, longest, lower):
    _, chars = letters([])
    pieces = [(piece, 0.0) for piece in specials]
    pieces += [("▁", -2.0)] + [(c, -4.0 - 0.01 * i) for i, c in enumerate(chars + [c.upper() for c in chars if c.isalpha()])]
    pieces += [("▁circle", -5.0), ("▁a", -3.0), ("▁red", -5.5), ("star", -6.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=specials.index("<unk>"), byte_fallback=False))
    steps = [normalizers.Lowercase()] if lower else []
    tokenizer.normalizer = normalizers.Sequence(steps + [normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    used = [(name, specials.index(name)) for name in specials if name in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, unk_token="<unk>", model_max_length=longest,
                                   eos_token="</s>" if "</s>" in specials else "<eos>")
    return fast, len(pieces)


def tensor_of(output):
    return output if torch.is_tensor(output) else output.pooler_output


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def trim(folder):
    """Only what a reader of the folder needs."""
    for unneeded in ["generation_config.json", "special_tokens_map.json", "added_tokens.json"]:
        (folder / unneeded).unlink(missing_ok=True)


def finish(folder, out):
    trim(folder)
    save_file({key: value.contiguous() for key, value in out.items()}, folder / "expected.safetensors")


def pixels(processor, folder):
    processor.save_pretrained(folder)
    return processor(load_pictures(), return_tensors="pt")["pixel_values"].double()


def dinov2(name, seed, **changes):
    folder = fresh(name)
    config = Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2, image_size=28, patch_size=14, **changes)
    model = randomise(Dinov2Model(config), seed)
    model.save_pretrained(folder)
    # Like facebook/dinov2-base, in small: 42 pixels are 3x3 patches where the table has 2x2.
    processor = BitImageProcessorPil(
        size={"shortest_edge": 48}, crop_size={"height": 42, "width": 42}, image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225])
    values = pixels(processor, folder)
    hidden = model.double()(values).last_hidden_state
    finish(folder, {"pixels": values.float(), "cls": hidden[:, 0].detach(), "mean": hidden.mean(1).detach()})


def encode_texts(tokenizer, out, **how):
    ids = [tokenizer(text, truncation=True, **how)["input_ids"] for text in TEXTS]
    out |= {f"ids.{index}": torch.tensor(row) for index, row in enumerate(ids)}
    return ids


def clip(name, seed, positions, activation):
    folder = fresh(name)
    tokenizer, vocab, start, end = clip_tokenizer()
    tower = dict(intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, hidden_act=activation)
    config = CLIPConfig(
        text_config=dict(hidden_size=16, vocab_size=vocab, max_position_embeddings=positions, bos_token_id=start, eos_token_id=end, **tower),
        vision_config=dict(hidden_size=24, image_size=32, patch_size=16, **tower), projection_dim=12)
    model = randomise(CLIPModel(config), seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    values = pixels(processor, folder)
    model.double()
    out = {"pixels": values.float(), "images": tensor_of(model.get_image_features(values)).detach()}
    ids = encode_texts(tokenizer, out, max_length=positions)
    out["texts"] = torch.cat([tensor_of(model.get_text_features(torch.tensor([row]))) for row in ids]).detach()
    finish(folder, out)


def siglip(name, seed, resample, specials, template, pad):
    folder = fresh(name)
    tokenizer, vocab = unigram_tokenizer(specials, template, pad, 64, True)
    tower = dict(intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    config = SiglipConfig(
        text_config=dict(hidden_size=16, vocab_size=vocab, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, **tower),
        vision_config=dict(hidden_size=16, image_size=48, patch_size=16, **tower))
    model = randomise(SiglipModel(config), seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    values = pixels(SiglipImageProcessorPil(size={"height": 48, "width": 48}, resample=resample), folder)
    model.double()
    out = {"pixels": values.float(), "images": tensor_of(model.get_image_features(values)).detach()}
    ids = encode_texts(tokenizer, out, padding="max_length", max_length=64)
    out["texts"] = tensor_of(model.get_text_features(torch.tensor(ids))).detach()
    finish(folder, out)


def bge(name, seed):
    """Saved as pytorch_model.bin in torch's older form, as BAAI/bge-m3 has no safetensors."""
    folder = fresh(name)
    tokenizer, vocab = unigram_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>", "<pad>", 40, False)
    config = XLMRobertaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                              vocab_size=vocab, max_position_embeddings=50, type_vocab_size=1, layer_norm_eps=1e-5)
    model = randomise(XLMRobertaModel(config), seed)
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    tokenizer.save_pretrained(folder)
    model.double()
    out = {}
    ids = encode_texts(tokenizer, out, max_length=40)
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    hidden = model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).double()
    out |= {"texts": hidden[:, 0].detach(), "mean": ((hidden * mask).sum(1) / mask.sum(1)).detach()}
    # Padding ids within a text, as one that says "<pad>" has them, take the padding's position and count for none.
    marked = torch.tensor([[0, 7, 1, 9, 1, 1, 12, 5, 2]])
    out |= {"marked_ids": marked[0], "marked": model(marked).last_hidden_state[:, 0].detach()}
    finish(folder, out)


def longclip(name, seed):
    """The published form: OpenAI's names in float16, two position tables, in torch's zip form."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    folder = fresh(name)
    tokenizer, vocab, _, _ = clip_tokenizer()
    model = CLIP(
        24, CLIPVisionCfg(image_size=16, patch_size=8, width=64, layers=1),
        CLIPTextCfg(context_length=248, vocab_size=vocab, width=64, heads=1, layers=1), quick_gelu=True, cast_dtype=None)
    model = randomise(model, seed)
    state = {key: value.half() for key, value in model.state_dict().items() if not key.endswith("attn_mask")}
    rest = (torch.randn(248, 64) * 0.2).half()
    torch.save(state | {"positional_embedding_res": rest}, folder / "longclip.pt")
    tokenizer.save_pretrained(folder)
    kept = torch.zeros(248, 1)
    kept[:20] = 1
    state = {key: value.double() for key, value in state.items()}
    state["positional_embedding"] = state["positional_embedding"] * kept + rest.double() * (1 - kept)
    model = model.double()
    model.load_state_dict(state, strict=False)
    shape = transforms.Compose([
        transforms.Resize(16, interpolation=transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(16), transforms.ToTensor(),
        transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))])
    values = torch.stack([shape(picture) for picture in load_pictures()]).double()
    out = {"pixels": values.float(), "images": model.encode_image(values).detach()}
    ids = encode_texts(tokenizer, out, max_length=248)
    padded = torch.zeros(len(ids), 248, dtype=torch.long)
    for row, own in zip(padded, ids):
        row[: len(own)] = torch.tensor(own)
    out["texts"] = model.encode_text(padded).detach()
    finish(folder, out)


if __name__ == "__main__":
    (HERE / "texts.json").write_text(json.dumps(TEXTS) + "\n")
    pictures()
    dinov2("dinov2", 1)
    dinov2("dinov2_giant", 2, use_swiglu_ffn=True)
    clip("clip", 3, 77, "quick_gelu")
    clip("longclip_hf", 4, 248, "gelu")
    siglip("siglip", 5, 3, ["<unk>", "</s>"], "$A </s>", "</s>")
    siglip("siglip2", 6, 2, ["<pad>", "<eos>", "<unk>"], "$A <eos>", "<pad>")
    bge("bge_m3", 8)
    longclip("longclip", 9)
