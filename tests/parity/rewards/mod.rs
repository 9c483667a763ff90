//! Totals of CTRL-S, VectorGym/RLRF and SGP-RL by the shipped configs, against an independent script that
//! starts from the same pictures.

use std::path::{Path, PathBuf};

use serde_json::Value;
use svg::Raster;

use super::perceptual::{dreamsim_folder, lpips_folder};
use crate::cli::program::{program, rows, scratch, svgrl, told, write, write_rows};
use crate::support::fixture;

fn here(name: &str) -> PathBuf {
    fixture("parity/rewards").join(name)
}

fn json(name: &str) -> Vec<Value> {
    serde_json::from_str(&std::fs::read_to_string(here(name)).unwrap()).unwrap()
}

/// The script's rows of one system.
fn inputs(system: &str) -> Vec<Value> {
    let rows = rows(&here("rows.jsonl")).into_iter();
    rows.filter(|row| row["system"] == system).collect()
}

/// Rows as `svgrl reward` scores them by the system's config, in a folder of this name.
fn scores(
    system: &str,
    (name, data): (&str, &[Value]),
    encoders: &[(&str, PathBuf)],
) -> Vec<Value> {
    let folder = scratch(&format!("totals_{name}"));
    let data = write_rows(&folder, "rows.jsonl", data);
    let config =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("configs/{system}_reward.yaml"));
    let out = folder.join("scores.jsonl");
    let mut command = program();
    command
        .arg("reward")
        .arg("--config")
        .arg(config)
        .arg("--data")
        .arg(&data)
        .arg("--out")
        .arg(&out);
    for (name, path) in encoders {
        command
            .arg("--set")
            .arg(format!("encoders.{name}.path={}", path.display()));
    }
    told(&mut command).fine();
    rows(&out)
}

/// What the configs add beside a system's own reward, at weight 0, and the script leaves out.
const UNWEIGHTED: &str = "length_linear";

/// Every total and every part, by its name, within 1e-4; where the script judged no parts the total is a fixed
/// number.
fn compare(system: &str, encoders: &[(&str, PathBuf)]) {
    let expected = json("expected.json")
        .into_iter()
        .filter(|row| row["system"] == system);
    let expected: Vec<Value> = expected.collect();
    let scored = scores(system, (system, &inputs(system)), encoders);
    assert_eq!(scored.len(), expected.len());
    for (got, want) in scored.iter().zip(&expected) {
        println!(
            "{system} {}: {} and {}",
            got["id"], got["total"], want["total"]
        );
        let far = (got["total"].as_f64().unwrap() - want["total"].as_f64().unwrap()).abs();
        assert!(far < 1e-4, "{got} and {want}");
        let Some(parts) = want["parts"].as_object() else {
            assert_eq!(got["total"], want["total"], "{got}");
            continue;
        };
        let own = got["parts"].as_object().unwrap();
        let names: Vec<&String> = own.keys().filter(|name| *name != UNWEIGHTED).collect();
        assert_eq!(names, parts.keys().collect::<Vec<_>>(), "{got}");
        for (name, want) in parts {
            let far = (own[name].as_f64().unwrap() - want.as_f64().unwrap()).abs();
            assert!(far < 1e-4, "{name}: {got} and {want}");
        }
    }
}

fn encoder(name: &str) -> PathBuf {
    fixture("parity/encoders").join(name)
}

/// `SVGRL` renders as it did when the script ran, so that the script's numbers are of these pictures.
#[test]
fn drawings_are_the_scripts_pictures() {
    let folder = scratch("totals_pictures");
    for entry in json("pictures.json") {
        let [_, source, name] = [0, 1, 2].map(|index| entry[index].as_str().unwrap());
        let kept = std::fs::read(here("pictures").join(format!("{name}.png"))).unwrap();
        let kept = Raster::from_png(&kept, 4096).unwrap();
        let path = write(&folder, &format!("{name}.svg"), source);
        svgrl(
            &format!("render --size {} --out", kept.width),
            &[&folder, &path],
        )
        .fine();
        let drawn = std::fs::read(folder.join(format!("{name}.png"))).unwrap();
        let drawn = Raster::from_png(&drawn, 4096).unwrap();
        assert!(
            drawn.rgba == kept.rgba,
            "{name} is drawn differently: run make.py again"
        );
    }
}

#[test]
fn totals_of_ctrl_s_are_the_scripts() {
    let encoders = [
        ("dino", encoder("dinov2")),
        ("lclip", encoder("longclip/longclip.pt")),
    ];
    compare("ctrl_s", &encoders);
}

#[test]
fn totals_of_vectorgym_are_the_scripts() {
    let alex = [
        (0, 64, 11),
        (3, 192, 5),
        (6, 384, 3),
        (8, 256, 3),
        (10, 256, 3),
    ];
    let encoders = [
        (
            "lpips",
            lpips_folder("totals", &alex, [64, 192, 384, 256, 256]),
        ),
        ("dreamsim", dreamsim_folder("totals_dreamsim")),
        ("bge", encoder("bge_m3")),
    ];
    compare("vectorgym", &encoders);
}

#[test]
fn totals_of_sgp_are_the_scripts() {
    let encoders = [
        ("siglip", encoder("siglip")),
        ("dino", encoder("dinov2_giant")),
    ];
    compare("sgp", &encoders);
    // SGP-RL gives nothing for a completion without an end.
    let cut = inputs("sgp").into_iter().map(|mut row| {
        row["truncated"] = true.into();
        row
    });
    let cut: Vec<Value> = cut.collect();
    for row in scores("sgp", ("sgp_cut", &cut), &encoders) {
        assert_eq!(row["total"], 0.0, "{row}");
    }
}
