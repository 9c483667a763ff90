"""Loads every folder given, a policy or an encoder, with transformers' Auto classes; prints what was missing or unknown.

    python load.py FOLDER...
"""

import json
import pathlib
import sys

import transformers

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

for folder in map(pathlib.Path, sys.argv[1:]):
    config = json.loads((folder / "config.json").read_text())
    name = config["architectures"][0]
    auto = "AutoModel"
    if name.endswith("ForConditionalGeneration"):
        auto = "AutoModelForImageTextToText"
    elif name.endswith("ForCausalLM"):
        auto = "AutoModelForCausalLM"
    _, told = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True)
    for kind, keys in told.items():
        if keys:
            print(folder.name, kind, sorted(map(str, keys)))
