//! Prompts with pictures: looked at once a group, run once a group, never written by the policy.

use std::rc::Rc;
use std::sync::Arc;

use models::image::PromptImages;
use models::image::Rgb8;
use models::{AdapterMode, Component, Decoder, Recompute, load_folder_frozen};
use models::{EncodedImages, VisionFeatures};
use rollout::engine::ImageCache;
use rollout::{Completion, Request, Sampling, Submission};
use tch::{Device, Kind, Tensor};
use trainer::Learner;
use trainer::config::Aggregation;
use trainer::learn::{HeadOptions, LossNorm, MicroBatch, Trajectory, micro_batches};

use crate::support::{fixture, gap, policy, relative};

const HEAD: HeadOptions = HeadOptions {
    temperature: 1.0,
    rows: 0,
};
const COUNTED: LossNorm = LossNorm {
    aggregation: Aggregation::TokenMean,
    tokens: 1.0,
    sequences: 1.0,
    constant: 1.0,
};

/// A network of tests/parity/vlm, its weights made small: an untrained policy's distribution.
fn network(name: &str, kind: Kind) -> Decoder {
    network_frozen(name, kind, &[])
}

/// [`network`] with the parts `frozen`.
fn network_frozen(name: &str, kind: Kind, frozen: &[Component]) -> Decoder {
    tch::set_num_threads(1);
    let folder = fixture("parity/vlm").join(name);
    let model = load_folder_frozen(&folder, frozen, (kind, Device::Cpu)).unwrap();
    tch::no_grad(|| {
        for flat in [model.params.trainable(), model.params.frozen()] {
            let _ = flat.shallow_clone().multiply_scalar_(0.5);
        }
    });
    model
}

/// A prompt with `count` pictures, each in another colour.
fn prompt(model: &Decoder, count: usize) -> (Arc<[i64]>, Option<Arc<PromptImages>>) {
    let processor = &model.vision().unwrap().processor;
    let tokens = &model.config.vision.as_ref().unwrap().tower.tokens;
    let mut ids = vec![5, 9, 2];
    let mut pictures = Vec::new();
    for index in 0..count {
        let rgb = Rgb8 {
            width: 20,
            height: 30,
            data: (0..1800)
                .map(|at| ((at * (index + 3)) % 256) as u8)
                .collect(),
        };
        let picture = processor.picture(&rgb).unwrap();
        ids.push(38);
        ids.extend(std::iter::repeat_n(tokens.image, picture.tokens as usize));
        ids.extend([39, 7]);
        pictures.push(picture);
    }
    let shown = processor.prompt_images(&ids, pictures).unwrap();
    (ids.into(), shown)
}

struct Sampled {
    ids: Arc<[i64]>,
    view: Option<Rc<EncodedImages>>,
    completions: Vec<Completion>,
    prefills: u64,
}

/// One group of `samples` completions of a prompt with `pictures`.
fn sample(model: &Rc<Decoder>, pictures: usize, samples: usize, sampling: Sampling) -> Sampled {
    let (ids, shown) = prompt(model, pictures);
    let cache = Rc::new(ImageCache::default());
    let mut engine = policy::seeing_engine(model, &cache);
    let request = Request {
        group: 0,
        ids: ids.clone(),
        images: shown.clone(),
        samples,
        draw: 0,
        lengths: None,
    };
    engine
        .submit(Submission {
            requests: vec![request],
            sampling,
            seed: 3,
        })
        .unwrap();
    let mut completions = Vec::new();
    while let Some(finished) = engine.next().unwrap() {
        completions.push(finished.completion);
    }
    Sampled {
        ids,
        view: shown.and_then(|shown| cache.take(&shown)),
        completions,
        prefills: engine.stats().prefills,
    }
}

fn sampling(temperature: f64, max_new_tokens: usize) -> Sampling {
    Sampling {
        temperature,
        max_new_tokens,
        ..Sampling::default()
    }
}

fn trajectories(sampled: &Sampled, shared: bool) -> Vec<Trajectory> {
    let one = |completion: &Completion| Trajectory {
        prompt: match shared {
            true => sampled.ids.clone(),
            false => Arc::from(sampled.ids.to_vec()),
        },
        view: sampled.view.clone(),
        ids: completion.ids.clone(),
        sampler_logprobs: completion.logprobs.clone(),
        advantage: 1.0,
    };
    sampled.completions.iter().map(one).collect()
}

const NETWORKS: [&str; 3] = ["qwen3_vl", "qwen2_5_vl", "internvl"];

