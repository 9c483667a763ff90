//! Scoring from outside: shapes of completions, gate and sum, failures, order, and that nothing a
//! completion holds stops the scorer.

#![allow(clippy::unwrap_used)]

use indexmap::IndexMap;
use rewards::{
    Candidate, Invalid, Reference, ReferenceFault, Reward, RewardsConfig, ScoreJob, Scorer,
    ShapeFault, TaskScoring,
};
use serde_json::json;
use std::sync::Arc;
use svg::WorkerProgram;

const RED: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 8 8\"><rect width=\"8\" height=\"4\" fill=\"red\"/></svg>";

fn task(value: serde_json::Value) -> TaskScoring {
    serde_json::from_value(value).unwrap()
}

/// The one that this package builds for its tests.
fn worker() -> WorkerProgram {
    WorkerProgram::At(env!("CARGO_BIN_EXE_rewards-render-worker").into())
}

fn scorer(tasks: &[(&str, serde_json::Value)]) -> Scorer {
    let config = RewardsConfig {
        workers: 2,
        ..RewardsConfig::default()
    };
    scorer_of(config, tasks)
}

fn scorer_of(config: RewardsConfig, tasks: &[(&str, serde_json::Value)]) -> Scorer {
    let tasks: IndexMap<String, TaskScoring> = tasks
        .iter()
        .map(|(n, v)| ((*n).to_owned(), task(v.clone())))
        .collect();
    Scorer::with_worker(&config, tasks, &worker()).unwrap()
}

fn job(text: &str) -> ScoreJob {
    ScoreJob {
        id: String::new(),
        key: 0,
        task: "t".into(),
        step: 1,
        measure: false,
        prompt: "".into(),
        reference: Arc::new(Reference {
            svg: Some(RED.into()),
            ..Reference::default()
        }),
        candidate: Candidate {
            text: text.into(),
            truncated: false,
        },
    }
}

fn one(scoring: serde_json::Value, text: &str) -> Reward {
    scorer(&[("t", scoring)]).score(vec![job(text)]).remove(0)
}

/// The reason as files have it.
fn said(reward: &Reward) -> Option<String> {
    reward.reason.as_ref().map(ToString::to_string)
}

fn rubric() -> serde_json::Value {
    json!([{"type": "ssim", "weight": 2.0, "size": 64}, {"type": "mse"}, {"type": "code_efficiency", "weight": 0.5}])
}

#[test]
fn the_reference_itself_earns_the_weighted_sum() {
    let reward = one(json!({"rubric": {"rewards": rubric()}}), RED);
    assert_eq!(
        reward.parts.keys().collect::<Vec<_>>(),
        ["ssim", "mse", "code_efficiency"]
    );
    assert!((reward.parts["ssim"] - 1.0).abs() < 1e-12);
    assert_eq!(
        (reward.parts["mse"], reward.parts["code_efficiency"]),
        (1.0, 0.75)
    );
    assert!((reward.total.unwrap() - 3.375).abs() < 1e-12);
    assert!(reward.valid && reward.reason.is_none());
}

#[test]
fn a_gated_failure_is_the_failure_value_and_a_summed_one_is_weighted() {
    let gated = one(
        json!({"rubric": {"rewards": rubric(), "failure_value": -0.25}}),
        "no svg",
    );
    assert_eq!((gated.total, gated.valid), (Some(-0.25), false));
    assert_eq!(gated.reason, Some(Invalid::Shape(ShapeFault::NoSvg)));
    let summed = one(
        json!({"rubric": {"gate": "sum", "rewards": rubric(), "failure_value": -1.0}}),
        "<svg",
    );
    assert_eq!(summed.total, Some(-3.5));
    assert_eq!(summed.parts["mse"], -1.0);
    assert_eq!(summed.reason.unwrap().word(), "malformed_xml");
}

#[test]
fn the_canvas_belongs_to_the_reference() {
    let cheat = RED.replace("0 0 8 8", "0 0 8 4");
    let scoring = json!({"rubric": {"rewards": [{"type": "mse"}, {"type": "aspect"}]}});
    let reward = one(scoring, &cheat);
    assert!(reward.parts["mse"] < 0.9);
    assert_eq!(reward.parts["aspect"], 0.5);
}

