//! `mode: strict` renders what CairoSVG renders and gives it the same size; the answers were made by
//! CairoSVG itself (fixtures/verdict.py).

#![allow(clippy::panic, clippy::unwrap_used)]

use std::time::Duration;
use svg::{RenderConfig, Renderer, Target, WorkerProgram};

#[test]
fn strict_renders_what_cairosvg_renders_at_its_size() {
    let text = include_str!("fixtures/verdict.json");
    let rows: Vec<(String, Option<(u32, u32)>)> = serde_json::from_str(text).unwrap();
    let program = WorkerProgram::At(env!("CARGO_BIN_EXE_svg-render-worker").into());
    let renderer = Renderer::new(&program, Duration::from_secs(5)).unwrap();
    let config = RenderConfig::default();
    let mut wrong = Vec::new();
    for (source, expected) in &rows {
        let found = renderer.render(source, Target::Longest(32), &config);
        let size = found.as_ref().ok().map(|rendered| {
            let (width, height) = rendered.intrinsic;
            (
                width.round_ties_even() as u32,
                height.round_ties_even() as u32,
            )
        });
        if size != *expected {
            let reason = found.err().map(|failure| failure.to_string());
            wrong.push(format!(
                "{source:?}\n  CairoSVG {expected:?}, here {size:?} {reason:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}

/// Columns and rows from the first dark pixel to past the last, of a drawing `side` pixels wide.
fn dark(renderer: &Renderer, source: &str, side: u32) -> [u32; 4] {
    let target = Target::Longest(side);
    let drawn = renderer.render(source, target, &RenderConfig::default());
    let raster = drawn.unwrap().raster;
    let pixels = raster.rgba.as_chunks::<4>().0.iter().zip(0u32..);
    let dark = pixels.filter(|(pixel, _)| pixel[0] < 128);
    let places = dark.map(|(_, at)| (at % raster.width, at / raster.width));
    places.fold([u32::MAX, u32::MAX, 0, 0], |[l, t, r, b], (x, y)| {
        [l.min(x), t.min(y), r.max(x + 1), b.max(y + 1)]
    })
}

#[test]
fn what_a_document_leaves_open_is_placed_as_cairosvg_places_it() {
    let program = WorkerProgram::At(env!("CARGO_BIN_EXE_svg-render-worker").into());
    let renderer = Renderer::new(&program, Duration::from_secs(5)).unwrap();
    let rect = "<rect width='30' height='20'/>";
    // The bounds are CairoSVG's, in hundredths of the side.
    let cases = [
        ("", "<rect width='4em' height='2ex'/>", [0, 0, 64, 16]),
        ("transform='translate(20 10)'", rect, [20, 10, 50, 30]),
        ("transform='scale(2)'", rect, [0, 0, 60, 40]),
        ("transform='rotate(90 50 50)'", rect, [80, 0, 100, 30]),
        (
            "transform='translate(20px, 10px) rotate(30deg)'",
            rect,
            [20, 10, 50, 30],
        ),
        (
            "",
            "<rect width='30' height='20' style='transform: translate(20px,10px)'/>",
            [20, 10, 50, 30],
        ),
        (
            "",
            "<rect width='30' height='20' transform='translate(20,10);' filter='url(#gone)'/>",
            [20, 10, 50, 30],
        ),
        (
            "transform='translate(20 10)'",
            "",
            [u32::MAX, u32::MAX, 0, 0],
        ),
    ];
    for (attributes, body, expected) in cases {
        for root in ["svg", "s:svg"] {
            let prefix = root.trim_end_matches("svg");
            let (colon, body) = (
                prefix.trim_end_matches(':'),
                body.replace('<', &format!("<{prefix}")),
            );
            let name = if colon.is_empty() {
                "xmlns".to_owned()
            } else {
                format!("xmlns:{colon}")
            };
            let source = format!(
                "<!-- </svg> --><{root} viewBox='0 0 100 100' {attributes} {name}='http://www.w3.org/2000/svg'>{body}</{root}><!-- </svg> -->\n"
            );
            for side in [100, 300] {
                let scaled = expected.map(|bound| match bound {
                    u32::MAX => bound,
                    _ => bound * side / 100,
                });
                assert_eq!(dark(&renderer, &source, side), scaled, "{source} at {side}");
            }
        }
    }
    let twice = "<svg viewBox='0 0 9 9' transform='scale(2)' transform='scale(2)'></svg>";
    assert!(
        renderer
            .render(twice, Target::Longest(9), &RenderConfig::default())
            .is_err()
    );
}

#[test]
fn geometry_in_style_is_drawn_as_in_attributes() {
    let text = include_str!("fixtures/css_geometry.json");
    let pairs: Vec<[String; 2]> = serde_json::from_str(text).unwrap();
    let program = WorkerProgram::At(env!("CARGO_BIN_EXE_svg-render-worker").into());
    let renderer = Renderer::new(&program, Duration::from_secs(5)).unwrap();
    let draw = |source: &str| {
        let target = Target::Intrinsic { cap: 64 };
        renderer.render(source, target, &RenderConfig::default())
    };
    // What browsers draw and CairoSVG does not.
    let path = |geometry: &str| {
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><path {geometry}/></svg>"
        )
    };
    let browsers = [
        path("style='d: path(\"M0 0L9 9L0 9Z\")'"),
        path("d='M0 0L9 9L0 9Z'"),
    ];
    for [styled, plain] in pairs.iter().chain([&browsers]) {
        assert_eq!(draw(styled).unwrap(), draw(plain).unwrap(), "{styled}");
    }
}
