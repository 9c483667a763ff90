"""Writes the folders beside it: LoRA adapters as PEFT saves them on the networks of ../networks and ../vlm, and what
PEFT says of them.

    python make.py                              rewrites the fixtures (torch, transformers and peft needed)
    python make.py --check BASE ADAPTER LOGITS  loads ADAPTER with PeftModel.from_pretrained on BASE and prints the
                                                largest difference of its logits of BASE's sequences from logits.N in
                                                LOGITS, and without adapters from off.N
    python make.py --merged BASE ADAPTER FOLDER the largest difference of merge_and_unload's weights, in float32, from
                                                FOLDER's, relative to each weight's largest number
    python make.py --auto ADAPTER LOGITS        as --check, with the base that adapter_config.json names

The reference computes in float64 (see the scripts of the networks). expected.safetensors holds `logits.N` of the base's
own sequences with the adapter, `off.0` without it (disable_adapter), the `loss` (sum of the log-probabilities of each
next token of all sequences) and `grad.NAME` of every matrix by PEFT's name in files without its prefix.
"""

import importlib.util
import json
import pathlib
import shutil
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
PREFIX = "base_model.model."


def script(folder):
    spec = importlib.util.spec_from_file_location(folder, HERE.parent / folder / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sees(base):
    return "vision_config" in json.loads((base / "config.json").read_text())


def load(base):
    return script("vlm" if sees(base) else "networks").load(base)


def fed(base, expected):
    """The inputs of the sequences that the base's fixture has."""
    count = sum(key.startswith("ids.") for key in expected)
    for index in range(count):
        ids = expected[f"ids.{index}"]
        if not sees(base):
            yield ids, {"input_ids": ids[None]}
            continue
        vlm = script("vlm")
        images = [expected[f"image.{n}"].numpy() for n in range(sum(key.startswith("image.") for key in expected))]
        processor = {"qwen3_vl": vlm_processor, "qwen2_5_vl": vlm.qwen2_5_vl_processor}[base.name]()
        yield ids, vlm.inputs(ids.tolist(), expected[f"images.{index}"].tolist(), processor, images)


def vlm_processor():
    from transformers import Qwen2VLImageProcessorPil
    return Qwen2VLImageProcessorPil.from_pretrained(HERE.parent / "vlm/qwen3_vl")


def names(model):
    """PEFT's names in files, without its prefix, of the matrices."""
    return {name.removeprefix(PREFIX).replace(".default.", "."): parameter
            for name, parameter in model.named_parameters() if ".lora_" in name}


def make(name, base, seed, **config):
    folder, base = HERE / name, HERE.parent / base
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    model = get_peft_model(load(base), LoraConfig(task_type="CAUSAL_LM", **config))
    with torch.no_grad():
        for parameter in names(model).values():
            parameter.copy_((torch.randn_like(parameter) * 0.2).float())
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    weights = folder / "adapter_model.safetensors"
    save_file({key: value.float() for key, value in load_file(weights).items()}, weights, {"format": "pt"})
    path = folder / "adapter_config.json"
    described = json.loads(path.read_text())
    described["base_model_name_or_path"] = f"../../{base.parent.name}/{base.name}"
    if isinstance(described["target_modules"], list):
        described["target_modules"].sort()
    path.write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    # Read back: what counts is the file.
    model = PeftModel.from_pretrained(load(base), folder, is_trainable=True).double().eval()
    out, total = {}, 0.0
    for index, (ids, inputs) in enumerate(fed(base, load_file(base / "expected.safetensors"))):
        logits = model(**inputs).logits[0]
        total = total + logits[:-1].log_softmax(-1).gather(-1, ids[1:, None]).sum()
        out[f"logits.{index}"] = logits.detach()
        if index == 0:
            with model.disable_adapter(), torch.no_grad():
                out["off.0"] = model(**inputs).logits[0]
    total.backward()
    out |= {"loss": total.detach()} | {f"grad.{key}": parameter.grad for key, parameter in names(model).items()}
    save_file({key: value.contiguous().clone() for key, value in out.items()}, folder / "expected.safetensors")
    print(name, len(names(model)), "matrices", sum(path.stat().st_size for path in folder.iterdir()) // 1000, "kB")


def check(base, adapter, logits):
    base, expected = pathlib.Path(base), load_file(logits)
    model = PeftModel.from_pretrained(load(base), adapter).double().eval()
    stored = {key.removeprefix(PREFIX) for key in load_file(pathlib.Path(adapter) / "adapter_model.safetensors")}
    assert stored == set(names(model)), stored ^ set(names(model))
    worst = 0.0
    with torch.no_grad():
        for index, (_, inputs) in enumerate(fed(base, load_file(base / "expected.safetensors"))):
            own = model(**inputs).logits[0]
            worst = max(worst, (own - expected[f"logits.{index}"]).abs().max().item())
            if f"off.{index}" in expected:
                with model.disable_adapter():
                    worst = max(worst, (model(**inputs).logits[0] - expected[f"off.{index}"]).abs().max().item())
    print(worst)


def merged(base, adapter, folder):
    # As people merge: all of it in float32.
    model = PeftModel.from_pretrained(load(pathlib.Path(base)).float(), adapter).merge_and_unload()
    plain = load(pathlib.Path(folder))
    worst = 0.0
    theirs = dict(model.named_parameters())
    for name, parameter in plain.named_parameters():
        want = theirs.pop(name).to(parameter.dtype)
        worst = max(worst, ((parameter - want).abs().max() / want.abs().max()).item())
    assert not theirs, theirs.keys()
    print(worst)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(*sys.argv[2:])
    elif sys.argv[1:2] == ["--auto"]:
        base = json.loads((pathlib.Path(sys.argv[2]) / "adapter_config.json").read_text())["base_model_name_or_path"]
        check(base, *sys.argv[2:])
    elif sys.argv[1:2] == ["--merged"]:
        merged(*sys.argv[2:])
    else:
        make("qwen3", "networks/qwen3_tied", 1, r=4, lora_alpha=8, target_modules="all-linear")
        make("qwen2_rslora", "networks/qwen2_untied", 2, r=3, lora_alpha=6, use_rslora=True,
             target_modules=["q_proj", "v_proj", "down_proj"])
        make("qwen2_5_vl", "vlm/qwen2_5_vl", 3, r=3, lora_alpha=3, target_modules="all-linear")
        make("qwen3_vl", "vlm/qwen3_vl", 4, r=2, lora_alpha=5, lora_dropout=0.1,
             target_modules=r"model\.language_model\..*\.(q_proj|o_proj|up_proj|down_proj)")
