//! Pictures judged by networks: items are prepared on all cores while the networks look at those before them.

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
use super::picture_metric::{PictureMetric, SuiteNetwork};
use super::picture_task::{PictureCase, PictureTask};
use super::prepare::{Preparation, PreparedCase};
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

    /// The pictures of cases as PNG files, reference and prediction, as they are drawn or given; none where there is no
    /// reference.
    ///
    /// # Errors
    /// A machine that cannot draw.
    pub fn pictures(
        &self,
        tasks: &[PictureTask],
        cases: &[PictureCase],
    ) -> Result<Vec<Option<[Vec<u8>; 2]>>, TrainError> {
        let of = |case: &PictureCase| {
            let task = &tasks[case.task];
            self.preparation.files(
                task.canvas,
                (&case.prediction, &task.rows[case.row].reference),
            )
        };
        cases.iter().map(of).collect()
    }

    /// Judges every case of `tasks`, as they come; items stand in the suite's order.
    ///
    /// # Errors
    /// libtorch's, and a machine that cannot draw.
    pub fn judge(
        &self,
        tasks: &[PictureTask],
        cases: impl Iterator<Item = PictureCase> + Send,
        progress: &mut dyn FnMut(EvalProgress),
    ) -> Result<PictureScores, TrainError> {
        let started = Instant::now();
        let mut spent = JudgingTime::default();
        let mut items = Vec::new();
        let mut sets: IndexMap<(usize, PictureMetric), FeatureSets> = IndexMap::new();
        std::thread::scope(|scope| {
            let (sender, prepared) = sync_channel(2);
            let (preparation, batch) = (&self.preparation, self.batch);
            scope.spawn(move || {
                let mut cases = cases;
                loop {
                    let chunk: Vec<PictureCase> = cases.by_ref().take(batch).collect();
                    if chunk.is_empty() {
                        break;
                    }
                    let ready: Result<Vec<PreparedCase>, TrainError> = chunk
                        .par_iter()
                        .with_max_len(1)
                        .map(|case| preparation.prepare(&tasks[case.task], case))
                        .collect();
                    let ended = ready.is_err();
                    // Nobody takes what comes after an error.
                    if sender.send(ready).is_err() || ended {
                        break;
                    }
                }
            });
            for ready in prepared {
                let mut ready = ready?;
                let looking = Instant::now();
                self.look(tasks, &mut ready, &mut sets)?;
                spent.networks += looking.elapsed();
                progress(EvalProgress::Judged(ready.len()));
                items.extend(ready.into_iter().map(|case| (case.place, case.item)));
            }
            Ok::<(), TrainError>(())
        })?;
        spent.whole = started.elapsed();
        items.sort_by_key(|(place, _)| *place);
        let mut scores = PictureScores {
            items: items.into_iter().map(|(_, item)| item).collect(),
            spent,
            ..PictureScores::default()
        };
        sets.sort_keys();
        for ((task, metric), sets) in sets {
            let key = (tasks[task].name.clone(), metric.name().to_owned());
            scores.whole.insert(key, sets.distance());
        }
        Ok(scores)
    }

    /// Has the networks look at a batch.
    fn look(
        &self,
        tasks: &[PictureTask],
        ready: &mut [PreparedCase],
        sets: &mut IndexMap<(usize, PictureMetric), FeatureSets>,
    ) -> Result<(), TrainError> {
        use PictureMetric::{ClipImage, ClipText, ClipTextB32, Dino, Fid, FidClip};
        use SuiteNetwork::{ClipB32, ClipL14, Dinov2, Inception};
        let captions = [ClipL14, ClipB32].map(|network| self.captions(network, tasks, ready));
        let [large, small] = captions;
        let (large, small) = (large?, small?);
        for network in [ClipL14, ClipB32, Dinov2, Inception] {
            for (at, pair) in self.features(network, ready)? {
                let case = &mut ready[at];
                for metric in tasks[case.place.0].metrics.iter().copied() {
                    match metric {
                        Fid if network == Inception => {
                            sets.entry((case.place.0, Fid)).or_default().push(&pair)
                        }
                        FidClip if network == ClipB32 => {
                            sets.entry((case.place.0, FidClip)).or_default().push(&pair);
                        }
                        ClipImage if network == ClipL14 => {
                            case.item
                                .put(ClipImage.name(), 100.0 * cosine(&pair[0], &pair[1]));
                        }
                        ClipText if network == ClipL14 => {
                            if let Some(words) = &large[at] {
                                case.item
                                    .put(ClipText.name(), 100.0 * cosine(&pair[0], words));
                            }
                        }
                        ClipTextB32 if network == ClipB32 => {
                            if let Some(words) = &small[at] {
                                case.item
                                    .put(ClipTextB32.name(), 100.0 * cosine(&pair[0], words));
                            }
                        }
                        Dino if network == Dinov2 => {
                            case.item
                                .put(Dino.name(), (cosine(&pair[0], &pair[1]) + 1.0) / 2.0);
                        }
                        _ => {}
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
        Ok(())
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