#[test]
fn truncated_blank_offset_and_clip_change_the_total() {
    let scorer = scorer(&[(
        "t",
        json!({"rubric": {"rewards": [{"type": "mse"}], "truncated": -0.5, "blank_value": -1, "offset": 3, "clip": [0, 3.5]}}),
    )]);
    let mut cut = job(RED);
    cut.candidate.truncated = true;
    let totals: Vec<f64> = scorer
        .score(vec![cut, job(RED), job("<svg viewBox=\"0 0 8 8\"/>")])
        .iter()
        .map(|r| r.total.unwrap())
        .collect();
    assert_eq!(totals, [-0.5, 3.5, -1.0]);
}

#[test]
fn a_part_is_cut_before_it_is_weighted() {
    let rewards = |clip: serde_json::Value| json!({"rubric": {"rewards": [{"type": "code_efficiency", "weight": 2, "clip": clip}]}});
    let long = RED.replace("/>", &format!("/><!--{}-->", "x".repeat(RED.len())));
    let [free, cut] = [json!(null), json!([-0.5, 1])].map(|clip| one(rewards(clip), &long));
    assert!(free.parts["code_efficiency"] < -1.0, "{free:?}");
    assert_eq!(
        (cut.parts["code_efficiency"], cut.total),
        (-0.5, Some(-1.0))
    );
}

#[test]
fn weights_follow_their_schedule() {
    let scorer = scorer(&[(
        "t",
        json!({"rubric": {"rewards": [{"type": "mse", "weight": [[0, 0], [10, 1]]}]}}),
    )]);
    let at = |step| {
        scorer.score(vec![ScoreJob { step, ..job(RED) }])[0]
            .total
            .unwrap()
    };
    assert_eq!((at(0), at(5), at(20)), (0.0, 0.5, 1.0));
}

#[test]
fn ctrl_s_wants_one_think_block_and_one_fence() {
    let fence = format!("```svg\n{RED}\n```");
    let cases = [
        (format!("<think>a</think>\n{fence}"), None),
        (fence.clone(), Some("no_think_block")),
        (
            format!("<think>a</think><think>b</think>{fence}"),
            Some("several_think_blocks"),
        ),
        (
            format!("<think>a</think>\n{fence}\n{fence}"),
            Some("several_fences"),
        ),
        (format!("<think>a</think>\n{RED}"), Some("no_svg_fence")),
        (
            format!("<think>a</think>\n```xml\n{RED}\n```"),
            Some("no_svg_fence"),
        ),
        (
            format!("<think>a</think>\n{fence}\nmore"),
            Some("text_outside_fence"),
        ),
        (
            format!(
                "<think>a</think>\n```svg\n{}\n```",
                RED.replace("<rect", "<text/><rect")
            ),
            Some("banned_tag"),
        ),
    ];
    let scorer = scorer(&[(
        "t",
        json!({"completion": {"format": "ctrl_s", "banned_tags": ["text"]}}),
    )]);
    for (text, reason) in cases {
        let reward = &scorer.score(vec![job(&text)])[0];
        assert_eq!(said(reward).as_deref(), reason, "{text}");
        assert_eq!(reward.total, Some(if reason.is_none() { 1.0 } else { 0.0 }));
    }
}

#[test]
fn sgp_wants_its_exact_string_and_no_text_elements() {
    let cases = [
        (format!("a </think> <answer>{RED}</answer>"), None),
        (
            format!("a </think><answer>{RED}</answer>"),
            Some("no_answer_block"),
        ),
        (
            format!("a </think> <answer>{RED}</answer> "),
            Some("answer_not_closed"),
        ),
        (
            format!(
                "a </think> <answer>{}</answer>",
                RED.replace("<rect", "<text></text><rect")
            ),
            Some("banned_tag"),
        ),
        ("a </think> <answer>b</answer>".to_owned(), Some("no_svg")),
        (
            format!("a </think> <answer>{}</answer>", &RED[..RED.len() - 9]),
            None,
        ),
    ];
    let scorer = scorer(&[(
        "t",
        json!({"completion": {"format": "sgp"}, "render": {"mode": "recover"}}),
    )]);
    for (text, reason) in cases {
        assert_eq!(
            said(&scorer.score(vec![job(&text)])[0]).as_deref(),
            reason,
            "{text}"
        );
    }
}

