//! Benchmarks: what a suite's predictions are worth, with intervals, from folders in the published layouts.
//!
//! A suite turns predictions into [`EvalItem`]s; [`SuiteResult`] makes numbers and intervals of them,
//! [`SideBySide`] compares results. A [`Benchmark`] is a file: `sarena.rs`, `sophia.rs`, `vectorgym_suite.rs`,
//! `sgp_genbench.rs`; VectorGym's published components have [`VectorGymScores`].

mod benchmark;
mod bootstrap;
mod caption_task;
mod choice;
mod composition;
mod config;
mod eval_canvas;
mod eval_judge;
mod frechet;
mod item;
mod jsonl;
mod judge_questions;
mod judging_time;
mod networks;
mod picture_metric;
mod picture_scores;
mod picture_task;
mod prediction;
mod prepare;
mod result;
mod sampled;
mod sarena;
mod score_journal;
mod sgp_genbench;
mod sgp_published;
mod side_by_side;
mod sophia;
mod suite;
mod variety;
mod vectorgym;
mod vectorgym_suite;
mod write;

pub use benchmark::{Benchmark, SuiteSource};
pub use bootstrap::{Bootstrap, Interval};
pub use caption_task::{CaptionRow, CaptionTask};
pub use choice::{ChoiceRow, ChoiceTask};
pub use composition::CompositionWish;
pub use config::{
    BootstrapConfig, EvalSampling, PredictedPictures, ServerConfig, SuiteConfig, SuiteEncoders,
};
pub use eval_canvas::{AnswerShape, EvalCanvas, EvalSize, MissingPicture, PredictionLayout};
pub use eval_judge::{EvalJudgeConfig, JudgeVariant};
pub use frechet::FeatureMoments;
pub use item::{EvalItem, Mix, MixTerm};
pub use judge_questions::JudgeQuestions;
pub use judging_time::JudgingTime;
pub use picture_metric::{FeatureRule, PictureMetric, SuiteNetwork};
pub use picture_scores::EvalProgress;
pub use picture_task::{EvalReference, PictureRow, PictureTask};
pub use result::{ResultRow, SuiteResult, SuiteScores};
pub use sampled::{Answerer, EvalQuestion, TakeAnswer};
pub use sarena::Sarena;
pub use side_by_side::{Difference, SideBySide, SideRow, StoredResult};
pub use suite::SuiteTasks;
pub use vectorgym::VectorGymScores;
pub use write::{TextTable, write_json, write_tables};
