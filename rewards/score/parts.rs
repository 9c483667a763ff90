//! What each reward makes of one completion: a number, or something that an encoder or a judge will give.

use super::{Case, Pair, Task};
use crate::choice::Choice;
use crate::compare::{Feature, compare, feature, lpips_picture};
use crate::config::RewardConfig;
use crate::edges::edge_picture;
use crate::encode::{self, Ticket};
use crate::length::{CodeEfficiency, LengthRatio};
use crate::pending::{Part, Wait};
use crate::picture::Picture;
use crate::shape::Aspect;
use crate::text::{rouge_l, sentence_bleu, sentence_chrf};
use std::sync::Arc;
use svg::Filter;

impl Task {
    /// The part of a completion that is words.
    pub(super) fn part_of_text(&self, config: &RewardConfig, text: &str, case: &Case) -> Part {
        match config {
            RewardConfig::TextSimilarity(rule) => {
                let target = case.reference.text.as_deref().unwrap_or_default();
                let pair = [text, target].map(|text| self.encoders.text(&rule.encoder, text));
                Part::Waits(Wait::Cosine(pair, rule.scale))
            }
            RewardConfig::BertScore(rule) => {
                let target = case.reference.text.as_deref().unwrap_or_default();
                let tokens = self.encoders.token_layers(&rule.encoder);
                // Asked for when the task was made.
                let layer = tokens.and_then(|tokens| rule.layer_of(tokens).ok());
                let (Some((_, width)), Some(layer)) = (tokens, layer) else {
                    return Part::Known(0.0);
                };
                let pair = [
                    self.encoders.tokens(&rule.encoder, layer, text.trim()),
                    self.encoders
                        .kept_tokens(&rule.encoder, layer, target.trim()),
                ];
                Part::Waits(Wait::Matched(pair, width, Box::new(rule.clone())))
            }
            RewardConfig::Choice(_) => {
                let target = case.reference.text.as_deref().unwrap_or_default();
                Part::Known(Choice::value(text, target))
            }
            RewardConfig::Format(_) => Part::Known(1.0),
            RewardConfig::RougeL(_) => {
                let target = case.reference.text.as_deref().unwrap_or_default();
                Part::Known(rouge_l(text, target))
            }
            RewardConfig::Bleu(_) => {
                let target = case.reference.text.as_deref().unwrap_or_default();
                Part::Known(sentence_bleu(text, &[target]) / 100.0)
            }
            RewardConfig::Chrf(_) => {
                let target = case.reference.text.as_deref().unwrap_or_default();
                Part::Known(sentence_chrf(text, &[target]) / 100.0)
            }
            RewardConfig::SvgLength(rule) => {
                let tokens = self.tokens.as_deref().map(|f| f as &dyn Fn(&str) -> usize);
                Part::Known(rule.unit.count(text, tokens))
            }
            RewardConfig::LengthLinear(rule) => {
                let tokens = self.tokens.as_deref().map(|f| f as &dyn Fn(&str) -> usize);
                Part::Known(rule.value(rule.unit.count(text, tokens)))
            }
            // Refused when the task is checked.
            _ => Part::Known(0.0),
        }
    }

    /// The part of a completion that was drawn.
    pub(super) fn part(
        &self,
        index: usize,
        config: &RewardConfig,
        pair: &Pair,
        case: &Case,
    ) -> Part {
        let target = pair.target.as_ref().map(|target| &target.features[index]);
        let wait = match (config, target) {
            (RewardConfig::Judge(rule), target) => self.judges[index].as_ref().map(|judge| {
                let text = case.reference.text.as_deref().unwrap_or(case.prompt);
                let mut pictures = vec![&*pair.drawn];
                if let (true, Some(Feature::Picture(target))) = (rule.with_reference, target) {
                    pictures.push(target);
                }
                let answer = judge.ask([case.prompt, text], &pictures);
                Wait::Judged(answer, rule.failure_value)
            }),
            (RewardConfig::Dino(rule), Some(Feature::Encoded(target))) => {
                let own = self.picture_feature(config, &pair.drawn);
                own.map(|own| Wait::Cosine([own, target.clone()], rule.scale))
            }
            (RewardConfig::DreamSim(_), Some(Feature::Encoded(target))) => {
                let own = self.picture_feature(config, &pair.drawn);
                own.map(|own| Wait::CosineDistance([own, target.clone()]))
            }
            (RewardConfig::Lpips(rule), Some(Feature::Picture(target))) => {
                let own = Arc::new(lpips_picture(rule, &pair.drawn));
                let distance = self
                    .encoders
                    .distance(&rule.encoder, rule.input, [&own, target]);
                Some(Wait::Distance(distance))
            }
            (RewardConfig::ImageText(rule), _) => {
                let text = case.reference.text.as_deref().unwrap_or(case.prompt);
                let text = self.encoders.text(&rule.encoder, text);
                let own = self
                    .encoders
                    .picture(&rule.encoder, encode::Feature::Own, &pair.drawn);
                Some(Wait::Cosine([own, text], rule.scale))
            }
            _ => None,
        };
        match wait {
            Some(wait) => Part::Waits(wait),
            None => Part::Known(self.value(index, config, pair, case)),
        }
    }

