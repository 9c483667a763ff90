"""`svgrl bench render` and `bench reward --clients 32` beside CairoSVG, in alternating pairs of one run.

    python benches/render.py --python PEER_PYTHON --data icons.jsonl --out benches/runs/DATE-MACHINE [--pairs 3]

Rows of the data hold `svg`. Ratios are of processor time, which other work on the machine changes
little; the clock's figures stand beside them. Writes render.csv and render.md."""

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
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return answer.get("figures", answer)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", required=True)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    data = args.data.resolve()
    svgrl = ROOT / "target/release/svgrl"
    rows = []
    for pair in range(args.pairs):
        ours = run([svgrl, "bench", "render", "--data", data, "--repeat", "2", "--json"])
        peer = run([args.python, HERE / "peers/cairosvg_render.py", "--data", data, "--every", "4"])
        service = run([svgrl, "bench", "reward", "--data", data, "--clients", "32", "--repeat", "3", "--json"])
        rows.append({
            "svgrl_per_cpu_s": ours["guarded_per_cpu_s"],
            "bare_resvg_per_cpu_s": ours["bare_resvg_per_cpu_s"],
            "cairosvg_per_cpu_s": peer["per_cpu_s"],
            "over_cairosvg": ours["guarded_per_cpu_s"] / peer["per_cpu_s"],
            "of_bare_resvg": ours["cpu_ratio"],
            "svgrl_per_s": ours["guarded_per_s"],
            "bare_resvg_per_s": ours["bare_resvg_per_s"],
            "worker_frac": ours["worker_frac"],
            "all_in_workers_per_s": ours["all_in_workers_per_s"],
            "all_in_workers_ms_more": ours["all_in_workers_ms_more"],
            "cairosvg_per_s": peer["per_s"],
            "in_process_per_s": service["in_process_per_s"],
            "service_per_s": service["service_per_s"],
            "service_slowdown": service["slowdown"],
            "service_p50_ms": service["service_p50_ms"],
            "service_p99_ms": service["service_p99_ms"],
        })
        print({key: round(value, 3) for key, value in rows[-1].items()}, flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "render.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["pair", *rows[0]])
        writer.writeheader()
        writer.writerows({"pair": pair, **row} for pair, row in enumerate(rows))
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    documents = sum(1 for _ in open(data))
    table = "\n".join(f"| {key} | {statistics.median(row[key] for row in rows):.3f} |" for key in rows[0])
    (args.out / "render.md").write_text(
        f"Machine: {cpu}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; load {os.getloadavg()[1]:.1f} over the last five minutes.\n"
        f"Commit: {commit}. {documents} drawings of {data.name} at 224 pixels; CairoSVG on every fourth.\n"
        f"Command: python benches/render.py --pairs {args.pairs}; medians of pairs.\n\n| figure | median |\n|---|---|\n{table}\n"
    )


if __name__ == "__main__":
    main()
