//! Buckets of length, one after the other or by the rewards observed.

use super::*;

/// `a.jsonl` has lengths 71 to 100, `b.jsonl` 91 to 100.
fn tasks() -> (tempfile::TempDir, Arc<Catalog>) {
    let folder = folder();
    let catalog = two_tasks(folder.path());
    (folder, catalog)
}

fn staged(buckets: Buckets, draws: &[u64], then: Then) -> Order {
    Order::Bucketed(BucketedOrder::Staged(StagedOrder {
        buckets,
        draws: draws.to_vec(),
        then,
    }))
}

fn observed(uniform: f64) -> Order {
    Order::Bucketed(BucketedOrder::Observed(ObservedOrder {
        buckets: Buckets::Count(3),
        rate: 0.5,
        temperature: 0.02,
        uniform,
    }))
}

fn of_task<'a>(draws: &'a [Draw], task: &str) -> Vec<&'a Draw> {
    draws
        .iter()
        .filter(|draw| draw.example.task == task)
        .collect()
}

/// What completions of a draw are taken to earn: only middling references tell good from bad.
fn rewards(draw: &Draw) -> Vec<f64> {
    let good = match draw.example.length {
        81..=90 => 2,
        91.. => 0,
        _ => 4,
    };
    (0..4).map(|at| f64::from(u8::from(at < good))).collect()
}

/// Steps of eight draws whose rewards are told; the draws of each.
fn steps(cursor: &mut Cursor, count: usize) -> Vec<Vec<Draw>> {
    let step = |_| {
        let draws = cursor.next(8).unwrap();
        let seen: Vec<(u64, Vec<f64>)> = draws.iter().map(|d| (d.draw, rewards(d))).collect();
        cursor.observe(
            seen.iter()
                .map(|(draw, rewards)| (*draw, rewards.as_slice())),
            u64::MAX,
        );
        draws
    };
    (0..count).map(step).collect()
}

#[test]
fn staged_buckets_come_one_after_the_other_each_row_once() {
    let (_folder, catalog) = tasks();
    let order = staged(Buckets::Bounds(vec![80, 95]), &[], Then::All);
    let mut cursor = cursor(&catalog, order);
    // 71 to 80 of a; 81 to 95 of a and 91 to 95 of b; 96 to 100 of both.
    let turns = [(10, 1, 71, 80), (20, 2, 81, 95), (10, 3, 96, 100)];
    for (draws, bucket, shortest, longest) in turns {
        let draws = cursor.next(draws).unwrap();
        let mut seen = ids(&draws);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), draws.len());
        assert!(draws.iter().all(|d| d.bucket == Some(bucket)));
        assert!(
            draws
                .iter()
                .all(|d| (shortest..=longest).contains(&d.example.length))
        );
        let lengths: Vec<usize> = draws.iter().map(|d| d.example.length).collect();
        assert!(
            !lengths.is_sorted(),
            "shuffled within the bucket: {lengths:?}"
        );
    }
    let rest = cursor.next(40).unwrap();
    assert!(rest.iter().all(|draw| draw.bucket.is_none()));
    let mut seen = ids(&rest);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 40, "afterwards all rows, each once");
}

#[test]
fn staged_quantiles_hold_a_part_of_each_task_in_proportion() {
    let (_folder, catalog) = tasks();
    let order = staged(Buckets::Count(2), &[8, 40], Then::Last);
    let mut cursor = cursor(&catalog, order);
    let first = cursor.next(8).unwrap();
    assert_eq!(
        (of_task(&first, "ta").len(), of_task(&first, "tb").len()),
        (6, 2)
    );
    assert!(of_task(&first, "ta").iter().all(|d| d.example.length <= 85));
    assert!(of_task(&first, "tb").iter().all(|d| d.example.length <= 95));
    let rest = cursor.next(80).unwrap();
    assert!(
        rest.iter().all(|draw| draw.bucket == Some(2)),
        "the last one stays"
    );
    assert!(of_task(&rest, "ta").iter().all(|d| d.example.length > 85));
}

#[test]
fn a_weighted_task_without_a_row_in_a_bucket_waits_for_the_next() {
    let folder = folder();
    let weighted = |path, task, weight| FileConfig {
        weight: Some(weight),
        ..jsonl(path, task)
    };
    let config = config([
        ("a", weighted("a.jsonl", "ta", 1.0)),
        ("b", weighted("b.jsonl", "tb", 3.0)),
    ]);
    let order = staged(Buckets::Bounds(vec![90]), &[20, 20], Then::Last);
    let mut cursor = cursor(&open(&config, folder.path()), order);
    let (first, second) = (cursor.next(20).unwrap(), cursor.next(20).unwrap());
    assert_eq!(of_task(&first, "tb").len(), 0);
    assert_eq!(of_task(&second, "tb").len(), 15);
}