    /// What an encoder says of a picture for a reward that compares pictures by features.
    fn picture_feature(&self, config: &RewardConfig, picture: &Picture) -> Option<Ticket> {
        match config {
            RewardConfig::Dino(rule) => {
                let feature = encode::Feature::Pooled(rule.pool);
                Some(self.encoders.picture(&rule.encoder, feature, picture))
            }
            RewardConfig::DreamSim(rule) if rule.canny => {
                let edges = edge_picture(picture);
                Some(
                    self.encoders
                        .picture(&rule.encoder, encode::Feature::Own, &edges),
                )
            }
            RewardConfig::DreamSim(rule) => Some(self.encoders.picture(
                &rule.encoder,
                encode::Feature::Own,
                picture,
            )),
            _ => None,
        }
    }

    fn value(&self, index: usize, config: &RewardConfig, pair: &Pair, case: &Case) -> f64 {
        let tokens = self.tokens.as_deref().map(|f| f as &dyn Fn(&str) -> usize);
        let length = |text: &str| config.unit().map_or(0.0, |unit| unit.count(text, tokens));
        let against = |rule: fn(f64, f64) -> f64| {
            case.reference
                .svg
                .as_deref()
                .map_or(0.0, |r| rule(length(pair.source), length(r.trim())))
        };
        match config {
            RewardConfig::Format(_) => 1.0,
            RewardConfig::CodeEfficiency(_) => against(CodeEfficiency::value),
            RewardConfig::LengthRatio(_) => against(LengthRatio::value),
            RewardConfig::LengthLinear(rule) => rule.value(length(pair.source)),
            RewardConfig::SvgLength(_) => length(pair.source),
            RewardConfig::BlankPenalty(rule) => rule.value(&pair.picture),
            compared => match &pair.target {
                None => 0.0,
                Some(target) => match compared {
                    RewardConfig::Aspect(_) => {
                        Aspect::value(pair.rendered.intrinsic, target.intrinsic)
                    }
                    _ => compare(compared, &pair.picture, &target.features[index]),
                },
            },
        }
    }

    /// What is kept of a reference for one reward.
    pub(super) fn feature(
        &self,
        config: &RewardConfig,
        picture: &Arc<Picture>,
        draft: Option<&Arc<Picture>>,
    ) -> Feature {
        if let RewardConfig::Improvement(rule) = config {
            return match (feature(config, picture), draft.map(|d| feature(config, d))) {
                (Feature::Picture(target), Some(Feature::Picture(draft))) => {
                    let likeness = rule.likeness(&draft, &target);
                    Feature::Bettered(target, likeness)
                }
                (Feature::Picture(target), _) => Feature::Bettered(target, 0.0),
                _ => Feature::None,
            };
        }
        if let RewardConfig::Dino(rule) = config
            && let Some(side) = rule.squash_reference
        {
            let side = side as usize;
            let squashed = picture.resized(side, side, Filter::Bilinear);
            let ticket = self.picture_feature(config, &squashed);
            return ticket.map_or(Feature::None, Feature::Encoded);
        }
        match (self.picture_feature(config, picture), config) {
            (Some(ticket), _) => Feature::Encoded(ticket),
            (None, RewardConfig::Lpips(rule)) => {
                Feature::Picture(Arc::new(lpips_picture(rule, picture)))
            }
            _ => feature(config, picture),
        }
    }
}
