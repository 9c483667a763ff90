//! A judge that sees all candidates of a prompt in one question, as IntroSVG's script asks it, and scores each: scores are
//! relative to the neighbours, and one request is paid for where there would be k.
//!
//! The pictures are those of the valid candidates, in their order. An answer gives each its number as `"image_2_score": 70`;
//! candidates that it leaves out, or scores outside the range, are unscored, and all of them where it is nonsense.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use rewards::rules::judge::Judge;
use rewards::{ChatQuestion, ChatServer, ImageSource, TaskScoring};
use svg::{Renderer, WorkerProgram};

use crate::TrainError;
use crate::interrupt::Interrupt;
use crate::rollout_batch::ScoredGroup;

/// The name of the score among a candidate's parts.
const PART: &str = "judge";
/// What drawing one candidate may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A judge of whole groups.
pub(crate) struct CandidateJury {
    judge: Judge,
    server: ChatServer,
    renderer: Renderer,
    scorings: IndexMap<String, TaskScoring>,
    /// When the next question may be sent.
    next: Mutex<Instant>,
}

impl CandidateJury {
    /// As `judge` says; `scorings` are the tasks under which candidates were checked.
    ///
    /// # Errors
    /// What is no address, a key that is not set, a render worker that is missing.
    pub(crate) fn open(
        judge: &Judge,
        scorings: IndexMap<String, TaskScoring>,
    ) -> Result<Self, TrainError> {
        let input = |error: String| TrainError::Input(format!("pairs.judge.{error}"));
        let key = judge.api_key_env.as_ref().map(|name| {
            std::env::var(name).map_err(|error| input(format!("api_key_env: {name}: {error}")))
        });
        let patience = (Duration::from_millis(judge.timeout_ms), judge.retries);
        let server = ChatServer::new(&judge.endpoint, &judge.model, key.transpose()?, patience);
        let renderer = Renderer::new(&WorkerProgram::Installed, DEADLINE);
        Ok(Self {
            judge: judge.clone(),
            server: server.map_err(input)?,
            renderer: renderer.map_err(|failure| TrainError::Other(failure.to_string()))?,
            scorings,
            next: Mutex::new(Instant::now()),
        })
    }

