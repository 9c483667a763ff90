//! A prompt on its way through the rounds.

use std::fs;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Value, json};
use svg::{Raster, RenderConfig, Renderer, extract};

use super::super::{CliFailure, rows};
use super::critique::Critique;
use super::roles::{Role, RoleTemplates, filled};
use super::sampler::RoleQuestion;

/// A row of the input.
#[derive(Debug, Clone, Deserialize)]
pub struct PromptRow {
    /// The user's own.
    pub id: Value,
    /// What is to be drawn.
    pub prompt: String,
}

impl rows::FileRow for PromptRow {
    const KEYS: &'static [&'static [&'static str]] = &[&["id", "prompt"]];
}

/// A prompt and its rounds.
pub struct RefineItem {
    /// Its place in the input.
    pub index: usize,
    /// Its row.
    pub row: PromptRow,
    place: String,
    /// What was drawn, the draft first.
    pub rounds: Vec<Round>,
    /// Whether it is good enough.
    pub done: bool,
}

/// One drawing and what was said of it.
pub struct Round {
    role: Role,
    number: usize,
    text: String,
    cut: bool,
    /// Its SVG, where the answer holds one.
    pub svg: Option<String>,
    /// It drawn.
    pub raster: Option<Raster>,
    /// Why not.
    reason: Option<String>,
    picture: Option<PathBuf>,
    /// The critique.
    pub said: Option<Critique>,
}

impl RefineItem {
    /// Of a row.
    pub fn new((index, row): (usize, rows::Row<PromptRow>)) -> Self {
        Self {
            index,
            place: row.place,
            row: row.value,
            rounds: Vec::new(),
            done: false,
        }
    }

    /// What its files are called.
    pub fn name(&self) -> String {
        name(self.index)
    }

    /// The picture of its last drawing.
    pub fn picture(&self) -> Option<&Path> {
        self.rounds.last()?.picture.as_deref()
    }

    /// The question to `role`; pictures lie in `out`.
    pub fn asked(&self, role: Role, templates: &RoleTemplates, out: &Path) -> RoleQuestion {
        let last = self.rounds.last();
        let said = last
            .and_then(|round| round.said.clone())
            .unwrap_or_default();
        let unseen = last.and_then(|round| round.reason.as_deref());
        let critique = match unseen {
            Some(reason) => format!("it cannot be drawn: {reason}"),
            None => said.critique,
        };
        let draft = last.map(|round| round.svg.as_deref().unwrap_or(&round.text));
        let fields = IndexMap::from([
            ("prompt", self.row.prompt.as_str()),
            ("draft", draft.unwrap_or_default()),
            ("critique", &critique),
            ("suggestions", &said.suggestions),
        ]);
        let template = templates.of(role);
        let image = match role {
            Role::Critique => self.picture().map(|picture| out.join(picture)),
            Role::Draft | Role::Correct => None,
        };
        let words = match &image {
            Some(_) => template
                .splitn(2, "{image}")
                .map(|part| filled(part, &fields))
                .collect(),
            None => vec![filled(template, &fields)],
        };
        RoleQuestion {
            index: self.index,
            words,
            image,
            place: self.place.clone(),
        }
    }
}

fn name(index: usize) -> String {
    format!("{index:06}")
}

impl Round {
    /// An answer, and what it draws.
    pub fn drawn(
        (role, number): (Role, usize),
        (text, cut): (String, bool),
        (renderer, config): (&Renderer, &RenderConfig),
    ) -> Self {
        let found = extract::first_svg(&text).or_else(|| extract::truncated_tail(&text));
        let svg = found.map(str::to_owned);
        let drawn = match &svg {
            None => Err("the answer holds no SVG".to_owned()),
            Some(svg) => renderer
                .render(svg, config.own_target(), config)
                .map(|rendered| rendered.raster)
                .map_err(|failure| failure.to_string()),
        };
        let (raster, reason) = match drawn {
            Ok(raster) => (Some(raster), None),
            Err(reason) => (None, Some(reason)),
        };
        Self {
            role,
            number,
            text,
            cut,
            svg,
            raster,
            reason,
            picture: None,
            said: None,
        }
    }

    /// Writes its picture below `out`.
    pub fn keep_picture(&mut self, out: &Path, index: usize) -> Result<(), CliFailure> {
        let Some(raster) = &self.raster else {
            return Ok(());
        };
        let picture = Path::new("pictures").join(format!("{}_{}.png", name(index), self.number));
        let path = out.join(&picture);
        let png = raster.to_png().map_err(CliFailure::other)?;
        fs::write(&path, png)
            .map_err(|error| CliFailure::other(format!("{}: {error}", path.display())))?;
        self.picture = Some(picture);
        Ok(())
    }

    /// Its row of rounds.jsonl.
    pub fn row(&self, item: &RefineItem) -> Value {
        let said = self.said.as_ref();
        json!({
            "id": item.row.id,
            "prompt": item.row.prompt,
            "round": self.number,
            "role": match self.role {
                Role::Draft => "draft",
                Role::Critique => "critique",
                Role::Correct => "correction",
            },
            "text": self.text,
            "svg": self.svg,
            "finish_reason": if self.cut { "length" } else { "stop" },
            "picture": self.picture,
            "reason": self.reason,
            "score": said.and_then(|said| said.score),
            "critique": said.map(|said| &said.critique),
            "suggestions": said.map(|said| &said.suggestions),
        })
    }
}