#[test]
fn submitted_jobs_come_back_once_each() {
    let scorer = scorer(&[("t", json!({}))]);
    for key in 0..50 {
        scorer.submit(ScoreJob {
            key,
            ..job(if key % 2 == 0 { RED } else { "<svg" })
        });
    }
    let mut keys: Vec<u64> = std::iter::from_fn(|| scorer.next())
        .map(|s| (s.key, s.reward.valid))
        .map(|(k, v)| {
            assert_eq!(v, k % 2 == 0);
            k
        })
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..50).collect::<Vec<_>>());
}

/// Near the most that the limits let a worker process do.
fn slow() -> String {
    let turbulence = "<feTurbulence baseFrequency='0.01' numOctaves='20'/>".repeat(90);
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><filter id='f'>{turbulence}</filter><rect width='8' height='8' filter='url(#f)'/></svg>"
    )
}

/// Text is drawn by a worker process too.
#[test]
fn a_text_waits_for_no_slow_drawing() {
    let scorer = scorer_of(
        RewardsConfig {
            workers: 1,
            deadline_ms: 30_000,
            ..RewardsConfig::default()
        },
        &[("t", json!({}))],
    );
    let text = RED.replace("</svg>", "<text x='1' y='9'>a</text></svg>");
    // The first keeps the only slow thread for seconds, the second and third wait for it.
    for key in 0..3 {
        scorer.submit(ScoreJob {
            key,
            ..job(&slow())
        });
    }
    scorer.submit(ScoreJob {
        key: 3,
        ..job(&text)
    });
    let first = scorer.next().unwrap();
    assert_eq!((first.key, first.reward.valid), (3, true));
    scorer.abandon();
}

#[test]
fn a_completion_waits_for_none_that_only_a_worker_may_draw() {
    let scorer = scorer(&[("t", json!({}))]);
    // More of them than threads that judge.
    for key in 0..6 {
        scorer.submit(ScoreJob {
            key,
            ..job(&slow())
        });
    }
    scorer.submit(ScoreJob { key: 6, ..job(RED) });
    let first = scorer.next().unwrap();
    assert_eq!((first.key, first.reward.valid), (6, true));
    let second = scorer.next().unwrap();
    assert!(
        second.key < 6
            && second
                .reward
                .reason
                .is_none_or(|reason| reason.is_deadline())
    );
    scorer.abandon();
}

#[test]
fn a_reference_is_checked_for_what_the_rewards_need() {
    let scorer = scorer(&[("t", json!({"rubric": {"rewards": rubric()}}))]);
    let check = |r: &Reference| scorer.check_reference("t", r);
    assert_eq!(check(&job("").reference), Ok(()));
    assert!(
        check(&Reference::default())
            .unwrap_err()
            .to_string()
            .contains("reference.svg")
    );
    let broken = Reference {
        svg: Some("<svg".into()),
        ..Reference::default()
    };
    let said = check(&broken).unwrap_err().to_string();
    assert!(
        said.starts_with("reference does not render: malformed_xml"),
        "{said}"
    );
    assert_eq!(
        scorer.check_reference("u", &broken),
        Err(ReferenceFault::NoTask("u".into()))
    );
}

#[test]
fn bad_values_are_refused_by_key() {
    let error = |value: serde_json::Value| {
        let tasks = IndexMap::from([("t".to_owned(), task(value))]);
        Scorer::with_worker(&RewardsConfig::default(), tasks, &worker())
            .err()
            .unwrap()
            .to_string()
    };
    assert!(
        error(json!({"rubric": {"rewards": [{"type": "code_efficiency", "unit": "tokens"}]}}))
            .starts_with("tasks.t.rubric.rewards.0.unit")
    );
    assert!(
        error(json!({"rubric": {"rewards": [{"type": "mse"}, {"type": "mse"}]}}))
            .contains("rewards.1.name")
    );
    assert!(
        error(json!({"rubric": {"rewards": [{"type": "ssim", "window_size": 4}]}}))
            .contains("window_size")
    );
    assert!(error(json!({"render": {"size": 0}})).contains("render.size"));
    assert!(
        serde_json::from_value::<TaskScoring>(
            json!({"rubric": {"rewards": [{"type": "mse", "sise": 1}]}})
        )
        .is_err()
    );
    let remote = RewardsConfig {
        endpoint: Some("a:1".into()),
        ..RewardsConfig::default()
    };
    assert!(
        Scorer::new(&remote, IndexMap::new(), None)
            .err()
            .unwrap()
            .to_string()
            .contains("rewards.endpoint")
    );
}

