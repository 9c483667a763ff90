//! Picture files of every kind, decoded and cut as the processors with the PIL backend do.

use std::collections::BTreeMap;

use models::image::{Patches, Patchify, ProcessedPicture, Rgb8, Tiles};
use serde_json::Value;

use crate::support::fixture;

fn expected() -> BTreeMap<String, BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(fixture("parity/pictures/expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn decode(name: &str) -> Rgb8 {
    Rgb8::decode(&std::fs::read(fixture("parity/pictures").join(name)).unwrap()).unwrap()
}

fn tiles(most: i64) -> Patchify {
    Patchify::Tiles(Tiles {
        side: 448,
        tokens: 256,
        least: 1,
        most,
        thumbnail: true,
    })
}

fn patches(patch: i64, (min_pixels, max_pixels): (i64, i64)) -> Patchify {
    Patchify::Patches(Patches {
        patch,
        merge: 2,
        min_pixels,
        max_pixels,
    })
}

fn cut(setting: &str, picture: &Rgb8) -> ProcessedPicture {
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

/// Largest difference from what Pillow makes of the files of `photos/`.
#[test]
fn photographs_stand_the_way_up_that_their_files_say() {
    let folder = fixture("parity/photos");
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let mut faults = Vec::new();
    for (file, want) in &expected {
        let got = Rgb8::decode_upright(&std::fs::read(folder.join(file)).unwrap()).unwrap();
        let size = serde_json::json!([got.width, got.height]);
        let rgb = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            want["rgb"].as_str().unwrap(),
        )
        .unwrap();
        let worst = got.data.iter().zip(&rgb).map(|(a, b)| a.abs_diff(*b)).max();
        let bound = match file.as_str() {
            // Chroma is enlarged otherwise than by libwebp; measured at the edges of pure colours.
            "lossy.webp" => 8,
            file if file.ends_with(".jpg") => 2,
            _ => 0,
        };
        println!("{file}: {size}, at most {worst:?} levels");
        if size != want["size"] || got.data.len() != rgb.len() || worst > Some(bound) {
            faults.push(file);
        }
    }
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(expected.len(), 23);
    // What encoders are given is as it was stored.
    let stored = Rgb8::decode(&std::fs::read(folder.join("turned_6.jpg")).unwrap()).unwrap();
    assert_eq!((stored.width, stored.height), (40, 24));
}

#[test]
fn files_that_are_no_pictures_are_refused_with_what_they_are() {
    let said = |bytes: &[u8]| Rgb8::decode(bytes).unwrap_err().to_string();
    assert!(said(b"").contains("an empty file"));
    assert!(said(b"RIFF\x10\0\0\0WEBPVP8 ").contains("cannot read WebP"));
    assert!(said(b"GIF89a....").contains("a GIF picture"));
    assert!(said(b"<svg/>").contains("neither PNG nor JPEG nor WebP"));
    for name in [
        "pictures/rgba.png",
        "pictures/photo.jpg",
        "photos/progressive.jpg",
    ] {
        let whole = std::fs::read(fixture("parity").join(name)).unwrap();
        for end in [9, 20, whole.len() / 2] {
            // A decoder may fill in what is cut off, but must not fall over.
            let cut = Rgb8::decode_upright(&whole[..end]);
            println!(
                "{name} to {end}: {:?}",
                cut.err().map(|error| error.to_string())
            );
        }
        assert!(Rgb8::decode(&whole[..20]).is_err(), "{name}");
    }
    // Headers that promise more than is read, with nothing behind them.
    let header = |width: u32, height: u32| {
        let mut body = b"IHDR".to_vec();
        body.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
        body.extend([8, 6, 0, 0, 0]);
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        png.extend(&body);
        png.extend(crc32fast::hash(&body).to_be_bytes());
        png.extend(b"\0\0\0\x02IDATx\x9c");
        png.extend(crc32fast::hash(b"IDATx\x9c").to_be_bytes());
        png
    };
    assert!(said(&header(50_000, 50_000)).contains("50000x50000 pixels: at most 16384 on a side"));
    assert!(said(&header(16_384, 16_384)).contains("at most 178956970 in all"));
}
