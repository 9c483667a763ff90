//! Multiple choice: the letter that an answer begins with, as SArena's understanding score reads it.

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Setting, Tools,
};
use crate::rules::value::Value;

reward_options! {
    /// 1 when the first letter of the answer is the first letter of `reference.text`, case aside, else 0
    /// (SArena's understanding score). For completions of format `text`.
    Choice (clip None) {}
}

impl RewardFn for Choice {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[Reported {
        by: Setting::Understanding,
        place: 0,
    }];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::reference_text()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        Value::Known(Choice::value(cx.text(), cx.reference_text()))
    }
}

impl Choice {
    /// 1 or 0.
    pub(crate) fn value(answer: &str, reference: &str) -> f64 {
        let first = |text: &str| {
            let letter = text.chars().find(|c| c.is_alphabetic());
            letter.map(|c| c.to_ascii_uppercase())
        };
        let given = first(answer);
        f64::from(u8::from(given.is_some() && given == first(reference)))
    }
}

#[cfg(test)]
mod tests {
    use super::Choice;

    #[test]
    fn the_first_letter_decides() {
        assert_eq!(Choice::value("(b) a bar", "B"), 1.0);
        assert_eq!(Choice::value("C", "B"), 0.0);
        assert_eq!(Choice::value("42", "B"), 0.0);
    }
}
