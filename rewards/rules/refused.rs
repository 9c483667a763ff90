//! Scores of the papers that need models nobody can have; each is refused with what to use instead.

use schemars::Schema;

const REFUSED: [(&str, &str); 12] = [
    (
        "tifa",
        "TIFA asks a question-answering model that is not published as weights; use `judge` with your own vision-language model",
    ),
    (
        "vqa",
        "the papers' VQA score is TIFA's, whose model is not published as weights; use `judge` with your own vision-language model",
    ),
    (
        "hps",
        "HPSv2's weights are not read here; use `image_text` with CLIP or SigLIP, or `judge`",
    ),
    (
        "hpsv2",
        "HPSv2's weights are not read here; use `image_text` with CLIP or SigLIP, or `judge`",
    ),
    (
        "aesthetic",
        "the aesthetic predictor's head is not read here; use `judge` with a question about how well the picture is made",
    ),
    (
        "image_reward",
        "ImageReward's weights are not read here; use `image_text` with CLIP or SigLIP, or `judge`",
    ),
    (
        "pick_score",
        "PickScore's weights are not read here; use `image_text` with CLIP or SigLIP, or `judge`",
    ),
    ("gpt", CLOSED),
    ("gemini", CLOSED),
    ("claude", CLOSED),
    ("vlm", CLOSED),
    ("closed_judge", CLOSED),
];

/// What is said of judges by the names that papers give them.
const CLOSED: &str = "a closed judge is reached over its OpenAI-compatible endpoint; use `judge` with its `endpoint`, `model` and `api_key_env`";

/// Notes them in the schema, for those who check configs.
pub(super) fn with_refused(schema: &mut Schema) {
    let refused: serde_json::Map<String, serde_json::Value> = REFUSED
        .iter()
        .map(|(name, why)| ((*name).to_owned(), (*why).into()))
        .collect();
    schema.insert("x-refused".to_owned(), refused.into());
}
