//! The survey for machines.

use std::path::Path;

use serde_json::{Value, json};

use super::problems::Problems;
use super::rendered_prompt::Folder;
use super::survey::{SourceSurvey, Survey, TaskSurvey};
use trainer::{Bound, StageSurvey};

/// Sizes of pictures that are listed.
const MOST_SIZES: usize = 100;

/// The survey of the config at the first of `paths`, whose page is at the second.
pub fn of(survey: &Survey, folder: &Folder, (config, page): (&Path, &Path)) -> Value {
    let tokenizer = folder.tokenizer.as_deref().map(models::Tokenizer::folder);
    json!({
        "config": config,
        "page": page,
        "tokenizer": tokenizer,
        "lacking": folder.lack,
        "sources": survey.sources.iter().map(source).collect::<Vec<_>>(),
        "tasks": survey.tasks.iter().map(task).collect::<Vec<_>>(),
        "stages": survey.stages.iter().map(stage).collect::<Vec<_>>(),
    })
}

fn source(of: &SourceSurvey) -> Value {
    json!({
        "name": of.summary.name,
        "task": of.summary.task,
        "train": of.summary.train,
        "held_out": of.summary.held_out,
        "left_out_by_length": of.summary.filtered, "not_used": of.summary.unused,
        "measured": of.measured,
        "bad": problems(&of.bad),
        "not_of_the_view": problems(&of.absent),
        "without_prompt": problems(&of.stops),
    })
}

fn problems(problems: &Problems) -> Value {
    let kinds = problems.kinds();
    let kinds = kinds
        .iter()
        .map(|(name, kind)| json!({"problem": name, "count": kind.count, "first": kind.first}));
    json!({"count": problems.total(), "kinds": kinds.collect::<Vec<_>>()})
}

fn task(of: &TaskSurvey) -> Value {
    let [train, held_out, measured] = of.rows;
    let [svg, text, picture] = of.references;
    let lengths = &of.lengths;
    let sizes = of.pictures.frequent(MOST_SIZES);
    let sizes = sizes
        .iter()
        .map(|((width, height), count)| json!({"width": width, "height": height, "count": count}));
    let known = |of: &crate::cli::data::stats::Lengths| (of.total() > 0).then(|| of.json());
    json!({
        "name": of.name,
        "train": train,
        "held_out": held_out,
        "measured": measured,
        "references": {"svg": svg, "text": text, "image": picture},
        "prompt": {
            "characters": known(&lengths.prompt_characters),
            "tokens": known(&lengths.prompt_tokens),
        },
        "reference": {
            "characters": known(&lengths.reference_characters),
            "tokens": known(&lengths.reference_tokens),
        },
        "target": {"tokens": known(&lengths.target_tokens)},
        "pictures": {
            "rows": of.pictures.rows,
            "count": of.pictures.count,
            "sizes": sizes.collect::<Vec<_>>(),
        },
    })
}

fn stage(of: &StageSurvey) -> Value {
    let bound = |of: &Bound| json!({"key": of.key, "most": of.most, "over": of.over});
    json!({
        "name": of.name,
        "rows": of.rows,
        "prompts": bound(&of.prompts),
        "answers": bound(&of.answers),
    })
}
