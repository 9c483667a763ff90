#!/usr/bin/env python3
"""Kills a small run at every call that changes a file of its run folder, and continues it.

Each point is tried three ways: killed before the call; killed in the middle of a write; and with everything lost
that was not synced by then, as by a loss of power. The same again for calls of a resume. Whatever happened, the
continued run must end as the one that was never disturbed: weights, optimizer, metrics without their times, samples.

    benches/kills.py                        every point; hours on a small machine
    benches/kills.py --seconds 150          as many as fit, spread evenly: the form that `make test` runs
    benches/kills.py --points 100,101 -v    these alone
    benches/kills.py --ranks 2 --kills 50   a run of several ranks instead: one of them, drawn at random, is killed at a
                                            random moment, some more than once; the rest end, the run is continued

SVGRL names the program; else target/release/svgrl, else target/debug/svgrl. Results go to standard output as one
JSON object, and with --out FILE to a file.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent
CONFIG = """name: kills
threads: 1
model:
  tokenizer: {tokenizer}
  init: {{architecture: qwen3, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8}}
data: {{sources: {{shapes: {{format: shapes, task: draw, count: 40, held_out: 4}}}}}}
rewards: {{workers: 1}}
tasks:
  draw:
    completion: {{format: svg}}
    render: {{size: 16}}
    rubric: {{truncated: -1.0, rewards: [{{type: code_efficiency, clip: [0, 1]}}]}}
stages:
  - {{name: sft, algorithm: sft, steps: 2, batch: {{size: 2}}, eval: {{prompts: 1, max_new_tokens: 4, every: 1}}, checkpoint: {{every: 1, keep_last: 1, best: {{metric: eval/heldout/completion/tokens/mean}}}}}}
  - {{name: rl, algorithm: grpo, steps: 3, batch: {{size: 2}}, rollout: {{group_size: 2, max_new_tokens: 8, stop: ["1"]}}, kl: {{coefficient: 0.05}}, eval: {{prompts: 1}}, checkpoint: {{every: 2}}}}
