#!/usr/bin/env python3
"""The engine tests against a real vLLM and a real SGLang on this machine's CPU: `make engine-test`.

    tests/engines/real.py PART|all [--folder FOLDER] [--program SVGRL] [--record FOLDER] [--steps N]

Installs them (tests/engines/install.py) below FOLDER and starts one after the other with a small random policy, trains
that for a few steps with completions of the server and new weights after each, and compares: log-probabilities with the
learner's (1e-4), versions, weights. The parts:

    vllm          Qwen3 with a tied head; adapters; a stop string; sleep; what raw log-probabilities are refused for
    vllm-qwen2    Qwen2 with a head of its own; vLLM's own reload; temperature 0.7 under processed log-probabilities
    pictures      Qwen3-VL by vLLM, one and two pictures
    sglang        Qwen3; weights by files and by a broadcast; temperature 0.7 with top_p; sleep
    sglang-qwen2  Qwen2; adapters
    quickstart    the quickstart's GRPO stage through vLLM against three seeds of the local engine (quickstart.py)

A line is `ok`, `WRONG`, or `n/a`: what a server cannot do on a CPU, in its own words. The exit status is 0 if nothing is
wrong.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import quickstart  # noqa: E402
from install import install  # noqa: E402
from servers import HERE, ROOT, Check, Failed, Server, ask, rows, svgrl, told  # noqa: E402

BOUND = 1e-4
CONFIG = """\
name: engines
seed: 3
device: cpu
threads: 1
dtype: float32
model: {model}
data:
  sources:
    shapes: {{format: shapes, task: draw, count: 400, held_out: 8}}
rewards: {{workers: 1}}
tasks:
  draw:
    completion: {{format: svg}}
    render: {{size: 32}}
    # Whoever ends in time gets more than who does not, whatever it draws: every group has spread.
    rubric: {{truncated: -1.0, rewards: [{{type: ssim, window_size: 7}}]}}
stages:
{stages}
"""
SFT = "  - {name: sft, algorithm: sft, steps: 40, batch: {size: 8}, optimizer: {learning_rate: 3.0e-3}, checkpoint: {every: 0}}"
SHAPE = "hidden_size: 128, intermediate_size: 192, num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32"


def policy(program, work, architecture):
    """A small policy of `architecture` after a few supervised steps."""
    made = work / architecture
    tokenizer = ROOT / "configs" / "quickstart_tokenizer"
    tied = "true" if architecture == "qwen3" else "false"
    model = f"{{tokenizer: {tokenizer}, init: {{architecture: {architecture}, {SHAPE}, tie_word_embeddings: {tied}}}}}"
    config = work / f"{architecture}.yaml"
    config.write_text(CONFIG.format(model=model, stages=SFT))
    svgrl(program, "train", config, "--run-dir", made, "-q")
    return made / "checkpoints" / "sft" / "final"


def written(work, name, model, rollout, stage="", config=CONFIG):
    """The config of four GRPO steps from `model`."""
    settings = f"group_size: 4, max_new_tokens: 96, {rollout}"
    stages = f"  - {{name: rl, algorithm: grpo, steps: 4, batch: {{size: 4}}, eval: {{every: 2, prompts: 4}}, optimizer: {{learning_rate: 1.0e-3}}, checkpoint: {{every: 0}}, rollout: {{{settings}}}{stage}}}"
    path = work / f"{name}.yaml"
    path.write_text(config.format(model=f"{{path: {model}}}", stages=stages))
    return path


def train(program, work, name, *settings, **more):
    """The run folder of `written`."""
    run = work / name
    svgrl(program, "train", written(work, name, *settings, **more), "--run-dir", run, "-q")
    return run


TEMPER = """
import sys
from safetensors.torch import load_file, save_file
path, temperature = sys.argv[1] + "/model.safetensors", float(sys.argv[2])
tensors = load_file(path)
tensors["model.norm.weight"] = tensors["model.norm.weight"] / temperature
save_file(tensors, path, {"format": "pt"})
"""


def tempered(python, model, temperature):
    """A policy whose distribution at temperature 1 is that of `model` at `temperature`: its last norm's weight is divided."""
    made = model.parent / f"tempered_{temperature}"
    shutil.copytree(model, made)
    subprocess.run([python, "-c", TEMPER, made, str(temperature)], check=True, capture_output=True)
    return made


