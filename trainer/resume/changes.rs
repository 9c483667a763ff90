//! What a continuation may change: what cannot change the result (how long, how often, where, memory,
//! threads). Anything else is refused by its key unless it is accepted, which the run folder records.

use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, Provenance};
use crate::config::Config;
use crate::inputs::Change;
use crate::{TrainError, files};

/// The run folder's record of what was accepted, one JSON object a line.
const RECORD: &str = "continued.jsonl";

/// Last parts of keys that may differ between a run and its continuation.
const LAST: [&str; 24] = [
    "steps",
    "epochs",
    "every",
    "keep_last",
    "keep_every",
    "at_end",
    "background",
    "path",
    "media_root",
    "tokenizer",
    "templates_file",
    "output_dir",
    "threads",
    "grace_s",
    "timeout_s",
    "peak_tflops",
    "workers",
    "slots",
    "cache_tokens",
    "micro_tokens",
    "logit_rows",
    "recompute",
    "offload",
    "aliases",
];

/// Keys that may differ between a run and its continuation.
fn may_change(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or(key);
    // Where scoring runs does not change its numbers: a service is refused when it would.
    let place = ["rewards.endpoint", "rewards.remote.", "rewards.service."];
    // Neither does where the servers are that sample, and how they are called.
    let elsewhere = [
        ".rollout.endpoints",
        ".rollout.partial",
        ".rollout.servers.",
        ".rollout.placement",
        ".rollout.samplers.",
    ];
    if elsewhere.iter().any(|part| key.contains(part)) {
        return true;
    }
    // An encoder's pass keeps each row's feature whatever the others are.
    let encoder = key.starts_with("encoders.") && matches!(last, "device" | "batch");
    if encoder || place.iter().any(|start| key.starts_with(start)) {
        return true;
    }
    // Which rank holds what is memory.
    if key == "sharding" || key.starts_with("sharding.") {
        return true;
    }
    // What is kept, and whether a stage ends before its last step, is length and cadence.
    let best = key.contains(".checkpoint.best") || key.ends_with(".eval.stop_after");
    best || LAST.contains(&last) && !key.ends_with("schedule.every")
        || matches!(key, "device" | "name")
        || key.starts_with("tracking")
        || key.starts_with("metrics.aliases")
}

/// Keys that may differ between the ranks of one run: where its files lie, and what each computes with.
fn may_differ_among_ranks(key: &str) -> bool {
    const OWN: [&str; 8] = [
        "path",
        "media_root",
        "tokenizer",
        "templates_file",
        "output_dir",
        "threads",
        "peak_tflops",
        "device",
    ];
    OWN.contains(&key.rsplit('.').next().unwrap_or(key))
}

/// Keys at which two resolved configs differ and a continuation must not. Keys that did not exist when
/// the run was started have their defaults in it.
#[must_use]
pub(crate) fn forbidden_changes(before: &Value, now: &Value) -> Vec<Change> {
    let mut out = Vec::new();
    let filled = |config: &Value| {
        let typed = serde_json::from_value::<Config>(config.clone());
        typed.and_then(serde_json::to_value)
    };
    let said = |before: &Value, now: &Value| (format!("was {before}"), format!("is {now}"));
    match (filled(before), filled(now)) {
        (Ok(before), Ok(now)) => compare("", (&before, &now), &said, &mut out),
        _ => compare("", (before, now), &said, &mut out),
    }
    out.retain(|change| !may_change(&change.key));
    out
}

/// Keys at which the resolved configs of two processes of a run differ and must not.
#[must_use]
pub(crate) fn differing_processes(first: (&str, &Value), second: (&str, &Value)) -> Vec<Change> {
    let mut out = Vec::new();
    let said = |a: &Value, b: &Value| {
        let of = |name: &str, value: &Value| format!("{name} has {value}");
        (of(first.0, a), of(second.0, b))
    };
    compare("", (first.1, second.1), &said, &mut out);
    out.retain(|change| !may_differ_among_ranks(&change.key));
    out
}

