"""Sampling one step ahead of the learner against waiting for each step's own completions, by dedicated samplers.

The quickstart's GRPO stage from one supervised policy, a learner and a sampler of one thread each:

  python3 benches/ahead.py time --pairs 4 --out FILE      seconds of a step, runs taking turns
  python3 benches/ahead.py reward --seeds 3 --out FILE    held-out rewards by step, one step off for 15 % more of them

`time` gives samplers as many slots as make sampling take about what learning takes (`--slots`): what a step can save is
the shorter of the two. What is sampled does not depend on the slots. `reward` asks after learning alone, so it needs no idle machine.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs/quickstart.yaml"
HELD_OUT = "eval/heldout/reward/total/mean"
PHASES = ("time/generate_s", "time/score_exposed_s", "time/forward_backward_s", "time/optim_s", "engine/sync_s", "time/step_s")
NAMES = ("on-policy", "one step off")
LONGER = 1.15


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def taught(svgrl, scratch):
    """The policy of the quickstart's supervised stage."""
    run = scratch / "taught"
    sets = ["--set", "stages.rl.steps=1", "--set", "stages.rl.eval={prompts: 0}"]
    subprocess.run([svgrl, "train", "-q", CONFIG, "--run-dir", run, *sets], check=True)
    return run / "checkpoints/sft/final"


def learn(svgrl, run, policy, stage, seed=0):
    """A GRPO run of `stage`, given as a dict, from `policy`; its metrics."""
    rl = {"name": "rl", "algorithm": "grpo", "batch": {"size": 16}, "optimizer": {"learning_rate": 2.0e-4}}
    stages = [rl | {"checkpoint": {"every": 0}} | stage]
    sets = [f"model={json.dumps({'path': str(policy)})}", f"stages={json.dumps(stages)}", "threads=1", f"seed={seed}"]
    flags = [word for text in sets for word in ("--set", text)]
    launch = [svgrl, "launch", "--learners", "1", "--samplers", "1", "--"]
    subprocess.run([*launch, "train", "-q", CONFIG, "--run-dir", run, *flags], check=True)
    return rows(run)


def rollout(ahead, **more):
    return {"group_size": 8, "max_new_tokens": 128, "placement": "dedicated", "max_staleness": ahead, **more}


def time(args, policy, scratch):
    """Medians of each run's steps, and the ratio of each pair; who goes first changes."""
    pairs = []
    for pair in range(args.pairs):
        seen = {}
        for ahead in ((0, 1), (1, 0))[pair % 2]:
            stage = {"steps": args.steps, "rollout": rollout(ahead, slots=args.slots), "eval": {"prompts": 0}}
            found = learn(args.svgrl, scratch / f"time_{pair}_{ahead}", policy, stage)
            # The first steps of a run meet cold caches; nothing is ahead of the first.
            steps = [row for row in found if "time/step_s" in row][3:]
            seen[ahead] = {key: statistics.median(row.get(key, 0.0) for row in steps) for key in PHASES}
        pairs.append(seen)
    yield f"## Seconds of a step ({args.slots} slots, {args.pairs} pairs of {args.steps} steps)"
    yield ""
    yield "| pair | | " + " | ".join(f"`{key}`" for key in PHASES) + " |"
    yield "|---" * (len(PHASES) + 2) + "|"
    for at, seen in enumerate(pairs, 1):
        for ahead, name in enumerate(NAMES):
            yield f"| {at} | {name} | " + " | ".join(f"{seen[ahead][key]:.3f}" for key in PHASES) + " |"
    ratios = [seen[1]["time/step_s"] / seen[0]["time/step_s"] for seen in pairs]
    yield ""
    yield f"One step off over on-policy: {', '.join(f'{ratio:.3f}' for ratio in ratios)}; median {statistics.median(ratios):.3f}."


def reward(args, policy, scratch):
    """Held-out rewards at the same fractions of both lengths, means over seeds."""
    every = max(args.steps // 10, 1)
    curves = ([], [])
    for seed in range(args.seeds):
        for ahead, lengths in enumerate((1.0, LONGER)):
            stage = {"steps": math.floor(args.steps * lengths), "rollout": rollout(ahead)}
            stage["eval"] = {"prompts": 96, "samples": 2, "every": every}
            found = learn(args.svgrl, scratch / f"reward_{seed}_{ahead}", policy, stage, seed)
            curves[ahead].append({row["step"]: row[HELD_OUT] for row in found if HELD_OUT in row})
    yield f"## Held-out reward ({args.seeds} seeds; mean, in brackets least and most)"
    yield ""
    yield "| step | on-policy | one step off |"
    yield "|---|---|---|"

    def cell(ahead, step):
        found = [curve[step] for curve in curves[ahead] if step in curve]
        return f"{statistics.mean(found):.3f} ({min(found):.3f}, {max(found):.3f})" if found else ""

    for step in sorted({step for both in curves for curve in both for step in curve}):
        yield f"| {step} | {cell(0, step)} | {cell(1, step)} |"
    # One evaluation's noise is near what a step gains: the last three of each.
    ends = [[statistics.mean(list(curve.values())[-3:]) for curve in both] for both in curves]
    means = [statistics.mean(own) for own in ends]
    yield ""
    for name, own, mean in zip(NAMES, ends, means):
        yield f"Last three evaluations, {name}: {', '.join(f'{end:.3f}' for end in own)}; mean {mean:.3f}."
    yield ""
    yield f"One step off in {LONGER:.2f} times the steps less on-policy: {means[1] - means[0]:+.3f}."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["time", "reward"])
    parser.add_argument("--svgrl", default=str(ROOT / "target/release/svgrl"))
    parser.add_argument("--steps", type=int, help="20 for time, 60 for reward")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=12)
    parser.add_argument("--policy", type=Path, help="a policy to begin with, for the supervised stage's")
    parser.add_argument("--out", type=Path, help="append to this file")
    args = parser.parse_args()
    args.steps = args.steps or {"time": 20, "reward": 60}[args.what]
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as scratch:
        policy = args.policy or taught(args.svgrl, Path(scratch))
        lines = list({"time": time, "reward": reward}[args.what](args, policy, Path(scratch)))
    said = f"{args.what} --steps {args.steps} --pairs {args.pairs} --seeds {args.seeds} --slots {args.slots}"
    lines += ["", f"Commit {commit}, {platform.machine()}, {os.cpu_count()} cores, `benches/ahead.py {said}`.", ""]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        with args.out.open("a") as out:
            out.write(text)


if __name__ == "__main__":
    main()
