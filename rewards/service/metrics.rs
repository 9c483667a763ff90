//! Counters of the service in Prometheus' text form.

use crate::encode::EncoderCount;
use crate::judge::JudgeCount;
use crate::types::Reward;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Upper bounds of the latency histogram, seconds.
const BOUNDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// What is counted.
pub(crate) struct ServiceMetrics {
    started: Instant,
    counts: Mutex<ServiceCounts>,
}

#[derive(Default)]
struct ServiceCounts {
    /// By path and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    valid: u64,
    /// By the first word of the reason.
    invalid: BTreeMap<String, u64>,
    late: u64,
    /// Rewards that could not be had, by their name.
    unscored: BTreeMap<String, u64>,
    latency: Histogram,
    render: Histogram,
}

#[derive(Default)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn write(&self, out: &mut String, name: &str, about: &str) {
        let _ = writeln!(out, "# HELP {name} {about}\n# TYPE {name} histogram");
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS) {
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {bucket}");
        }
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum {}\n{name}_count {}", self.sum, self.count);
    }
}

/// A name as a label's value.
fn escaped(name: &str) -> String {
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    name.replace('\n', "\\n")
}

/// What went through encoders.
pub(crate) fn encoder_text(counts: &[(&str, EncoderCount)]) -> String {
    let mut out = String::new();
    let mut family = |name: &str, about: &str, value: fn(&EncoderCount) -> u64| {
        let _ = writeln!(out, "# HELP {name} {about}\n# TYPE {name} counter");
        for (encoder, count) in counts {
            let encoder = escaped(encoder);
            let _ = writeln!(out, "{name}{{encoder=\"{encoder}\"}} {}", value(count));
        }
    };
    if !counts.is_empty() {
        family("svgrl_encoder_passes_total", "Forward passes.", |c| {
            c.passes
        });
        family(
            "svgrl_encoder_items_total",
            "Pictures and texts in them.",
            |c| c.items,
        );
    }
    out
}

/// What judges have done and cost.
pub(crate) fn judge_text(count: &JudgeCount) -> String {
    let lines = [
        (
            "svgrl_judge_asked_total",
            "Completions that judges were asked about.",
            count.asked as f64,
        ),
        (
            "svgrl_judge_failed_total",
            "Of them, those without an answer.",
            count.failed as f64,
        ),
        (
            "svgrl_judge_request_tokens_total",
            "Tokens of requests to judges.",
            count.tokens[0] as f64,
        ),
        (
            "svgrl_judge_answer_tokens_total",
            "Tokens of judges' answers.",
            count.tokens[1] as f64,
        ),
        ("svgrl_judge_cost_total", "Their price.", count.cost),
    ];
    let line = |(name, about, value)| {
        format!("# HELP {name} {about}\n# TYPE {name} counter\n{name} {value}\n")
    };
    lines.map(line).concat()
}

impl ServiceMetrics {
    pub fn new() -> Self {
        ServiceMetrics {
            started: Instant::now(),
            counts: Mutex::default(),
        }
    }

    pub fn request(&self, path: &'static str, status: u16) {
        self.with(|counts| *counts.requests.entry((path, status)).or_default() += 1);
    }

    /// A judged completion and the time since it came in; `wanted` unless it was answered as late before.
    pub fn judged(&self, reward: &Reward, waited: Duration, wanted: bool) {
        self.with(|counts| {
            match &reward.reason {
                _ if !wanted => {}
                None => counts.valid += 1,
                Some(reason) => {
                    let word = reason.word().into_owned();
                    *counts.invalid.entry(word).or_default() += 1;
                }
            }
            for part in reward.unscored.iter().filter(|_| wanted) {
                *counts.unscored.entry(part.clone()).or_default() += 1;
            }
            counts.latency.add(waited.as_secs_f64());
            counts.render.add(reward.render_ms / 1e3);
        });
    }

    /// A completion that was not judged in time.
    pub fn late(&self) {
        self.with(|counts| counts.late += 1);
    }

    /// Seconds from coming in to being judged, on average; none before the first.
    pub fn mean_seconds(&self) -> Option<f64> {
        self.with(|counts| match counts.latency.count {
            0 => None,
            count => Some(counts.latency.sum / count as f64),
        })
    }

    /// The text; `waiting` and `limit` are completions in the queue and its size.
    pub fn text(&self, waiting: usize, limit: usize) -> String {
        let uptime = self.started.elapsed().as_secs_f64();
        self.with(|counts| {
            let mut out = String::new();
            let gauge = |out: &mut String, name: &str, about: &str, value: f64| {
                let _ = writeln!(out, "# HELP {name} {about}\n# TYPE {name} gauge\n{name} {value}");
            };
            gauge(&mut out, "svgrl_queue_items", "Completions waiting or being judged.", waiting as f64);
            gauge(&mut out, "svgrl_queue_limit", "Completions that may wait or be judged.", limit as f64);
            gauge(&mut out, "svgrl_uptime_seconds", "Seconds since the start.", uptime);
            let _ = writeln!(out, "# HELP svgrl_requests_total Requests by path and status.\n# TYPE svgrl_requests_total counter");
            for ((path, status), count) in &counts.requests {
                let _ = writeln!(out, "svgrl_requests_total{{path=\"{path}\",status=\"{status}\"}} {count}");
            }
            let _ = writeln!(out, "# HELP svgrl_items_total Completions by outcome.\n# TYPE svgrl_items_total counter");
            let invalid: u64 = counts.invalid.values().sum();
            for (outcome, count) in [("valid", counts.valid), ("invalid", invalid), ("late", counts.late)] {
                let _ = writeln!(out, "svgrl_items_total{{outcome=\"{outcome}\"}} {count}");
            }
            let _ = writeln!(out, "# HELP svgrl_invalid_total Invalid completions by reason.\n# TYPE svgrl_invalid_total counter");
            for (reason, count) in &counts.invalid {
                let _ = writeln!(out, "svgrl_invalid_total{{reason=\"{reason}\"}} {count}");
            }
            let _ = writeln!(out, "# HELP svgrl_unscored_total Rewards that could not be had, by their name.\n# TYPE svgrl_unscored_total counter");
            for (part, count) in &counts.unscored {
                let part = escaped(part);
                let _ = writeln!(out, "svgrl_unscored_total{{part=\"{part}\"}} {count}");
            }
            counts.latency.write(&mut out, "svgrl_item_seconds", "Seconds from coming in to being judged.");
            counts.render.write(&mut out, "svgrl_render_seconds", "Seconds spent rendering a completion.");
            out
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut ServiceCounts) -> T) -> T {
        work(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