/// A resolved config without the keys that a continuation may change.
#[must_use]
pub(crate) fn decisive(config: &Value) -> Value {
    fn strip(key: &str, value: &Value) -> Value {
        match value {
            Value::Object(map) => map
                .iter()
                .map(|(name, value)| (child(key, name), name, value))
                .filter(|(key, ..)| !may_change(key))
                .map(|(key, name, value)| (name.clone(), strip(&key, value)))
                .collect(),
            Value::Array(all) => {
                let all = all.iter().enumerate();
                all.map(|(at, value)| strip(&child(key, &at.to_string()), value))
                    .collect()
            }
            other => other.clone(),
        }
    }
    strip("", config)
}

fn child(key: &str, name: &str) -> String {
    match key {
        "" => name.to_owned(),
        key => format!("{key}.{name}"),
    }
}

type SayChange<'a> = dyn Fn(&Value, &Value) -> (String, String) + 'a;

fn compare(key: &str, (before, now): (&Value, &Value), say: &SayChange, out: &mut Vec<Change>) {
    match (before, now) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let at = |map: &serde_json::Map<String, Value>| {
                    map.get(name).cloned().unwrap_or(Value::Null)
                };
                compare(&child(key, name), (&at(a), &at(b)), say, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() || key == "stages" => {
            // Stages that come behind are more or fewer steps.
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&child(key, &index.to_string()), (a, b), say, out);
            }
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        _ if before == now => {}
        _ => {
            let (was, is) = say(before, now);
            out.push(Change {
                key: key.to_owned(),
                text: format!("{was}, {is}"),
            });
        }
    }
}

/// A line of the record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Continued {
    /// The checkpoint that was continued from, relative to the run folder, or where another run has it.
    pub(crate) from: String,
    /// Unix seconds.
    pub(crate) time: u64,
    /// What was not as the checkpoint has it.
    pub(crate) changes: Vec<Change>,
    /// Whether the run began as a copy of another one up to that checkpoint.
    #[serde(default)]
    pub(crate) copied: bool,
}

/// What the run folder has recorded; a torn line is passed over.
pub(crate) fn recorded(run: &Path) -> Vec<Continued> {
    let text = std::fs::read_to_string(run.join(RECORD)).unwrap_or_default();
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Adds to the record, durably.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn record(
    run: &Path,
    from: &Path,
    changes: &[Change],
    copied: bool,
) -> Result<(), TrainError> {
    let path = run.join(RECORD);
    let line = Continued {
        from: from.display().to_string(),
        time: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs()),
        changes: changes.to_vec(),
        copied,
    };
    let text = format!("{}\n", json!(line));
    let mut file = files::open_log(&path)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(TrainError::io(&path))
}

/// What is continued with other inputs than its checkpoint's.
pub(crate) struct Comparison<'a> {
    /// The run folder.
    pub(crate) run: &'a Path,
    /// The checkpoint.
    pub(crate) checkpoint: &'a Checkpoint,
    /// What the run would now be made of.
    pub(crate) now: &'a Provenance,
    /// Names that the user accepts.
    pub(crate) accepted: &'a [String],
    /// Whether the run is a copy that has just been made: then all is accepted.
    pub(crate) copied: bool,
}

