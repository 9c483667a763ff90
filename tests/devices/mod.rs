//! What runs on a GPU computes what it computes on the CPU: policy, sampler, learner, encoders.

use std::path::{Path, PathBuf};

use models::read_tensors;
use serde_json::{Value, json};
use tch::Tensor;

use crate::cli::program::{copy, numbers, program, rows, scratch, told, write, write_rows};
use crate::parity::half_precision::calm_dreamsim;
use crate::parity::perceptual;
use crate::support::skip::skip;
use crate::support::{fixture, gap, ints, relative};

/// The GPU, or a return where there can be none.
macro_rules! gpu {
    () => {
        match Gpu::here() {
            Gpu::None => skip!("this libtorch is for a GPU, and none answers"),
            gpu => gpu,
        }
    };
}

mod decoding;
mod gpu;
mod run;

use gpu::Gpu;

#[test]
fn a_run_on_a_gpu_samples_and_learns_what_the_cpu_does() {
    let gpu = gpu!();
    let run = run::drawn("gpu", Some(gpu), &["device=cuda:0"]);
    assert_eq!(run::sampled(&run), run::sampled(run::on_the_cpu()));
    run::alike(run::on_the_cpu(), &run, gpu.tolerance());
}

#[test]
fn optimizer_and_reference_policy_may_lie_on_the_host() {
    let gpu = gpu!();
    for stage in [0, 1, 3] {
        let key = format!(
            "sharding={{stage: {stage}, offload_optimizer: true, offload_reference: true}}"
        );
        let set = ["device=cuda:0", &key];
        let run = run::drawn(&format!("host{stage}"), Some(gpu), &set);
        run::alike(run::on_the_cpu(), &run, gpu.tolerance());
    }
}

#[test]
fn encoders_sit_on_another_gpu_and_leave_it_while_the_learner_works() {
    let gpu = gpu!();
    let device = format!("encoders.dino.device={}", gpu.second());
    let set = ["device=cuda:0", &device, "encoders.dino.offload=true"];
    let run = run::drawn("offloaded", Some(gpu), &set);
    run::alike(run::on_the_cpu(), &run, gpu.tolerance());
    let stayed = run::drawn("stayed", Some(gpu), &set[..2]);
    run::alike(run::on_the_cpu(), &stayed, gpu.tolerance());
    if let Gpu::Pretended(_) = gpu {
        let counted = run::counted(&stayed);
        assert!(counted("beside") > 0, "the encoder has a stream of its own");
        assert!(
            counted("waits") > 0,
            "which waits for what was asked before"
        );
        // At the end, and in the offloaded run after each of the four rollouts but the last.
        assert_eq!((run::emptied(&run)[1], run::emptied(&stayed)[1]), (4, 1));
    }
}

#[test]
fn encoders_in_half_precision_reward_within_a_thousandth() {
    let gpu = gpu!();
    let run = run::drawn(
        "half",
        Some(gpu),
        &["device=cuda:0", "encoders.dino.dtype=float16"],
    );
    run::alike(run::on_the_cpu(), &run, 1e-3);
}

#[test]
fn a_full_gpu_ends_the_run_with_a_sentence_and_a_way_out() {
    let Gpu::Pretended(_) = gpu!() else {
        skip!("a GPU of this size cannot be filled, a pretended one can");
    };
    for (room, device) in [(200_000, "cuda:0"), (2_000_000, "cuda:0"), (60_000, "cpu")] {
        let set = [&*format!("device={device}"), "encoders.dino.device=cuda:0"];
        let told = run::tried("full", room, &set);
        assert_eq!(told.err.lines().count(), 2, "{told:#?}");
        told.refused(
            1,
            &[
                "error: CUDA out of memory. Tried to allocate",
                "lower `batch.micro_tokens`",
            ],
        );
    }
}

