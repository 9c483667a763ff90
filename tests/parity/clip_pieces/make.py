"""Writes vocab.json, merges.txt and expected.json beside it: what transformers' `CLIPTokenizer` makes of odd texts
in a folder that holds those two files and, by turns, the older forms of its other files.

    python make.py      (transformers needed)
"""

import json
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

HERE = pathlib.Path(__file__).parent
MERGES = """c i|ci r|r e|re d</w>|s t|a r</w>|st ar</w>|' s</w>|Ã ©</w>|! !</w>|! !|!! !!</w>|t h|th e</w>|# #</w>|Ġ a""".split("|")
TEXTS = [
    "a red circle", "It's the STAR, they're we've I'm you'll I'd don't", "", "   ", "\t\n  tabs\r\n and\u00a0nbsp\u3000wide",
    "Café CAFÉ cafe\u0301 Ångström ﬁ ǅ İstanbul ß ẞ ΣΑΣ", "123 4567 ½ Ⅷ ²", "!!!! ???? ... --- <svg> &amp; # ## #version",
    "日本語 テキスト 한국어 ไทย हिन्दी", "😀👩‍👩‍👧 🇩🇪 ☃︎", "star " * 60, "x" * 90, "<|startoftext|> in <|endoftext|> text",
    "<|STARTOFTEXT|> <|EndOfText|>", "a<|endoftext|>b", "\u200b\u200d\ufeff zero", "\x00\x01\x7f control", "ʼs ’s 's'S 'RE",
    "_under_score_", "\u1100\u1161\u11a8", "\U00010400 \U0001d4d0", "trailing ", "'", "\u2028line\u2029\x85nel\x1cfs", "the!!!!the", "!",
]


def token(content, normalized, **more):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False, **more}


def settings(start, end):
    """The other files of a folder, oldest form last."""
    kind = {"__type": "AddedToken"}
    config = {
        "bos_token": token("<|startoftext|>", True, **kind), "eos_token": token("<|endoftext|>", True, **kind),
        "unk_token": token("<|endoftext|>", True, **kind), "pad_token": "<|endoftext|>", "do_lower_case": True,
        "model_max_length": 77, "tokenizer_class": "CLIPTokenizer",
    }
    special = {
        "bos_token": token("<|startoftext|>", True), "eos_token": token("<|endoftext|>", True),
        "unk_token": token("<|endoftext|>", True), "pad_token": "!",
    }
    listed = {str(start): token("<|startoftext|>", True, special=True), str(end): token("<|endoftext|>", False, special=True)}
    return [
        {},
        {"tokenizer_config.json": config | {"added_tokens_decoder": listed}, "special_tokens_map.json": special},
        {"tokenizer_config.json": config},
        {"tokenizer_config.json": config, "special_tokens_map.json": special},
        {"special_tokens_map.json": special | {"pad_token": "<|endoftext|>"}},
        {"added_tokens.json": {"<|startoftext|>": start, "<|endoftext|>": end}},
    ]


def main():
    alphabet = sorted(ByteLevel.alphabet())
    pieces = alphabet + [c + "</w>" for c in alphabet] + ["".join(pair.split()) for pair in MERGES]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    files = {
        "vocab.json": json.dumps(vocab, ensure_ascii=False, separators=(",", ":")),
        "merges.txt": "\n".join(["#version: 0.2", *MERGES]) + "\n",
    }
    for name, text in files.items():
        (HERE / name).write_text(text)
    cases = []
    for others in settings(vocab["<|startoftext|>"], vocab["<|endoftext|>"]):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "config.json").write_text('{"model_type": "clip"}')
            for name, text in (files | {name: json.dumps(value) for name, value in others.items()}).items():
                (folder / name).write_text(text)
            tokenizer = CLIPTokenizer.from_pretrained(folder)
            cases.append({"files": others, "ids": [tokenizer(text, truncation=True, max_length=77)["input_ids"] for text in TEXTS]})
    lines = [json.dumps(case, separators=(",", ":")) for case in cases]
    (HERE / "expected.json").write_text('{"texts": ' + json.dumps(TEXTS) + ',\n"cases": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