impl Comparison<'_> {
    /// What differs and is accepted now, or was before.
    ///
    /// # Errors
    /// What differs and is not, with the ways on.
    pub(crate) fn accepted(&self) -> Result<Vec<Change>, TrainError> {
        let changes = self.changes();
        let names = self.names();
        let before: Vec<Change> = recorded(self.run)
            .into_iter()
            .flat_map(|line| line.changes)
            .collect();
        let covered = |change: &Change| {
            self.copied
                || names.iter().any(|name| change.is_covered(name))
                || before.contains(change)
        };
        let (accepted, refused): (Vec<_>, Vec<_>) = changes.into_iter().partition(covered);
        if refused.is_empty() {
            return Ok(accepted);
        }
        let path = self.checkpoint.path.display();
        let said: Vec<String> = refused.iter().map(ToString::to_string).collect();
        let mut keys: Vec<&str> = refused.iter().map(|change| word(&change.key)).collect();
        keys.dedup();
        Err(TrainError::Input(format!(
            "{}: the run was started with another config or other inputs: {}. Change it back; or continue all the same with --accept-changes {} (recorded in {RECORD}); or start a run of its own from the checkpoint with --resume {path} --run-dir NEW; or start over with --resume never, which moves this run aside",
            self.run.display(),
            said.join("; "),
            keys.join(","),
        )))
    }

    fn changes(&self) -> Vec<Change> {
        let Some(before) = &self.checkpoint.provenance else {
            // A checkpoint of before these were kept: the run folder's config, if it can be read.
            let text = std::fs::read_to_string(self.run.join("config.resolved.yaml"));
            let before = text
                .ok()
                .and_then(|text| serde_saphyr::from_str(&text).ok());
            let before = before.filter(Value::is_object);
            return before.map_or_else(Vec::new, |before| {
                forbidden_changes(&before, &self.now.config)
                    .into_iter()
                    .filter(|change| !change.text.ends_with("is null"))
                    .collect()
            });
        };
        let mut changes = forbidden_changes(&before.config, &self.now.config);
        changes.extend(before.inputs.changes(&self.now.inputs));
        changes
    }

    /// The accepted names; a stage may be called by its name.
    fn names(&self) -> Vec<String> {
        let stages = self.now.config["stages"].as_array();
        let named = |name: &str| {
            let stages = stages.into_iter().flatten();
            let mut stages = stages.enumerate();
            let found = stages.find(|(_, stage)| stage["name"] == *name);
            found.map(|(index, _)| index.to_string())
        };
        let of = |key: &String| match key.strip_prefix("stages.") {
            Some(rest) => {
                let (stage, rest) = rest.split_once('.').unwrap_or((rest, ""));
                let stage = named(stage).unwrap_or_else(|| stage.to_owned());
                format!("stages.{stage}.{rest}")
                    .trim_end_matches('.')
                    .to_owned()
            }
            None => key.clone(),
        };
        self.accepted.iter().map(of).collect()
    }
}

/// What the user gives to accept a change at `key`: inputs are accepted by their kind.
fn word(key: &str) -> &str {
    match key.split('.').next() {
        Some("data") if key.matches('.').count() == 2 => "data",
        Some(kind @ ("encoders" | "templates")) if key.matches('.').count() == 1 => kind,
        _ if key == "model.path" => "model",
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(before: &Value, now: &Value) -> Vec<String> {
        let changes = forbidden_changes(before, now);
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn where_scoring_runs_may_change() {
        let before =
            json!({"rewards": {"endpoint": null, "remote": {"batch": 32}, "deadline_ms": 2}});
        let mut now = before.clone();
        now["rewards"]["endpoint"] = json!("http://a:1");
        now["rewards"]["remote"]["batch"] = json!(8);
        assert!(forbidden_changes(&before, &now).is_empty());
        now["rewards"]["deadline_ms"] = json!(3);
        assert_eq!(forbidden_changes(&before, &now).len(), 1);
    }

    #[test]
    fn only_length_cadence_and_places_may_change() {
        let before = json!({"seed": 0, "stages": [{"steps": 5, "optimizer": {"learning_rate": 0.1, "schedule": {"type": "step", "every": 3}}, "checkpoint": {"every": 2}}]});
        let mut now = before.clone();
        now["stages"][0]["steps"] = json!(9);
        now["stages"][0]["checkpoint"]["every"] = json!(1);
        now["stages"][0]["batch"] = json!({"micro_tokens": 9});
        now["stages"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "more"}));
        now["stages"][0]["batch"] = json!(null);
        assert_eq!(said(&before, &now), Vec::<String>::new());
        now["seed"] = json!(1);
        now["stages"][0]["optimizer"]["schedule"]["every"] = json!(4);
        assert_eq!(
            said(&before, &now),
            [
                "seed: was 0, is 1",
                "stages.0.optimizer.schedule.every: was 3, is 4"
            ]
        );
        assert_eq!(said(&decisive(&before), &decisive(&now)).len(), 2);
        assert_eq!(decisive(&before)["stages"][0].get("steps"), None);
    }

    #[test]
    fn ranks_must_agree_on_lengths_and_need_not_on_places() {
        let first = json!({"data": {"path": "a"}, "steps": 2, "threads": 1});
        let second = json!({"data": {"path": "b"}, "steps": 3, "threads": 2});
        let changes = differing_processes(("rank 0", &first), ("rank 3", &second));
        assert_eq!(changes.len(), 1);
        let said = changes[0].to_string();
        assert_eq!(said, "steps: rank 0 has 2, rank 3 has 3");
    }
}