    /// Gives the valid candidates of each group their scores; of each group why some have none. `None` when a signal's grace
    /// ran out.
    ///
    /// # Errors
    /// A machine that cannot draw.
    pub(crate) fn score(
        &self,
        groups: &mut [ScoredGroup],
        interrupt: &Interrupt,
    ) -> Result<Option<Vec<Option<String>>>, TrainError> {
        let shown: Vec<Shown> = groups.iter().map(|group| self.shown(group)).collect();
        let (next, count) = (AtomicUsize::new(0), shown.len());
        let answers: Vec<Mutex<Option<Result<String, String>>>> =
            (0..count).map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for _ in 0..self.judge.connections.min(count) {
                scope.spawn(|| {
                    while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed))
                        .filter(|at| *at < count && !interrupt.expired())
                    {
                        let answer = (!shown[at].pictures.is_empty())
                            .then(|| self.ask(&groups[at], &shown[at]));
                        let mut place = answers[at].lock().unwrap_or_else(PoisonError::into_inner);
                        *place = answer;
                    }
                });
            }
        });
        if interrupt.expired() {
            return Ok(None);
        }
        let mut told = Vec::with_capacity(count);
        for ((group, shown), answer) in groups.iter_mut().zip(&shown).zip(answers) {
            let answer = answer.into_inner().unwrap_or_else(PoisonError::into_inner);
            told.push(self.take(group, shown, answer));
        }
        Ok(Some(told))
    }

    /// The pictures of a group's valid candidates.
    fn shown(&self, scored: &ScoredGroup) -> Shown {
        let mut shown = Shown::default();
        let Some(scoring) = self.scorings.get(&scored.group.prompt.task) else {
            return shown;
        };
        let all = scored.group.completions.iter().zip(&scored.rewards);
        let valid = all.enumerate().filter(|(_, (_, reward))| reward.valid);
        for (at, (completion, _)) in valid {
            let text = completion.text.as_deref().unwrap_or_default();
            let svg = scoring.completion.extract(text);
            let png = svg.ok().and_then(|svg| {
                let target = scoring.render.own_target();
                let drawn = self.renderer.render(svg, target, &scoring.render).ok()?;
                drawn.raster.to_png().ok()
            });
            match png {
                Some(png) => {
                    shown.candidates.push(at);
                    shown.pictures.push(ImageSource::Png(png.into()));
                }
                None => shown.undrawn.push(at),
            }
        }
        shown
    }

    fn ask(&self, scored: &ScoredGroup, shown: &Shown) -> Result<String, String> {
        self.wait_for_turn();
        let prompt = &scored.group.prompt;
        let [low, high] = self.judge.range;
        let words = prompt.reference.wish(&prompt.asked);
        let asked = self.judge.question.replace("{prompt}", &prompt.asked);
        let count = shown.pictures.len();
        let keys: Vec<String> = (1..=count)
            .map(|at| format!("\"image_{at}_score\": NUMBER"))
            .collect();
        let text = format!(
            "{}\nThere are {count} pictures; give each a number from {low} to {high}. Answer with one JSON object: {{{}}}.",
            asked.replace("{text}", words),
            keys.join(", ")
        );
        let answer = self.server.ask(&ChatQuestion {
            text,
            pictures: shown.pictures.clone(),
            temperature: self.judge.temperature,
            top_p: 1.0,
            max_tokens: self.judge.max_tokens as usize,
            seed: 0,
        });
        answer.map_err(|failure| failure.message)
    }

    /// Questions are spread evenly over the minute.
    fn wait_for_turn(&self) {
        if self.judge.per_minute == 0 {
            return;
        }
        let gap = Duration::from_secs(60) / self.judge.per_minute;
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + gap;
            turn
        };
        std::thread::sleep(turn.saturating_duration_since(Instant::now()));
    }

    /// Puts an answer's scores in their places; why some candidates have none.
    fn take(
        &self,
        scored: &mut ScoredGroup,
        shown: &Shown,
        answer: Option<Result<String, String>>,
    ) -> Option<String> {
        let answer = answer?;
        let [low, high] = self.judge.range;
        let scores = answer.as_ref().map(|answer| image_scores(answer));
        let mut lost = Vec::new();
        for (place, &at) in shown.candidates.iter().enumerate() {
            let score = scores
                .as_ref()
                .ok()
                .and_then(|scores| scores.get(&(place + 1)));
            let score = score.filter(|score| (low..=high).contains(*score));
            let value = match score {
                Some(score) => Some((score - low) / (high - low)),
                None => {
                    lost.push((place + 1).to_string());
                    self.judge.failure_value
                }
            };
            give(scored, at, value);
        }
        for &at in &shown.undrawn {
            give(scored, at, self.judge.failure_value);
        }
        if lost.is_empty() {
            return None;
        }
        let endpoint = &self.judge.endpoint;
        Some(match answer {
            Err(why) => why,
            Ok(words) => {
                let said: String = words.chars().take(200).collect();
                let lost = lost.join(", ");
                format!(
                    "{endpoint}: the answer holds no score within the range of picture {lost}: {said:?}"
                )
            }
        })
    }
}

/// What a judge is shown of a group.
#[derive(Default)]
struct Shown {
    /// Places of the candidates whose pictures follow.
    candidates: Vec<usize>,
    pictures: Vec<ImageSource>,
    /// Valid candidates that could not be drawn again.
    undrawn: Vec<usize>,
}

fn give(scored: &mut ScoredGroup, at: usize, value: Option<f64>) {
    let reward = &mut scored.rewards[at];
    reward.parts.clear();
    reward.total = value;
    match value {
        Some(value) => drop(reward.parts.insert(PART.to_owned(), value)),
        None => reward.unscored = vec![PART.to_owned()],
    }
}

/// The numbers behind `image_K_score`, by K, wherever they stand; the last of several counts.
fn image_scores(answer: &str) -> IndexMap<usize, f64> {
    let mut scores = IndexMap::new();
    for part in answer.split("image_").skip(1) {
        let Some((number, rest)) = part.split_once("_score") else {
            continue;
        };
        let rest = rest.trim_start_matches(['"', '\'', ' ', ':', '=', '\t', '\n', '*']);
        let digits = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
        let end = rest.find(|c| !digits(c)).unwrap_or(rest.len());
        let score = rest[..end].trim_end_matches('.').parse::<f64>();
        if let (Ok(number), Ok(score)) = (number.parse::<usize>(), score) {
            scores.insert(number, score);
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_found_by_their_pictures_numbers() {
        let of = |answer: &str| {
            let scores = image_scores(answer);
            let mut all: Vec<(usize, f64)> = scores.into_iter().collect();
            all.sort_by_key(|(at, _)| *at);
            all
        };
        let json = "```json\n{\"image_1_score\": 70, \"image_2_score\" : 35.5,\n\"image_10_score\": \"9\"}\n```";
        assert_eq!(of(json), [(1, 70.0), (2, 35.5), (10, 9.0)]);
        assert_eq!(of("image_2_score: 8. image_x_score: 3"), [(2, 8.0)]);
        assert_eq!(of("Picture 1 is the best, 90."), []);
        assert_eq!(of("image_1_score: high"), []);
    }
}
