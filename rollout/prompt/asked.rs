//! What the user asked, in the user's own words: what rewards and judges are told of a prompt.

use super::PromptError;
use super::Prompter;
use crate::data::Draw;
use crate::message::PICTURE;

impl Prompter {
    /// The words under which another row of the task asks the same: the row's own prompt where the task has templates of
    /// its own, which would be put around it again; else the question as the policy is asked it, which is asked as it
    /// stands. Pictures have their places in it, or none has.
    ///
    /// # Errors
    /// A field that the row lacks.
    pub fn own_words(&self, draw: &Draw) -> Result<String, PromptError> {
        let own = draw.example.fields.get("prompt");
        match own.filter(|_| !self.spare_whole_questions) {
            Some(own) => Ok(own.clone()),
            None => Ok(self.question(draw)?.with(PICTURE)),
        }
    }

    /// The user's words alone: the row's own prompt; where it has none, its last turn as the template has it. Places of
    /// pictures that stand before and behind them are none.
    ///
    /// # Errors
    /// A field that the row lacks.
    pub fn asked(&self, draw: &Draw) -> Result<String, PromptError> {
        let own = draw.example.fields.get("prompt");
        let words = match own {
            Some(own) => own.clone(),
            None => self.in_words(&self.question(draw)?),
        };
        if draw.example.images.is_empty() {
            return Ok(words);
        }
        let mut bare = words.trim();
        while let Some(rest) = bare.strip_prefix(PICTURE).or(bare.strip_suffix(PICTURE)) {
            bare = rest.trim();
        }
        Ok(bare.to_owned())
    }
}
