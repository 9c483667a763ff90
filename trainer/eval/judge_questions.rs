//! What a suite asks a judge elsewhere about its items, in words of this project's own, and what becomes of the answers.

use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexMap;

use super::caption_task::CaptionTask;
use super::composition::CompositionWish;
use super::eval_judge::{
    EvalJudgeConfig, JudgeFailure, JudgeScale, JudgeVariant, JudgedItem, ask_judge,
};
use super::item::EvalItem;
use super::picture_task::{PictureCase, PictureTask};
use super::prepare::JudgedPictures;
use crate::TrainError;

/// What a judge says of VectorGym's items, 0 to 100.
const JUDGE: &str = "judge";

/// What is asked of a judge.
#[derive(Debug, Clone, Default)]
pub enum JudgeQuestions {
    /// Nothing.
    #[default]
    None,
    /// How good drawings and captions are.
    VectorGym,
    /// Whether drawings show what was wished, by items' ids.
    Composition(IndexMap<String, CompositionWish>),
}

/// Items to ask about.
pub(super) struct AskedItems<'a> {
    /// The suite's tasks of pictures.
    pub(super) pictures: &'a [PictureTask],
    /// Its captions.
    pub(super) captions: &'a [CaptionTask],
    /// Drawings with their pictures.
    pub(super) cases: &'a [(PictureCase, Option<JudgedPictures>)],
}

impl JudgeQuestions {
    /// Whether anything is asked.
    pub(super) fn any(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The metrics that answers give a task.
    pub(super) fn metrics(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::VectorGym => vec![JUDGE.to_owned()],
            Self::Composition(wishes) => CompositionWish::metrics(wishes.values()),
        }
    }

    /// Asks about every item, and gives them the answers; what is to be told.
    ///
    /// # Errors
    /// Those of asking.
    pub(super) fn ask(
        &self,
        (config, folder): (&EvalJudgeConfig, Option<&Path>),
        asked: &AskedItems,
        items: &mut [&mut EvalItem],
    ) -> Result<Vec<String>, TrainError> {
        let questions = match self {
            Self::None => Vec::new(),
            Self::VectorGym => vectorgym(asked, config.variant),
            Self::Composition(wishes) => composition(asked, wishes),
        };
        let answers = ask_judge(config, &questions, folder)?;
        let mut of_items: HashMap<&(String, String), Vec<_>> = HashMap::new();
        for (question, answer) in questions.iter().zip(&answers) {
            let own = of_items.entry(&question.item).or_default();
            own.push((question, answer));
        }
        let mut nonsense = 0;
        for item in items.iter_mut() {
            let own = of_items.remove(&(item.task.clone(), item.id.clone()));
            let own = own.unwrap_or_default();
            match self {
                Self::None => {}
                Self::VectorGym => {
                    for (_, answer) in own {
                        match answer {
                            Ok(score) => item.put(JUDGE, *score),
                            Err(why) => item.fail(JUDGE, why.to_string()),
                        }
                    }
                }
                Self::Composition(wishes) => {
                    let Some(wish) = wishes.get(&item.id) else {
                        continue;
                    };
                    let counted =
                        |(question, answer): (&JudgedItem, &Result<f64, JudgeFailure>)| {
                            let zero = matches!(answer, Err(JudgeFailure::Nonsense(_)))
                                && config.variant == JudgeVariant::AsReleased;
                            nonsense += usize::from(zero);
                            let score = match answer {
                                Ok(score) => Ok(*score),
                                Err(_) if zero => Ok(0.0),
                                Err(why) => Err(why.to_string()),
                            };
                            (question.part.clone(), score)
                        };
                    let parts: Vec<_> = own.into_iter().map(counted).collect();
                    wish.score(item, &parts);
                }
            }
        }
        let told = format!(
            "{nonsense} answers of the judge hold no score and count 0, as in the released code (judge.variant: paper leaves them out)"
        );
        Ok((nonsense > 0).then_some(told).into_iter().collect())
    }
}

/// VectorGym's questions, by task.
fn vectorgym(asked: &AskedItems, variant: JudgeVariant) -> Vec<JudgedItem> {
    let (low, high) = variant.bounds();
    let item = |item: (&String, &String), what: String, pictures: Vec<Vec<u8>>| JudgedItem {
        item: (item.0.clone(), item.1.clone()),
        part: JUDGE.into(),
        text: format!(
            "{what}\nGive a number from {low} (nothing is right) to {high} (all is right). Answer by `score: NUMBER` on the first line, and say why in a sentence on the second."
        ),
        scale: JudgeScale::Number(variant),
        pictures: pictures.into_iter().map(Into::into).collect(),
    };
    let drawing = |(case, pictures): &(PictureCase, Option<JudgedPictures>)| {
        let task = &asked.pictures[case.task];
        let row = &task.rows[case.row];
        let pictures = pictures.as_ref()?;
        let (reference, own) = (pictures.reference.clone()?, pictures.prediction.clone());
        let words = row.caption.as_ref()?.as_ref().ok()?;
        // A drawing of words is judged by the words alone.
        let (what, shown) = match task.name.as_str() {
            "sketch" => ("The first picture is the drawing that a sketch stands for, the second one was made from the sketch. How close is the second to the first in its shapes, their places and its colours?".to_owned(), vec![reference, own]),
            "edit" => (format!("A drawing was to be edited: {words}\nThe first picture is the right result, the second one was made. Does the second show the edit, and keep everything else as it is in the first?"), vec![reference, own]),
            _ => (format!("The picture was to show: {words}\nHow well does it show everything that is asked for, and is it clear and well drawn?"), vec![own]),
        };
        Some(item((&task.name, &row.id), what, shown))
    };
    let captions = asked.captions.iter().flat_map(|task| {
        task.rows.iter().map(move |row| {
            let answer = row.answer.as_deref().unwrap_or_default();
            let what = format!("Two captions of one drawing. The right one: {}\nThe one to judge: {answer}\nDoes it name the same things, with their shapes, colours and places?", row.reference);
            ((&task.name, &row.id), what)
        })
    });
    let captions = captions.map(|(place, what)| item(place, what, Vec::new()));
    let drawings = asked.cases.iter().filter_map(drawing);
    drawings.chain(captions).collect()
}

/// SGP-CompBench's questions about what was drawn.
fn composition(asked: &AskedItems, wishes: &IndexMap<String, CompositionWish>) -> Vec<JudgedItem> {
    let of_case = |(case, pictures): &(PictureCase, Option<JudgedPictures>)| {
        let task = &asked.pictures[case.task];
        let row = &task.rows[case.row];
        let shown = pictures.as_ref().filter(|pictures| pictures.drawn);
        let wish = wishes.get(&row.id).zip(shown);
        let Some((wish, shown)) = wish else {
            return Vec::new();
        };
        let picture: std::sync::Arc<[u8]> = shown.prediction.clone().into();
        let words = row.caption.as_ref().and_then(|words| words.as_deref().ok());
        let questions = wish.questions(words.unwrap_or_default()).into_iter();
        questions
            .map(|(part, text)| JudgedItem {
                item: (task.name.clone(), row.id.clone()),
                part,
                text,
                scale: JudgeScale::Steps,
                pictures: vec![picture.clone()],
            })
            .collect()
    };
    asked.cases.iter().flat_map(of_case).collect()
}
