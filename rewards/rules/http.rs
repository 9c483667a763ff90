//! A reward of the user's own, asked of a service over HTTP.

use crate::endpoint::check_address;
use crate::options::reward_options;
use crate::own::{Batching, OwnKind, OwnSetup};
use crate::rules::own::{ask, needs};
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Tools,
};
use crate::rules::value::Value;

reward_options! {
    /// A reward of your own, asked of a service: `POST url` with `{"items": [row, ..]}`, a row being `{"id", "task",
    /// "step", "prompt", "completion", "svg", "reference", "truncated"}` and `png` where asked for; answered by a list (or
    /// `{"items": [..]}`) with a number for each row, named numbers (`score` among them is the reward, else their sum; the
    /// others are curves `<name>.<key>`), or null or `{"error": ".."}` where there is none.
    HttpReward (clip None) {
        /// The service's whole address, such as `http://127.0.0.1:9000/score`.
        url: String = String::new(),
        /// Name of the environment variable that holds the key, sent as a bearer token; absent: none is sent.
        api_key_env: Option<String> = None,
        /// Whether rows hold the drawing, a PNG in base64.
        png: bool = false,
        /// Rows in one request, at least 1.
        batch: usize = 32,
        /// Requests under way at the same time, at least 1.
        connections: usize = 8,
        /// Milliseconds, at least 1, to wait for an answer.
        timeout_ms: u64 = 60_000,
        /// How often a failed request is sent again, with growing pauses.
        retries: u32 = 3,
        /// The value of a completion that could not be scored; absent: as `rubric.unscored` says.
        failure_value: Option<f64> = None,
    }
}

impl RewardFn for HttpReward {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        needs()
    }

    fn check(&self) -> Result<(), String> {
        check_address("url", &self.url)?;
        self.batching().check()
    }

    fn own(&self) -> Option<OwnSetup> {
        Some(OwnSetup {
            kind: OwnKind::Http {
                url: self.url.clone(),
                key_env: self.api_key_env.clone(),
            },
            batching: self.batching(),
        })
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        ask(cx, self.png, self.failure_value)
    }
}

impl HttpReward {
    fn batching(&self) -> Batching {
        Batching {
            batch: self.batch,
            connections: self.connections,
            timeout_ms: self.timeout_ms,
            retries: self.retries,
        }
    }
}
