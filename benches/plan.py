"""How far `svgrl plan` is from what runs use: three shapes, on the CPU by peak resident memory minus the base.

The base is the peak of the same run with a network of two narrow layers, minus what the plan says of that one: libtorch,
tokenizer, data, threads. On a GPU (`--device cuda`) the allocator counts tensors alone: there is no base, and the
plan's workspace is left out. Prints a table; `--out FILE` writes it in Markdown with machine and commit.

  python3 benches/plan.py --svgrl target/release/svgrl
"""

import argparse
import json
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NARROW = {
    "model.init.hidden_size": 32,
    "model.init.intermediate_size": 32,
    "model.init.num_hidden_layers": 2,
    "model.init.num_attention_heads": 2,
    "model.init.num_key_value_heads": 1,
    "model.init.head_dim": 16,
}
COMMON = {
    "stages.sft.checkpoint.every": 0,
    "stages.rl.checkpoint.every": 0,
    "stages.sft.eval": "{prompts: 0}",
    "stages.rl.eval": "{prompts: 0}",
}
SHAPES = {
    "text, GRPO, 61 M": {
        "config": "configs/quickstart.yaml",
        "stage": "rl",
        "set": {
            "model.init.hidden_size": 640,
            "model.init.intermediate_size": 1920,
            "model.init.num_hidden_layers": 12,
            "model.init.num_attention_heads": 10,
            "model.init.num_key_value_heads": 5,
            "model.init.head_dim": 64,
            "stages.sft.steps": 1,
            "stages.sft.batch.size": 2,
            "stages.rl.steps": 2,
            "stages.rl.batch.size": 8,
            "stages.rl.batch.micro_tokens": 4096,
        },
    },
    "text, SFT, blocks anew, 118 M": {
        "config": "configs/quickstart.yaml",
        "stage": "sft",
        "set": {
            "model.init.hidden_size": 1024,
            "model.init.intermediate_size": 2816,
            "model.init.num_hidden_layers": 10,
            "model.init.num_attention_heads": 16,
            "model.init.num_key_value_heads": 8,
            "model.init.head_dim": 64,
            "stages.sft.steps": 2,
            "stages.sft.batch": "{size: 96, micro_tokens: 4096, recompute: blocks}",
            "stages.rl.steps": 1,
            "stages.rl.batch": "{size: 1, micro_tokens: 512, recompute: blocks}",
            "stages.rl.rollout.group_size": 2,
        },
    },
    "pictures, GRPO, KL, 33 M": {
        "config": "configs/tiny_vlm.yaml",
        "stage": "rl",
        "set": {
            "model.init.hidden_size": 512,
            "model.init.intermediate_size": 1536,
            "model.init.num_hidden_layers": 10,
            "stages.sft.steps": 1,
            "stages.sft.batch.size": 2,
            "stages.rl.steps": 2,
            "stages.rl.kl.coefficient": 0.01,
            "stages.rl.batch": "{size: 8, micro_tokens: 4096}",
        },
    },
}


def words(settings):
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def planned(svgrl, shape, settings, gpu):
    out = subprocess.run(
        [svgrl, "plan", shape["config"], *words(settings)], cwd=ROOT, text=True, capture_output=True, check=True
    ).stdout
    numbers = lambda name: [float(it) for it in re.findall(rf"memory: {name}\s+([0-9.]+) GiB", out)]
    spaces = numbers("workspace") if gpu else [0.0] * len(numbers("sum"))
    return max(total - space for total, space in zip(numbers("sum"), spaces))


def peak(svgrl, shape, settings, folder):
    run = Path(folder) / "run"
    subprocess.run(
        [svgrl, "train", "-q", shape["config"], "--run-dir", run, *words(settings)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    rows = [json.loads(line) for line in open(run / "metrics.jsonl")]
    most = max(row["perf/peak_memory_gib"] for row in rows if "perf/peak_memory_gib" in row)
    shutil.rmtree(run)
    return most


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--svgrl", default="target/release/svgrl")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", help="part of a shape's name")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    svgrl = str(Path(args.svgrl).resolve())
    lines = ["| run | planned, GiB | used, GiB | base, GiB | planned over used |", "|---|---|---|---|---|"]
    for name, shape in SHAPES.items():
        if args.only and args.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            gpu = args.device != "cpu"
            own = {**COMMON, **shape["set"], "device": args.device}
            narrow = {**own, **{key: value for key, value in NARROW.items() if key in own}}
            told = planned(svgrl, shape, own, gpu)
            base = 0.0
            if not gpu:
                base = peak(svgrl, shape, narrow, folder) - planned(svgrl, shape, narrow, gpu)
            used = peak(svgrl, shape, own, folder) - base
        lines.append(f"| {name} | {told:.3f} | {used:.3f} | {base:.3f} | {told / used:.3f} |")
        print(lines[-1], flush=True)
    if args.out:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True, capture_output=True)
        head = [
            "# The plan against what runs use",
            "",
            f"Commit {commit.stdout.strip()}, {platform.processor() or platform.machine()}, {args.device}, float32. "
            f"Command: `python3 benches/plan.py --device {args.device}`.",
            "",
        ]
        args.out.write_text("\n".join(head + lines) + "\n")


main()
