//! Vision-language networks in float64 against transformers in float64: pictures cut as the
//! processors cut them, logits, gradients of every part, greedy completions.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use models::image::{ProcessedPicture, Rgb8};
use models::{
    AdapterMode, Component, Decoder, Features, ImagePositions, LmInput, Recompute, Tape,
    load_folder, load_folder_frozen, read_tensors, save_folder,
};
use rollout::{Request, Sampling, Submission};

use tch::{Device, Kind, Tensor};

use crate::support::python::{NO_PYTHON, difference, python};
use crate::support::skip::skip;
use crate::support::{fixture, gap, ints, larger, policy, relative};

pub(super) type Expected = BTreeMap<String, Tensor>;

/// The folders of tests/parity/vlm with answers of their own.
const NETWORKS: [&str; 4] = ["qwen3_vl", "qwen2_5_vl", "internvl", "internvl_qk_norm"];

/// Folders that hold another's weights in an older layout.
const OLDER: [(&str, &str); 2] = [
    ("qwen2_5_vl_older", "qwen2_5_vl"),
    ("internvl_chat", "internvl"),
];

fn network(name: &str, kind: Kind) -> Decoder {
    tch::set_num_threads(1);
    load_folder(&fixture("parity/vlm").join(name), kind, Device::Cpu).unwrap()
}

fn expected(name: &str) -> Expected {
    read_tensors(
        &fixture("parity/vlm")
            .join(name)
            .join("expected.safetensors"),
    )
    .unwrap()
}

pub(super) fn count(expected: &Expected, prefix: &str) -> usize {
    expected
        .keys()
        .filter(|key| key.starts_with(prefix))
        .count()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    Vec::try_from(tensor.flatten(0, -1)).unwrap()
}

fn pictures(model: &Decoder, expected: &Expected) -> Vec<ProcessedPicture> {
    let processor = &model.vision().unwrap().processor;
    (0..count(expected, "image."))
        .map(|index| {
            let image = &expected[&format!("image.{index}")];
            let rgb = Rgb8 {
                width: image.size()[1] as usize,
                height: image.size()[0] as usize,
                data: bytes(image),
            };
            processor.picture(&rgb).unwrap()
        })
        .collect()
}

/// One prompt of the fixture.
pub(super) struct Row {
    ids: Vec<i64>,
    pictures: Vec<ProcessedPicture>,
    sight: ImagePositions,
}

pub(super) fn rows(model: &Decoder, expected: &Expected) -> Vec<Row> {
    let all = pictures(model, expected);
    (0..count(expected, "ids."))
        .map(|index| {
            let ids = ints(&expected[&format!("ids.{index}")]);
            let chosen = ints(&expected[&format!("images.{index}")]);
            let pictures: Vec<ProcessedPicture> =
                chosen.iter().map(|&at| all[at as usize].clone()).collect();
            let processor = &model.vision().unwrap().processor;
            let sight = processor.image_positions(&ids, &pictures).unwrap();
            Row {
                ids,
                pictures,
                sight,
            }
        })
        .collect()
}

/// What the pictures of `rows` show, through tower and projector.
fn features(model: &Decoder, rows: &[Row]) -> Option<Features> {
    features_in(model, rows, AdapterMode::On)
}

/// The same, where adapters do as `mode` says.
pub(super) fn features_in(model: &Decoder, rows: &[Row], mode: AdapterMode) -> Option<Features> {
    let pictures: Vec<&ProcessedPicture> = rows.iter().flat_map(|row| &row.pictures).collect();
    let vision = model.vision().unwrap();
    (!pictures.is_empty()).then(|| {
        let pixels = vision.pixels(&pictures, (model.kind(), model.device()));
        vision.project(&vision.encode(&pixels, mode), mode)
    })
}

pub(super) fn packed(rows: &[Row]) -> LmInput {
    let mut input = LmInput::builder();
    for row in rows {
        input.push_with_images(&row.ids, &row.sight);
    }
    input.build(Device::Cpu)
}

#[test]
fn pictures_are_cut_as_the_processor_cuts_them() {
    for name in NETWORKS {
        let (model, expected) = (network(name, Kind::Float), expected(name));
        let pictures = pictures(&model, &expected);
        let all: Vec<&ProcessedPicture> = pictures.iter().collect();
        let processor = &model.vision().unwrap().processor;
        let tensor = processor.tensor(&all, (Kind::Float, Device::Cpu));
        assert!(tensor == expected["pixel_values"], "{name}");
    }
}