#[test]
fn metrics_are_measured_when_asked_for_and_are_in_no_total() {
    let half = RED.replace("height=\"4\"", "height=\"8\"");
    let scoring = json!({
        "rubric": {"rewards": [{"type": "mse", "weight": 0.5}], "failure_value": -1},
        "metrics": [{"type": "mse", "name": "again"}, {"type": "improvement", "of": "mse"}, {"type": "length"}],
    });
    let mut plain = job(RED);
    let with = |draft: &str, text: &str, measure: bool| ScoreJob {
        measure,
        reference: Arc::new(Reference {
            draft: Some(draft.into()),
            ..(*job("").reference).clone()
        }),
        ..job(text)
    };
    let scorer = scorer(&[("t", scoring.clone())]);
    plain.measure = true;
    let jobs = vec![
        with(&half, RED, false),
        with(&half, RED, true),
        with(RED, &half, true),
        with("<svg", RED, true),
        with(&half, "no svg", true),
        plain,
    ];
    let got = scorer.score(jobs);
    assert!(got[0].metrics.is_empty());
    assert_eq!(got[1].total, got[0].total);
    let metrics = |at: usize| got[at].metrics.clone();
    assert_eq!(
        metrics(1).keys().collect::<Vec<_>>(),
        ["again", "improvement", "length"]
    );
    assert_eq!(
        (metrics(1)["again"], metrics(1)["length"]),
        (1.0, RED.len() as f64)
    );
    assert!(metrics(1)["improvement"] > 0.1);
    assert!((metrics(2)["improvement"] + metrics(1)["improvement"]).abs() < 1e-12);
    // A draft that does not render is worth nothing.
    assert_eq!(metrics(3)["improvement"], 1.0);
    assert_eq!(got[4].parts["mse"], -1.0);
    assert_eq!(
        metrics(4),
        IndexMap::from([("again".into(), -1.0), ("improvement".into(), -1.0)])
    );
    // Without a draft there is nothing to have bettered.
    assert_eq!(metrics(5).keys().collect::<Vec<_>>(), ["again", "length"]);
    let mut always = scoring;
    always["measured"] = "always".into();
    assert_eq!(one(always, RED).metrics["again"], 1.0);
}

#[test]
fn words_are_measured_as_papers_report_them() {
    let scoring = json!({
        "completion": {"format": "text"},
        "rubric": {"rewards": [{"type": "rouge_l"}]},
        "metrics": [{"type": "bleu"}, {"type": "chrf"}, {"type": "length"}],
    });
    let of = |text: &str| ScoreJob {
        measure: true,
        reference: Arc::new(Reference {
            text: Some("a red bar above a blue star".into()),
            ..Default::default()
        }),
        ..job(text)
    };
    let got = scorer(&[("t", scoring)]).score(vec![
        of("a red bar above a blue star"),
        of("a red bar and a star"),
    ]);
    assert!(
        (got[0].metrics["bleu"] - 1.0).abs() < 1e-12
            && (got[0].metrics["chrf"] - 1.0).abs() < 1e-12
    );
    assert!((0.01..0.9).contains(&got[1].metrics["bleu"]));
    assert_eq!(got[1].metrics["length"], 20.0);
}

#[test]
fn a_metric_that_cannot_be_is_refused_by_key() {
    let error = |value: serde_json::Value| task(value).validate().unwrap_err();
    let said = error(json!({"metrics": [{"type": "mse", "weight": 2}]}));
    assert!(said.starts_with("metrics.0.weight: "), "{said}");
    let said = error(json!({"metrics": [{"type": "mse"}, {"type": "mse"}]}));
    assert!(said.starts_with("metrics.1.name: "), "{said}");
    let said = error(json!({"metrics": [{"type": "bleu"}]}));
    assert!(said.starts_with("metrics.0.type: "), "{said}");
}
