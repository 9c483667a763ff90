"""Writes a tiny Qwen3 folder with reserved rows (base/) and what transformers makes of it when the SVG
tokens of CTRL-S and InternSVG are added by the published rule (expected.safetensors, expected.json).

Needs torch, transformers, tokenizers, safetensors. Run: python make.py
"""

import json
import pathlib
import shutil
import tempfile

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

HERE = pathlib.Path(__file__).parent
ELEMENTS = ("svg g defs use path rect circle ellipse line polyline polygon text tspan textPath linearGradient "
            "radialGradient stop clipPath mask filter feGaussianBlur feColorMatrix feComposite feBlend").split()
ATTRIBUTES = ("width height viewBox id class x y x1 y1 x2 y2 cx cy r rx ry d points fill stroke stroke-width "
              "stroke-linecap stroke-linejoin stroke-miterlimit fill-rule clip-path opacity transform font-size "
              "font-family text-anchor gradientUnits gradientTransform offset stop-color").split()
TEXTS = [
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128"><g fill="#1280ff"><path d="M-5 12.34l.5-128"/></g></svg>',
    "<textPath x1=\"129\"/> and -5 apples, 3.14159, </text>",
    "<animateMotion dur=\"2s\" path=\"M0 0\"/>",
]


def tokens(animates):
    elements = ELEMENTS + ["animate", "animateMotion", "animateTransform"] * animates
    names = ATTRIBUTES + "dur from to repeatCount begin rotate path".split() * animates
    tags = []
    for name in elements:
        if not (animates and name in ("g", "path")):
            tags.append(f"<{name}")
        tags.append(f"</{name}>")
    return ([str(n) for n in range(-128, 129)] + [f".{n:02d}" for n in range(100)] + [f".{n}" for n in range(10)]
            + [f' {name}="' for name in names] + tags + ["/>"])


def base():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator([*TEXTS * 4, "width height fill stroke path circle rect"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=len(fast) + 40, hidden_size=4, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=4, tie_word_embeddings=False, max_position_embeddings=64))
    folder = HERE / "base"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def expected(folder, vocabulary):
    fast = PreTrainedTokenizerFast.from_pretrained(folder)
    old = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    matrices = [model.get_input_embeddings().weight.detach().clone(), model.get_output_embeddings().weight.detach().clone()]
    new = [text for text in tokens(vocabulary == "internsvg") if text not in fast.get_vocab()]
    fast.add_tokens([AddedToken(text, lstrip=False, rstrip=False, normalized=False) for text in new])
    model.resize_token_embeddings(len(fast), mean_resizing=False)
    with torch.no_grad():
        for text in new:
            pieces = [i for i in old.encode(text, add_special_tokens=False) if i < matrices[0].shape[0]]
            at = fast.convert_tokens_to_ids(text)
            for layer, matrix in zip((model.get_input_embeddings(), model.get_output_embeddings()), matrices):
                layer.weight[at] = matrix[pieces].mean(0)
    ids = [fast.encode(text, add_special_tokens=False) for text in TEXTS]
    return (model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach()), ids, len(new)


def main():
    folder = base()
    tensors, answers = {}, {"texts": TEXTS}
    for vocabulary in ("ctrl-s", "internsvg"):
        (embedding, head), ids, added = expected(folder, vocabulary)
        tensors[f"{vocabulary}.embedding"] = embedding.contiguous()
        tensors[f"{vocabulary}.head"] = head.contiguous()
        answers[vocabulary] = {"ids": ids, "added": added}
    save_file(tensors, HERE / "expected.safetensors")
    (HERE / "expected.json").write_text(json.dumps(answers, indent=1) + "\n")
    # The folder that svgrl writes must load as this one does.
    with tempfile.TemporaryDirectory() as copy:
        AutoModelForCausalLM.from_pretrained(folder).save_pretrained(copy)


main()
