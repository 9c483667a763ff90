//! Equality with reference implementations; each fixture stands beside the script that made it.

/// Five steps of AdamW equal torch's.
mod adamw;
/// Advantages under every option equal NumPy's.
mod advantages;
/// BERTScore equals its package's.
mod bert_score;
/// Checkpoints of policies that see load into transformers, processors included.
mod checkpoints;
/// CLIP's tokenizer out of vocab.json and merges.txt equals transformers'.
mod clip_pieces;
/// Logits, gradients and greedy tokens equal those of transformers.
mod decoder;
/// Losses of pairs and their gradients equal those of TRL's DPOTrainer.
mod dpo;
/// Features of pictures and texts equal those of the encoders' own implementations.
mod encoders;
/// An exported folder is the one that was read.
mod export;
/// Of a folder's files and tokens those count that count for transformers.
mod folders;
/// Encoders in float16 keep cosines and distances of float32 within a thousandth.
pub mod half_precision;
/// Networks with LoRA adapters, their gradients and files equal PEFT's.
mod lora;
/// The policy loss and its gradients under every option equal the formulas in NumPy.
mod losses;
/// Distances and features of networks of fixed width equal those of their packages.
pub mod perceptual;
/// Picture files are decoded and cut as the Hugging Face processors do.
mod pictures;
/// Folders that this project does not build are refused by tensor and key.
mod refusals;
/// Totals of the papers' rewards equal those of an independent script.
mod rewards;
/// A tiny SArena judged as independent packages judge it.
pub mod sarena;
/// A tiny SGP-GenBench judged as transformers judges it.
mod sgp_genbench;
/// Folders with SVG tokens added equal what transformers makes of them.
mod svg_tokens;
/// Pictures cut as torchvision does.
mod torchvision;
/// VectorGym's results judged as independent packages judge them.
mod vectorgym;
/// Vision-language networks and their picture processors equal those of transformers.
mod vlm;
