//! Preference pairs made of a policy's own completions, as IntroSVG makes them: k candidates a prompt are
//! sampled and scored, the best and the worst become a pair. What was made stands in a journal
//! (JSON Lines, readable as `format: dpo`), and an interrupted making goes on from it. A judge scores one picture a
//! question, as in training, or all of a prompt's in one, as IntroSVG's script asks it (`jury`).

mod candidates;
mod choose;
mod command;
mod counts;
mod journal;
mod jury;
mod make;
mod row;

pub use candidates::{ScoredCandidate, scored_candidates};
pub use command::{PairsJob, make_pairs};
pub use counts::PairCounts;
pub(crate) use journal::{MadeWith, PairJournal};
pub(crate) use jury::CandidateJury;
pub(crate) use make::{MakingPlan, PairMaking};
