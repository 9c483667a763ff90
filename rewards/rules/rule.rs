//! What a reward is: [`RewardFn`], which each file of this folder implements for its options, and what it is given.
//!
//! No method that gives a value has a default: the compiler asks a new reward for each of them. What a scorer lends to
//! rewards is [`Tools`]; a value that waits for an encoder or a judge is one of [`Value`].

use crate::encode::{EncoderUse, Encoders};
use crate::judge::{JudgeClient, JudgeSetup};
use crate::own::{OwnClient, OwnSetup};
use crate::picture::Picture;
use crate::reference::Reference;
use crate::rules::value::Value;
use crate::types::ScoreJob;
use crate::variant::Variant;
use std::any::Any;
use std::path::Path;
use std::sync::Arc;

/// A reward type: its options are the fields of what implements this.
pub(crate) trait RewardFn: Send + Sync + 'static {
    /// What is kept of a reference for the group's other completions; `()` where pictures of it play no part.
    type Kept: Send + Sync + 'static;

    /// What a completion gets that is none.
    const INVALID: OfInvalid;
    /// Whose literature reports it.
    const REPORTED: &'static [Reported];

    /// What it judges, and what it cannot do without.
    fn needs(&self) -> RewardNeeds<'_>;

    /// The first of its own options out of bounds, as `key: rule, got value`.
    fn check(&self) -> Result<(), String>;

    /// Makes its paths, relative to a folder, independent of it.
    fn resolve_paths(&mut self, _: &Path) {}

    /// Leaves out where its files lie.
    fn without_place(&mut self) {}

    /// Takes the task's variant where it has variants and names none.
    fn take_variant(&mut self, _: Variant) {}

    /// The same as [`check`](Self::check) for what can be told only when its encoder is loaded.
    fn check_encoder(&self, _: &Encoders) -> Result<(), String> {
        Ok(())
    }

    /// The judge that it asks.
    fn judge(&self) -> Option<JudgeSetup> {
        None
    }

    /// Who of the user's own is asked.
    fn own(&self) -> Option<OwnSetup> {
        None
    }

    /// What it keeps of a reference. Pictures are there where it [needs](Self::needs) them.
    fn prepare(&self, reference: &ReferencePictures, tools: &Tools) -> Self::Kept;

    /// Its value of a completion, neither cut nor weighted. All that it [needs](Self::needs) is there.
    fn score(&self, cx: &ScoreContext, kept: &Self::Kept) -> Value;
}

/// What completions it judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// SVGs, which are drawn.
    Svg,
    /// Words.
    Words,
    /// Either.
    Any,
}

/// What a reward needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RewardNeeds<'a> {
    pub subject: Subject,
    /// The reference's SVG text.
    pub reference_svg: bool,
    /// The reference's words.
    pub reference_text: bool,
    /// The reference as a picture.
    pub reference_picture: bool,
    /// The SVG that the prompt showed.
    pub draft: bool,
    /// A counter of tokens.
    pub tokens: bool,
    /// An encoder by its name, and what it is asked for.
    pub encoder: Option<(&'a str, EncoderUse)>,
}

impl<'a> RewardNeeds<'a> {
    /// Nothing but completions.
    pub const fn nothing_but(subject: Subject) -> Self {
        RewardNeeds {
            subject,
            reference_svg: false,
            reference_text: false,
            reference_picture: false,
            draft: false,
            tokens: false,
            encoder: None,
        }
    }

    /// SVGs beside their reference's picture.
    pub const fn reference_picture() -> Self {
        RewardNeeds {
            reference_picture: true,
            ..RewardNeeds::nothing_but(Subject::Svg)
        }
    }

    /// Words beside their reference's.
    pub const fn reference_text() -> Self {
        RewardNeeds {
            reference_text: true,
            ..RewardNeeds::nothing_but(Subject::Words)
        }
    }

    /// An encoder besides.
    pub const fn and_encoder(self, name: &'a str, what: EncoderUse) -> Self {
        RewardNeeds {
            encoder: Some((name, what)),
            ..self
        }
    }
}

/// What a completion gets of a reward that has the wrong shape or does not render.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfInvalid {
    /// The rubric's `failure_value`.
    FailureValue,
    /// 0, whatever the rubric says.
    Zero,
    /// The rubric's `failure_value`; as a metric it is left out.
    Unmeasured,
}

/// Tasks as the literature has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Words to an SVG (CTRL-S, SGP-RL).
    TextToSvg,
    /// A picture to an SVG, a sketch or an edit among them (SArena, VectorGym).
    ImageToSvg,
    /// A flawed SVG to a better one.
    Refinement,
    /// An SVG to words.
    Caption,
    /// Multiple choice.
    Understanding,
}

/// That a setting's literature reports a reward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported {
    pub by: Setting,
    /// Where it stands among those that it reports without an encoder, from 0.
    pub place: u8,
}

/// What a scorer lends to a reward.
#[derive(Clone, Copy)]
pub(crate) struct Tools<'a> {
    pub encoders: &'a Encoders,
    /// Counts the tokens of an SVG; there where the reward [needs](Needs::tokens) it.
    pub tokens: Option<&'a dyn Fn(&str) -> usize>,
    /// There where the reward has one.
    pub judge: Option<&'a JudgeClient>,
    /// There where the reward is the user's own.
    pub own: Option<&'a OwnClient>,
}

