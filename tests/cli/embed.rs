//! `svgrl embed`: one row for each picture or text, in order, as the networks' own tests expect them.

use std::path::{Path, PathBuf};

use models::read_tensors;
use serde_json::json;
use tch::{Kind, Tensor};

use super::program::{Told, program, scratch, told, write, write_rows};
use crate::support::{expected_of, fixture, ints, relative};

fn encoder(name: &str) -> PathBuf {
    fixture("parity/encoders").join(name)
}

fn picture(name: &str) -> PathBuf {
    encoder(&format!("{name}.png"))
}

fn embed(model: &str, out: &Path, flags: &[&str], files: &[&Path]) -> Told {
    let mut command = program();
    command
        .arg("embed")
        .arg("--model")
        .arg(encoder(model))
        .arg("--out")
        .arg(out);
    told(command.args(flags).args(files))
}

fn rows(out: &Path) -> Tensor {
    let mut tensors = read_tensors(out).unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["embeddings"]);
    let rows = tensors.remove("embeddings").unwrap();
    assert_eq!((rows.kind(), rows.dim()), (Kind::Float, 2));
    rows
}

fn close(got: &Tensor, want: &Tensor) {
    let far = relative(got, want);
    assert!(far < 1e-4, "{far:e}");
}

#[test]
fn pictures_in_their_order_with_either_pooling() {
    let out = scratch("embed_images").join("out.safetensors");
    let expected = expected_of(&encoder("dinov2"));
    let (wide, tall) = (picture("wide"), picture("tall"));
    for (flags, key) in [
        (&["--images"][..], "cls"),
        (&["--pool", "cls", "--images"], "cls"),
        (&["--pool", "mean", "--images"], "mean"),
    ] {
        embed("dinov2", &out, flags, &[&wide, &tall]).fine();
        close(&rows(&out), &expected[key]);
    }
    embed("dinov2", &out, &["--images"], &[&tall, &wide, &tall]).fine();
    let turned = rows(&out);
    close(
        &turned,
        &expected["cls"].index_select(0, &Tensor::from_slice(&[1i64, 0, 1])),
    );
    embed("clip", &out, &["--normalize", "--images"], &[&wide]).fine();
    let unit = rows(&out);
    assert!((unit.norm().double_value(&[]) - 1.0).abs() < 1e-6);
    let want = expected_of(&encoder("clip"))["images"].narrow(0, 0, 1);
    close(&unit, &(&want / want.norm()));
}

#[test]
fn texts_and_token_ids_in_their_order() {
    let folder = scratch("embed_texts");
    let out = folder.join("out.safetensors");
    let texts: Vec<String> =
        serde_json::from_str(&std::fs::read_to_string(encoder("texts.json")).unwrap()).unwrap();
    let spoken: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(id, text)| json!({"id": id, "text": text}))
        .collect();
    let spoken = write_rows(&folder, "texts.jsonl", &spoken);
    for model in ["clip", "longclip/longclip.pt", "siglip2", "bge_m3"] {
        let home = model.split('/').next().unwrap();
        let expected = expected_of(&encoder(home));
        let ids = |index: usize| ints(&expected[&format!("ids.{index}")]);
        let counted: Vec<_> = (0..texts.len())
            .map(|id| json!({"id": id, "token_ids": ids(id)}))
            .collect();
        let counted = write_rows(&folder, "ids.jsonl", &counted);
        for data in [&spoken, &counted] {
            embed(model, &out, &["--texts"], &[data]).fine();
            close(&rows(&out), &expected["texts"]);
        }
    }
}

#[test]
fn wrong_inputs_are_named() {
    let folder = scratch("embed_wrong");
    let out = folder.join("out.safetensors");
    let wide = picture("wide");
    let broken = write(&folder, "broken.png", "no picture");
    embed("dinov2", &out, &["--images"], &[&wide, &broken]).refused(2, &["broken.png"]);
    embed("bge_m3", &out, &["--images"], &[&wide]).refused(2, &["texts alone"]);
    embed("clip", &out, &["--pool", "mean", "--images"], &[&wide]).refused(2, &["--pool"]);
    embed("nowhere", &out, &["--images"], &[&wide]).refused(2, &["nowhere"]);
    embed("dinov2", &out, &[], &[]).refused(2, &["--images"]);
    for (index, (model, row, part)) in [
        ("dinov2", json!({"id": 0, "text": "a"}), "pictures alone"),
        ("clip", json!({"id": 0}), "exactly one"),
        (
            "clip",
            json!({"id": 0, "text": "a", "token_ids": [1]}),
            "exactly one",
        ),
        ("clip", json!({"id": 0, "token_ids": [5000]}), "5000"),
        ("bge_m3", json!({"id": 0, "token_ids": []}), "token ids"),
    ]
    .into_iter()
    .enumerate()
    {
        let data = write_rows(&folder, &format!("row{index}.jsonl"), &[row]);
        embed(model, &out, &["--texts"], &[&data])
            .refused(2, &[&format!("row{index}.jsonl:1"), part]);
    }
    assert!(!out.exists());
}

#[test]
fn half_precision_keeps_cosines_within_a_thousandth() {
    let folder = scratch("embed_half");
    let (wide, tall) = (picture("wide"), picture("tall"));
    for model in ["dinov2", "clip", "siglip2"] {
        let cosine = |dtype: &str| {
            let out = folder.join(format!("{model}_{dtype}.safetensors"));
            let flags = ["--dtype", dtype, "--normalize", "--images"];
            embed(model, &out, &flags, &[&wide, &tall]).fine();
            let rows = rows(&out);
            rows.matmul(&rows.tr()).double_value(&[0, 1])
        };
        let (full, half) = (cosine("float32"), cosine("bfloat16"));
        assert!((full - half).abs() < 1e-3, "{model}: {full} and {half}");
        assert!(full != half, "{model}: nothing was narrower");
    }
}

#[test]
fn a_picture_without_an_end_is_refused() {
    let out = scratch("embed_endless").join("out.safetensors");
    let endless = Path::new("/dev/zero");
    embed("dinov2", &out, &["--images"], &[endless]).refused(2, &["/dev/zero", "bytes"]);
}

#[test]
fn weights_that_are_no_numbers_give_no_features() {
    let folder = scratch("embed_nan");
    for file in std::fs::read_dir(encoder("dinov2")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let path = folder.join("model.safetensors");
    let mut tensors = read_tensors(&path).unwrap();
    let (_, norm) = tensors
        .iter_mut()
        .find(|(name, _)| name.ends_with("layernorm.weight"))
        .unwrap();
    *norm = norm.full_like(f64::NAN);
    let all: Vec<(String, Tensor)> = tensors.into_iter().collect();
    models::write_tensors(&path, &all).unwrap();
    let out = folder.join("out.safetensors");
    let mut command = program();
    command
        .arg("embed")
        .arg("--model")
        .arg(&folder)
        .arg("--out")
        .arg(&out);
    told(command.arg("--images").arg(picture("wide"))).refused(2, &["not finite"]);
    assert!(!out.exists());
}

#[test]
fn a_file_without_rows_has_no_embeddings() {
    let folder = scratch("embed_no_rows");
    let out = folder.join("out.safetensors");
    for text in ["", "\n\n"] {
        let rows = write(&folder, "empty.jsonl", text);
        embed("clip", &out, &["--texts"], &[&rows]).refused(2, &["empty.jsonl: has no row"]);
    }
}