def refused(check, program, work, settings, words):
    """A run that must end before its first step's completions, and say why."""
    what, name, model, rollout = settings
    ended = told(program, "train", written(work, name, model, rollout), "--run-dir", work / name, "-q")
    # An evaluation before the first step, which samples at temperature 1, may have been right.
    drawn = list((work / name).glob("samples/rl/step_*.jsonl"))
    line = next((line for line in ended.stderr.splitlines() if words in line), ended.stderr[-400:])
    check(f"{what}: refused before the first step", ended.returncode == 2 and words in line and not drawn, line.strip())


def check_run(check, program, work, name, run, model, images=None):
    steps = [row for row in rows(run / "metrics.jsonl") if "policy/loss" in row]
    check(f"{name}: steps", len(steps) == 4, len(steps))
    for key in ("engine/probe_gap", "policy/kl_sampler"):
        most = max(abs(row[key]) for row in steps)
        check(f"{name}: largest {key}", most < BOUND, most)
    seconds = [round(row["engine/sync_s"], 3) for row in steps]
    check(f"{name}: sync seconds, bytes", True, (seconds, int(steps[-1]["engine/sync_bytes"])))
    check(f"{name}: asked again, drawn anew", steps[-1]["engine/retried"] == 0, (steps[-1]["engine/retried"], steps[-1]["engine/redrawn"]))
    seen = [rows(run / "samples" / "rl" / f"step_{step:06}.jsonl") for step in range(1, 5)]
    versions = [sorted({row["policy_version"] for row in samples}) for samples in seen]
    # A step whose groups are all of one reward updates nothing.
    learnt = [sum(row["reward/zero_spread_frac"] < 1 for row in steps[:at]) for at in range(4)]
    right = versions == [[number] for number in learnt] and learnt[3] > 0 and all(len(samples) == 16 for samples in seen)
    check(f"{name}: completions, versions of the steps", right, versions)
    # The first step's completions are of the policy that the stage began with.
    first = rows(run / "samples" / "rl" / "step_000001.jsonl")
    asked = work / f"{name}.asked.jsonl"
    lines = [{"id": at, "prompt": row["prompt"], "completion_token_ids": row["token_ids"]} for at, row in enumerate(first)]
    for line, row in zip(lines, first):
        line |= {"images": images[row["prompt_id"].rsplit("/")[-1]]} if images else {}
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = work / f"{name}.logprobs.jsonl"
    svgrl(program, "logprobs", "--model", model, "--data", asked, "--out", out, "-q")
    gaps = [
        abs(a - b)
        for row, own in zip(first, rows(out), strict=True)
        for a, b in zip(row["sampler_logprobs"], own["logprobs"], strict=True)
    ]
    check(f"{name}: largest gap of {len(gaps)} sampled log-probabilities", max(gaps) < BOUND, max(gaps))


WEIGHTS = """
import sys, torch
from transformers import AutoConfig, Qwen3VLForConditionalGeneration
torch.manual_seed(1)
model = Qwen3VLForConditionalGeneration(AutoConfig.from_pretrained(sys.argv[1])).float()
with torch.no_grad():
    for name, values in model.named_parameters():
        values.copy_(torch.randn(values.shape) * 0.08 if values.ndim > 1 else ("norm" in name and "bias" not in name) + 0.05 * torch.randn(values.shape))
model.save_pretrained(sys.argv[1])
"""


