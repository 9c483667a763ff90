//! Networks with LoRA adapters against PEFT in float64: logits, gradients of A and B, the base alone, and
//! the files of both read by the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::{
    AdapterMode, AllLinear, Decoder, LoraConfig, LoraTargets, ModelConfig, Recompute, Tape,
    load_folder, merge_folder, read_tensors, save_folder, write_tensors,
};
use tch::{Device, Kind, Tensor};

use super::{decoder, vlm};
use crate::cli::program::{copy, scratch};
use crate::support::python::{NO_PYTHON, difference, python};
use crate::support::skip::skip;
use crate::support::{expected_of, fixture, gap, larger, packed, relative};

const SCRIPT: &str = "parity/lora/make.py";

/// Fixtures of text, and the base of each.
const TEXT: [(&str, &str); 2] = [
    ("qwen3", "networks/qwen3_tied"),
    ("qwen2_rslora", "networks/qwen2_untied"),
];
/// Fixtures that see, and the base of each.
const SEEING: [(&str, &str); 2] = [
    ("qwen2_5_vl", "vlm/qwen2_5_vl"),
    ("qwen3_vl", "vlm/qwen3_vl"),
];

fn adapter(name: &str) -> PathBuf {
    fixture("parity/lora").join(name)
}

fn base(name: &str) -> PathBuf {
    fixture("parity").join(name)
}

fn model(folder: &Path, kind: Kind) -> Decoder {
    tch::set_num_threads(1);
    load_folder(folder, kind, Device::Cpu).unwrap()
}

type Expected = BTreeMap<String, Tensor>;

/// Logits of each of the base's sequences, its adapters doing as `mode` says.
fn logits(model: &Decoder, base: &Expected, mode: AdapterMode) -> Vec<Tensor> {
    let Some(_) = model.vision() else {
        let each = decoder::sequences(base).into_iter();
        return each
            .map(|ids| {
                let input = packed(&[ids]).with_adapters(mode);
                tch::no_grad(|| model.logits(&model.hidden(&input)))
            })
            .collect();
    };
    let rows = vlm::rows(model, base);
    let each = rows.chunks(1).map(|row| {
        tch::no_grad(|| {
            let shown = vlm::features_in(model, row, mode);
            let input = vlm::packed(row).with_features(shown).with_adapters(mode);
            model.logits(&model.hidden(&input))
        })
    });
    each.collect()
}

fn worst(got: &[Tensor], want: &Expected, kind: Kind) -> f64 {
    let gaps = got.iter().enumerate().map(|(index, got)| {
        let want = &want[&format!("logits.{index}")];
        match kind {
            Kind::Double => relative(got, want),
            _ => gap(got, want),
        }
    });
    gaps.fold(0.0, larger)
}

#[test]
fn logits_equal_peft_and_without_adapters_the_base() {
    for (name, of) in TEXT.into_iter().chain(SEEING) {
        let (sequences, want) = (expected_of(&base(of)), expected_of(&adapter(name)));
        for (kind, most) in [(Kind::Double, 1e-9), (Kind::Float, 1e-4)] {
            let model = model(&adapter(name), kind);
            let with = worst(&logits(&model, &sequences, AdapterMode::On), &want, kind);
            println!("{name} {kind:?}: {with:e}");
            assert!(with < most, "{name} {kind:?}: {with:e}");
            let off = logits(&model, &sequences, AdapterMode::Off);
            let off = Expected::from([("logits.0".to_owned(), off[0].shallow_clone())]);
            let without = worst(&[want["off.0"].shallow_clone()], &off, kind);
            assert!(without < most, "{name} {kind:?} off: {without:e}");
        }
    }
}

/// The largest relative difference of the adapters' gradients.
fn gradient_gap(model: &Decoder, want: &Expected) -> f64 {
    let matrices = model
        .params
        .adapters()
        .iter()
        .flat_map(|one| [&one.a, &one.b]);
    let mut count = 0;
    let gaps = matrices.map(|spec| {
        count += 1;
        let got = model.params.grad_view(spec).unwrap();
        relative(&got, &want[&format!("grad.{}", spec.name)])
    });
    let gap = gaps.fold(0.0, larger);
    assert_eq!(
        count,
        want.keys().filter(|key| key.starts_with("grad.")).count()
    );
    gap
}