/// A reference's pictures; none for tasks of words and for references that have none.
#[derive(Clone, Copy, Default)]
pub(crate) struct ReferencePictures<'a> {
    pub drawn: Option<&'a Drawn>,
    /// What the prompt showed, on the same pixels; none where it does not render.
    pub draft: Option<&'a Arc<Picture>>,
}

/// A drawing as it came out.
#[derive(Clone)]
pub(crate) struct Drawn {
    pub picture: Arc<Picture>,
    /// Its document's own width and height.
    pub intrinsic: (f64, f64),
}

impl ReferencePictures<'_> {
    /// The reference's drawing.
    pub fn drawn(&self) -> &Drawn {
        self.drawn
            .expect("a reward that needs the reference's picture is not asked without")
    }

    /// Its picture.
    pub fn picture(&self) -> &Arc<Picture> {
        &self.drawn().picture
    }
}

/// A completion that was drawn.
pub(crate) struct CompletionPictures {
    /// As it came out: what encoders see.
    pub drawn: Drawn,
    /// On the reference's pixels.
    pub fitted: Arc<Picture>,
}

/// A completion beside what it should have been.
pub(crate) struct ScoringCase<'a> {
    /// The SVG's code, or the words.
    pub text: &'a str,
    /// Where it comes from: prompt, reference, the whole completion.
    pub job: &'a ScoreJob,
    /// None for words.
    pub pictures: Option<&'a CompletionPictures>,
}

/// All that a reward may ask about a completion.
pub(crate) struct ScoreContext<'a> {
    pub case: &'a ScoringCase<'a>,
    pub tools: Tools<'a>,
}

impl<'a> ScoreContext<'a> {
    /// The SVG's code, or the words.
    pub fn text(&self) -> &'a str {
        self.case.text
    }

    /// The whole completion.
    pub fn completion(&self) -> &'a str {
        &self.case.job.candidate.text
    }

    pub fn prompt(&self) -> &'a str {
        &self.case.job.prompt
    }

    /// The completion's pictures.
    pub fn pictures(&self) -> &'a CompletionPictures {
        self.case
            .pictures
            .expect("a reward of SVGs is not asked about words: the task's check refuses it")
    }

    /// The reference's SVG text.
    pub fn reference_svg(&self) -> &'a str {
        self.reference().svg.as_deref().unwrap_or_default()
    }

    /// The reference's words.
    pub fn reference_text(&self) -> &'a str {
        self.reference().text.as_deref().unwrap_or_default()
    }

    /// What was asked for: the reference's words, else the prompt.
    pub fn wish(&self) -> &'a str {
        self.reference().wish(self.prompt())
    }

    fn reference(&self) -> &'a Reference {
        &self.case.job.reference
    }
}

/// A reward of any type.
pub(crate) trait AnyReward {
    fn of_invalid(&self) -> OfInvalid;
    fn reported(&self) -> &'static [Reported];
    fn needs(&self) -> RewardNeeds<'_>;
    fn check(&self) -> Result<(), String>;
    fn resolve_paths(&mut self, folder: &Path);
    fn without_place(&mut self);
    fn take_variant(&mut self, variant: Variant);
    fn check_encoder(&self, encoders: &Encoders) -> Result<(), String>;
    fn judge(&self) -> Option<JudgeSetup>;
    fn own(&self) -> Option<OwnSetup>;
    fn prepare(&self, reference: &ReferencePictures, tools: &Tools) -> AnyKept;
    fn score(&self, cx: &ScoreContext, kept: &AnyKept) -> Value;
}

/// What a reward of any type keeps of a reference.
pub(crate) struct AnyKept(Box<dyn Any + Send + Sync>);

impl<R: RewardFn> AnyReward for R {
    fn of_invalid(&self) -> OfInvalid {
        R::INVALID
    }

    fn reported(&self) -> &'static [Reported] {
        R::REPORTED
    }

    fn needs(&self) -> RewardNeeds<'_> {
        RewardFn::needs(self)
    }

    fn check(&self) -> Result<(), String> {
        RewardFn::check(self)
    }

    fn resolve_paths(&mut self, folder: &Path) {
        RewardFn::resolve_paths(self, folder);
    }

    fn without_place(&mut self) {
        RewardFn::without_place(self);
    }

    fn take_variant(&mut self, variant: Variant) {
        RewardFn::take_variant(self, variant);
    }

    fn check_encoder(&self, encoders: &Encoders) -> Result<(), String> {
        RewardFn::check_encoder(self, encoders)
    }

    fn judge(&self) -> Option<JudgeSetup> {
        RewardFn::judge(self)
    }

    fn own(&self) -> Option<OwnSetup> {
        RewardFn::own(self)
    }

    fn prepare(&self, reference: &ReferencePictures, tools: &Tools) -> AnyKept {
        AnyKept(Box::new(RewardFn::prepare(self, reference, tools)))
    }

    fn score(&self, cx: &ScoreContext, kept: &AnyKept) -> Value {
        let kept = kept.0.downcast_ref().expect("the same reward kept it");
        RewardFn::score(self, cx, kept)
    }
}
