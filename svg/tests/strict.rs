//! `mode: strict` renders what CairoSVG renders and gives it the same size; the answers were made by
//! CairoSVG itself (fixtures/verdict.py).

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
