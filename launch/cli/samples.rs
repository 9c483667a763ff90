//! `svgrl samples`: every completion of a run as one Parquet table, for notebooks and other tools.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float32Builder, Float64Builder, Int64Builder, ListBuilder, StringBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

use super::CliFailure;

/// `svgrl samples`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Example:
  svgrl samples runs/quickstart --to samples.parquet
A row a completion of training and of every evaluation (column `set`), and an answer that SFT or DPO has learnt from
(`learner_logprobs`, `loss`), in the order of the run; a column `part/NAME` a reward and `metric/NAME` a metric, null
where a task has none of the name.")]
pub struct Args {
    /// The run folder.
    run: PathBuf,
    /// The Parquet file.
    #[arg(long, value_name = "FILE.parquet")]
    to: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliFailure> {
    let files = files(&args.run.join("samples"));
    if files.is_empty() {
        return Err(CliFailure::input(format!(
            "{}: no samples in it (a run folder has them in samples/<stage>/step_NNNNNN.jsonl)",
            args.run.display()
        )));
    }
    let mut names = TableColumns::default();
    for file in &files {
        each(&file.path, &mut |row| names.add(row))?;
    }
    let aside = args.to.with_extension("parquet.part");
    let count =
        write(&aside, &files, &names).inspect_err(|_| drop(std::fs::remove_file(&aside)))?;
    let moved = std::fs::rename(&aside, &args.to);
    moved.map_err(|error| CliFailure::other(format!("{}: {error}", args.to.display())))?;
    println!("{}: {count} rows", args.to.display());
    Ok(())
}

/// A file of samples, and the held-out set that it is of.
struct SamplesFile {
    path: PathBuf,
    set: Option<String>,
}

/// All files below `samples/`: a stage's training, then its evaluations, by steps.
fn files(samples: &Path) -> Vec<SamplesFile> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        found.sort();
        found
    };
    let rows = |folder: &Path| -> Vec<PathBuf> {
        let mut found = below(folder);
        found.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
        found
    };
    let mut out = Vec::new();
    for stage in below(samples) {
        let own = rows(&stage).into_iter();
        out.extend(own.map(|path| SamplesFile { path, set: None }));
        for set in below(&stage.join("eval")) {
            let name = set.file_name().unwrap_or_default().to_string_lossy();
            out.extend(rows(&set).into_iter().map(|path| SamplesFile {
                path,
                set: Some(name.clone().into_owned()),
            }));
        }
    }
    out
}

fn each(path: &Path, visit: &mut dyn FnMut(&Value)) -> Result<(), CliFailure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliFailure::input(format!("{}: {error}", path.display())))?;
    for (index, line) in text.lines().enumerate() {
        let row = serde_json::from_str(line).map_err(|error| {
            CliFailure::input(format!("{}:{}: {error}", path.display(), index + 1))
        })?;
        visit(&row);
    }
    Ok(())
}

/// The names of rewards and metrics that rows have.
#[derive(Default)]
struct TableColumns {
    parts: Vec<String>,
    metrics: Vec<String>,
}