#[test]
fn a_run_on_a_gpu_continues_bit_for_bit() {
    let gpu = gpu!();
    let whole = run::drawn("continued", Some(gpu), &["device=cuda:0"]);
    let kept = scratch("devices_kept").join("whole");
    copy(&whole, &kept);
    // As if it had been killed before its last checkpoint was written.
    let checkpoints = whole.join("checkpoints/rl");
    for entry in std::fs::read_dir(&checkpoints).unwrap().flatten() {
        if entry.file_name() != "step_000002" {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    let again = run::drawn("continued", Some(gpu), &["device=cuda:0"]);
    // The rows of the steps before the checkpoint are the first run's, those after it were made anew.
    let written = |run: &Path| -> Vec<Value> {
        let rows = rows(&run.join("metrics.jsonl"));
        let steps = rows.into_iter().filter(|row| row.get("optim/lr").is_some());
        steps.map(|row| row["time"].clone()).collect()
    };
    let (before, after) = (written(&kept), written(&again));
    assert_eq!((before.len(), after.len()), (4, 4));
    assert_eq!(before[..2], after[..2]);
    assert!(before[2] != after[2] && before[3] != after[3]);
    run::alike(&kept, &again, 0.0);
    let weights = |run: &Path| std::fs::read(run.join("checkpoints/rl/final/model.safetensors"));
    assert!(weights(&kept).unwrap() == weights(&again).unwrap());
}

/// Runs the program with `args` on the CPU and on the GPU; the paths of what they wrote.
fn both(gpu: &Gpu, folder: &Path, args: &[&str], out: &str) -> [PathBuf; 2] {
    [(program(), "cpu"), (gpu.program(), "cuda")].map(|(mut command, device)| {
        let out = folder.join(format!("{device}-{out}"));
        told(
            command
                .args(args)
                .args(["-q", "--device", device])
                .arg("--out")
                .arg(&out),
        )
        .fine();
        out
    })
}

#[test]
fn every_encoder_sees_and_reads_the_same() {
    let gpu = gpu!();
    let folder = scratch("devices_encoders");
    let of = |name: &str| fixture("parity/encoders").join(name).display().to_string();
    let texts = write_rows(
        &folder,
        "texts.jsonl",
        &[
            json!({"id": 0, "text": "a red circle"}),
            json!({"id": 1, "text": "house"}),
        ],
    );
    let (wide, tall, texts) = (of("wide.png"), of("tall.png"), texts.display().to_string());
    let pictures = [
        "dinov2",
        "dinov2_giant",
        "clip",
        "siglip",
        "siglip2",
        "longclip_hf",
        "longclip/longclip.pt",
    ];
    let words = ["clip", "siglip", "siglip2", "longclip_hf", "bge_m3"];
    let fixed = [
        calm_dreamsim("devices_dreamsim"),
        perceptual::inception_file("devices_inception"),
    ];
    let seeing = pictures
        .map(of)
        .into_iter()
        .chain(fixed.map(|path| path.display().to_string()));
    let asked = seeing
        .map(|model| (model, vec!["--images", &wide, &tall]))
        .chain(words.map(|model| (of(model), vec!["--texts", &texts])));
    for (model, what) in asked {
        let args = [vec!["embed", "--model", &model], what].concat();
        let [cpu, cuda] = both(gpu, &folder, &args, "out.safetensors")
            .map(|out| read_tensors(&out).unwrap().remove("embeddings").unwrap());
        let far = relative(&cuda, &cpu);
        println!("{model}: {far:e}");
        assert!(far < gpu.tolerance(), "{model}: {far:e}");
    }
}

/// DreamSim and LPIPS with both trunks, in float32 and in float16, as rewards.
#[test]
fn pictures_are_as_far_apart() {
    const HALF: &str = "dtype=float16";
    let gpu = gpu!();
    let folder = scratch("devices_distances");
    let (dreamsim, alex, vgg) = (
        calm_dreamsim("devices_distances_dreamsim"),
        perceptual::lpips_folder("devices_alex", &perceptual::ALEX, perceptual::ALEX_WIDTHS),
        perceptual::lpips_folder("devices_vgg", &perceptual::VGG, perceptual::VGG_WIDTHS),
    );
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart_tokenizer");
    let config = format!(
        "model: {{tokenizer: {tokenizer:?}, init: {{}}}}\n\
         device: cpu\n\
         data: {{sources: {{shapes: {{format: shapes, task: draw}}}}}}\n\
         encoders: {{dreamsim: {{path: {dreamsim:?}}}, alex: {{path: {alex:?}}}, vgg: {{path: {vgg:?}}}}}\n\
         tasks:\n  draw:\n    render: {{size: 64}}\n    rubric:\n      rewards: [{{type: dreamsim, encoder: dreamsim}}, {{type: lpips, name: alex, encoder: alex}}, {{type: lpips, name: vgg, encoder: vgg}}]\n\
         stages: [{{algorithm: grpo}}]\n"
    );
    let config = write(&folder, "distances.yaml", &config);
    let drawn = |colour: &str, radius: u32| {
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 64 64'><circle cx='32' cy='32' r='{radius}' fill='{colour}'/></svg>"
        )
    };
    let asked = |id: u32, colour: &str| json!({"id": id, "prompt": "a disc", "completion": drawn(colour, 10 + 5 * id), "reference": {"svg": drawn("red", 20)}});
    let data = write_rows(
        &folder,
        "rows.jsonl",
        &[asked(0, "red"), asked(1, "blue"), asked(2, "red")],
    );
    let scored = |mut command: std::process::Command, name: &str, set: &[&str]| {
        let out = folder.join(name);
        command.args(["reward", "-q", "--config"]).arg(&config);
        command.arg("--data").arg(&data).arg("--out").arg(&out);
        for encoder in ["dreamsim", "alex", "vgg"] {
            // A processor that has no arithmetic of float16 takes an hour for VGG's convolutions.
            let slow = encoder == "vgg" && !matches!(gpu, Gpu::Real);
            let fit = |set: &&&str| !(slow && **set == HALF);
            for set in set.iter().filter(fit) {
                command.args(["--set", &format!("encoders.{encoder}.{set}")]);
            }
        }
        told(&mut command).fine();
        let parts = rows(&out).into_iter().map(|row| row["parts"].clone());
        parts.collect::<Vec<_>>()
    };
    let on_the_cpu = scored(program(), "cpu.jsonl", &[]);
    let there = format!("device={}", gpu.second());
    // 6e-5 is the most that was measured on the pretended one.
    let half = match gpu {
        Gpu::Real => 1e-3,
        _ => 2e-4,
    };
    for (name, set, tolerance) in [
        ("gpu.jsonl", &[&*there][..], gpu.tolerance()),
        ("half.jsonl", &[&*there, HALF], half),
    ] {
        for (cpu, gpu) in on_the_cpu.iter().zip(scored(gpu.program(), name, set)) {
            for part in ["dreamsim", "alex", "vgg"] {
                let (cpu, gpu) = (cpu[part].as_f64().unwrap(), gpu[part].as_f64().unwrap());
                println!("{name} {part}: {cpu} and {gpu}");
                assert!(
                    (cpu - gpu).abs() < tolerance,
                    "{name} {part}: {cpu} and {gpu}"
                );
            }
        }
    }
}

/// Prompts and completions of a fixture of parity/vlm, with its pictures as files in `folder`.
fn pictured(folder: &Path, name: &str) -> PathBuf {
    let expected = read_tensors(
        &fixture("parity/vlm")
            .join(name)
            .join("expected.safetensors"),
    )
    .unwrap();
    let mut data = Vec::new();
    for index in 0.. {
        let Some(ids) = expected.get(&format!("ids.{index}")) else {
            break;
        };
        let shown = ints(&expected[&format!("images.{index}")]);
        for at in &shown {
            let image: &Tensor = &expected[&format!("image.{at}")];
            let png = png(image);
            std::fs::write(folder.join(format!("{at}.png")), png).unwrap();
        }
        let (ids, images) = (
            ints(ids),
            shown
                .iter()
                .map(|at| format!("{at}.png"))
                .collect::<Vec<_>>(),
        );
        let from = ids.len() - 2;
        data.push(json!({"id": index, "prompt_token_ids": ids[..from], "completion_token_ids": ids[from..], "images": images}));
    }
    write_rows(folder, "rows.jsonl", &data)
}

fn png(image: &Tensor) -> Vec<u8> {
    let rgb = Vec::<u8>::try_from(image.flatten(0, -1)).unwrap();
    let rgba = rgb
        .chunks(3)
        .flat_map(|p| [p[0], p[1], p[2], 255])
        .collect();
    let (width, height) = (image.size()[1] as u32, image.size()[0] as u32);
    svg::Raster {
        width,
        height,
        rgba,
    }
    .to_png()
    .unwrap()
}

#[test]
fn every_network_that_sees_judges_the_same() {
    let gpu = gpu!();
    for name in ["qwen2_5_vl", "qwen3_vl", "internvl", "internvl_qk_norm"] {
        let folder = scratch(&format!("devices_{name}"));
        let model = fixture("parity/vlm").join(name).display().to_string();
        let data = pictured(&folder, name).display().to_string();
        let [cpu, cuda] = both(
            gpu,
            &folder,
            &["logprobs", "--model", &model, "--data", &data],
            "judged.jsonl",
        )
        .map(|out| rows(&out));
        for (cpu, cuda) in cpu.iter().zip(&cuda) {
            let far = gap(
                &Tensor::from_slice(&numbers(&cpu["logprobs"])),
                &Tensor::from_slice(&numbers(&cuda["logprobs"])),
            );
            assert!(far < gpu.tolerance(), "{name}: {far:e}");
        }
    }
}