#[test]
fn gradients_equal_peft_and_reach_adapters_alone() {
    for recompute in [Recompute::None, Recompute::Blocks] {
        for (name, of) in TEXT {
            let (sequences, want) = (expected_of(&base(of)), expected_of(&adapter(name)));
            let mut model = model(&adapter(name), Kind::Double);
            let path = decoder::Path::Tape(recompute);
            let sequences = decoder::sequences(&sequences);
            let (value, flat) = decoder::gradients(&mut model, &sequences, path);
            assert_eq!(flat.size(), model.params.trainable().size());
            assert!(
                model
                    .params
                    .specs()
                    .iter()
                    .all(|spec| model.params.grad_view(spec).is_none())
            );
            let gap = larger(relative(&value, &want["loss"]), gradient_gap(&model, &want));
            println!("{name} {recompute:?}: {gap:e}");
            assert!(gap < 1e-9, "{name} {recompute:?}: {gap:e}");
        }
        for (name, of) in SEEING {
            let (sequences, want) = (expected_of(&base(of)), expected_of(&adapter(name)));
            let mut model = model(&adapter(name), Kind::Double);
            let (value, _) = vlm::gradients(&mut model, &sequences, recompute);
            let gap = larger(relative(&value, &want["loss"]), gradient_gap(&model, &want));
            println!("{name} {recompute:?}: {gap:e}");
            assert!(gap < 1e-9, "{name} {recompute:?}: {gap:e}");
        }
    }
}