def seeing_policy(program, python, work):
    """A small Qwen3-VL of random weights, in widths that vLLM's kernels know."""
    svgrl(program, "data", "example", "ctrl-s", "--out", work / "example", "-q")
    model = work / "qwen3_vl"
    shutil.copytree(work / "example" / "models" / "tiny-qwen3-vl", model)
    config = json.loads((model / "config.json").read_text())
    config["text_config"] |= {"head_dim": 32, "hidden_size": 128}
    config["text_config"]["rope_parameters"]["mrope_section"] = [6, 5, 5]
    config["vision_config"] |= {"hidden_size": 64, "out_hidden_size": 128}
    (model / "config.json").write_text(json.dumps(config))
    processor = json.loads((model / "preprocessor_config.json").read_text()) | {"processor_class": "Qwen3VLProcessor"}
    (model / "preprocessor_config.json").write_text(json.dumps(processor))
    video = {key: value for key, value in processor.items() if key != "image_processor_type"}
    video |= {"video_processor_type": "Qwen3VLVideoProcessor"}
    (model / "video_preprocessor_config.json").write_text(json.dumps(video))
    (model / "model.safetensors").unlink()
    subprocess.run([python, "-c", WEIGHTS, model], check=True, capture_output=True)
    return model


def see(arguments, check):
    """Prompts with one and with two pictures, by vLLM."""
    work = fresh(arguments.folder / "work_pictures")
    python = install("vllm", arguments.folder)
    model = seeing_policy(arguments.program, python, work)
    colours = ["red", "green", "blue", "orange"]
    lines = []
    for at, colour in enumerate(colours):
        drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 48"><circle cx="{20 + 6 * at}" cy="24" r="15" fill="{colour}"/></svg>'
        (work / f"{colour}.svg").write_text(drawing)
        # Sizes that the tower's processor has to change.
        svgrl(arguments.program, "render", work / f"{colour}.svg", "--out", work, "--size", 50 + 13 * at)
        shown = [f"{colour}.png", f"{colours[at - 1]}.png"][: 1 + at % 2]
        lines.append({"id": colour, "prompt": f"a {colour} circle", "svg": drawing, "images": shown})
    (work / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Server("vllm", python, model, work / "server.log", ["--limit-mm-per-prompt", '{"image": 2}']) as server:
        data = "    shapes: {{format: jsonl, path: rows.jsonl, task: draw}}"
        config = CONFIG.replace("    shapes: {{format: shapes, task: draw, count: 400, held_out: 8}}", data)
        run = train(arguments.program, work, "pictures", model, f"engine: vllm, endpoints: [{server.address}]", config=config)
        images = {line["id"]: line["images"] for line in lines}
        check_run(check, arguments.program, work, "vllm, Qwen3-VL, one and two pictures", run, model, images)


def record(server, folder):
    """A reply for the stand-in to be compared with."""
    if server.engine == "vllm":
        path = "/inference/v1/generate"
        body = {"request_id": "r", "model": "policy", "token_ids": [348, 339, 364], "return_token_ids": True, "stream": False}
        body["sampling_params"] = {"n": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "max_tokens": 4}
        body["sampling_params"] |= {"seed": 1, "logprobs": 0, "ignore_eos": True, "stop_token_ids": [524]}
    else:
        path = "/generate"
        body = {"rid": "r", "input_ids": [348, 339, 364], "return_logprob": True, "return_prompt_token_ids": True, "stream": False}
        body["sampling_params"] = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "max_new_tokens": 4}
        body["sampling_params"] |= {"no_stop_trim": True, "sampling_seed": 1, "stop_token_ids": [524]}
    kept = {"path": path, "request": body, "reply": ask(server.address, path, body), "models": ask(server.address, "/v1/models")}
    (folder / f"{server.engine}.json").write_text(json.dumps(kept, indent=1) + "\n")


