//! `svgrl refine`: one policy draws, criticises its drawing and corrects it, round after round (IntroSVG, arXiv
//! 2603.09312).
//!
//! The released loop gives an item up when a drawing does not render or a critique is no JSON. Here it goes on: the
//! correction is then told why there is no picture, or is given the critic's words as they are. Every round is kept.

mod args;
pub mod critique;
mod item;
pub mod roles;
mod sampler;
mod strip;

use std::fs;
use std::path::Path;
use std::time::Duration;

use rayon::prelude::*;
use rollout::FinishReason;
use serde_json::json;
use svg::{CanvasRule, RenderConfig, Renderer, WorkerProgram};

use super::rows;
use super::{CliFailure, SharedFlags};
use crate::progress::Bar;
pub use args::Args;
use item::{PromptRow, RefineItem, Round};
use roles::{Role, RoleTemplates};
use sampler::{RoleQuestion, RoleSampler};

/// Pixels that a picture's side may have.
const SIDES: std::ops::RangeInclusive<u32> = 16..=2048;
/// What one drawing may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let templates = RoleTemplates::read(args.templates.as_deref())?;
    let prompts: Vec<rows::Row<PromptRow>> = rows::read(&args.prompts, shared.quiet)?;
    if fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CliFailure::input(format!(
            "--out {}: is not empty; a loop gets a folder of its own",
            args.out.display()
        )));
    }
    let render = RenderConfig {
        canvas: CanvasRule::Fixed,
        size: args.size,
        ..RenderConfig::default()
    };
    if !SIDES.contains(&args.size) {
        return Err(CliFailure::input(format!(
            "--size: must be {} to {}, got {}",
            SIDES.start(),
            SIDES.end(),
            args.size
        )));
    }
    let mut items: Vec<RefineItem> = prompts
        .into_iter()
        .enumerate()
        .map(RefineItem::new)
        .collect();
    let sampler = RoleSampler::open(args, shared)?;
    for folder in ["pictures", "strips"] {
        let path = args.out.join(folder);
        fs::create_dir_all(&path)
            .map_err(|error| CliFailure::input(format!("--out {}: {error}", path.display())))?;
    }
    let asks = items.len() * (2 * args.rounds + 2);
    let mut refining = Refining {
        args,
        templates,
        sampler,
        renderer: Renderer::new(&WorkerProgram::Installed, DEADLINE).map_err(CliFailure::other)?,
        render,
        bar: Bar::new("refine", asks as u64, shared.quiet),
    };
    refining.draw(&mut items, Role::Draft, 0)?;
    for round in 1..=args.rounds {
        refining.criticise(&mut items, round - 1, false)?;
        refining.draw(&mut items, Role::Correct, round)?;
    }
    refining.criticise(&mut items, args.rounds, true)?;
    refining.bar.finish();
    write(&args.out, &items)?;
    summary(&items, shared);
    Ok(())
}

/// What the phases share.
struct Refining<'a> {
    args: &'a Args,
    templates: RoleTemplates,
    sampler: RoleSampler,
    renderer: Renderer,
    render: RenderConfig,
    bar: Bar,
}

impl Refining<'_> {
    /// Drafts, or corrections of what is still worked on, drawn.
    fn draw(
        &mut self,
        items: &mut [RefineItem],
        role: Role,
        round: usize,
    ) -> Result<(), CliFailure> {
        let temperature = match role {
            Role::Draft => self.args.draft_temperature,
            Role::Critique | Role::Correct => self.args.correct_temperature,
        };
        let asked: Vec<RoleQuestion> = items
            .iter()
            .filter(|item| !item.done)
            .map(|item| item.asked(role, &self.templates, &self.args.out))
            .collect();
        let phase = (2 * round) as u64;
        let longest = self.args.max_new_tokens;
        let answers = self
            .sampler
            .answers(asked, (temperature, longest), phase, &mut self.bar)?;
        let (renderer, render, out) = (&self.renderer, &self.render, &self.args.out);
        let drawn: Vec<(usize, Round)> = answers
            .into_par_iter()
            .map(|(index, completion)| {
                let text = completion.text.unwrap_or_default();
                let cut = completion.finish == FinishReason::Length;
                (
                    index,
                    Round::drawn((role, round), (text, cut), (renderer, render)),
                )
            })
            .collect();
        for (index, mut round) in drawn {
            round.keep_picture(out, index)?;
            items[index].rounds.push(round);
        }
        Ok(())
    }

    /// A critique of every drawing that is still worked on and can be seen.
    fn criticise(
        &mut self,
        items: &mut [RefineItem],
        round: usize,
        last: bool,
    ) -> Result<(), CliFailure> {
        let temperature = match last {
            true => 0.0,
            false => self.args.critique_temperature,
        };
        let asked: Vec<RoleQuestion> = items
            .iter()
            .filter(|item| !item.done && item.picture().is_some())
            .map(|item| item.asked(Role::Critique, &self.templates, &self.args.out))
            .collect();
        let phase = (2 * round + 1) as u64;
        let longest = self.args.critique_tokens;
        let answers = self
            .sampler
            .answers(asked, (temperature, longest), phase, &mut self.bar)?;
        for (index, completion) in answers {
            let said = critique::understood(&completion.text.unwrap_or_default());
            let good = |at: f64| said.score.is_some_and(|score| score >= at);
            items[index].done = self.args.stop_at.is_some_and(good);
            if let Some(round) = items[index].rounds.last_mut() {
                round.said = Some(said);
            }
        }
        Ok(())
    }
}

/// Rounds, last drawings and strips.
fn write(out: &Path, items: &[RefineItem]) -> Result<(), CliFailure> {
    let mut rounds = rows::RowWriter::create(&out.join("rounds.jsonl"))?;
    let mut last = rows::RowWriter::create(&out.join("final.jsonl"))?;
    for item in items {
        for round in &item.rounds {
            rounds.write(&round.row(item))?;
        }
        let Some(end) = item.rounds.last() else {
            continue;
        };
        let score = end.said.as_ref().and_then(|said| said.score);
        last.write(&json!({
            "id": item.row.id, "prompt": item.row.prompt, "svg": end.svg, "score": score,
            "rounds": item.rounds.len() - 1,
        }))?;
        let strip = out.join("strips").join(format!("{}.png", item.name()));
        let png = strip::strip(&item.rounds).map_err(CliFailure::other)?;
        fs::write(&strip, png)
            .map_err(|error| CliFailure::other(format!("{}: {error}", strip.display())))?;
    }
    rounds.finish()?;
    last.finish()
}

/// What came of it, on standard error.
fn summary(items: &[RefineItem], shared: &SharedFlags) {
    if shared.quiet {
        return;
    }
    let longest = items
        .iter()
        .map(|item| item.rounds.len())
        .max()
        .unwrap_or(0);
    for round in 0..longest {
        let of_round = || items.iter().filter_map(|item| item.rounds.get(round));
        let scores: Vec<f64> = of_round()
            .filter_map(|round| round.said.as_ref()?.score)
            .collect();
        let mean = match scores.is_empty() {
            true => "none".to_owned(),
            false => format!("{:.2}", scores.iter().sum::<f64>() / scores.len() as f64),
        };
        let rendered = of_round().filter(|round| round.raster.is_some()).count();
        let judged = scores.len();
        eprintln!(
            "round {round}: {rendered} of {} render, mean score {mean} ({judged} judged)",
            of_round().count()
        );
    }
}
