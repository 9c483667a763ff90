//! A run's samples and metrics for other tools.

use std::fs::File;
use std::process::Command;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::three_tasks;
use crate::cli::program::{program, rows, scratch, svgrl, told};
use crate::support::skip::skip;

#[test]
fn samples_become_a_table_with_a_column_a_reward() {
    let folder = scratch("samples-table");
    let run = &three_tasks::runs()[0];
    let table = folder.join("samples.parquet");
    let said = svgrl("samples --to", &[&table, run]).fine();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&table).unwrap()).unwrap();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let count: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    assert!(said.out.contains(&format!("{count} rows")), "{}", said.out);
    // Four steps of 6 groups of 4, and evaluations of 12 prompts before and after both stages, sampled and greedy.
    // Of the answers that SFT learnt from, those of the first and every tenth of 120 steps of 12 rows.
    assert_eq!(count, 4 * 24 + 2 * 2 * 2 * 12 + 13 * 12);
    let first = rows(&run.join("samples/rl/step_000001.jsonl"));
    let batch = batches
        .iter()
        .find(|batch| {
            let column = |name: &str| batch.column_by_name(name).unwrap();
            column("stage").as_string::<i32>().value(0) == "rl"
                && column("set").is_null(0)
                && column("step").as_primitive::<Int64Type>().value(0) == 1
        })
        .unwrap();
    let column = |name: &str| batch.column_by_name(name).unwrap();
    for (at, row) in first.iter().enumerate() {
        assert_eq!(
            column("completion").as_string::<i32>().value(at),
            row["completion"]
        );
        assert_eq!(
            column("total").as_primitive::<Float64Type>().value(at),
            row["total"].as_f64().unwrap()
        );
        let ids = column("token_ids").as_list::<i32>().value(at);
        let ids: Vec<i64> = ids.as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(json!(ids), row["token_ids"]);
        let part = column("part/rouge_l");
        match row["parts"].get("rouge_l") {
            Some(value) => assert_eq!(
                part.as_primitive::<Float64Type>().value(at),
                value.as_f64().unwrap()
            ),
            None => assert!(part.is_null(at), "a task without the reward has none"),
        }
    }
    let learnt = rows(&run.join("samples/sft/step_000001.jsonl"));
    // One batch holds the rows of many files; those of a stage's training come first.
    let of_sft = |batch: &arrow_array::RecordBatch| {
        let stages = batch
            .column_by_name("stage")
            .unwrap()
            .as_string::<i32>()
            .clone();
        (0..batch.num_rows()).find(|at| stages.value(*at) == "sft")
    };
    let found = batches
        .iter()
        .find_map(|batch| Some((batch, of_sft(batch)?)));
    let (batch, start) = found.unwrap();
    let column = |name: &str| batch.column_by_name(name).unwrap();
    for (at, row) in (start..).zip(&learnt) {
        let loss = column("loss").as_primitive::<Float64Type>().value(at);
        assert_eq!(loss, row["loss"].as_f64().unwrap());
        let own = column("learner_logprobs").as_list::<i32>().value(at);
        assert_eq!(own.len(), row["token_ids"].as_array().unwrap().len());
        assert!(column("sampler_logprobs").is_null(at) && column("total").is_null(at));
    }
    svgrl("samples --to", &[&folder.join("none.parquet"), &folder])
        .refused(2, &["no samples in it"]);
    assert!(!folder.join("none.parquet").exists());
}

/// What W&B's package is asked, written down.
const WANDB: &str = r#"
import json, os
out = open(os.environ["SEEN"], "w")
def tell(**what):
    out.write(json.dumps(what) + "\n"); out.flush()
class Image:
    def __init__(self, path): self.path = path
class Table:
    def __init__(self, columns, data): self.columns, self.data = columns, data
class Run:
    dir = "/offline/run/files"
    def log(self, values, step=None): tell(step=step, values={k: v for k, v in values.items() if not isinstance(v, (list, Table))},
        tables={k: [v.columns, v.data] for k, v in values.items() if isinstance(v, Table)})
    def finish(self): tell(finished=True)