"""


def program():
    named = os.environ.get("SVGRL")
    if named:
        return pathlib.Path(named).resolve()
    built = [REPOSITORY / "target" / kind / "svgrl" for kind in ("release", "debug")]
    return next((path for path in built if path.exists()), built[0])


class Folder:
    """A folder as it stands and as a loss of power would leave it: what is made, renamed or removed in it counts
    once it is synced."""

    def __init__(self):
        self.now, self.durable = {}, {}


class Disk:
    """What is on disk by the log of a process, and what of it is durable."""

    def __init__(self, root):
        self.root, self.top = str(root), Folder()
        self.size, self.durable_size = {}, {}
        for base, folders, files in os.walk(root):
            here = self.find(base)
            for name in folders:
                here.now[name] = here.durable[name] = Folder()
            for name in files:
                data = os.stat(os.path.join(base, name))
                here.now[name] = here.durable[name] = data.st_ino
                self.size[data.st_ino] = self.durable_size[data.st_ino] = data.st_size

    def parts(self, path):
        return [part for part in os.path.relpath(path, self.root).split("/") if part != "."]

    def find(self, path):
        folder = self.top
        for part in self.parts(path):
            folder = folder.now[part]
        return folder

    def entry(self, path):
        return self.find(os.path.dirname(path)), os.path.basename(path)

    def replay(self, log):
        for line in log.read_text(errors="replace").splitlines():
            kind, first, second = line.split("\t")
            if kind == "C":
                folder, name = self.entry(second)
                folder.now[name] = int(first)
                self.size[int(first)] = self.durable_size[int(first)] = 0
            elif kind == "W":
                self.size[int(first)] = int(second)
                self.durable_size[int(first)] = min(self.durable_size.get(int(first), 0), int(second))
            elif kind == "S":
                self.size[int(first)] = self.durable_size[int(first)] = int(second)
            elif kind == "D":
                folder = self.find(second)
                folder.durable = dict(folder.now)
            elif kind == "M":
                folder, name = self.entry(second)
                folder.now[name] = Folder()
            elif kind in "RL":
                (source, old), (target, new) = self.entry(first), self.entry(second)
                target.now[new] = source.now[old] if kind == "L" else source.now.pop(old)
            elif kind == "U":
                folder, name = self.entry(second)
                folder.now.pop(name, None)

    def write(self, to, keep, folder=None):
        to.mkdir()
        for name, entry in (folder or self.top).durable.items():
            if isinstance(entry, Folder):
                self.write(to / name, keep, entry)
            else:
                (to / name).write_bytes((keep / str(entry)).read_bytes()[: self.durable_size[entry]])


class Bench:
    def __init__(self, work, verbose):
        self.work, self.verbose = work, verbose
        self.program = program()
        self.shim = work / "preload.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", self.shim, HERE / "kills/preload.c", "-ldl"], check=True)
        self.config = work / "kills.yaml"
        self.config.write_text(CONFIG.format(tokenizer=REPOSITORY / "configs/quickstart_tokenizer"))
        self.number = 0

    def train(self, run, **variables):
        environment = {k: v for k, v in os.environ.items() if k not in ("WORLD_SIZE", "RANK")}
        environment.update(OMP_NUM_THREADS="1", GOMP_SPINCOUNT="1000", **{k: str(v) for k, v in variables.items()})
        command = [self.program, "train", "-q", self.config, "--run-dir", run]
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def watched(self, run, **variables):
        """A run under the shim; the folder of its inodes and the log of its changes."""
        self.number += 1
        keep = self.work / f"keep_{self.number}"
        keep.mkdir()
        for base, _, files in os.walk(run):
            for name in files:
                path = os.path.join(base, name)
                os.link(path, keep / str(os.stat(path).st_ino))
        disk, log = Disk(run), self.work / f"log_{self.number}"
        log.touch()
        done = self.train(run, LD_PRELOAD=self.shim, KILLS_ROOT=run, KILLS_KEEP=keep, KILLS_LOG=log, **variables)
        return done, disk, keep, log

    def count(self, before):
        run = self.fresh("count", before)
        told = self.work / "count.txt"
        told.unlink(missing_ok=True)
        done, *_ = self.watched(run, KILLS_COUNT=told)
        if done.returncode != 0:
            sys.exit(f"the run itself fails: {done.stderr}")
        return max(map(int, told.read_text().split()))

    def fresh(self, name, before):
        run = self.work / name
        shutil.rmtree(run, ignore_errors=True)
        if before is None:
            run.mkdir()
        else:
            shutil.copytree(before, run)
        return run

    def outcome(self, run):
        rows = []
        for line in (run / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            timed = lambda key: key == "time" or key.startswith(("time/", "perf/")) or "render_ms" in key
            rows.append({key: value for key, value in row.items() if not timed(key)})
        files = {}
        for path in sorted(run.rglob("*")):
            inner = str(path.relative_to(run))
            if path.is_file() and inner.startswith("samples/"):
                lines = [json.loads(line) for line in path.read_text().splitlines()]
                files[inner] = [{k: v for k, v in row.items() if k != "render_ms"} for row in lines]
            elif path.is_file() and inner.startswith("checkpoints/") and path.name != "metrics.jsonl":
                files[inner] = path.read_bytes()
        return rows, files

    def check(self, run, how):
        """Continues `run`; what is wrong with its end."""
        done = self.train(run)
        if done.returncode != 0:
            return f"{how}: status {done.returncode}: {done.stderr.strip()[:300]}"
        rows, files = self.outcome(run)
        if rows != self.whole[0]:
            steps = lambda rows: [(row["stage"], row["step"]) for row in rows]
            return f"{how}: metrics differ: {steps(rows)} for {steps(self.whole[0])}"
        if files.keys() != self.whole[1].keys():
            return f"{how}: files differ: {sorted(files.keys() ^ self.whole[1].keys())}"
        differ = [name for name in files if files[name] != self.whole[1][name]]
        if differ:
            return f"{how}: contents differ: {differ}"
        left = [str(p.relative_to(run)) for p in run.rglob(".*")]
        return f"{how}: left behind: {left}" if left else None

    def point(self, before, number, where):
        """What is wrong after a kill at call `number`, one sentence each."""
        wrong = []
        run = self.fresh("run", before)
        done, disk, keep, log = self.watched(run, KILLS_AT=number)
        killed = done.returncode == -9
        image = self.work / "image"
        shutil.rmtree(image, ignore_errors=True)
        disk.replay(log)
        disk.write(image, keep)
        wrong.append(self.check(run, f"{where} {number}, killed"))
        wrong.append(self.check(image, f"{where} {number}, power lost"))
        if number % 3 == 0:
            run = self.fresh("run", before)
            self.watched(run, KILLS_AT=number, KILLS_TORN=1)
            wrong.append(self.check(run, f"{where} {number}, write torn"))
        shutil.rmtree(keep)
        return killed, [text for text in wrong if text]


class RankBench(Bench):
    """Runs of several ranks under `svgrl launch`."""

    def __init__(self, work, verbose, ranks):
        super().__init__(work, verbose)
        self.ranks = ranks
        # Batches that every rank has a part of, and steps enough to be met in every phase.
        longer = [("batch: {size: 2}", "batch: {size: 4}"), ("steps: 2", "steps: 12"), ("steps: 3", "steps: 12"),
                  ("max_new_tokens: 8", "max_new_tokens: 48")]
        text = self.config.read_text()
        for old, new in longer:
            text = text.replace(old, new)
        self.config.write_text(text)

    def start(self, run):
        environment = {k: v for k, v in os.environ.items() if k not in ("WORLD_SIZE", "RANK")}
        environment.update(OMP_NUM_THREADS="1", GOMP_SPINCOUNT="1000")
        launch = [self.program, "launch", "--nproc-per-node", str(self.ranks), "--grace-s", "20", "--"]
        command = [*launch, "train", "-q", self.config, "--run-dir", run]
        pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return subprocess.Popen(command, env=environment, **pipes)

    def train(self, run, **variables):
        process = self.start(run)
        _, said = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, "", said)

    def ranks_of(self, launcher):
        """Process numbers of the ranks, in their order."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent != launcher:
                    continue
                pairs = (entry / "environ").read_bytes().split(b"\0")
            except (OSError, ValueError, IndexError):
                continue
            rank = next((pair[5:] for pair in pairs if pair.startswith(b"RANK=")), None)
            if rank is not None:
                found[int(rank)] = int(entry.name)
        return found

    def phase(self, run):
        """Where the run stands: its newest metrics row and checkpoint."""
        try:
            row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
            return f"{row['stage']} {row['step']}"
        except (OSError, ValueError, IndexError):
            return "start"

    def kill(self, run, rank, after):
        """Kills `rank` `after` seconds from the start; the status of the launcher, and what was going on."""
        process = self.start(run)
        time.sleep(after)
        phase, number = self.phase(run), self.ranks_of(process.pid).get(rank)
        if number is not None:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                number = None
        _, said = process.communicate()
        return process.returncode, number is not None, phase, said

    def random_kills(self, kills, seed):
        """One report a kill."""
        dice = random.Random(seed)
        whole = self.fresh("whole", None)
        begun = time.time()
        done = self.train(whole)
        if done.returncode != 0:
            sys.exit(f"the run itself fails: {done.stderr}")
        lasts = time.time() - begun
        self.whole = self.outcome(whole)
        while kills > 0:
            run, told = self.fresh("run", None), []
            # Up to three kills of one run, each at any moment that is left of it.
            for _ in range(min(kills, dice.choice([1, 1, 1, 2, 3]))):
                rank, after = dice.randrange(self.ranks), dice.uniform(0.0, lasts)
                status, killed, phase, said = self.kill(run, rank, after)
                kills -= killed
                told.append({"rank": rank, "after_s": round(after, 2), "in": phase, "killed": killed, "status": status})
                if killed and status == 0:
                    told[-1]["note"] = "it had ended"
                if not killed and status != 0:
                    told[-1]["wrong"] = said.strip()[-300:]
                if status == 0:
                    break
            told[-1]["end"] = self.check(run, f"rank {rank} after {after:.2f} s") or "equal"
            if self.verbose:
                print(told, file=sys.stderr, flush=True)
            yield from told


