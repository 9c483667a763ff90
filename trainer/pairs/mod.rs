//! Preference pairs made of a policy's own completions, as IntroSVG makes them: k candidates a prompt are
//! sampled and scored, the best and the worst become a pair. What was made stands in a journal
//! (JSON Lines, readable as `format: dpo`), and an interrupted making goes on from it.
//!
//! Left out on purpose: a judge that ranks all candidates of a prompt in one question, as IntroSVG's
//! script asks it; a judge here scores one picture at a time, as in training.

mod candidates;
mod choose;
mod command;
mod counts;
mod journal;
mod make;
mod row;

pub use candidates::{ScoredCandidate, scored_candidates};
pub use command::{PairsJob, make_pairs};
pub use counts::PairCounts;
pub(crate) use journal::{MadeWith, PairJournal};
pub(crate) use make::{MakingPlan, PairMaking};
