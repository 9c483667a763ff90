//! Commands as processes. What they compute is judged elsewhere; here it is rows, order, exit
//! status, sentences and files.

mod bad_rows;
mod bench;
mod continuing;
mod embed;
mod encoders;
mod eval;
mod eval_config;
mod eval_sampled;
mod generate;
mod help;
mod hostile;
mod inspect;
pub mod judges;
mod logprobs;
mod looked_at;
mod lora;
mod nested;
mod own_rewards;
mod pictures;
mod plan;
mod prepare;
mod prepare_refusals;
pub mod program;
mod released;
mod render;
mod reward;
mod run_folder;
mod sampling_bounds;
mod telemetry;
mod threads;
pub mod tiny;
mod turns;
mod updates;
mod variants;