def last_words(log):
    """What a server that did not start said last: the line of the error that ended it."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"(Error|Exception)\b.*:|not supported|error: ", line)]
    return (errors or lines or ["nothing"])[-1].strip()


def try_to_start(check, what, server, log):
    """A server that may well not start on a CPU: what it says then."""
    try:
        with server:
            check(what, True, "starts")
    except Failed:
        check.cannot(what, last_words(log))


class Meeting:
    """A part of the comparisons: its folder, its Python, its policy."""

    def __init__(self, part, engine, arguments, check):
        self.work = fresh(arguments.folder / f"work_{part}")
        self.python = install(engine, arguments.folder)
        self.engine, self.check, self.program = engine, check, arguments.program
        self.address, self.model = None, None

    def serve(self, model, *flags, log="server.log", path=()):
        self.model = model
        return Server(self.engine, self.python, model, self.work / log, flags, path)

    def here(self, server, more=""):
        return f"engine: {self.engine}, endpoints: [{server.address}]{more}"

    def run(self, server, name, what, more="", stage="", judge=None):
        """Four steps, and what is compared of them."""
        run = train(self.program, self.work, name, self.model, self.here(server, more), stage)
        check_run(self.check, self.program, self.work, f"{self.engine}, {what}", run, judge or self.model)
        return run

    def refused(self, server, name, what, more, words):
        settings = (f"{self.engine}, {what}", name, self.model, self.here(server, more))
        refused(self.check, self.program, self.work, settings, words)


def fresh(work):
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


def check_version(check, engine, server, run):
    if engine == "vllm":
        version = ask(server.address, "/weight_info")["weight_version"]
    else:
        version = ask(server.address, "/model_info")["weight_version"]
    last = rows(run / "samples" / "rl" / "step_000004.jsonl")[0]["policy_version"]
    right = version.startswith("svgrl-") and int(version.rsplit("-v")[1]) in (last, last + 1)
    check(f"{engine}: version of the server's weights", right, version)


def vllm(arguments, check):
    part = Meeting("vllm", "vllm", arguments, check)
    model = policy(part.program, part.work, "qwen3")
    with part.serve(model, "--enable-lora", "--max-lora-rank", "16") as server:
        if arguments.record:
            record(server, arguments.record)
        run = part.run(server, "tied", "Qwen3, tied head")
        check_version(check, "vllm", server, run)
        part.run(server, "stops", "top_p 0.9 and a stop string", ", top_p: 0.9, stop: ['/>']")
        part.run(server, "lora", "LoRA adapters alone", stage=", lora: {rank: 4, alpha: 8}")
        raw = "start vLLM with --logprobs-mode processed_logprobs, or sample at temperature 1"
        part.refused(server, "raw", "raw log-probabilities at temperature 0.7", ", temperature: 0.7", raw)
        part.refused(server, "tied_reload", "reload of a tied head", ", servers: {update: reload}", "take `transfer`")
        asleep(part, server)


def asleep(part, server):
    """Sleep and wake-up: on a CPU the words of it, as no memory is freed there."""
    check, vllm = part.check, part.engine == "vllm"
    before = len(slept(server, vllm))
    part.run(server, "asleep", "asleep between the steps", ", servers: {sleep: true}")
    went = slept(server, vllm)[before:]
    check(f"{part.engine}: times that it was put to sleep", len(went) >= 4, len(went))
    if not vllm:
        return
    state = ask(server.address, "/is_sleeping")
    check("vllm: awake after the run", not state["is_sleeping"], state)
    # As a run that was killed leaves it.
    ask(server.address, "/sleep?level=1", {})
    part.run(server, "found_asleep", "found asleep at the start", ", servers: {sleep: true}")
    words = "sleep mode is not supported on CPU, ignore it"
    said = [line for line in server.log.read_text(errors="replace").splitlines() if words in line]
    if said:
        check.cannot("vllm, memory freed by sleep", said[-1].strip())


def slept(server, vllm):
    """The lines of a server's log that say that it went to sleep."""
    words = "to fall asleep" if vllm else "POST /release_memory_occupation HTTP/1.1\" 200"
    return [line for line in server.log.read_text(errors="replace").splitlines() if words in line]