def init(**what):
    tell(mode=os.environ["WANDB_MODE"], project=what["project"], name=what["name"], seed=what["config"]["seed"])
    return Run()
"#;

#[test]
fn metrics_are_replayed_step_by_step() {
    let python = "python3";
    if !Command::new(python)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        skip!("no python3");
    }
    let folder = scratch("export");
    let run = &three_tasks::runs()[0];
    std::fs::write(folder.join("wandb.py"), WANDB).unwrap();
    let seen = folder.join("seen.jsonl");
    let mut command = program();
    command
        .args(["export", "wandb", "--project", "drawings"])
        .arg(run);
    command
        .env("PYTHONPATH", &folder)
        .env("SEEN", &seen)
        .env_remove("WANDB_MODE");
    let said = told(&mut command).fine();
    assert!(said.out.contains("wandb sync"), "{}", said.out);
    let seen = rows(&seen);
    assert_eq!(
        seen[0],
        json!({"mode": "offline", "project": "drawings", "name": "seed-3", "seed": 3})
    );
    let logged: Vec<&Value> = seen.iter().filter(|row| row["step"].is_u64()).collect();
    let steps: Vec<u64> = logged
        .iter()
        .filter_map(|row| row["step"].as_u64())
        .collect();
    assert_eq!(
        steps,
        (0..=124).collect::<Vec<u64>>(),
        "the stages' steps follow each other, each once"
    );
    let last = rows(&run.join("metrics.jsonl"))
        .into_iter()
        .rfind(|row| row.get("optim/lr").is_some())
        .unwrap();
    assert_eq!(
        logged[124]["values"]["reward/total/mean"],
        last["reward/total/mean"]
    );
    assert_eq!(seen.last().unwrap(), &json!({"finished": true}));
    // The newest samples of each stage and set are tables.
    let tables = &seen[seen.len() - 2]["tables"];
    let mut names: Vec<&String> = tables.as_object().unwrap().keys().collect();
    names.sort();
    let [heldout, greedy] = ["heldout", "heldout_greedy"];
    let expected = ["rl", "sft"]
        .map(|stage| [heldout, greedy, "training"].map(|set| format!("samples/{stage}/{set}")));
    assert_eq!(names, expected.iter().flatten().collect::<Vec<_>>());
    let table = &tables["samples/sft/training"];
    let last = rows(&run.join("samples/sft/step_000120.jsonl"));
    assert_eq!(table[1].as_array().unwrap().len(), last.len());
    let column = |name: &str| {
        table[0]
            .as_array()
            .unwrap()
            .iter()
            .position(|own| own == name)
    };
    for (line, row) in table[1].as_array().unwrap().iter().zip(&last) {
        assert_eq!(line[column("completion").unwrap()], row["completion"]);
        assert_eq!(line[column("loss").unwrap()], row["loss"]);
    }
    assert_eq!(column("total"), None, "what was learnt from has no reward");
    // A Python without the package, and a folder that is no run.
    let mut command = program();
    command
        .args(["export", "trackio"])
        .arg(run)
        .args(["--python", "python3"]);
    command.env("PYTHONPATH", "").env("PYTHONNOUSERSITE", "1");
    let bare = told(&mut command);
    if bare.code != 0 {
        bare.refused(2, &["no package `trackio`", "pip install trackio"]);
    }
    svgrl("export wandb", &[&folder]).refused(2, &["no run folder"]);
}

#[test]
fn a_view_in_the_terminal_needs_a_terminal_and_a_run() {
    let folder = scratch("watch");
    svgrl("watch", &[&folder]).refused(2, &["no run folder"]);
    svgrl("watch", &[&three_tasks::runs()[0]]).refused(2, &["no terminal", "--serve"]);
    svgrl(
        "report --serve --addr 0.0.0.0:0",
        &[&three_tasks::runs()[0]],
    )
    .refused(2, &["loopback"]);
}