#[test]
fn logits_of_text_and_pictures_equal_transformers() {
    let own = NETWORKS.map(|name| (name, name));
    for (name, answers) in own.into_iter().chain(OLDER) {
        let expected = expected(answers);
        for (kind, most) in [(Kind::Double, 1e-9), (Kind::Float, 1e-4)] {
            let model = network(name, kind);
            let rows = rows(&model, &expected);
            let want: Vec<Tensor> = (0..rows.len())
                .map(|index| expected[&format!("logits.{index}")].shallow_clone())
                .collect();
            let alone = rows
                .chunks(1)
                .zip(&want)
                .map(|(row, want)| (row, want.shallow_clone()));
            let mixed = [(rows.as_slice(), Tensor::cat(&want, 0))];
            for (rows, want) in alone.chain(mixed) {
                let logits = tch::no_grad(|| {
                    let input = packed(rows).with_features(features(&model, rows));
                    model.logits(&model.hidden(&input))
                });
                let worst = match kind {
                    Kind::Double => relative(&logits, &want),
                    _ => gap(&logits, &want),
                };
                println!("{name} {kind:?}: {} sequence(s): {worst:e}", rows.len());
                assert!(worst < most, "{name} {kind:?}: {worst:e}");
            }
        }
    }
}

/// The sum of the log-probabilities of each next token of each sequence.
pub(super) fn loss(model: &Decoder, hidden: &Tensor, rows: &[Row]) -> Tensor {
    let mut start = 0;
    let mut parts = Vec::new();
    for row in rows {
        let len = row.ids.len() as i64;
        let targets = Tensor::from_slice(&row.ids[1..]).unsqueeze(-1);
        let logits = model.logits(&hidden.narrow(0, start, len - 1));
        let chosen = logits.log_softmax(-1, None).gather(-1, &targets, false);
        parts.push(chosen.sum(None));
        start += len;
    }
    Tensor::stack(&parts, 0).sum(None)
}

/// The loss and the flat gradients, the tower run before the tape and pulled after it.
pub(super) fn gradients(
    model: &mut Decoder,
    expected: &Expected,
    recompute: Recompute,
) -> (Tensor, Tensor) {
    model.params.train().unwrap();
    let rows = rows(model, expected);
    let shown = features(model, &rows).unwrap();
    let leaves = shown.map(|tensor| tensor.detach().set_requires_grad(true));
    let handles: Vec<Tensor> = leaves.tensors().map(Tensor::shallow_clone).collect();
    let input = packed(&rows).with_features(Some(leaves));
    let tape = Tape::forward(model, &input, recompute);
    let hidden = tape.hidden().detach().set_requires_grad(true);
    let value = loss(model, &hidden, &rows);
    value.backward();
    tape.backward(&hidden.grad());
    shown.backward(&handles);
    (value.detach(), model.params.grad().unwrap().copy())
}

#[test]
fn gradients_of_tower_projector_and_decoder_equal_transformers() {
    for name in NETWORKS {
        let expected = expected(name);
        for recompute in [Recompute::None, Recompute::Blocks] {
            let mut model = network(name, Kind::Double);
            let (value, _) = gradients(&mut model, &expected, recompute);
            let specs = model.params.specs();
            assert_eq!(count(&expected, "grad."), specs.len());
            let of_loss = relative(&value, &expected["loss"]);
            let worst = specs.iter().map(|spec| {
                let got = model.params.grad_view(spec).unwrap();
                let want = &expected[&format!("grad.{}", spec.name)];
                // A bias of keys has no gradient but what rounding leaves.
                let scale = want.abs().max().double_value(&[]).max(1e-6);
                let worst = gap(&got, want) / scale;
                assert!(
                    worst < 1e-9,
                    "{name} {recompute:?} {}: {worst:e}",
                    spec.name
                );
                worst
            });
            let worst = worst.fold(of_loss, larger);
            println!("{name} {recompute:?}: loss and gradients {worst:e}");
            assert!(worst < 1e-9, "{name} {recompute:?}: {worst:e}");
        }
    }
}

