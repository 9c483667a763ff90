//! A reward's value: a number, or what will be one when an encoder or a judge has answered.

use crate::encode::{NoAnswer, Promise};
use crate::poll::POLL;
use crate::scores::{Scores, Verdict};
use crossbeam_channel::{Receiver, RecvTimeoutError, Select};
use std::sync::Arc;
use std::time::Instant;

/// One reward's value, before it is cut.
pub(crate) enum Value {
    Known(f64),
    Awaited(Awaited),
}

/// A value of encoders' answers.
pub(crate) type Formula = Box<dyn Fn(&[Arc<[f32]>]) -> f64 + Send>;

/// What a value is made of.
pub(crate) enum Awaited {
    /// By a formula of encoders' answers, which come in the promises' order.
    Encoded {
        promises: Vec<Promise>,
        formula: Formula,
    },
    /// Somebody else's answer; and the value of one that does not come, where there is such a value.
    Asked {
        answer: Receiver<Verdict>,
        failure_value: Option<f64>,
    },
}

/// What became of a value that was waited for.
pub(crate) enum Waited {
    Scores(Scores),
    /// The completion is to blame that there is none.
    Refused(Arc<str>),
    /// Why there is none, and what the reward's own options say it counts as.
    Failed(Arc<str>, Option<f64>),
}

/// Who waits for a value, and for how long.
pub(crate) struct Waiter<'a> {
    /// Says that nobody wants it any more.
    pub gone: &'a dyn Fn() -> bool,
    /// When judges that have not answered count as failed; none where that is left to them.
    pub judges: Option<Instant>,
}

impl Waiter<'static> {
    /// Somebody who waits until it is there.
    pub const ENDLESS: Self = Waiter {
        gone: &|| false,
        judges: None,
    };
}

impl Value {
    /// What `formula` makes of the answers to come.
    pub fn encoded(
        promises: impl IntoIterator<Item = Promise>,
        formula: impl Fn(&[Arc<[f32]>]) -> f64 + Send + 'static,
    ) -> Value {
        Value::Awaited(Awaited::Encoded {
            promises: promises.into_iter().collect(),
            formula: Box::new(formula),
        })
    }

    /// What `formula` makes of the cosine of two features to come.
    pub fn cosine(pair: [Promise; 2], formula: impl Fn(f64) -> f64 + Send + 'static) -> Value {
        Value::encoded(pair, move |features| {
            formula(dot(&features[0], &features[1]))
        })
    }

    /// What `formula` makes of the distance of two pictures to come.
    pub fn distance(distance: Promise, formula: impl Fn(f64) -> f64 + Send + 'static) -> Value {
        Value::encoded([distance], move |answers| {
            formula(answers[0].first().copied().map_or(f64::NAN, f64::from))
        })
    }

    /// Whether it is known, waiting for that until `until`.
    pub fn is_ready_by(&self, until: Instant, judges: Option<Instant>) -> bool {
        match self {
            Value::Known(_) => true,
            Value::Awaited(Awaited::Encoded { promises, .. }) => {
                promises.iter().all(|promise| promise.is_given_by(until))
            }
            Value::Awaited(Awaited::Asked { answer, .. }) => {
                let mut select = Select::new();
                select.recv(answer);
                select.ready_deadline(until).is_ok() || is_past(judges)
            }
        }
    }

    /// The numbers, waiting for them if need be; or what went wrong.
    pub fn wait(&self, waiter: &Waiter) -> Waited {
        match self {
            Value::Known(value) => Waited::Scores(Scores::of(*value)),
            Value::Awaited(Awaited::Encoded { promises, formula }) => {
                let answers = promises.iter().map(|p| p.wait_unless(waiter.gone));
                match answers.collect::<Result<Vec<_>, _>>() {
                    Ok(answers) => Waited::Scores(Scores::of(formula(&answers))),
                    Err(NoAnswer::Refused(why)) => Waited::Refused(why),
                    Err(NoAnswer::Failed(why)) => Waited::Failed(why, None),
                }
            }
            Value::Awaited(Awaited::Asked {
                answer,
                failure_value,
            }) => loop {
                match answer.recv_timeout(POLL) {
                    Ok(Ok(scores)) => return Waited::Scores(scores),
                    Ok(Err(why)) => return Waited::Failed(why, *failure_value),
                    Err(RecvTimeoutError::Timeout)
                        if !(waiter.gone)() && !is_past(waiter.judges) => {}
                    Err(RecvTimeoutError::Timeout) => {
                        return Waited::Failed("no answer in time".into(), *failure_value);
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        return Waited::Failed("nobody answers any more".into(), *failure_value);
                    }
                }
            },
        }
    }

    /// Whether encoders make it.
    pub fn is_encoded(&self) -> bool {
        matches!(self, Value::Awaited(Awaited::Encoded { .. }))
    }
}

fn is_past(moment: Option<Instant>) -> bool {
    moment.is_some_and(|moment| moment <= Instant::now())
}

/// The cosine of two vectors of unit length, in float64.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&x, &y)| f64::from(x) * f64::from(y))
        .sum()
}
