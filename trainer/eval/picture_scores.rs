//! Pictures judged by networks: items are prepared on all cores while the networks look at those before them. What was
//! judged before, of the same prediction by the same networks, is taken over from a journal.

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use indexmap::IndexMap;
use rayon::prelude::*;
use tch::{Device, Tensor};

use super::config::SuiteConfig;
use super::frechet::FeatureMoments;
use super::item::EvalItem;
use super::judging_time::JudgingTime;
use super::networks::{FeaturePair, PicturePair, SuiteNetworks, cosine};
use super::picture_metric::{FeatureRule, PictureMetric, SuiteNetwork};
use super::picture_task::{PictureCase, PictureTask};
use super::prepare::{JudgedPictures, Preparation, PreparedCase};
use super::score_journal::{JudgedCase, KeptFeatures, ScoreJournal};
use crate::TrainError;

/// How far an evaluation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalProgress {
    /// So many items will be judged.
    Begin(usize),
    /// So many more are.
    Judged(usize),
}

/// What was found of pictures.
#[derive(Debug, Default)]
pub struct PictureScores {
    /// Every item.
    pub items: Vec<EvalItem>,
    /// Numbers of tasks as wholes, by task and metric.
    pub whole: IndexMap<(String, String), Result<f64, String>>,
    /// Features of predictions by task, item and the metric that they are of, for how different drawings are.
    pub features: Vec<(String, String, PictureMetric, Vec<f32>)>,
    /// What it took.
    pub spent: JudgingTime,
}

/// Features of a task's predictions and references, one after the other.
#[derive(Default)]
struct FeatureSets {
    width: usize,
    sides: [Vec<f32>; 2],
}

/// What judges pictures.
pub struct PictureJudge {
    networks: SuiteNetworks,
    preparation: Preparation,
    batch: usize,
}

/// A judged item with its task's and its own place, and whether it is new.
type PlacedCase = ((usize, usize), JudgedCase, bool);

/// An item before networks see it: new, or judged before.
enum CaseState {
    New(PreparedCase, Option<String>),
    Known((usize, usize), JudgedCase),
}

impl PictureJudge {
    /// With the networks that `tasks` need.
    ///
    /// # Errors
    /// A network or a tokenizer that cannot be read.
    pub fn open(
        config: &SuiteConfig,
        tasks: &[PictureTask],
        device: Device,
    ) -> Result<Self, TrainError> {
        let metrics: Vec<PictureMetric> =
            tasks.iter().flat_map(|task| task.metrics.clone()).collect();
        let networks = SuiteNetworks::open(config, &metrics, device)?;
        let preparation = Preparation::new(config, &networks)?;
        let batch = match (config.batch, device) {
            (0, Device::Cpu) => 8,
            (0, _) => 64,
            (batch, _) => batch,
        };
        Ok(Self {
            networks,
            preparation,
            batch,
        })
    }

    /// Whether a metric can be computed.
    pub fn has(&self, metric: PictureMetric) -> bool {
        match metric.network() {
            Some(SuiteNetwork::Lpips) => self.networks.has_lpips(),
            Some(network) => self.networks.encoder(network).is_some(),
            None => metric != PictureMetric::Tokens || self.preparation.counts_tokens(),
        }
    }

    /// What a judge elsewhere may be shown of cases, as they are drawn or given; none where there should be a reference and is
    /// none.
    ///
    /// # Errors
    /// A machine that cannot draw.
    pub fn pictures(
        &self,
        tasks: &[PictureTask],
        cases: &[PictureCase],
    ) -> Result<Vec<Option<JudgedPictures>>, TrainError> {
        let preparation = &self.preparation;
        let of = |case: &PictureCase| {
            let task = &tasks[case.task];
            preparation.files(
                task.canvas,
                (&case.prediction, &task.rows[case.row].reference),
            )
        };
        cases.par_iter().with_max_len(1).map(of).collect()
    }

