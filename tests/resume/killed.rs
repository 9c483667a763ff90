//! SIGKILL after given rows of metrics, several times over, and while checkpoints are written.

use super::tiny::{ROWS, Tiny, wait_for};

/// Kills the run with SIGKILL when `moment` comes; whether it was still running.
pub fn kill(tiny: &Tiny, moment: impl Fn() -> bool) -> bool {
    let mut child = tiny.start();
    wait_for(&mut child, moment);
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

#[test]
fn a_run_killed_after_any_row_and_continued_is_the_whole_run() {
    for rows in [1, 4, 9, 12, 15] {
        let tiny = Tiny::new();
        assert!(kill(&tiny, || tiny.lines() >= rows));
        tiny.finish();
        tiny.outcome()
            .assert_whole(&format!("killed after {rows} rows"));
    }
}

#[test]
fn a_run_killed_again_and_again_is_the_whole_run() {
    let tiny = Tiny::new();
    let kills = [3, 6, 7, 11, 13, 14, ROWS - 1]
        .into_iter()
        .filter(|&rows| kill(&tiny, || tiny.lines() >= rows))
        .count();
    assert!(kills >= 5, "{kills}");
    tiny.finish();
    tiny.outcome().assert_whole("killed seven times");
}

#[test]
fn a_run_killed_while_it_writes_checkpoints_is_the_whole_run() {
    let tiny = Tiny::new();
    let half_written = [3, 9, 13].into_iter().filter(|&rows| {
        kill(&tiny, || {
            tiny.lines() >= rows && tiny.is_writing_checkpoint()
        });
        tiny.is_writing_checkpoint()
    });
    assert!(half_written.count() >= 1);
    tiny.finish();
    tiny.outcome().assert_whole("killed in checkpoint writes");
}
