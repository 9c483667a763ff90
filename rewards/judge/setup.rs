//! What a judge is made of, what it is asked, and what it has done.

use crate::picture::Picture;

/// A judge: where it is, how it may be asked, and how its answers are read.
#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "nobody asks"))]
pub(crate) struct JudgeSetup {
    /// Address up to the version.
    pub endpoint: String,
    /// Name of the environment variable that holds the key.
    pub api_key_env: Option<String>,
    pub limits: JudgeLimits,
    /// Price of a million tokens, of requests and of answers.
    pub price: [f64; 2],
    /// The value in an answer; none where there is none.
    pub read: ReadAnswer,
}

/// Reads the value in an answer.
pub(crate) type ReadAnswer = Box<dyn Fn(&str) -> Option<f64> + Send + Sync>;

/// How it may be asked.
#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "nobody asks"))]
pub(crate) struct JudgeLimits {
    /// Requests under way at the same time.
    pub connections: usize,
    /// Requests a minute; 0: as many as come.
    pub per_minute: u32,
    /// Milliseconds to wait for an answer.
    pub timeout_ms: u64,
    /// How often a failed request is sent again.
    pub retries: u32,
}

/// What it is asked about one completion.
#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "nobody asks"))]
pub(crate) struct Question<'a> {
    pub model: &'a str,
    pub text: String,
    pub pictures: Vec<&'a Picture>,
    /// Tokens the answer may have.
    pub max_tokens: u32,
    pub temperature: f64,
}

/// What judges have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct JudgeCount {
    /// Completions asked about.
    pub asked: u64,
    /// Of them, those without an answer that could be understood.
    pub failed: u64,
    /// Tokens of requests and of answers, as the endpoint counts them.
    pub tokens: [u64; 2],
    /// Their price.
    pub cost: f64,
}

impl std::ops::AddAssign for JudgeCount {
    fn add_assign(&mut self, other: Self) {
        self.asked += other.asked;
        self.failed += other.failed;
        (0..2).for_each(|i| self.tokens[i] += other.tokens[i]);
        self.cost += other.cost;
    }
}
