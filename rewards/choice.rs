//! Multiple choice: the letter that an answer begins with, as SArena's understanding score reads it.

use crate::config::reward_options;

reward_options! {
    /// 1 when the first letter of the answer is the first letter of `reference.text`, case aside, else 0
    /// (SArena's understanding score). For completions of format `text`.
    Choice (clip None) {}
}

impl Choice {
    /// 1 or 0.
    pub(crate) fn value(answer: &str, reference: &str) -> f64 {
        let first = |text: &str| {
            let letter = text.chars().find(|c| c.is_alphabetic());
            letter.map(|c| c.to_ascii_uppercase())
        };
        match (first(answer), first(reference)) {
            (Some(given), Some(right)) if given == right => 1.0,
            _ => 0.0,
        }
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
