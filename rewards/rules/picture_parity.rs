//! Every picture reward against numbers made by OpenCV, scikit-image, NumPy and Pillow; the script
//! and the pictures are in `tests/fixtures`.
//!
//! The tolerance of 1e-9 is for float64 sums taken in another order (differences seen: below 1e-12);
//! edge maps and resized pictures must be equal in every byte.

use super::l2::normalised_l2;
use super::ssim::Window;
use super::{BlankPenalty, L2, L2Canny, Mse, MseForeground, Psnr, Ssim};
use crate::edges::{canny, grey};
use crate::options::clip;
use crate::picture::{Picture, gaussian_blur};
use serde_json::Value;
use svg::{Filter, Raster};

const PAIRS: [&str; 4] = ["shapes", "noise", "ramp", "blank"];
const UNIT: Option<[f64; 2]> = Some([-1.0, 1.0]);

fn picture(name: &str, which: &str) -> Picture {
    let path = format!(
        "{}/tests/fixtures/{name}_{which}.png",
        env!("CARGO_MANIFEST_DIR")
    );
    let raster = Raster::from_png(&std::fs::read(path).unwrap(), 64).unwrap();
    Picture::over(&raster, [255; 3])
}

fn each_pair(check: impl Fn(&Picture, &Picture, &Value)) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/expected.json");
    let expected: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for name in PAIRS {
        check(&picture(name, "a"), &picture(name, "b"), &expected[name]);
    }
}

fn close(got: f64, expected: &Value) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (got - expected).abs() <= 1e-9 * expected.abs().max(1.0),
        "got {got}, expected {expected}"
    );
}

#[test]
fn pixel_rewards_equal_numpy() {
    each_pair(|a, b, expected| {
        close(Mse::value(a, b), &expected["mse"]);
        close(Psnr::value(a, b), &expected["psnr"]);
        close(MseForeground::value(a, b), &expected["mse_fg"]);
        close(clip(L2::default().value(a, b), UNIT), &expected["l2"]);
        let blurred = L2 {
            blur: 21,
            ..L2::default()
        };
        close(clip(blurred.value(a, b), UNIT), &expected["l2_blur_21"]);
    });
}

#[test]
fn small_blurs_have_opencvs_own_kernels() {
    each_pair(|a, b, expected| {
        for (taps, want) in expected["blurred"].as_object().unwrap() {
            let blurred = |p: &Picture| {
                gaussian_blur(&p.unit(), [p.height, p.width, 3], taps.parse().unwrap())
            };
            let (a, b) = (blurred(a), blurred(b));
            let squares = a.iter().zip(&b).map(|(x, y)| (x - y).powi(2));
            close(squares.sum::<f64>() / a.len() as f64, want);
        }
    });
}

#[test]
fn ssim_equals_scikit_image() {
    each_pair(|a, b, expected| {
        let uniform = |window_size| Ssim {
            window_size,
            ..Ssim::default()
        };
        close(uniform(7).value(a, b), &expected["ssim_uniform_7"]);
        close(uniform(11).value(a, b), &expected["ssim_uniform_11"]);
        close(
            Ssim {
                window: Window::Gaussian,
                ..Ssim::default()
            }
            .value(a, b),
            &expected["ssim_gaussian"],
        );
    });
}

#[test]
fn edges_equal_opencv_pixel_for_pixel() {
    each_pair(|a, b, expected| {
        for (picture, key) in [(a, "canny_a"), (b, "canny_b")] {
            let edges = canny(&grey(picture), picture.width, picture.height);
            let text: String = edges.iter().map(|&e| if e { '1' } else { '0' }).collect();
            assert_eq!(text, expected[key].as_str().unwrap());
        }
        let value = normalised_l2(&L2Canny::edge_map(a), &L2Canny::edge_map(b));
        close(clip(value, UNIT), &expected["l2_canny"]);
    });
}

#[test]
fn resizing_equals_pillow_byte_for_byte() {
    each_pair(|a, _, expected| {
        let cases = [
            ("bilinear_17x23", 17, 23, Filter::Bilinear),
            ("bicubic_17x23", 17, 23, Filter::Bicubic),
            ("bicubic_50x60", 50, 60, Filter::Bicubic),
        ];
        for (key, width, height, filter) in cases {
            let want: Vec<u8> = serde_json::from_value(expected[key].clone()).unwrap();
            assert!(
                a.resized(width, height, filter).rgb == want,
                "{key} differs"
            );
        }
    });
}

#[test]
fn a_blank_picture_is_penalised() {
    each_pair(|a, _, expected| {
        let drawn = expected["white_fraction_a"].as_f64().unwrap();
        let value = BlankPenalty::default().value(a);
        assert_eq!(value, if drawn < 0.005 { -1.0 } else { 0.0 });
        assert_eq!(a.is_blank(), drawn == 0.0);
    });
}

#[test]
fn equal_pictures_get_the_best_value() {
    let a = picture("shapes", "a");
    assert_eq!(Mse::value(&a, &a), 1.0);
    assert_eq!(Psnr::value(&a, &a), 100.0);
    assert_eq!(MseForeground::value(&a, &a), 1.0);
    assert_eq!(L2::default().value(&a, &a), 1.0);
    assert!((Ssim::default().value(&a, &a) - 1.0).abs() < 1e-12);
}
