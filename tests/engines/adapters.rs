//! Stages with LoRA: servers are given the adapters alone, under a new name for each version.

use std::rc::Rc;

use models::{Decoder, DecoderConfig, LoraConfig, read_tensors};
use tch::{Device, Kind};

use super::words::Speech;
use super::{Policy, quick, sample, short, small, submission};

/// The policy of `folder` with adapters of which something has been learnt.
pub(super) fn adapted(base: &Policy) -> Rc<Decoder> {
    let lora = LoraConfig {
        rank: 4,
        ..LoraConfig::default()
    };
    let config = DecoderConfig::read(&base.folder).unwrap();
    let model =
        Decoder::with_adapters(config, &lora, (&base.folder, 3), (Kind::Float, Device::Cpu))
            .unwrap();
    let tensors = read_tensors(&base.folder.join("model.safetensors")).unwrap();
    tch::no_grad(|| {
        for spec in model.params.specs() {
            model.params.view(spec).copy_(&tensors[&spec.name]);
        }
        model.draw_adapters();
    });
    Rc::new(model)
}

pub(super) fn learn(model: &Decoder, by: f64) {
    tch::no_grad(|| {
        for adapter in model.params.adapters() {
            let _ = model.params.view(&adapter.b).fill_(by);
        }
    });
}

#[test]
fn adapters_alone_are_sent_under_a_new_name_each_time() {
    let base = small("engines_lora");
    for speech in [Speech::Vllm, Speech::Sglang] {
        let policy = Policy {
            model: adapted(&base),
            tokenizer: base.tokenizer.clone(),
            folder: base.folder.clone(),
        };
        let server = policy.server(speech);
        let mut engine = policy.open(&[&server], quick()).unwrap();
        let asked = policy.requests(3);
        for version in 0..3 {
            learn(&policy.model, 0.05 * f64::from(version));
            engine.sync(policy.model.as_ref(), version as u64).unwrap();
            let drawn = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
            policy.check(&asked, &drawn, 1.0);
        }
        let named = |part: &str| -> Vec<String> {
            let told = server
                .told()
                .into_iter()
                .filter(|(path, _)| path.contains(part) && !path.contains("un"));
            told.map(|(_, body)| body["lora_name"].as_str().unwrap().to_owned())
                .collect()
        };
        let names = named("load_lora_adapter");
        assert_eq!(names.len(), 3);
        assert!(
            names
                .iter()
                .enumerate()
                .all(|(at, name)| name.ends_with(&format!("-v{at}"))),
            "{names:?}"
        );
        let others = server
            .told()
            .into_iter()
            .filter(|(path, _)| path.contains("update_weights"));
        assert_eq!(others.count(), 0, "the base went besides");
        // Of a server that was restarted, the adapter is gone.
        server.restart();
        let drawn = sample(engine.as_mut(), submission(asked.clone(), short()));
        if speech == Speech::Vllm {
            policy.check(&asked, &drawn.unwrap(), 1.0);
        }
    }
}
