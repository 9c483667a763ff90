"""Ratios of `svgrl bench` to its peers, in alternating pairs in one run.

Writes raw.csv and setup.md to a folder. Needs a Python with torch, transformers, trl, cairosvg,
datasets, pillow and numpy for the peers.

    python benches/compare.py --python PEER_PYTHON --out benches/runs/DATE-MACHINE [--pairs 5] [--only DPO]
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import statistics
import subprocess

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "2"})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    args = parser.parse_args()
    svgrl = [str(ROOT / "target/release/svgrl"), "bench"]
    peers = str(HERE / "peers")
    lengths = str(HERE / "lengths.json")
    drawings = str(HERE / "drawings.jsonl")
    ours = lambda *extra: [*svgrl, *extra, "--json", "--threads", "2"]
    trl = lambda *extra: [args.python, f"{peers}/trl_grpo.py", "--steps", "1", "--svg", drawings, *extra]
    preferences = lambda *extra: [args.python, f"{peers}/trl_dpo.py", "--steps", "1", *extra]
    step = lambda answer: statistics.median(answer.get("figures", answer)["step_s"])
    rate = lambda answer: statistics.median(answer.get("figures", answer)["tokens_per_s"])
    cases = {
        "step of 128 tokens, KL 0.04 (s)": (ours("step", "--repeat", "2"), trl(), step, "lower"),
        "step of varying lengths, KL 0.04 (s)": (
            ours("step", "--repeat", "2", "--lengths", lengths), trl("--lengths", lengths), step, "lower"),
        "DPO step of 32 pairs of 128 tokens (s)": (ours("dpo", "--repeat", "2"), preferences(), step, "lower"),
        "DPO step of varying lengths (s)": (
            ours("dpo", "--repeat", "2", "--lengths", lengths), preferences("--lengths", lengths), step, "lower"),
        "decode of 8 sequences (tokens/s)": (
            ours("generate", "--batch", "8", "--repeat", "3"),
            [args.python, f"{peers}/transformers_generate.py", "--batch", "8"], rate, "higher"),
    }
    cases = {name: case for name, case in cases.items() if args.only in name}
    args.out.mkdir(parents=True, exist_ok=True)
    rows, summary = [], []
    for name, (mine, theirs, figure, better) in cases.items():
        ratios = []
        for pair in range(args.pairs):
            a, b = figure(run(mine)), figure(run(theirs))
            ratio = b / a if better == "lower" else a / b
            rows.append([name, pair, a, b, ratio])
            ratios.append(ratio)
            print(name, pair, round(a, 3), round(b, 3), f"{ratio:.2f}x", flush=True)
        summary.append(f"| {name} | {statistics.median(r[2] for r in rows if r[0] == name):.3f} | "
                       f"{statistics.median(r[3] for r in rows if r[0] == name):.3f} | {statistics.median(ratios):.2f} |")
    with open(args.out / "raw.csv", "w", newline="") as file:
        csv.writer(file).writerows([["case", "pair", "svgrl", "peer", "ratio"], *rows])
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    versions = run([args.python, "-c", "import json,torch,transformers,trl;print(json.dumps({'torch':torch.__version__,'transformers':transformers.__version__,'trl':trl.__version__}))"])
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    (args.out / "setup.md").write_text(
        f"Machine: {cpu}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; 2 threads each.\n"
        f"Commit: {commit}. Peers: {versions}.\n"
        f"Command: python benches/compare.py --pairs {args.pairs}; each pair runs svgrl, then the peer; medians of pairs.\n\n"
        "| case | svgrl | peer | ratio |\n|---|---|---|---|\n" + "\n".join(summary) + "\n"
    )


if __name__ == "__main__":
    main()
