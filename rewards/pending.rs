//! A judgement that waits for encoders: what is known of it, and what each missing part will be made of.

use crate::encode::Ticket;
use crate::perceptual::{Scale, dot, of_distance};
use crate::round::LOOK;
use crate::score::Reward;
use crate::text::{BertScore, Tokens};
use crossbeam_channel::{Receiver, RecvTimeoutError, Select};
use std::sync::Arc;
use std::time::Instant;

/// A completion's judgement.
pub(crate) enum Judged {
    Done(Reward),
    Later(Box<Pending>),
}

/// A judgement whose parts are not all known.
pub(crate) struct Pending {
    /// One for each reward of the rubric.
    pub parts: Vec<Part>,
    /// Those metrics that are measured, by their place among the task's.
    pub metrics: Vec<(usize, Part)>,
    /// All but parts, total and metrics.
    pub reward: Reward,
    pub step: u64,
    /// Whether the picture shows nothing.
    pub blank: bool,
    /// The total of a completion cut off at the length limit, where the rubric has one.
    pub total: Option<f64>,
}

impl Pending {
    /// Whether nothing of it waits.
    pub fn is_known(&self) -> bool {
        let metrics = self.metrics.iter().map(|(_, part)| part);
        let mut all = self.parts.iter().chain(metrics);
        all.all(|part| matches!(part, Part::Known(_)))
    }

    /// Whether nothing of it is missing, waiting for that until `until`. A judge that has not answered by
    /// `judges`, where there is such a moment, has failed.
    pub fn is_ready_by(&self, until: Instant, judges: Option<Instant>) -> bool {
        let metrics = self.metrics.iter().map(|(_, part)| part);
        let mut all = self.parts.iter().chain(metrics);
        all.all(|part| part.is_ready_by(until, judges))
    }
}

/// One reward's value, before it is cut.
pub(crate) enum Part {
    Known(f64),
    Waits(Wait),
}

/// What a value is made of.
pub(crate) enum Wait {
    /// The cosine of two features.
    Cosine([Ticket; 2], Scale),
    /// RLRF's reward of one less their cosine.
    CosineDistance([Ticket; 2]),
    /// RLRF's reward of a distance.
    Distance(Ticket),
    /// BERTScore of the tokens of completion and reference, each of so many numbers.
    Matched([Ticket; 2], usize, Box<BertScore>),
    /// A judge's answer, and the value of one that never comes.
    Judged(Receiver<f64>, f64),
}

impl Part {
    fn is_ready_by(&self, until: Instant, judges: Option<Instant>) -> bool {
        match self {
            Part::Known(_) => true,
            Part::Waits(
                Wait::Cosine(pair, _) | Wait::CosineDistance(pair) | Wait::Matched(pair, ..),
            ) => pair.iter().all(|ticket| ticket.is_given_by(until)),
            Part::Waits(Wait::Distance(ticket)) => ticket.is_given_by(until),
            Part::Waits(Wait::Judged(answer, _)) => {
                let mut select = Select::new();
                select.recv(answer);
                select.ready_deadline(until).is_ok() || is_past(judges)
            }
        }
    }

    /// The value, waiting for it if need be until `gone` says that nobody wants it, and for a judge no longer
    /// than until `judges`; or what went wrong in the encoder.
    pub fn value(&self, gone: &dyn Fn() -> bool, judges: Option<Instant>) -> Result<f64, Arc<str>> {
        let wait = |ticket: &Ticket| ticket.wait_unless(gone);
        let cosine =
            |pair: &[Ticket; 2]| Ok::<f64, Arc<str>>(dot(&wait(&pair[0])?, &wait(&pair[1])?));
        match self {
            Part::Known(value) => Ok(*value),
            Part::Waits(Wait::Cosine(pair, scale)) => cosine(pair).map(|cosine| scale.of(cosine)),
            Part::Waits(Wait::CosineDistance(pair)) => {
                cosine(pair).map(|cosine| of_distance(1.0 - cosine))
            }
            Part::Waits(Wait::Judged(answer, failure)) => loop {
                match answer.recv_timeout(LOOK) {
                    Err(RecvTimeoutError::Timeout) if !gone() && !is_past(judges) => {}
                    answer => return Ok(answer.unwrap_or(*failure)),
                }
            },
            Part::Waits(Wait::Matched(pair, width, rule)) => {
                let [own, target] = [wait(&pair[0])?, wait(&pair[1])?];
                let tokens = |flat| Tokens {
                    flat,
                    width: *width,
                };
                Ok(rule.value(tokens(&own), tokens(&target)))
            }
            Part::Waits(Wait::Distance(ticket)) => {
                let distance = wait(ticket)?;
                Ok(of_distance(
                    distance.first().copied().map_or(f64::NAN, f64::from),
                ))
            }
        }
    }
}

fn is_past(moment: Option<Instant>) -> bool {
    moment.is_some_and(|moment| moment <= Instant::now())
}