def vllm_qwen2(arguments, check):
    part = Meeting("vllm_qwen2", "vllm", arguments, check)
    model = policy(part.program, part.work, "qwen2")
    with part.serve(model, "--logprobs-mode", "processed_logprobs") as server:
        run = part.run(server, "untied", "Qwen2, a head of its own, processed log-probabilities")
        check_version(check, "vllm", server, run)
        run = part.run(server, "reload", "Qwen2, vLLM's own reload", ", servers: {update: reload}")
        check_version(check, "vllm", server, run)
        cool = tempered(part.python, model, 0.7)
        part.run(server, "cool", "Qwen2, temperature 0.7, processed log-probabilities", ", temperature: 0.7", judge=cool)
        words = "start vLLM without --logprobs-mode"
        part.refused(server, "nucleus", "processed log-probabilities with top_p 0.9", ", top_p: 0.9", words)
    log = part.work / "sleep.log"
    try_to_start(check, "vllm --enable-sleep-mode", part.serve(model, "--enable-sleep-mode", log=log.name), log)


def sglang(arguments, check):
    part = Meeting("sglang", "sglang", arguments, check)
    model = policy(part.program, part.work, "qwen3")
    with part.serve(model) as server:
        if arguments.record:
            record(server, arguments.record)
        run = part.run(server, "tied", "Qwen3, tied head")
        check_version(check, "sglang", server, run)
        part.run(server, "group", "broadcast over Gloo", ", servers: {update: group}")
        cool = tempered(part.python, model, 0.7)
        part.run(server, "cool", "temperature 0.7 and top_p 0.9", ", temperature: 0.7, top_p: 0.9", judge=cool)
        asleep(part, server)


def sglang_qwen2(arguments, check):
    part = Meeting("sglang_qwen2", "sglang", arguments, check)
    model = policy(part.program, part.work, "qwen2")
    flags = ["--enable-lora", "--max-lora-rank", "16", "--lora-target-modules", "all", "--lora-backend", "torch_native"]
    log = part.work / "lora.log"
    try_to_start(check, "sglang --enable-lora", part.serve(model, *flags, log=log.name), log)
    # It asks for pinned memory, which only a machine with a GPU has: once more without.
    with part.serve(model, *flags, log="unpinned.log", path=[HERE / "unpinned"]) as server:
        part.run(server, "lora", "Qwen2, LoRA adapters alone (memory not pinned)", stage=", lora: {rank: 4, alpha: 8}")
    with part.serve(model) as server:
        run = part.run(server, "untied", "Qwen2, a head of its own")
        check_version(check, "sglang", server, run)
        part.run(server, "merged", "Qwen2, adapters merged into the weights", ", servers: {update: disk}", ", lora: {rank: 4, alpha: 8}")
    log = part.work / "saver.log"
    saver = part.serve(model, "--enable-memory-saver", "--enable-weights-cpu-backup", log=log.name)
    try_to_start(check, "sglang --enable-memory-saver", saver, log)


def stage(arguments, check):
    """The quickstart's second stage."""
    work = fresh(arguments.folder / "work_quickstart")
    python = install("vllm", arguments.folder)
    quickstart.compare(check, (arguments.program, work, python), arguments.steps)


PARTS = {"vllm": vllm, "vllm-qwen2": vllm_qwen2, "pictures": see, "sglang": sglang, "sglang-qwen2": sglang_qwen2, "quickstart": stage}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all"])
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "svgrl" / "engines"
    parser.add_argument("--folder", type=lambda path: Path(path).resolve(), default=cache)
    parser.add_argument("--program", type=lambda path: Path(path).resolve(), default=ROOT / "target" / "release" / "svgrl")
    parser.add_argument("--record", type=Path, help="where replies for the stand-in's tests are left")
    parser.add_argument("--steps", type=int, help="of the part quickstart; without it as many as the quickstart has")
    arguments = parser.parse_args()
    check, begun = Check(), time.time()
    for name in PARTS if arguments.part == "all" else [arguments.part]:
        print(f"== {name}", flush=True)
        try:
            PARTS[name](arguments, check)
        except Failed as failed:
            check(name, False, failed)
    absent = f"; {check.absent} things cannot be done on a CPU" if check.absent else ""
    right = "all is right" if not check.failed else f"{check.failed} things are wrong"
    print(f"{right}{absent} ({(time.time() - begun) / 60:.0f} minutes)")
    return bool(check.failed)


if __name__ == "__main__":
    sys.exit(main())
