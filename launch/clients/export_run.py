"""Replays a run of svgrl into another experiment tracker: Weights & Biases, MLflow or Trackio.

`svgrl export wandb|mlflow|trackio RUN` starts it; it needs the tracker's own package in its Python. What is to be
replayed stands in JSON on standard input: {"tracker", "run", "name", "project", "config"}. Steps are counted from the
run's beginning over all stages; an evaluation stands at the step after which it was made. Nothing is sent over the
network unless the tracker itself is set up to do so: W&B writes an offline run (WANDB_MODE says else), MLflow a
database in the run folder (MLFLOW_TRACKING_URI says else), Trackio its own local database.
"""

import json
import os
import re
import sys
from pathlib import Path

# Pictures of the last evaluation of each set that are sent along, and rows of a table of samples.
MOST_PICTURES = 16
MOST_ROWS = 100
# Keys of a table's columns; a completion has a reward, an answer that was learnt from a loss.
COLUMNS = ("step", "prompt_id", "task", "index", "prompt", "completion", "total", "valid", "reason", "loss")


def rows(run):
    """(step since the run's beginning, time, stage, metrics), in order; a torn last line is passed over."""
    read = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        try:
            read.append(json.loads(line))
        except json.JSONDecodeError:
            break
    offsets, last = {}, {}
    for row in read:
        offsets.setdefault(row["stage"], sum(last.values()))
        last[row["stage"]] = max(last.get(row["stage"], 0), row["step"])
    merged = []
    for row in read:
        step = offsets[row["stage"]] + row["step"]
        numbers = {k: v for k, v in row.items() if k not in ("stage", "step", "time") and isinstance(v, (int, float))}
        if merged and merged[-1][0] == step:
            merged[-1][3].update(numbers)
        else:
            merged.append((step, row["time"], row["stage"], numbers))
    return merged


def pictures(run):
    """(name, path) of the last pictures that evaluations kept."""
    found = []
    for folder in sorted(run.glob("samples/*/eval/*")):
        steps = sorted(path for path in folder.glob("step_*") if path.is_dir())
        for step in steps[-1:]:
            kept = sorted(step.glob("*.png"), key=lambda path: int(path.stem))
            name = f"{folder.parent.parent.name}/{folder.name}"
            found += [(name, path) for path in kept[:MOST_PICTURES]]
    return found


def tables(run):
    """(name, columns, rows) of the newest samples: of each stage's training, and of each set's last evaluation."""
    found = []
    for folder in sorted([*run.glob("samples/*"), *run.glob("samples/*/eval/*")]):
        steps = sorted(folder.glob("step_*.jsonl"))
        if not steps:
            continue
        inner = folder.relative_to(run / "samples").parts
        name = f"samples/{inner[0]}/{inner[2] if len(inner) > 2 else 'training'}"
        lines = []
        for line in steps[-1].read_text().splitlines()[:MOST_ROWS]:
            row = json.loads(line)
            # The user's words; a row of an older run has the raw prompt alone.
            row["prompt"] = row.get("reward_prompt") or row.get("prompt")
            lines.append([row.get(key) for key in COLUMNS])
        # A column without any value says nothing.
        told = [at for at in range(len(COLUMNS)) if any(line[at] is not None for line in lines)]
        if lines:
            found.append((name, [COLUMNS[at] for at in told], [[line[at] for at in told] for line in lines]))
    return found


def flat(config, prefix=""):
    """The config as dotted keys and plain values."""
    if isinstance(config, dict):
        pairs = config.items()
    elif isinstance(config, list):
        pairs = enumerate(config)
    else:
        return {prefix: config}
    out = {}
    for key, value in pairs:
        out.update(flat(value, f"{prefix}.{key}" if prefix else str(key)))
    return out


def to_wandb(asked, run):
    import wandb

    os.environ.setdefault("WANDB_MODE", "offline")
    tracked = wandb.init(project=asked["project"], name=asked["name"], config=asked["config"], dir=str(run))
    for step, _, stage, metrics in rows(run):
        tracked.log({"stage": stage, **metrics}, step=step)
    kept = {}
    for name, path in pictures(run):
        kept.setdefault(f"pictures/{name}", []).append(wandb.Image(str(path)))
    for name, columns, lines in tables(run):
        kept[name] = wandb.Table(columns=columns, data=lines)
    if kept:
        tracked.log(kept)
    where = tracked.dir
    tracked.finish()
    return f"{Path(where).parent} (send it with `wandb sync`)" if os.environ["WANDB_MODE"] == "offline" else where


def to_mlflow(asked, run):
    import mlflow
    from mlflow.entities import Metric, Param

    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(asked["project"])
    # Beside its own database the tables lie in the run folder too.
    place = None if os.environ.get("MLFLOW_TRACKING_URI") else (run / "mlartifacts").as_uri()
    experiment = found.experiment_id if found else client.create_experiment(asked["project"], artifact_location=place)
    tracked = client.create_run(experiment, run_name=asked["name"]).info.run_id
    name = lambda text: re.sub(r"[^\w\-. :/]", "_", text)
    params = [Param(name(key)[:250], str(value)[:6000]) for key, value in flat(asked["config"]).items() if value not in (None, "")]
    for at in range(0, len(params), 100):
        client.log_batch(tracked, params=params[at : at + 100])
    metrics = [
        Metric(name(key), float(value), int(time * 1000), step)
        for step, time, _, values in rows(run)
        for key, value in values.items()
    ]
    for at in range(0, len(metrics), 1000):
        client.log_batch(tracked, metrics=metrics[at : at + 1000])
    for table, columns, lines in tables(run):
        data = {column: [line[at] for line in lines] for at, column in enumerate(columns)}
        client.log_table(tracked, data, f"{name(table)}.json")
    client.set_terminated(tracked)
    return f"{uri} (see it with `mlflow ui --backend-store-uri {uri}`)"


def to_trackio(asked, run):
    import trackio

    trackio.init(project=asked["project"], name=asked["name"], config=flat(asked["config"]))
    for step, _, stage, metrics in rows(run):
        trackio.log({"stage": stage, **metrics}, step=step)
    told = tables(run)
    if told:
        import pandas

        frames = {name: pandas.DataFrame(lines, columns=columns, dtype=object) for name, columns, lines in told}
        trackio.log({name: trackio.Table(dataframe=frame) for name, frame in frames.items()})
    trackio.finish()
    return f"project {asked['project']} (see it with `trackio show --project {asked['project']}`)"


TRACKERS = {"wandb": to_wandb, "mlflow": to_mlflow, "trackio": to_trackio}


def main():
    asked = json.load(sys.stdin)
    try:
        where = TRACKERS[asked["tracker"]](asked, Path(asked["run"]))
    except ModuleNotFoundError as error:
        sys.exit(f"{sys.executable} has no package `{error.name}`: pip install {asked['tracker']}, or name another Python with --python")
    print(f"{asked['tracker']}: {where}")


if __name__ == "__main__":
    main()
