"""Writes the icons' tokenizer beside this file: byte-level BPE learned from line icons.

A path's numbers go with the command before them ("a2", " 12", "-.5", "H6" are pieces that may
become one token), the attributes that every icon opens with are added tokens, and the merges are
learned from the training icons and their prompts.

Needs tokenizers (written with 0.22) and nothing else. Run: python make.py
"""

import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
ICONS = HERE.parent / "icons" / "train.jsonl"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
OPENING = [
    "<svg", ' xmlns="http://www.w3.org/2000/svg"', ' width="24"', ' height="24"', ' viewBox="0 0 24 24"',
    ' fill="none"', ' stroke="currentColor"', ' stroke-width="2"', ' stroke-linecap="round"',
    ' stroke-linejoin="round"',
]
TAGS = ["</svg>", "<path", "<rect", "<circle", "<ellipse", "<line", "<polyline", "<polygon", " />"]
ATTRIBUTES = [f' {name}="' for name in
              ("d", "x", "y", "cx", "cy", "r", "rx", "ry", "x1", "y1", "x2", "y2", "width", "height", "points", "fill")]
SIZE = 1024


def main():
    rows = [json.loads(line) for line in ICONS.read_text().splitlines()]
    tokenizer = Tokenizer(models.BPE())
    pattern = Regex(r"[ ,]?[A-Za-z]?-?(?:\d+\.?\d*|\.\d+)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(pattern, behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    added = [*OPENING, *TAGS, *ATTRIBUTES]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(added) - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[], show_progress=False)
    # What lies between the added tokens is what the merges will see.
    bodies = [row["svg"] for row in rows]
    for text in added:
        bodies = [piece for body in bodies for piece in body.split(text) if piece]
    tokenizer.train_from_iterator([*bodies, *(row["prompt"] for row in rows)], trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in added])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIAL])
    tokenizer.save(str(HERE / "tokenizer.json"))
    config = json.loads((HERE.parent / "quickstart_tokenizer" / "tokenizer_config.json").read_text())
    (HERE / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
