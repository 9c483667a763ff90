//! Why a completion is invalid, or a reference of no use: typed from where it is found out to where JSON is written.
//!
//! On the wire and in sample files a reason is a string: a snake-case word, with a detail behind a colon where there
//! is one. [`Display`](fmt::Display) writes it; [`FromStr`] is its inverse, for those who get it from elsewhere.

use crate::completion::ShapeFault;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use svg::{Failure, Reason};

/// Why a completion is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It has not the shape that was asked for.
    Shape(ShapeFault),
    /// Its SVG does not become a picture.
    Render(Failure),
    /// The reference does not: no fault of the completion.
    BadReference(Failure),
    /// An encoder does not read what it draws.
    Encoder(Arc<str>),
    /// The task is not one of the scorer's.
    UnknownTask,
    /// A service did not judge it within so many milliseconds.
    Deadline(u64),
    /// The service that should have judged it cannot be reached, for this reason.
    ServiceLost(String),
    /// Scoring it panicked.
    Panic,
    /// What a service of another version says.
    Other(String),
}

const BAD_REFERENCE: &str = "bad_reference";
const ENCODER: &str = "encoder";
const UNKNOWN_TASK: &str = "unknown_task";
const DEADLINE: &str = "service_deadline";
const SERVICE_LOST: &str = "service_lost";
const PANIC: &str = "panic: scoring";

impl Invalid {
    /// The snake-case word that it begins with.
    pub fn word(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Invalid::Shape(fault) => fault.as_str(),
            Invalid::Render(failure) => failure.reason.as_str(),
            Invalid::BadReference(_) => BAD_REFERENCE,
            Invalid::Encoder(_) => ENCODER,
            Invalid::UnknownTask => UNKNOWN_TASK,
            Invalid::Deadline(_) => DEADLINE,
            Invalid::ServiceLost(_) => SERVICE_LOST,
            Invalid::Panic => "panic",
            Invalid::Other(said) => {
                return Cow::Owned(said.split(':').next().unwrap_or_default().to_owned());
            }
        })
    }

    /// Whether the renderer's deadline ended the drawing.
    pub fn is_deadline(&self) -> bool {
        matches!(self, Invalid::Render(failure) if failure.reason == Reason::Deadline)
    }

    /// Whether it says nothing of the completion, which nobody has judged.
    pub(crate) fn is_no_verdict(&self) -> bool {
        self.is_shortage()
            || matches!(
                self,
                Invalid::BadReference(_)
                    | Invalid::UnknownTask
                    | Invalid::Deadline(_)
                    | Invalid::ServiceLost(_)
            )
    }

    /// Whether a drawing failed for lack of processes or threads alone, which says nothing of what was to be drawn.
    pub(crate) fn is_shortage(&self) -> bool {
        match self {
            Invalid::Render(failure) | Invalid::BadReference(failure) => {
                failure.reason == Reason::WorkerUnavailable
            }
            Invalid::Shape(_)
            | Invalid::Encoder(_)
            | Invalid::UnknownTask
            | Invalid::Deadline(_)
            | Invalid::ServiceLost(_)
            | Invalid::Panic
            | Invalid::Other(_) => false,
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::Shape(fault) => f.write_str(fault.as_str()),
            Invalid::Render(failure) => failure.fmt(f),
            Invalid::BadReference(failure) => write!(f, "{BAD_REFERENCE}: {failure}"),
            Invalid::Encoder(said) => write!(f, "{ENCODER}: {said}"),
            Invalid::UnknownTask => f.write_str(UNKNOWN_TASK),
            Invalid::Deadline(ms) => write!(f, "{DEADLINE}: not judged within {ms} ms"),
            Invalid::ServiceLost(why) => write!(f, "{SERVICE_LOST}: {why}"),
            Invalid::Panic => f.write_str(PANIC),
            Invalid::Other(said) => f.write_str(said),
        }
    }
}

impl FromStr for Invalid {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let other = || Invalid::Other(text.to_owned());
        let Some((word, detail)) = text.split_once(": ") else {
            let fault = ShapeFault::ALL.iter().find(|fault| fault.as_str() == text);
            return Ok(match (text, fault) {
                (UNKNOWN_TASK, _) => Invalid::UnknownTask,
                (_, Some(fault)) => Invalid::Shape(*fault),
                (_, None) => other(),
            });
        };
        Ok(match word {
            _ if text == PANIC => Invalid::Panic,
            BAD_REFERENCE => failure(detail).map_or_else(other, Invalid::BadReference),
            ENCODER => Invalid::Encoder(detail.into()),
            SERVICE_LOST => Invalid::ServiceLost(detail.to_owned()),
            DEADLINE => {
                let ms = detail.strip_prefix("not judged within ");
                let ms = ms.and_then(|ms| ms.strip_suffix(" ms")?.parse().ok());
                ms.map_or_else(other, Invalid::Deadline)
            }
            _ => failure(text).map_or_else(other, Invalid::Render),
        })
    }
}

/// A failure of drawing as it is written: `reason: detail`.
fn failure(text: &str) -> Option<Failure> {
    let (word, detail) = text.split_once(": ")?;
    let reason = serde_json::from_value::<Reason>(word.into()).ok()?;
    Some(Failure::new(reason, detail))
}

impl Serialize for Invalid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Invalid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Why a reference cannot serve a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceFault {
    /// No task has this name.
    #[error("task: no task is named {0:?}")]
    NoTask(String),
    /// It lacks what a reward needs, as `key: needed by ..`.
    #[error("{0}")]
    Missing(String),
    /// It cannot be drawn.
    #[error("reference does not render: {0}")]
    Render(Failure),
    /// What the service that scores says of it.
    #[error("{0}")]
    Elsewhere(String),
}

impl ReferenceFault {
    /// Whether it could not be drawn for lack of processes or threads alone.
    #[cfg(feature = "service")]
    pub(crate) fn is_shortage(&self) -> bool {
        matches!(self, ReferenceFault::Render(failure) if failure.reason == Reason::WorkerUnavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_read_back_as_it_was_written() {
        let drawing = Failure::new(Reason::TooDeep, "elements: at most 9, got 10: really");
        let mut all = vec![
            Invalid::Render(drawing.clone()),
            Invalid::Render(Failure::new(Reason::Panic, "index")),
            Invalid::Render(Failure::new(Reason::NoSvg, "empty")),
            Invalid::BadReference(drawing),
            Invalid::Encoder("encoders.dino: too narrow".into()),
            Invalid::UnknownTask,
            Invalid::Deadline(2500),
            Invalid::ServiceLost("rewards.endpoint: refused".into()),
            Invalid::Panic,
            Invalid::Other("colour: green".into()),
            Invalid::Other("service_deadline: soon".into()),
            Invalid::Other("bad_reference".into()),
            Invalid::Other(String::new()),
        ];
        all.extend(ShapeFault::ALL.iter().copied().map(Invalid::Shape));
        for reason in all {
            let text = reason.to_string();
            assert_eq!(text.parse(), Ok(reason.clone()), "{text}");
            assert_eq!(text.split(':').next(), Some(&*reason.word()), "{text}");
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(serde_json::from_str::<Invalid>(&json).unwrap(), reason);
        }
    }
}
