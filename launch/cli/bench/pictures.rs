//! `svgrl bench preprocess`: pictures per second of processor time on one thread, from decoded
//! pixels to the tower's tensor.

use std::time::{Duration, Instant};

use models::image::{Patches, Patchify, Processor, Rgb8, Tiles};
use serde_json::{Map, Value, json};
use svg::bench::process_seconds;
use tch::{Device, Kind};

use crate::cli::CliFailure;

/// Side of the picture.
const SIDE: usize = 448;

/// Pictures per second of processor time of each family; `seconds` for each.
pub fn preprocess(seconds: usize) -> Result<Value, CliFailure> {
    tch::set_num_threads(1);
    let patches = |patch| {
        Patchify::Patches(Patches {
            patch,
            merge: 2,
            min_pixels: 56 * 56,
            max_pixels: 28 * 28 * 1280,
        })
    };
    let tile = Patchify::Tiles(Tiles {
        side: SIDE as i64,
        tokens: 256,
        least: 1,
        most: 1,
        thumbnail: false,
    });
    let picture = Rgb8 {
        width: SIDE,
        height: SIDE,
        data: (0..SIDE * SIDE * 3)
            .map(|at| (at * 7 % 251) as u8)
            .collect(),
    };
    let mut figures = Map::new();
    for (name, cut) in [
        ("qwen2_5_vl", patches(14)),
        ("qwen3_vl", patches(16)),
        ("internvl", tile),
    ] {
        let processor = Processor::plain(cut);
        let (started, before, mut count) = (Instant::now(), process_seconds(), 0);
        while started.elapsed() < Duration::from_secs(seconds.max(1) as u64) {
            let cut = processor.picture(&picture)?;
            let _ = std::hint::black_box(processor.tensor(&[&cut], (Kind::Float, Device::Cpu)));
            count += 1;
        }
        let rate = f64::from(count) / (process_seconds() - before);
        figures.insert(format!("{name}_per_cpu_s"), json!(rate));
    }
    Ok(Value::Object(figures))
}