#[test]
fn frozen_parts_get_no_gradient_and_the_others_the_same() {
    for name in NETWORKS {
        let expected = expected(name);
        for part in [Component::Vision, Component::Projector, Component::Decoder] {
            for recompute in [Recompute::None, Recompute::Blocks] {
                let folder = fixture("parity/vlm").join(name);
                let mut model =
                    load_folder_frozen(&folder, &[part], (Kind::Double, Device::Cpu)).unwrap();
                let _ = gradients(&mut model, &expected, recompute);
                let mut whole = network(name, Kind::Double);
                let _ = gradients(&mut whole, &expected, recompute);
                let leaves = model.params.leaves().iter();
                let learn = leaves.filter(|leaf| leaf.component != part);
                let specs = model.params.specs().iter().zip(whole.params.specs());
                let mut compared = 0;
                for (own, all) in specs {
                    assert_eq!(own.name, all.name, "{name}");
                    let Some(got) = model.params.grad_view(own) else {
                        continue;
                    };
                    let want = whole.params.grad_view(all).unwrap();
                    assert!(
                        got.abs().max().double_value(&[]) > 0.0,
                        "{name} {}",
                        own.name
                    );
                    assert!(
                        relative(&got, &want) < 1e-12,
                        "{name} {part:?} {}",
                        own.name
                    );
                    compared += got.numel() as i64;
                }
                assert_eq!(compared, learn.map(|leaf| leaf.numel()).sum::<i64>());
            }
        }
    }
}

#[test]
fn greedy_completions_with_pictures_equal_transformers() {
    let own = NETWORKS.map(|name| (name, name));
    for (name, answers) in own.into_iter().chain(OLDER) {
        let expected = expected(answers);
        for kind in [Kind::Double, Kind::Float] {
            let model = Rc::new(network(name, kind));
            let sampling = Sampling {
                temperature: 0.0,
                max_new_tokens: 12,
                ..Sampling::default()
            };
            let mut engine = policy::engine(&model, None, 0);
            let rows = rows(&model, &expected);
            let request = |(group, row): (usize, &Row)| {
                let processor = &model.vision().unwrap().processor;
                let shown = processor
                    .prompt_images(&row.ids, row.pictures.clone())
                    .unwrap();
                Request {
                    group,
                    ids: Arc::from(row.ids.as_slice()),
                    images: shown,
                    samples: 1,
                    draw: group as u64,
                    lengths: None,
                }
            };
            engine
                .submit(Submission {
                    requests: rows.iter().enumerate().map(request).collect(),
                    sampling,
                    seed: 0,
                })
                .unwrap();
            let mut count = 0;
            while let Some(finished) = engine.next().unwrap() {
                let want = ints(&expected[&format!("greedy.{}", finished.group)]);
                assert_eq!(
                    finished.completion.ids, want,
                    "{name} {kind:?} {}",
                    finished.group
                );
                count += 1;
            }
            assert_eq!(count, rows.len());
        }
    }
}

#[test]
fn an_export_holds_the_tensors_under_the_names_that_were_read() {
    for name in NETWORKS.into_iter().chain(OLDER.map(|(name, _)| name)) {
        let model = network(name, Kind::Double);
        let folder = tempfile::tempdir().unwrap();
        save_folder(&model, model.kind(), folder.path()).unwrap();
        let read = |folder: &Path| read_tensors(&folder.join("model.safetensors")).unwrap();
        let before = read(&fixture("parity/vlm").join(name));
        let after = read(folder.path());
        assert_eq!(before.len(), after.len(), "{name}");
        for (tensor, value) in before {
            assert!(
                value.to_kind(Kind::Double) == after[&tensor],
                "{name}: {tensor}"
            );
        }
        if name.starts_with("internvl") {
            let from = fixture("parity/vlm").join(name).join("added_tokens.json");
            std::fs::copy(from, folder.path().join("added_tokens.json")).unwrap();
        }
        let again = load_folder(folder.path(), Kind::Double, Device::Cpu).unwrap();
        assert_eq!(again.config.vision, model.config.vision, "{name}");
        assert!(
            *again.params.trainable() == *model.params.trainable(),
            "{name}"
        );
    }
}

#[test]
fn transformers_loads_an_export_that_sees_with_the_same_logits() {
    let Some(python) = python() else {
        skip!("{NO_PYTHON}");
    };
    let own = NETWORKS.map(|name| (name, name));
    // transformers loads InternVL's first layout only with the code of its own folder.
    for (name, answers) in own.into_iter().chain(OLDER.into_iter().take(1)) {
        let model = network(name, Kind::Double);
        let folder = tempfile::tempdir().unwrap();
        save_folder(&model, model.kind(), folder.path()).unwrap();
        let expected = fixture("parity/vlm").join(answers);
        let worst = difference(
            &python,
            "parity/vlm/make.py",
            &[
                Path::new("--check"),
                folder.path(),
                &expected.join("expected.safetensors"),
            ],
        );
        println!("{name}: transformers on the export {worst:e}");
        assert!(worst < 1e-12, "{name}: {worst:e}");
    }
}
