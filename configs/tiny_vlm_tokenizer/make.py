"""Writes the tokenizer beside it: the quickstart's with the four tokens about pictures, and a chat template that
writes their placeholders as Qwen3-VL's does.

    python make.py      (no packages needed)
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
BASE = HERE.parent / "quickstart_tokenizer"
TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}"
    "{%- else %}{%- for part in message.content %}"
    "{%- if part.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- else %}{{- part.text }}{%- endif %}{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

tokenizer = json.loads((BASE / "tokenizer.json").read_text())
first = max(token["id"] for token in tokenizer["added_tokens"]) + 1
for offset, text in enumerate(TOKENS):
    tokenizer["added_tokens"].append({
        "id": first + offset, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": True,
    })
(HERE / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n")
config = json.loads((BASE / "tokenizer_config.json").read_text())
config["chat_template"] = TEMPLATE
(HERE / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
