//! Prompts with pictures: one placeholder each, and the very pixels that the policy here sees.

use std::rc::Rc;

use models::image::Rgb8;
use models::load_folder;
use rollout::Request;
use tch::{Device, Kind};

use super::words::{Fault, Speech};
use super::{Policy, quick, said, sample, scale, short, submission};
use crate::support::{fixture, policy};

#[test]
fn pictures_go_with_one_placeholder_each_and_come_out_as_here() {
    for name in ["qwen3_vl", "qwen2_5_vl"] {
        let folder = fixture("parity/vlm").join(name);
        let model = Rc::new(load_folder(&folder, Kind::Float, Device::Cpu).unwrap());
        scale(&model, 0.5);
        let seeing = Policy {
            model,
            tokenizer: None,
            folder,
        };
        let processor = &seeing.model.vision().unwrap().processor;
        let pad = seeing
            .model
            .config
            .vision
            .as_ref()
            .unwrap()
            .tower
            .tokens
            .image;
        // Of a size that has to be changed for the tower.
        let pictures: Vec<_> = (0..2)
            .map(|index| {
                let (width, height) = (37 + 11 * index, 52);
                let level = |at: usize| (at * (index + 3) % 256) as u8;
                let data = (0..3 * width * height).map(level).collect();
                let rgb = Rgb8 {
                    width,
                    height,
                    data,
                };
                processor.picture(&rgb).unwrap()
            })
            .collect();
        for count in [0, 1, 2] {
            let mut ids = vec![5, 9, 2];
            for picture in &pictures[..count] {
                ids.push(38);
                ids.extend(std::iter::repeat_n(pad, picture.tokens as usize));
                ids.extend([39, 7]);
            }
            let images = processor
                .prompt_images(&ids, pictures[..count].to_vec())
                .unwrap();
            let request = Request {
                group: 0,
                ids: ids.clone().into(),
                images,
                samples: 2,
                draw: 3,
                lengths: None,
            };
            let greedy = rollout::Sampling {
                temperature: 0.0,
                ..short()
            };
            let mut here = policy::engine(&seeing.model, None, 0);
            let here = sample(
                here.as_mut(),
                submission(vec![request.clone()], greedy.clone()),
            )
            .unwrap();
            for speech in [Speech::Vllm, Speech::Sglang] {
                let server = seeing.server(speech);
                let mut engine = seeing.synced(&[&server], quick());
                let there = sample(
                    engine.as_mut(),
                    submission(vec![request.clone()], greedy.clone()),
                )
                .unwrap();
                for (place, own) in &here {
                    assert_eq!(own.ids, there[place].ids);
                    let gaps = own.logprobs.iter().zip(&there[place].logprobs);
                    let most = gaps.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(most < 1e-5, "{name}, {count} pictures: {most}");
                }
                if count > 0 {
                    server.will(vec![Fault::OtherPrompt; 9]);
                    let told = said(sample(
                        engine.as_mut(),
                        submission(vec![request.clone()], short()),
                    ));
                    let both = [format!("{ids:?}"), format!("({} ids)", ids.len() + 1)];
                    assert!(both.iter().all(|part| told.contains(part)), "{told}");
                }
            }
        }
    }
}
