//! Picture files of every kind, decoded and cut as the processors with the PIL backend do.

use std::collections::BTreeMap;

use models::image::{Cut, Picture, Rgb8};
use serde_json::Value;

use crate::support::fixture;

fn expected() -> BTreeMap<String, BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(fixture("parity/pictures/expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn decode(name: &str) -> Rgb8 {
    Rgb8::decode(&std::fs::read(fixture("parity/pictures").join(name)).unwrap()).unwrap()
}

fn tiles(most: i64) -> Cut {
    Cut::Tiles {
        side: 448,
        tokens: 256,
        count: (1, most),
        thumbnail: true,
    }
}

fn patches(patch: i64, (min_pixels, max_pixels): (i64, i64)) -> Cut {
    Cut::Patches {
        patch,
        merge: 2,
        min_pixels,
        max_pixels,
    }
}

fn cut(setting: &str, picture: &Rgb8) -> Picture {
    let cut = match setting {
        "qwen2_5_vl" => patches(14, (56 * 56, 28 * 28 * 1280)),
        "qwen3_vl" => patches(16, (256 * 256, 4096 * 4096)),
        "qwen3_vl_small" => patches(16, (1024, 4096)),
        "internvl_single" => tiles(1),
        _ => tiles(12),
    };
    cut.apply(picture, svg::Filter::Bicubic).unwrap()
}

#[test]
fn pixels_before_normalisation_are_exactly_the_pil_backends() {
    let mut compared = 0;
    for (file, settings) in expected() {
        for (setting, want) in settings.iter().filter(|(name, _)| *name != "decoded") {
            let got = cut(setting, &decode(&file));
            let grid = serde_json::json!([got.grid.0, got.grid.1]);
            assert_eq!(
                (&grid, got.pixels.len() as u64),
                (&want["grid"], want["values"].as_u64().unwrap()),
                "{file} {setting}"
            );
            assert_eq!(
                u64::from(crc32fast::hash(&got.pixels)),
                want["crc32"],
                "{file} {setting}"
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 7 * 5);
}

#[test]
fn jpeg_is_within_two_levels_of_pillows() {
    for file in ["photo.jpg", "photo_grey.jpg"] {
        let want = expected()[file]["decoded"].as_str().unwrap().to_owned();
        let want =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, want).unwrap();
        let got = decode(file);
        assert_eq!(got.data.len(), want.len());
        let worst = got
            .data
            .iter()
            .zip(&want)
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        println!("{file}: at most {worst:?} levels");
        assert!(worst <= Some(2), "{file}: {worst:?}");
    }
}
