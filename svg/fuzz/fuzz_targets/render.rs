//! Any bytes as a completion: taken apart, checked, repaired and drawn through the public doors.
//!
//! A finding is a panic in this repository's own code, an in-process drawing that does not end, or
//! an answer that is neither a whole picture nor a reason. Panics inside the drawing library are
//! caught by design and are reasons; so are deadlines of worker processes.
//!
//! The first byte chooses parse mode and canvas. `SVGRL_RENDER_WORKER` names the worker program.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::{Once, OnceLock};
use std::time::Duration;
use svg::extract::{fences, first_svg, last_svg, truncated_tail};
use svg::{CanvasRule, ParseMode, Reason, RenderConfig, Renderer, Target, WorkerProgram};

fn renderer(deadline_ms: u64) -> Renderer {
    let deadline = Duration::from_millis(deadline_ms);
    Renderer::new(&WorkerProgram::Installed, deadline).expect("SVGRL_RENDER_WORKER names the worker")
}

/// Replaces the fuzzer's hook, which ends the process at any panic.
fn judge_panics() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let file = panic.location().map_or("", |place| place.file());
            if !file.contains("registry") && !file.contains("rustc") {
                eprintln!("finding: {panic}");
                std::process::abort();
            }
        }));
    });
}

fuzz_target!(|data: &[u8]| {
    judge_panics();
    let Some((&choice, bytes)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    let parts = [first_svg(&text), last_svg(&text), truncated_tail(&text)];
    for part in parts.into_iter().flatten() {
        assert!(text.contains(part));
    }
    for fence in fences(&text) {
        assert!(text[fence.span.0..fence.span.1].contains(fence.content));
    }
    let mut config = RenderConfig {
        mode: [ParseMode::Strict, ParseMode::Recover][usize::from(choice & 1)],
        size: 48,
        canvas: CanvasRule::Fixed,
        ..RenderConfig::default()
    };
    config.limits.max_side = 256;
    let target = match choice >> 1 & 3 {
        0 => Target::Longest(48),
        1 => Target::Exact { width: 48, height: 32 },
        2 => Target::Intrinsic { cap: 64 },
        _ => config.own_target(),
    };
    let _ = svg::check(&text, &config);
    static RENDERER: OnceLock<Renderer> = OnceLock::new();
    let outcome = RENDERER.get_or_init(|| renderer(1000)).render(&text, target, &config);
    match outcome {
        Ok(rendered) => {
            let raster = rendered.raster;
            assert_eq!(raster.rgba.len(), raster.width as usize * raster.height as usize * 4);
            assert!(raster.width.max(raster.height) <= 64);
            assert!(rendered.intrinsic.0 > 0.0 && rendered.intrinsic.1 > 0.0);
        }
        Err(failure) => match failure.reason {
            Reason::WorkerUnavailable => panic!("{failure}"),
            // The machine may have been busy: only what still does not end is a finding.
            Reason::Deadline if failure.detail.contains("in this process") => {
                let again = renderer(20_000).render(&text, target, &config);
                let late = again.is_err_and(|f| f.reason == Reason::Deadline);
                assert!(!late, "in process without an end");
            }
            _ => {}
        },
    }
});