#[test]
fn image_tokens_and_their_markers_are_never_sampled() {
    for name in NETWORKS {
        let model = Rc::new(network(name, Kind::Float));
        for temperature in [0.0, 1.0, 30.0] {
            let sampled = sample(&model, 1, 16, sampling(temperature, 32));
            let ids: Vec<i64> = sampled
                .completions
                .iter()
                .flat_map(|one| one.ids.clone())
                .collect();
            assert!(
                ids.iter().all(|id| !model.suppress_tokens().contains(id)),
                "{name} {temperature}"
            );
            // At a high temperature all other ids turn up: the ban is what keeps these four out.
            let seen: std::collections::BTreeSet<i64> = ids.into_iter().collect();
            assert!(
                temperature < 2.0 || seen.len() == 36,
                "{name}: {}",
                seen.len()
            );
        }
    }
}

#[test]
fn sampler_logprobs_of_prompts_with_pictures_are_the_learners() {
    for name in NETWORKS {
        let model = Rc::new(network(name, Kind::Float));
        for pictures in [0, 1, 2] {
            let sampled = sample(&model, pictures, 6, sampling(1.0, 20));
            for shared in [true, false] {
                let all = trajectories(&sampled, shared);
                for micro in micro_batches(&all, &COUNTED, 100, Device::Cpu) {
                    for look in [VisionFeatures::Cached, VisionFeatures::Recompute] {
                        let on = AdapterMode::On;
                        let own = Learner::log_probs(&model, &micro, &HEAD, look, on).unwrap();
                        let worst = gap(&own, &micro.sampler);
                        assert!(
                            worst < 1e-5,
                            "{name}: {pictures} picture(s), {look:?}: {worst:e}"
                        );
                    }
                }
            }
        }
    }
}

fn accumulate(learner: &mut Learner, micros: &[MicroBatch]) -> Tensor {
    for micro in micros {
        learner
            .forward_backward(micro, &HEAD, &mut |_, logprobs, _| {
                logprobs.sum(logprobs.kind())
            })
            .unwrap();
    }
    learner.model.params.grad().unwrap().copy()
}

#[test]
fn a_group_costs_one_look_and_one_prefill_and_a_frozen_tower_none_more() {
    for name in NETWORKS {
        for frozen in [true, false] {
            let frozen_parts: &[Component] = if frozen { &[Component::Vision] } else { &[] };
            let model = Rc::new(network_frozen(name, Kind::Double, frozen_parts));
            let sampled = sample(&model, 1, 8, sampling(1.0, 12));
            let looked = |model: &Decoder| model.vision().unwrap().images_encoded();
            assert_eq!(
                (sampled.completions.len(), sampled.prefills, looked(&model)),
                (8, 1, 1)
            );
            let model = Rc::into_inner(model).expect("the engine is gone");
            let mut learner = policy::learner(model, Recompute::None);
            let micros =
                micro_batches(&trajectories(&sampled, true), &COUNTED, 10_000, Device::Cpu);
            assert_eq!((micros.len(), micros[0].views.len()), (1, 1));
            let _ = accumulate(&mut learner, &micros);
            // A tower that learns runs once more, with gradients, for the whole group.
            assert_eq!(looked(&learner.model), if frozen { 1 } else { 2 }, "{name}");
            let reference = network(name, Kind::Double);
            let (look, on) = (learner.vision_features(), AdapterMode::On);
            let _ = Learner::log_probs(&reference, &micros[0], &HEAD, look, on).unwrap();
            assert_eq!(looked(&reference), u64::from(!frozen), "{name}");
        }
    }
}

#[test]
fn a_prompt_with_pictures_shared_by_a_group_gives_the_gradients_of_separate_prompts() {
    for name in NETWORKS {
        for recompute in [Recompute::None, Recompute::Blocks] {
            let gradient = |shared: bool, budget: usize| {
                let model = Rc::new(network(name, Kind::Double));
                let sampled = sample(&model, 2, 5, sampling(1.0, 9));
                let model = Rc::into_inner(model).expect("the engine is gone");
                let mut learner = policy::learner(model, recompute);
                let all = trajectories(&sampled, shared);
                accumulate(
                    &mut learner,
                    &micro_batches(&all, &COUNTED, budget, Device::Cpu),
                )
            };
            let together = gradient(true, 10_000);
            for (shared, budget) in [(true, 60), (false, 10_000), (false, 1)] {
                let worst = relative(&gradient(shared, budget), &together);
                assert!(
                    worst < 1e-9,
                    "{name} {recompute:?} {shared} {budget}: {worst:e}"
                );
            }
        }
    }
}