impl TableColumns {
    fn add(&mut self, row: &Value) {
        for (key, names) in [("parts", &mut self.parts), ("metrics", &mut self.metrics)] {
            for name in row[key]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name)
            {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
    }
}

/// Columns of words and of numbers, by the keys of a row.
const WORDS: [&str; 12] = [
    "stage",
    "prompt_id",
    "task",
    "prompt",
    "completion",
    "finish_reason",
    "reason",
    "reward_prompt",
    "reward_text",
    "reference/svg",
    "reference/text",
    "draft",
];
const COUNTS: [&str; 3] = ["step", "index", "policy_version"];
const NUMBERS: [&str; 7] = [
    "total",
    "advantage",
    "render_ms",
    "loss",
    "weight",
    "reference_logp",
    "margin",
];

/// Writes all rows, a row group a file; how many.
fn write(to: &Path, files: &[SamplesFile], names: &TableColumns) -> Result<usize, CliFailure> {
    let failed =
        |error: &dyn std::fmt::Display| CliFailure::other(format!("{}: {error}", to.display()));
    let mut out = File::create(to).map_err(|error| failed(&error))?;
    let mut writer: Option<ArrowWriter<&mut File>> = None;
    let mut sink = Some(&mut out);
    let mut count = 0;
    for file in files {
        let mut rows = Vec::new();
        each(&file.path, &mut |row| rows.push(row.clone()))?;
        let batch = batch(&rows, file.set.as_deref(), names).map_err(|error| failed(&error))?;
        if let Some(sink) = sink.take() {
            let made = ArrowWriter::try_new(sink, batch.schema(), None);
            writer = Some(made.map_err(|error| failed(&error))?);
        }
        if let Some(writer) = &mut writer {
            let written = writer.write(&batch).and_then(|()| writer.flush());
            written.map_err(|error| failed(&error))?;
        }
        count += rows.len();
    }
    if let Some(writer) = writer {
        writer.close().map_err(|error| failed(&error))?;
    }
    Ok(count)
}

fn batch(
    rows: &[Value],
    set: Option<&str>,
    names: &TableColumns,
) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let at = |row: &Value, key: &str| -> Value {
        let parts = key.split('/');
        parts.fold(row.clone(), |value, part| value[part].clone())
    };
    let mut columns: Vec<(String, ArrayRef, bool)> = Vec::new();
    for key in WORDS {
        let mut column = StringBuilder::new();
        rows.iter()
            .for_each(|row| column.append_option(at(row, key).as_str()));
        columns.push((key.to_owned(), Arc::new(column.finish()), true));
        if key == "stage" {
            let mut sets = StringBuilder::new();
            rows.iter().for_each(|_| sets.append_option(set));
            columns.push(("set".to_owned(), Arc::new(sets.finish()), true));
        }
    }
    for key in COUNTS {
        let mut column = Int64Builder::new();
        rows.iter()
            .for_each(|row| column.append_option(row[key].as_i64()));
        columns.push((key.to_owned(), Arc::new(column.finish()), true));
    }
    let numbers = |value: &dyn Fn(&Value) -> Option<f64>| -> ArrayRef {
        let mut column = Float64Builder::new();
        rows.iter().for_each(|row| column.append_option(value(row)));
        Arc::new(column.finish())
    };
    for key in NUMBERS {
        columns.push((key.to_owned(), numbers(&|row| row[key].as_f64()), true));
    }
    for key in ["valid", "chosen"] {
        let mut column = BooleanBuilder::new();
        rows.iter()
            .for_each(|row| column.append_option(row[key].as_bool()));
        columns.push((key.to_owned(), Arc::new(column.finish()), true));
    }
    let mut ids = ListBuilder::new(Int64Builder::new());
    for row in rows {
        let list = row["token_ids"].as_array();
        list.into_iter()
            .flatten()
            .for_each(|id| ids.values().append_option(id.as_i64()));
        ids.append(true);
    }
    columns.push(("token_ids".to_owned(), Arc::new(ids.finish()), true));
    for key in ["sampler_logprobs", "learner_logprobs"] {
        let mut logprobs = ListBuilder::new(Float32Builder::new());
        for row in rows {
            // Completions have the sampler's, given answers the learner's.
            let list = row[key].as_array();
            let number = |value: &Value| value.as_f64().map(|value| value as f32);
            list.into_iter()
                .flatten()
                .for_each(|value| logprobs.values().append_option(number(value)));
            logprobs.append(list.is_some());
        }
        columns.push((key.to_owned(), Arc::new(logprobs.finish()), true));
    }
    for (key, prefix, names) in [
        ("parts", "part", &names.parts),
        ("metrics", "metric", &names.metrics),
    ] {
        for name in names {
            let column = numbers(&|row| row[key][name.as_str()].as_f64());
            columns.push((format!("{prefix}/{name}"), column, true));
        }
    }
    RecordBatch::try_from_iter_with_nullable(columns)
}
