"""Replays a run into the real W&B, MLflow and Trackio, offline, and reads every number and table back from what they wrote.

  python3 -m venv trackers && trackers/bin/pip install wandb mlflow trackio
  trackers/bin/python benches/trackers.py runs/quickstart --svgrl target/release/svgrl

The run folder is copied first. Prints a line a tracker: numbers and rows of samples found, those that are missing or
differ (numbers in float32 where the tracker keeps no more); ends with 1 if there is any.
"""

import argparse
import importlib.metadata
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "launch" / "clients"))
import export_run


def wandb_records(bytes):
    """The records of W&B's file: LevelDB's log format in blocks of 32 KiB, after a header of 7 bytes."""
    at, record = 7, b""
    while at + 7 <= len(bytes):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", bytes, at + 4)
        record += bytes[at + 7 : at + 7 + length]
        at += 7 + length
        # 1 is a whole record, 2 to 4 its first, middle and last part.
        if kind in (1, 4):
            yield record
            record = b""


def of_wandb(run):
    """(step, key) to value, from the offline run's own file."""
    from wandb.proto import wandb_internal_pb2

    (file,) = run.glob("wandb/offline-run-*/run-*.wandb")
    found = {}
    for data in wandb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        if record.WhichOneof("record_type") != "history":
            continue
        items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        step = items.get("_step", record.history.step.num)
        found.update({(step, key): value for key, value in items.items()})
    return found


def of_mlflow(run):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "svgrl"]
    (tracked,) = client.search_runs([experiment.experiment_id])
    return {
        (metric.step, metric.key): metric.value
        for key in tracked.data.metrics
        for metric in client.get_metric_history(tracked.info.run_id, key)
    }


def of_trackio(run):
    from trackio.sqlite_storage import SQLiteStorage

    return {
        (row["step"], key): value
        for row in SQLiteStorage.get_logs("svgrl", run.name)
        for key, value in row.items()
    }


def tables_of_wandb(run):
    """Name to columns and rows."""
    (files,) = run.glob("wandb/offline-run-*/files/media/table/samples")
    read = {path: json.loads(path.read_text()) for path in files.glob("*/*.table.json")}
    # A file's name ends in a step and a digest.
    return {f"samples/{path.parent.name}/{path.name.rsplit('_', 2)[0]}": [one["columns"], one["data"]] for path, one in read.items()}


def tables_of_mlflow(run):
    read = {path: json.loads(path.read_text()) for path in run.glob("mlartifacts/*/artifacts/samples/*/*.json")}
    return {f"samples/{path.parent.name}/{path.stem}": [one["columns"], one["data"]] for path, one in read.items()}


def tables_of_trackio(run):
    from trackio.sqlite_storage import SQLiteStorage

    found = {}
    for log in SQLiteStorage.get_logs("svgrl", run.name):
        for key, value in log.items():
            if isinstance(value, dict) and value.get("_type") == "trackio.table":
                lines = value["_value"]
                found[key] = [list(lines[0]), [list(line.values()) for line in lines]]
    return found


def same(a, b):
    """Whether two tables, or parts of them, are equal; MLflow writes ten digits of a number."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-10)
    return a == b


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--svgrl", default="svgrl")
    args = parser.parse_args()
    wrong = 0
    trackers = {
        "wandb": (of_wandb, tables_of_wandb),
        "mlflow": (of_mlflow, tables_of_mlflow),
        "trackio": (of_trackio, tables_of_trackio),
    }
    for tracker, (read, read_tables) in trackers.items():
        with tempfile.TemporaryDirectory() as scratch:
            run = Path(scratch) / "run"
            shutil.copytree(args.run, run, ignore=shutil.ignore_patterns("checkpoints", "wandb", "mlflow.db"))
            os.environ["TRACKIO_DIR"] = str(Path(scratch) / "trackio")
            os.environ.pop("WANDB_MODE", None)
            subprocess.run([args.svgrl, "export", tracker, run, "--python", sys.executable], check=True, stdout=subprocess.DEVNULL)
            found = read(run)
            tables = read_tables(run)
            samples = {name: [columns, lines] for name, columns, lines in export_run.tables(run)}
            expected = {(step, key): value for step, _, _, row in export_run.rows(run) for key, value in row.items()}
        close = lambda a, b: isinstance(a, (int, float)) and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)
        bad = [place for place, value in expected.items() if not close(found.get(place), value)]
        for place in bad[:5]:
            print(f"  {tracker} {place}: {found.get(place)} for {expected[place]}")
        print(f"{tracker} {importlib.metadata.version(tracker)}: {len(expected)} numbers, {len(bad)} missing or different")
        lost = [name for name, own in samples.items() if not same(tables.get(name), own)]
        for name in lost:
            print(f"  {tracker} {name}: {str(tables.get(name))[:200]} for {str(samples[name])[:200]}")
        rows = sum(len(lines) for _, lines in samples.values())
        print(f"{tracker}: {len(samples)} tables of {rows} rows, {len(lost)} missing or different")
        wrong += len(bad) + len(lost)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