#[test]
fn a_staged_cursor_resumes_at_any_draw() {
    let (_folder, catalog) = tasks();
    let order = staged(Buckets::Count(3), &[7, 19, 30], Then::All);
    resumes_at_any_draw(&catalog, &order);
}

#[test]
fn rewards_that_differ_draw_their_bucket_more_often_and_tasks_keep_their_share() {
    let (_folder, catalog) = tasks();
    let mut cursor = cursor(&catalog, observed(0.1));
    let draws: Vec<Draw> = steps(&mut cursor, 60).concat();
    assert_eq!(of_task(&draws, "ta").len(), 360);
    let late = of_task(&draws[240..], "ta");
    let counts = [1, 2, 3].map(|bucket| late.iter().filter(|d| d.bucket == Some(bucket)).count());
    // 0.1 of the draws is spread over all three, the rest goes to the middle: 168 of 180 expected.
    assert!(counts[1] > 150 && counts[0] + counts[2] > 0, "{counts:?}");
    let spreads = cursor.spreads();
    let of_a: Vec<f64> = spreads
        .iter()
        .filter(|s| s.stream == "ta")
        .map(|s| s.mean)
        .collect();
    assert_eq!(of_a, [0.0, 0.5, 0.0]);
}

#[test]
fn without_spread_the_rows_decide() {
    let (_folder, catalog) = tasks();
    let mut cursor = cursor(&catalog, observed(0.0));
    let draws = cursor.next(400).unwrap();
    for bucket in 1..=3 {
        let count = of_task(&draws, "ta")
            .iter()
            .filter(|d| d.bucket == Some(bucket))
            .count();
        assert!(
            (70..=130).contains(&count),
            "bucket {bucket}: {count} of 300"
        );
    }
}

#[test]
fn two_and_two_observed_steps_are_four() {
    let (_folder, catalog) = tasks();
    let mut whole = cursor(&catalog, observed(0.1));
    let all = steps(&mut whole, 20);
    for at in 0..20 {
        let mut first = cursor(&catalog, observed(0.1));
        steps(&mut first, at);
        let stored = serde_json::to_string(&first.state()).unwrap();
        let mut second = cursor(&catalog, observed(0.1));
        second
            .restore(&serde_json::from_str(&stored).unwrap())
            .unwrap();
        assert_eq!(steps(&mut second, 20 - at), all[at..]);
        assert_eq!(second.state(), whole.state());
    }
}

#[test]
fn a_dropped_step_leaves_no_trace() {
    let (_folder, catalog) = tasks();
    let mut whole = cursor(&catalog, observed(0.1));
    let all = steps(&mut whole, 4);
    let mut cursor = cursor(&catalog, observed(0.1));
    steps(&mut cursor, 2);
    let before = cursor.state();
    cursor.next(8).unwrap();
    cursor.restore(&before).unwrap();
    assert_eq!(steps(&mut cursor, 2), all[2..]);
}

#[test]
fn buckets_that_cannot_be_are_refused_by_their_key() {
    let (_folder, catalog) = tasks();
    let of = |order| CurriculumConfig {
        order,
        ..Default::default()
    };
    let refused = |order| of(order).check().unwrap_err();
    assert_eq!(
        refused(staged(Buckets::Bounds(vec![90, 80]), &[], Then::All)),
        "order.buckets: bounds must ascend, got 80 after 90"
    );
    assert!(
        refused(staged(Buckets::Count(1), &[], Then::All)).starts_with("order.buckets: must be 2")
    );
    let draws = refused(staged(Buckets::Count(3), &[5, 5], Then::All));
    assert_eq!(
        draws,
        "order.draws: must have a number for each of the 3 buckets, got 2"
    );
    assert_eq!(
        refused(staged(Buckets::Count(2), &[5, 0], Then::All)),
        "order.draws.1: must be >= 1, got 0"
    );
    assert!(refused(observed(1.5)).starts_with("order.uniform: "));
    let empty = of(staged(Buckets::Bounds(vec![70, 90]), &[], Then::All));
    empty.check().unwrap();
    let error = Cursor::new(catalog, &empty, 0).unwrap_err();
    assert_eq!(
        error.within("stages.0").to_string(),
        "stages.0.curriculum.order.buckets: bucket 1 holds no row of any task; choose other bounds or fewer buckets"
    );
}
