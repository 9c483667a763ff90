//! What rewards of the user's own have in common.

use crate::own::OwnRow;
use crate::rules::rule::{RewardNeeds, ScoreContext, Subject};
use crate::rules::value::{Awaited, Value};

/// They judge words as well as SVGs, and need nothing.
pub(super) const fn needs() -> RewardNeeds<'static> {
    RewardNeeds::nothing_but(Subject::Any)
}

/// What they say of a completion.
pub(super) fn ask(cx: &ScoreContext, png: bool, failure_value: Option<f64>) -> Value {
    let own = cx.tools.own.expect("one was started for this reward");
    let pictures = cx.case.pictures;
    let answer = own.ask(&OwnRow {
        job: cx.case.job,
        svg: pictures.map(|_| cx.text()),
        drawing: pictures
            .filter(|_| png)
            .map(|pictures| &*pictures.drawn.picture),
    });
    Value::Awaited(Awaited::Asked {
        answer,
        failure_value,
    })
}
