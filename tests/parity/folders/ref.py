"""Token ids and log-probabilities of a folder by transformers.

    python ref.py FOLDER TEXT.txt        ids of each line, without special tokens added, as JSON
    python ref.py --sum FOLDER           sum of the log-probabilities of the ids 1..12 given 0
"""

import json
import pathlib
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

if sys.argv[1] == "--sum":
    folder = sys.argv[2]
    sees = hasattr(AutoConfig.from_pretrained(folder), "vision_config")
    model = (AutoModelForImageTextToText if sees else AutoModelForCausalLM).from_pretrained(folder, dtype=torch.float32)
    ids = torch.arange(13)[None]
    with torch.no_grad():
        logits = model.eval()(input_ids=ids).logits.log_softmax(-1)
    print(logits[0, :-1].gather(1, ids[0, 1:, None]).sum().item())
else:
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    lines = pathlib.Path(sys.argv[2]).read_text().splitlines()
    print(json.dumps([tokenizer.encode(line, add_special_tokens=False) for line in lines]))
