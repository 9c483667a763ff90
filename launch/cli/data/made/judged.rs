//! A judge's critiques of drawings, asked several at a time and kept one by one.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rayon::prelude::*;
use rewards::{ChatQuestion, ChatServer, ImageSource};
use serde_json::{Value, json};

use super::candidates::{DraftDrawing, SamplingArgs, SquarePictures, beside};
use crate::cli::refine::critique::{Critique, understood};
use crate::cli::{CliFailure, SharedFlags};
use crate::progress::Bar;

/// Who judges.
#[derive(Debug, Clone, clap::Args)]
pub struct JudgeArgs {
    /// The judge's OpenAI-compatible address up to the version.
    #[arg(long, value_name = "URL", required = true)]
    endpoint: String,
    /// Its name there.
    #[arg(long, value_name = "NAME", required = true)]
    judge: String,
    /// Name of the environment variable that holds the key.
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
    /// Requests under way at the same time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Side of the pictures, in pixels.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=2048))]
    size: u32,
}

/// A drawing with what a judge said of it.
pub struct JudgedDrawing {
    /// The drawing.
    pub drawing: DraftDrawing,
    /// It drawn: a PNG.
    pub png: Vec<u8>,
    /// What was said.
    pub said: Critique,
}

/// The question, to which the drawing and its reference are shown in that order.
const QUESTION: &str = "Two pictures follow: a drawing, and what it should look like. The drawing was made for this description: {prompt}\nCompare them as a professional designer. Answer with one JSON object: \"score\", a number from 0 (useless) to 10 (perfect); \"critique\", what is right and what is wrong with the drawing; \"suggestions\", what to change.";

/// What the released scripts ask with.
const TEMPERATURE: f64 = 0.2;
const MAX_TOKENS: usize = 3600;
const PATIENCE: (Duration, u32) = (Duration::from_secs(180), 3);

/// Samples drawings and has them judged. Answers without a score are kept in the journal and told, and left out.
///
/// # Errors
/// Wrong config, data or policy; a judge that answers nothing.
pub fn judged(
    sampling: &SamplingArgs,
    judge: &JudgeArgs,
    out: &Path,
    shared: &SharedFlags,
) -> Result<Vec<JudgedDrawing>, CliFailure> {
    let key = judge.api_key_env.as_ref().map(|name| {
        std::env::var(name)
            .map_err(|error| CliFailure::input(format!("--api-key-env {name}: {error}")))
    });
    let server = ChatServer::new(&judge.endpoint, &judge.judge, key.transpose()?, PATIENCE)
        .map_err(|error| CliFailure::input(format!("--{error}")))?;
    let drawings = sampling.drawings(out, shared)?;
    let pictures = SquarePictures::new(judge.size)?;
    let journal = AnswerJournal::open(&beside(out, ".answers.jsonl"))?;
    let bar = Mutex::new(Bar::new("critiques", drawings.len() as u64, shared.quiet));
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(usize::from(judge.connections))
        .build()
        .map_err(CliFailure::other)?;
    let ask = |drawing: DraftDrawing| -> Result<JudgedDrawing, String> {
        let png = pictures.of_svg(&drawing.svg)?;
        let candidate = &drawing.candidate;
        let answer = match journal.known(&candidate.id, &drawing.svg) {
            Some(answer) => answer,
            None => {
                let wanted = pictures.of_reference(candidate)?;
                let answer = server
                    .ask(&ChatQuestion {
                        text: QUESTION.replace("{prompt}", &candidate.words),
                        pictures: vec![
                            ImageSource::Png(png.clone().into()),
                            ImageSource::Png(wanted.into()),
                        ],
                        temperature: TEMPERATURE,
                        top_p: 1.0,
                        max_tokens: MAX_TOKENS,
                        seed: shared.seed.unwrap_or(0),
                    })
                    .map_err(|failure| failure.message)?;
                journal.keep(&candidate.id, &drawing.svg, &answer)?;
                answer
            }
        };
        let said = understood(&answer);
        if let Ok(mut bar) = bar.lock() {
            bar.advance(1);
        }
        match said.score {
            Some(_) => Ok(JudgedDrawing { drawing, png, said }),
            None => Err(format!(
                "an answer without a score from 0 to 10: {answer:.80}"
            )),
        }
    };
    let all = drawings.len();
    let answers: Vec<Result<JudgedDrawing, String>> =
        pool.install(|| drawings.into_par_iter().map(ask).collect());
    let mut good = Vec::new();
    let mut faults: HashMap<String, usize> = HashMap::new();
    for answer in answers {
        match answer {
            Ok(judged) => good.push(judged),
            Err(fault) => *faults.entry(fault).or_default() += 1,
        }
    }
    let left: usize = faults.values().sum();
    if let Some((fault, _)) = faults.iter().max_by_key(|(_, count)| **count) {
        let said = format!("{left} of {all} drawings could not be judged; most often: {fault}");
        if good.is_empty() {
            return Err(CliFailure::other(said));
        }
        eprintln!("{said} (answers stand in {})", journal.path.display());
    }
    Ok(good)
}

/// Answers by drawing, appended as they come.
struct AnswerJournal {
    path: PathBuf,
    known: HashMap<(String, String), String>,
    file: Mutex<File>,
}

impl AnswerJournal {
    fn open(path: &Path) -> Result<Self, CliFailure> {
        let wrong = |error: &dyn std::fmt::Display| {
            CliFailure::other(format!("{}: {error}", path.display()))
        };
        let mut options = OpenOptions::new();
        let options = options.create(true).read(true).append(true);
        let mut file = options.open(path).map_err(|error| wrong(&error))?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(|error| wrong(&error))?;
        // A line that was torn is asked for again.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(|error| wrong(&error))?;
        let mut known = HashMap::new();
        for line in text[..whole].lines() {
            let row: Value = serde_json::from_str(line).map_err(|error| wrong(&error))?;
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            known.insert((text("id"), text("svg")), text("answer"));
        }
        Ok(Self {
            path: path.to_owned(),
            known,
            file: Mutex::new(file),
        })
    }

    fn known(&self, id: &str, svg: &str) -> Option<String> {
        self.known.get(&(id.to_owned(), svg.to_owned())).cloned()
    }

    fn keep(&self, id: &str, svg: &str, answer: &str) -> Result<(), String> {
        let line = json!({"id": id, "svg": svg, "answer": answer}).to_string() + "\n";
        let mut file = self
            .file
            .lock()
            .map_err(|_| "the journal is lost".to_owned())?;
        file.write_all(line.as_bytes())
            .map_err(|error| format!("{}: {error}", self.path.display()))
    }
}