    /// Judges every case of `tasks`, as they come, those in `journal` apart; items stand in the suite's order.
    ///
    /// # Errors
    /// libtorch's, a machine that cannot draw, a journal that cannot be written.
    pub fn judge(
        &self,
        tasks: &[PictureTask],
        cases: impl Iterator<Item = PictureCase> + Send,
        mut journal: Option<&mut ScoreJournal>,
        progress: &mut dyn FnMut(EvalProgress),
    ) -> Result<PictureScores, TrainError> {
        let started = Instant::now();
        let mut scores = PictureScores::default();
        let mut items = Vec::new();
        let mut sets: IndexMap<(usize, PictureMetric), FeatureSets> = IndexMap::new();
        let known = journal.as_deref().map(ScoreJournal::known);
        std::thread::scope(|scope| {
            let (sender, prepared) = sync_channel(2);
            let (preparation, batch) = (&self.preparation, self.batch);
            let known = known.clone();
            scope.spawn(move || {
                let state = |case: &PictureCase| {
                    let task = &tasks[case.task];
                    let key = known.as_ref().map(|known| known.key(task, case));
                    let before = known.as_ref().zip(key.as_deref());
                    if let Some(judged) = before.and_then(|(known, key)| known.find(key)) {
                        return Ok(CaseState::Known((case.task, case.row), judged));
                    }
                    Ok(CaseState::New(preparation.prepare(task, case)?, key))
                };
                let mut cases = cases;
                loop {
                    let chunk: Vec<PictureCase> = cases.by_ref().take(batch).collect();
                    if chunk.is_empty() {
                        break;
                    }
                    let ready: Result<Vec<CaseState>, TrainError> =
                        chunk.par_iter().with_max_len(1).map(state).collect();
                    let ended = ready.is_err();
                    // Nobody takes what comes after an error.
                    if sender.send(ready).is_err() || ended {
                        break;
                    }
                }
            });
            for ready in prepared {
                let judged = self.chunk(tasks, ready?, &mut scores.spent)?;
                progress(EvalProgress::Judged(judged.len()));
                let new = judged
                    .iter()
                    .filter_map(|(_, judged, new)| new.then_some(judged));
                if let Some(journal) = journal.as_deref_mut() {
                    journal.add(new)?;
                }
                for (place, judged, _) in judged {
                    let task = &tasks[place.0].name;
                    for KeptFeatures { metric, sides } in judged.features {
                        let mut sides = sides.into_iter();
                        let (Some(own), reference) = (sides.next(), sides.next()) else {
                            continue;
                        };
                        match reference {
                            Some(reference) => sets
                                .entry((place.0, metric))
                                .or_default()
                                .push(&[own, reference]),
                            None => {
                                let id = judged.item.id.clone();
                                scores.features.push((task.clone(), id, metric, own));
                            }
                        }
                    }
                    items.push((place, judged.item));
                }
            }
            Ok::<(), TrainError>(())
        })?;
        scores.spent.whole = started.elapsed();
        items.sort_by_key(|(place, _)| *place);
        scores.items = items.into_iter().map(|(_, item)| item).collect();
        sets.sort_keys();
        for ((task, metric), sets) in sets {
            let key = (tasks[task].name.clone(), metric.name().to_owned());
            scores.whole.insert(key, sets.distance());
        }
        Ok(scores)
    }

