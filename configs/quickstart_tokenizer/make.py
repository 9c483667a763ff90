"""Writes the quickstart's tokenizer beside this file: byte-level BPE with SVG tokens.

Vocabulary: the 256 bytes; a few merges learned from shapes prompts and from what lies
between numbers in their drawings; as added tokens the tags, the attributes (space, name,
equals sign, quote), the integers 10 to 128; three special tokens. Added tokens match
before the byte-pair merges, so every coordinate from 10 to 128 is one token.

Needs tokenizers (written with 0.22) and nothing else. Run: python make.py
"""

import itertools
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TAGS = ["<svg", "</svg>", "<g", "</g>", "<path", "<rect", "<circle", "<ellipse", "<line",
        "<polyline", "<polygon", "/>"]
ATTRIBUTES = [' xmlns="http://www.w3.org/2000/svg"', *(f' {name}="' for name in (
    "viewBox", "width", "height", "x", "y", "cx", "cy", "r", "rx", "ry", "x1", "y1", "x2", "y2",
    "d", "points", "fill", "stroke", "stroke-width", "transform", "opacity"))]
INTEGERS = [str(number) for number in range(128, 9, -1)]
COLOURS = "yellow red orange green blue purple gray black".split()
FIGURES = "circle square triangle ring bar star".split()
MERGED = 113  # learned tokens beyond the bytes

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def prompts():
    """Every single shape, and random pairs."""
    single = [" ".join(filter(None, parts)) for parts in itertools.product(["", "small", "large"], COLOURS, FIGURES)]
    single = [("an " if text[0] == "o" else "a ") + text for text in single]
    draw = random.Random(0)
    for _ in range(4000):
        relation = draw.choice(["above", "below", "left of", "right of"])
        yield f"{draw.choice(single)} {relation} {draw.choice(single)}"
    yield from single
    yield from ["Draw an SVG of ", "Improve this drawing of ", "user", "assistant", "system"] * 400


def gaps():
    """What lies between the added tokens of a drawing."""
    yield from [*COLOURS, "none"] * 500
    yield from ['">', "0 0 "] * 2000


def main():
    added = [*ATTRIBUTES, *TAGS, *INTEGERS]
    tokenizer = Tokenizer(models.BPE())
    pattern = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(pattern, behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + MERGED, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[], show_progress=False)
    tokenizer.train_from_iterator(itertools.chain(prompts(), gaps()), trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in added])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIAL])
    tokenizer.save(str(HERE / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "chat_template": CHAT_TEMPLATE,
    }
    (HERE / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    print("vocabulary", tokenizer.get_vocab_size())


main()
