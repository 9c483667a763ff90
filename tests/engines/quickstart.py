"""The quickstart's GRPO stage through a real vLLM: it ends where the local engine's runs end.

One supervised policy, by the quickstart's own first stage; from it the second stage, word by word, three times with the
engine `local` and other seeds, and once with completions of vLLM. The last held-out mean of that run must lie within the
minimum and the maximum of the three, plus or minus 0.02.
"""

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from servers import ROOT, Failed, Server, rows, svgrl

CONFIG = ROOT / "configs" / "quickstart.yaml"
HELD_OUT = "eval/heldout/reward/total/mean"
SEEDS = (0, 1, 2)
ROOM = 0.02


def stage_alone(work):
    """The quickstart's config without its first stage."""
    head, stages = CONFIG.read_text().split("\nstages:\n")
    begin = stages.index("  - name: rl\n")
    written = work / "rl.yaml"
    written.write_text(f"{head}\nstages:\n{stages[begin:]}")
    return written


def taught(program, work):
    """The policy of the quickstart's first stage."""
    run = work / "taught"
    svgrl(program, "train", CONFIG, "--run-dir", run, "-q", "--set", "threads=1", "--set", "stages.rl.steps=1", "--set", "stages.rl.eval={prompts: 0}")
    return run / "checkpoints" / "sft" / "final"


class Quickstart:
    """Runs of the second stage from one policy."""

    def __init__(self, program, work, policy, steps):
        self.program, self.work = program, work
        self.sets = ["threads=1", "stages.rl.eval.every=50", f"model={{path: {json.dumps(str(policy))}}}"]
        self.sets += [f"stages.rl.steps={steps}"] if steps else []
        self.config = stage_alone(work)

    def run(self, name, *sets):
        """Held-out means by step, and the seconds of all."""
        run, begun = self.work / name, time.time()
        flags = [word for text in [*self.sets, *sets] for word in ("--set", text)]
        svgrl(self.program, "train", self.config, "--run-dir", run, "-q", *flags)
        means = {row["step"]: row[HELD_OUT] for row in rows(run / "metrics.jsonl") if HELD_OUT in row}
        if not means:
            raise Failed(f"{run}: no evaluation")
        return means, time.time() - begun


def line(means):
    return ", ".join(f"{step}: {mean:.4f}" for step, mean in means.items())


def compare(check, place, steps):
    """Says of the run through vLLM whether it ends where the local ones do."""
    program, work, python = place
    policy = taught(program, work)
    stage = Quickstart(program, work, policy, steps)
    # Each of one thread, all at once.
    with ThreadPoolExecutor(len(SEEDS)) as beside:
        local = [beside.submit(stage.run, f"local_{seed}", f"seed={seed}") for seed in SEEDS]
        with Server("vllm", python, policy, work / "server.log") as server:
            where = [f"stages.rl.rollout.{text}" for text in ("engine=vllm", f"endpoints=[{server.address}]")]
            means, seconds = stage.run("vllm", "seed=0", *where)
        check(f"quickstart, vllm, seed 0: held-out means in {seconds:.0f} s", True, line(means))
        ends = []
        for seed, run in zip(SEEDS, local):
            own, seconds = run.result()
            ends.append(list(own.values())[-1])
            check(f"quickstart, local, seed {seed}: held-out means in {seconds:.0f} s", list(own) == list(means), line(own))
    steps = [row for row in rows(work / "vllm" / "metrics.jsonl") if "policy/loss" in row]
    for key in ("engine/probe_gap", "policy/kl_sampler"):
        most = max(abs(row[key]) for row in steps)
        check(f"quickstart, vllm: largest {key} of {len(steps)} steps", most < 1e-4, most)
    median = lambda key: round(statistics.median(row[key] for row in steps), 3)
    spent = {key: median(key) for key in ("time/step_s", "time/generate_s", "engine/sync_s")}
    check("quickstart, vllm: medians of a step", True, spent)
    low, high, end = min(ends) - ROOM, max(ends) + ROOM, list(means.values())[-1]
    check(f"quickstart, vllm: last held-out mean within [{low:.4f}, {high:.4f}]", low <= end <= high, f"{end:.4f}")