#[test]
fn names_with_an_adapter_s_name_and_of_older_networks_mean_the_same() {
    let folder = scratch("lora_names");
    let renamed = |from: &str, new: &dyn Fn(&str) -> String| {
        copy(&adapter(from), &folder.join("peft"));
        let path = folder.join("peft/adapter_model.safetensors");
        let tensors = read_tensors(&path).unwrap().into_iter();
        let tensors: Vec<_> = tensors.map(|(name, tensor)| (new(&name), tensor)).collect();
        write_tensors(&path, &tensors).unwrap();
        let path = folder.join("peft/adapter_config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let parity = fixture("parity").to_string_lossy().into_owned();
        std::fs::write(&path, text.replace("../..", &parity)).unwrap();
        let read = load_folder(&folder.join("peft"), Kind::Double, Device::Cpu);
        read.map(|model| model.params.trainable().copy())
    };
    let plain = |name: &str| {
        model(&adapter(name), Kind::Double)
            .params
            .trainable()
            .copy()
    };
    let named = |name: &str| name.replace(".weight", ".default.weight");
    assert!(renamed("qwen3", &named).unwrap() == plain("qwen3"));
    let bare = |name: &str| name.replace("base_model.model.", "");
    assert!(renamed("qwen3", &bare).unwrap() == plain("qwen3"));
    let older = |name: &str| {
        name.replace("model.language_model.", "model.")
            .replace("model.visual.", "visual.")
    };
    assert!(renamed("qwen2_5_vl", &older).unwrap() == plain("qwen2_5_vl"));
    let other = |name: &str| name.replace("layers.1.mlp.up_proj", "layers.7.mlp.up_proj");
    let said = renamed("qwen3", &other).unwrap_err().to_string();
    assert!(said.contains("model.layers.7.mlp.up_proj"), "{said}");
    let whole = |name: &str| match name.contains("layers.1.mlp.up_proj.lora_A") {
        true => "base_model.model.lm_head.modules_to_save.weight".to_owned(),
        false => name.to_owned(),
    };
    let said = renamed("qwen3", &whole).unwrap_err().to_string();
    assert!(said.contains("lm_head.modules_to_save.weight"), "{said}");
}

/// Fresh adapters on a base, B filled so that they count.
fn fresh(of: &str, lora: &LoraConfig, kind: Kind) -> Decoder {
    let model = ModelConfig::default()
        .adapted(&base(of), (lora, 3), (kind, Device::Cpu))
        .unwrap();
    let _turn = torch_ext::seeded(9);
    tch::no_grad(|| {
        for one in model.params.adapters() {
            let mut b = model.params.view(&one.b);
            b.copy_(&(Tensor::randn(one.b.shape.as_slice(), (Kind::Float, Device::Cpu)) * 0.2));
        }
    });
    model
}

fn lora(targets: LoraTargets, vision: bool, rslora: bool) -> LoraConfig {
    LoraConfig {
        rank: 3,
        alpha: 7.0,
        targets,
        vision,
        rslora,
        ..LoraConfig::default()
    }
}

#[test]
fn peft_loads_what_is_written_and_merges_to_what_merge_writes() {
    let Some(python) = python() else {
        skip!("{NO_PYTHON}");
    };
    let all = LoraTargets::All(AllLinear::AllLinear);
    let some = LoraTargets::Names(
        ["v_proj", "mlp.gate_proj", "o_proj"]
            .map(str::to_owned)
            .to_vec(),
    );
    let cases = [
        ("networks/qwen3_tied", lora(all.clone(), false, false)),
        ("networks/qwen2_untied", lora(some.clone(), false, true)),
        ("vlm/qwen2_5_vl", lora(all.clone(), true, false)),
        ("vlm/qwen2_5_vl", lora(some, false, false)),
        ("vlm/qwen3_vl", lora(all, false, true)),
    ];
    for (at, (of, lora)) in cases.into_iter().enumerate() {
        let folder = scratch(&format!("lora_written_{at}"));
        let model = fresh(of, &lora, Kind::Double);
        save_folder(&model, Kind::Double, &folder.join("adapter")).unwrap();
        assert!(!folder.join("adapter/model.safetensors").exists());
        let sequences = expected_of(&base(of));
        let mut out: Vec<(String, Tensor)> = Vec::new();
        for (mode, name) in [(AdapterMode::On, "logits"), (AdapterMode::Off, "off")] {
            let each = logits(&model, &sequences, mode).into_iter().enumerate();
            out.extend(each.map(|(index, logits)| (format!("{name}.{index}"), logits)));
        }
        let file = folder.join("logits.safetensors");
        write_tensors(&file, &out).unwrap();
        let adapter = folder.join("adapter");
        let worst = difference(
            &python,
            SCRIPT,
            &[Path::new("--check"), &base(of), &adapter, &file],
        );
        println!("{of}: logits of PeftModel {worst:e}");
        assert!(worst < 1e-9, "{of}: {worst:e}");
        if at == 0 {
            let worst = difference(&python, SCRIPT, &[Path::new("--auto"), &adapter, &file]);
            assert!(worst < 1e-9, "the base that the file names: {worst:e}");
        }
        let merged = folder.join("merged");
        let kind = (Some(Kind::Float), Device::Cpu);
        assert_eq!(merge_folder(&adapter, &merged, kind).unwrap(), Kind::Float);
        let worst = difference(
            &python,
            SCRIPT,
            &[Path::new("--merged"), &base(of), &adapter, &merged],
        );
        println!("{of}: merged weights {worst:e}");
        assert!(worst < 3e-7, "{of}: {worst:e}");
        // What was written is read as what it was.
        let again = load_folder(&adapter, Kind::Double, Device::Cpu).unwrap();
        assert!(again.params.trainable() == model.params.trainable(), "{of}");
    }
}

#[test]
fn a_narrow_base_has_adapters_in_float32() {
    let all = LoraTargets::All(AllLinear::AllLinear);
    let narrow = fresh(
        "networks/qwen3_tied",
        &lora(all.clone(), false, false),
        Kind::BFloat16,
    );
    assert_eq!(narrow.params.trainable().kind(), Kind::Float);
    assert_eq!(
        (narrow.kind(), narrow.params.frozen().kind()),
        (Kind::BFloat16, Kind::BFloat16)
    );
    let wide = fresh("networks/qwen3_tied", &lora(all, false, false), Kind::Float);
    let sequences = expected_of(&base("networks/qwen3_tied"));
    let of = |model: &Decoder| logits(model, &sequences, AdapterMode::On)[0].to_kind(Kind::Double);
    let worst = relative(&of(&narrow), &of(&wide));
    println!("bfloat16 base: {worst:e}");
    assert!(worst < 0.1, "{worst:e}");
    let input = packed(&decoder::sequences(&sequences));
    let mut narrow = narrow;
    narrow.params.train().unwrap();
    let tape = Tape::forward(&narrow, &input, Recompute::Blocks);
    let ones = tape.hidden().ones_like();
    tape.backward(&ones);
    let grad = narrow.params.grad().unwrap();
    assert_eq!(grad.kind(), Kind::Float);
    assert!(grad.norm().double_value(&[]) > 0.0);
}