    /// Judges what of a chunk is new; all of it by place, with whether it is.
    fn chunk(
        &self,
        tasks: &[PictureTask],
        chunk: Vec<CaseState>,
        spent: &mut JudgingTime,
    ) -> Result<Vec<PlacedCase>, TrainError> {
        let (mut ready, mut keys, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for (at, state) in chunk.into_iter().enumerate() {
            match state {
                CaseState::New(case, key) => {
                    ready.push(case);
                    keys.push((at, key));
                }
                CaseState::Known(place, judged) => known.push((at, place, judged)),
            }
        }
        let looking = Instant::now();
        let features = self.look(tasks, &mut ready)?;
        spent.networks += looking.elapsed();
        let new = ready.into_iter().zip(features).zip(keys);
        let mut all: Vec<_> = new
            .map(|((case, features), (at, key))| {
                let judged = JudgedCase {
                    key: key.unwrap_or_default(),
                    item: case.item,
                    features,
                };
                (at, (case.place, judged, true))
            })
            .collect();
        let known = known.into_iter();
        all.extend(known.map(|(at, place, judged)| (at, (place, judged, false))));
        all.sort_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, judged)| judged).collect())
    }

    /// Has the networks look at a batch; of each item the features that are wanted of all items together.
    fn look(
        &self,
        tasks: &[PictureTask],
        ready: &mut [PreparedCase],
    ) -> Result<Vec<Vec<KeptFeatures>>, TrainError> {
        let mut kept: Vec<Vec<KeptFeatures>> = ready.iter().map(|_| Vec::new()).collect();
        for network in self.networks.all() {
            let words = self.captions(network, tasks, ready)?;
            for (at, pair) in self.features(network, ready)? {
                let case = &mut ready[at];
                let metrics = tasks[case.place.0].metrics.iter().copied();
                for metric in metrics.filter(|metric| metric.network() == Some(network)) {
                    let mut keep = |sides| kept[at].push(KeptFeatures { metric, sides });
                    let like = |a: &[f32], b: &[f32]| cosine(a, b);
                    let [own, reference] = &pair;
                    match metric.rule() {
                        Some(FeatureRule::Sets) => keep(pair.to_vec()),
                        Some(FeatureRule::Words(scale)) => {
                            if let Some(words) = &words[at] {
                                case.item.put(metric.name(), scale * like(own, words));
                            }
                        }
                        Some(FeatureRule::Pair(scale)) => {
                            case.item.put(metric.name(), scale * like(own, reference));
                            if network.is_class_token() && case.item.valid {
                                keep(vec![own.clone()]);
                            }
                        }
                        Some(FeatureRule::Halved) => {
                            let halved = (like(own, reference) + 1.0) / 2.0;
                            case.item.put(metric.name(), halved);
                        }
                        None => {}
                    }
                }
            }
        }
        let at: Vec<usize> = (0..ready.len())
            .filter(|&at| ready[at].whole.is_some())
            .collect();
        let pairs: Vec<&PicturePair> = ready
            .iter()
            .filter_map(|case| case.whole.as_ref())
            .collect();
        let distances = self.networks.distances(&pairs)?;
        for (at, distance) in at.into_iter().zip(distances) {
            ready[at].item.put(PictureMetric::Lpips.name(), distance);
        }
        Ok(kept)
    }

    /// An encoder's features of those that were brought to its size, by their places.
    fn features(
        &self,
        network: SuiteNetwork,
        ready: &[PreparedCase],
    ) -> Result<Vec<(usize, FeaturePair)>, TrainError> {
        let own = |case: &PreparedCase| case.fitted.iter().position(|(name, _)| *name == network);
        let places: Vec<(usize, usize)> = ready
            .iter()
            .enumerate()
            .filter_map(|(at, case)| Some((at, own(case)?)))
            .collect();
        let pairs: Vec<&PicturePair> = places
            .iter()
            .map(|&(at, own)| &ready[at].fitted[own].1)
            .collect();
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let features = self.networks.features(network, &pairs)?;
        Ok(places.into_iter().map(|(at, _)| at).zip(features).collect())
    }

    /// A network's features of the captions that it is asked about, by place.
    fn captions(
        &self,
        network: SuiteNetwork,
        tasks: &[PictureTask],
        ready: &[PreparedCase],
    ) -> Result<Vec<Option<Vec<f32>>>, TrainError> {
        let mut found = vec![None; ready.len()];
        let Some(encoder) = self.networks.encoder(network) else {
            return Ok(found);
        };
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        for (at, case) in ready.iter().enumerate() {
            let mut metrics = tasks[case.place.0].metrics.iter();
            let asked = metrics.any(|m| m.is_of_words() && m.network() == Some(network));
            if let Some(caption) = case.caption.as_ref().filter(|_| asked) {
                places.push(at);
                texts.push(encoder.tokenize(caption)?);
            }
        }
        let words = self.networks.texts(network, &texts)?;
        for (at, words) in places.into_iter().zip(words) {
            found[at] = Some(words);
        }
        Ok(found)
    }
}

impl FeatureSets {
    fn push(&mut self, pair: &FeaturePair) {
        self.width = pair[0].len();
        for (side, row) in self.sides.iter_mut().zip(pair) {
            side.extend_from_slice(row);
        }
    }

    fn distance(&self) -> Result<f64, String> {
        let moments = |side: &Vec<f32>| {
            FeatureMoments::of(&Tensor::from_slice(side).view([-1, self.width as i64]))
        };
        moments(&self.sides[1])?.distance(&moments(&self.sides[0])?)
    }
}