def spread(count):
    """1..count in an order of which every beginning is spread evenly."""
    step = max(1, round(count * 0.6180339887))
    while count > 1 and any(count % d == 0 and step % d == 0 for d in range(2, step + 1)):
        step += 1
    return [1 + (index * step) % count for index in range(count)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="stop taking new points after this long")
    parser.add_argument("--points", help="calls of the first run to kill at, separated by commas")
    parser.add_argument("--ranks", type=int, help="a run of so many ranks, killed at random moments")
    parser.add_argument("--kills", type=int, default=50, help="with --ranks: how many")
    parser.add_argument("--seed", type=int, default=0, help="with --ranks: of the moments")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    begun = time.time()
    if args.ranks:
        with tempfile.TemporaryDirectory(prefix="kills") as work:
            told = list(RankBench(pathlib.Path(work), args.verbose, args.ranks).random_kills(args.kills, args.seed))
        wrong = [one for one in told if one.get("end", "equal") != "equal" or "wrong" in one]
        counts = {"ranks": args.ranks, "tried": len(told), "killed": sum(one["killed"] for one in told)}
        report(args, {**counts, "wrong": wrong, "seconds": round(time.time() - begun), "kills": told})
    with tempfile.TemporaryDirectory(prefix="kills") as work:
        bench = Bench(pathlib.Path(work), args.verbose)
        whole = bench.fresh("whole", None)
        done = bench.train(whole)
        if done.returncode != 0:
            sys.exit(f"the run itself fails: {done.stderr}")
        bench.whole = bench.outcome(whole)
        first = bench.count(None)
        # A run killed in the middle, whose resume is killed again.
        half = bench.fresh("half", None)
        bench.watched(half, KILLS_AT=first * 2 // 3)
        second = bench.count(half)
        points = [("run", None, n) for n in spread(first)], [("resume", half, n) for n in spread(second)]
        if args.points:
            chosen = [("run", None, int(n)) for n in args.points.split(",")]
        else:
            # Two of the run for one of the resume.
            runs, resumes = map(iter, points)
            chosen = []
            for one in runs:
                chosen.append(one)
                if len(chosen) % 3 == 2:
                    chosen.extend(p for p in [next(resumes, None)] if p)
            chosen.extend(resumes)
        tried, wrong = 0, []
        for where, before, number in chosen:
            if args.seconds and time.time() - begun > args.seconds:
                break
            killed, found = bench.point(before, number, where)
            tried += 1
            wrong += found
            if args.verbose or found:
                print(f"{where} {number}: {'killed' if killed else 'ended'}; {found or 'fine'}", file=sys.stderr, flush=True)
    report(args, {"calls_of_run": first, "calls_of_resume": second, "points": tried, "wrong": wrong, "seconds": round(time.time() - begun)})


def report(args, result):
    """Writes the result and ends: with 1 if anything was wrong."""
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    sys.exit(1 if result["wrong"] else 0)


if __name__ == "__main__":
    main()
