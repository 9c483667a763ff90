//! The report as a reader has it: a real run of three tasks in a headless browser.

mod browser;
mod outside;
mod three_tasks;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::program::{copy, program, scratch, svgrl};
use crate::support::skip::skip;
use browser::{Browser, NO_BROWSER};

/// Where the pictures go that people look at; CARGO_TARGET_TMPDIR/report.
fn folder() -> PathBuf {
    scratch("report-browser")
}

fn address(page: &Path) -> String {
    format!("file://{}", page.display())
}

/// The numbers or words that an expression of the page lists.
fn list(browser: &mut Browser, expression: &str) -> Vec<Value> {
    browser.value(expression).as_array().unwrap().clone()
}

const CARDS: &str = "[...document.querySelectorAll('#cards article')]";

/// Chooses `value` in a control of the samples.
fn choose(browser: &mut Browser, control: &str, value: &str) {
    let script = format!(
        "(() => {{ const one = document.getElementById('{control}'); one.value = '{value}'; \
         one.dispatchEvent(new Event(one.tagName === 'SELECT' ? 'change' : 'input')); return one.value; }})()"
    );
    assert_eq!(
        browser.value(&script),
        json!(value),
        "{control} has no choice {value}"
    );
}

#[test]
fn a_run_of_three_tasks_is_seen_sorted_and_filtered() {
    let folder = folder();
    let Some(mut browser) = Browser::start(&folder) else {
        skip!("{NO_BROWSER}");
    };
    let run = &three_tasks::runs()[0];
    let page = folder.join("report.html");
    svgrl("report --out", &[&page, run]).fine();
    assert!(std::fs::metadata(&page).unwrap().len() < 20 << 20);
    for (width, height) in [(1280, 900), (390, 844)] {
        for scheme in ["light", "dark"] {
            browser.colours(scheme);
            browser.open(&address(&page), (width, height));
            let wide = browser.value("document.documentElement.scrollWidth");
            assert!(
                wide.as_u64().unwrap() <= u64::from(width),
                "{wide} at {width} px"
            );
            browser.picture(&folder.join(format!("{width}-{scheme}.png")));
        }
    }
    assert_eq!(
        browser.requests(),
        [address(&page)],
        "nothing else is loaded"
    );

    browser.open(&address(&page), (1280, 900));
    let count = |browser: &mut Browser, of: &str| {
        let expression = format!("document.querySelectorAll(`{of}`).length");
        browser.value(&expression).as_u64().unwrap()
    };
    // Tiles over all and by task; a strip with a target and every evaluation; a chart a task and a part.
    assert!(count(&mut browser, "#tiles .tile") >= 4 + 3 + 2);
    let columns = list(
        &mut browser,
        "[...document.querySelectorAll('.strip thead th')].map(one => one.innerText)",
    );
    assert_eq!(columns[..2], ["asked", "target"]);
    assert!(
        columns.contains(&json!("sft 0")) && columns.contains(&json!("rl 4")),
        "{columns:?}"
    );
    assert_eq!(count(&mut browser, ".strip tbody tr"), 12);
    assert!(count(&mut browser, ".strip tbody img") > 12);
    for title in [
        "Reward, total",
        "Reward of draw",
        "Reward of mend",
        "Reward of tell",
        "ssim",
        "rouge_l",
    ] {
        assert_eq!(
            count(
                &mut browser,
                &format!(".chart[data-title=\"{title}\"] polyline")
            )
            .min(1),
            1,
            "{title}"
        );
    }
    assert!(count(&mut browser, ".chart .band") > 0 && count(&mut browser, ".chart .boundary") > 0);

    // Values stand under the pointer.
    let told = browser.value(
        "(() => { const svg = document.querySelector('.chart svg'); const box = svg.getBoundingClientRect(); \
         svg.dispatchEvent(new PointerEvent('pointerenter')); \
         svg.dispatchEvent(new PointerEvent('pointermove', {clientX: box.right - 4, clientY: box.top + 20})); \
         return document.querySelector('.told').innerText; })()",
    );
    assert!(told.as_str().unwrap().contains("rl step 4"), "{told}");
    // Smoothing draws the raw curve behind; a log scale changes what the axis says.
    let ticks = "[...document.querySelectorAll('.chart[data-title=\"Gradient norm\"] text')].map(one => one.textContent).join()";
    let plain = browser.value(ticks);
    browser.value("(() => { const box = document.getElementById('log'); box.click(); return box.checked; })()");
    assert_ne!(browser.value(ticks), plain);
    choose(&mut browser, "smoothing", "0.9");
    assert!(count(&mut browser, ".chart .raw") > 0);
    choose(&mut browser, "smoothing", "0");
    assert_eq!(count(&mut browser, ".chart .raw"), 0);

    // Filters leave what was asked for alone.
    let all = count(&mut browser, "#cards article");
    for task in ["draw", "mend", "tell"] {
        choose(&mut browser, "task", task);
        let found = list(
            &mut browser,
            &format!("{CARDS}.map(one => one.dataset.task)"),
        );
        assert!(
            !found.is_empty() && found.iter().all(|own| own == task),
            "{task}: {found:?}"
        );
    }
    assert!(
        count(&mut browser, "#cards .told-words") > 0,
        "words stand beside words"
    );
    choose(&mut browser, "task", "mend");
    choose(&mut browser, "of", "rl · heldout");
    assert!(count(&mut browser, "#cards .pictures figcaption") > 0);
    let captions = list(
        &mut browser,
        "[...document.querySelectorAll('#cards .pictures figcaption')].map(one => one.textContent)",
    );
    for caption in ["draft", "drawing", "target", "difference"] {
        assert!(
            captions.contains(&json!(caption)),
            "{caption}: {captions:?}"
        );
    }
    choose(&mut browser, "of", "");
    choose(&mut browser, "task", "");
    choose(&mut browser, "step", "4");
    let steps = list(
        &mut browser,
        &format!("{CARDS}.map(one => one.dataset.step)"),
    );
    assert!(
        !steps.is_empty() && steps.iter().all(|step| step == "4"),
        "{steps:?}"
    );
    choose(&mut browser, "step", "");
    choose(&mut browser, "reason", "invalid");
    let valid = list(
        &mut browser,
        &format!("{CARDS}.map(one => one.dataset.valid)"),
    );
    assert!(
        !valid.is_empty() && valid.iter().all(|valid| valid == "false"),
        "{valid:?}"
    );
    choose(&mut browser, "reason", "");

    // Orders are orders, and the address keeps them over a reload.
    let totals = format!("{CARDS}.map(one => Number(one.dataset.total))");
    choose(&mut browser, "sort", "worst");
    let worst: Vec<f64> = list(&mut browser, &totals)
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert!(worst.is_sorted(), "{worst:?}");
    choose(&mut browser, "sort", "best");
    let best: Vec<f64> = list(&mut browser, &totals)
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert!(
        best.is_sorted_by(|a, b| a >= b) && best[0] > worst[0],
        "{best:?}"
    );
    choose(&mut browser, "sort", "improved");
    assert!(count(&mut browser, "#cards article[data-set^=heldout]") > 0);
    browser.value("location.reload()");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(
        browser.value("document.getElementById('sort').value"),
        "improved"
    );
    choose(&mut browser, "sort", "latest");
    assert_eq!(count(&mut browser, "#cards article"), all);

    // A sibling's click shows it, and a source is coloured by its tokens' probabilities.
    choose(&mut browser, "of", "rl · training");
    browser.value(
        "document.querySelectorAll('#cards article')[0].querySelectorAll('.sibling')[2].click()",
    );
    let chosen =
        "document.querySelectorAll('#cards article')[0].querySelectorAll('.sibling')[2].className";
    assert_eq!(browser.value(chosen), "sibling chosen");
    browser.value("(() => { for (const one of document.querySelectorAll('#cards .source')) one.open = true; })()");
    browser.value("new Promise(resolve => setTimeout(resolve, 200))");
    assert!(count(&mut browser, "#cards .token") > 10);
    browser.picture(&folder.join("samples.png"));

    // What SFT has learnt from: its loss, the target's drawing, each token's probability.
    choose(&mut browser, "of", "sft · training");
    choose(&mut browser, "sort", "loss");
    let chips = "[...document.querySelectorAll('#cards .score')].map(one => one.innerText)";
    let chips = list(&mut browser, chips);
    let said = |chip: &Value, words: &str| chip.as_str().unwrap().contains(words);
    assert!(!chips.is_empty(), "no answers that were learnt");
    for chip in &chips {
        assert!(
            said(chip, "loss of this answer")
                && !said(chip, "not scored")
                && !said(chip, "invalid"),
            "{chip}"
        );
    }
    let losses = list(
        &mut browser,
        "[...document.querySelectorAll('#cards .score b')].map(one => Number(one.innerText))",
    );
    let losses: Vec<f64> = losses.iter().filter_map(Value::as_f64).collect();
    assert!(losses.is_sorted_by(|a, b| a >= b), "{losses:?}");
    choose(&mut browser, "task", "mend");
    let captions = list(
        &mut browser,
        "[...document.querySelectorAll('#cards .pictures figcaption')].map(one => one.textContent)",
    );
    assert!(
        captions.contains(&json!("draft")) && captions.contains(&json!("target")),
        "{captions:?}"
    );
    assert!(count(&mut browser, "#cards .pictures img") > 0);
    browser.value("(() => { for (const one of document.querySelectorAll('#cards .source')) one.open = true; })()");
    browser.value("new Promise(resolve => setTimeout(resolve, 200))");
    assert!(count(&mut browser, "#cards .token") > 10);
    browser.colours("light");
    browser.open(
        &format!("{}#of=sft+%C2%B7+training&task=mend", address(&page)),
        (390, 844),
    );
    browser.value("(() => { for (const one of document.querySelectorAll('#cards .source')) one.open = true; document.getElementById('samples').scrollIntoView(); })()");
    browser.value("new Promise(resolve => setTimeout(resolve, 300))");
    browser.picture(&folder.join("390-learnt.png"));
    let wide = browser.value("document.documentElement.scrollWidth");
    assert!(wide.as_u64() <= Some(390), "{wide}");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn two_runs_stand_side_by_side() {
    let folder = scratch("report-two");
    let Some(mut browser) = Browser::start(&folder) else {
        skip!("{NO_BROWSER}");
    };
    let [first, second] = three_tasks::runs();
    let page = folder.join("both.html");
    svgrl("report --out", &[&page, first, second]).fine();
    browser.open(&address(&page), (1280, 900));
    let legends = browser.value("document.querySelector('.chart .legend').innerText");
    for name in ["seed-3", "seed-4"] {
        assert!(legends.as_str().unwrap().contains(name), "{legends}");
    }
    let paired = browser.value("document.getElementById('paired').innerText");
    assert!(
        paired.as_str().unwrap().contains("seed-4 less seed-3"),
        "{paired}"
    );
    // The prompts on which they are furthest apart, with both drawings.
    let differences = list(
        &mut browser,
        "[...document.querySelectorAll('#apart tbody tr')].map(one => Math.abs(Number(one.dataset.difference)))",
    );
    let differences: Vec<f64> = differences.iter().filter_map(Value::as_f64).collect();
    assert!(!differences.is_empty() && differences.len() <= 8);
    assert!(
        differences.is_sorted_by(|a, b| a >= b) && differences[0] > 0.0,
        "{differences:?}"
    );
    let heads = list(
        &mut browser,
        "[...document.querySelectorAll('#apart thead th')].map(one => one.innerText)",
    );
    assert_eq!(heads, ["asked", "target", "seed-3", "seed-4", "difference"]);
    let lacking = browser.value("document.getElementById('apart').innerText");
    assert!(
        !lacking.as_str().unwrap().contains("did not fit"),
        "{lacking}"
    );
    let told = "[...document.querySelectorAll('#apart tbody tr')].map(one => { const cells = one.querySelectorAll('td'); \
        return [cells[1], cells[2]].map(cell => Number((cell.querySelector('figcaption') ?? cell.querySelector('small')).innerText)); })";
    for (pair, difference) in list(&mut browser, told).iter().zip(&differences) {
        let earned = pair[1].as_f64().unwrap() - pair[0].as_f64().unwrap();
        assert!(
            (earned.abs() - difference).abs() < 2e-3,
            "{pair} and {difference}"
        );
    }
    browser.value("document.getElementById('apart').scrollIntoView()");
    browser.picture(&folder.join("both.png"));
    browser.open(&address(&page), (390, 844));
    let wide = browser.value("document.documentElement.scrollWidth");
    assert!(wide.as_u64() <= Some(390), "{wide}");
    browser.value("document.getElementById('apart').scrollIntoView()");
    browser.picture(&folder.join("both-390.png"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_hostile_run_runs_no_script_and_loads_nothing() {
    let folder = scratch("report-hostile");
    let Some(mut browser) = Browser::start(&folder) else {
        skip!("{NO_BROWSER}");
    };
    let run = folder.join("run");
    let attack = "</script><script>window.hit=1</script><img src=x onerror='window.hit=2'>\
        <svg xmlns='http://www.w3.org/2000/svg' onload='window.hit=3'><script>window.hit=4</script>\
        <image href='https://example.invalid/a.png'/><style>@import url(https://example.invalid/b.css)</style>\
        <foreignObject><iframe src='javascript:window.hit=5'/></foreignObject></svg>\u{2028}${window.hit=6}`'\"";
    let row = json!({
        "stage": attack, "step": 1, "prompt_id": attack, "task": attack, "index": 0, "prompt": attack, "reward_prompt": attack,
        "completion": attack, "token_ids": [1], "sampler_logprobs": [-0.5], "finish_reason": "stop", "valid": false,
        "reason": attack, "parts": {attack: 0.5}, "total": 0.5, "advantage": 0.0, "policy_version": 0,
        "reference": {"svg": attack, "text": attack, "draft": attack},
    });
    let metrics = json!({"stage": "rl", "step": 1, "time": 1.0, "reward/total/mean": 0.5, format!("reward/{attack}/mean"): 0.5});
    std::fs::create_dir_all(run.join("samples/rl/eval/heldout")).unwrap();
    std::fs::create_dir_all(run.join("logs")).unwrap();
    for place in [
        "samples/rl/step_000001.jsonl",
        "samples/rl/eval/heldout/step_000001.jsonl",
    ] {
        std::fs::write(run.join(place), row.to_string()).unwrap();
    }
    std::fs::write(run.join("metrics.jsonl"), metrics.to_string()).unwrap();
    std::fs::write(
        run.join("environment.json"),
        json!({"commit": attack}).to_string(),
    )
    .unwrap();
    let warning = json!({"level": "WARN", "message": attack});
    std::fs::write(run.join("logs/rank_0.jsonl"), warning.to_string()).unwrap();
    let page = folder.join("report.html");
    svgrl("report --out", &[&page, &run]).fine();
    browser.open(&address(&page), (1280, 900));
    browser.value(
        "(() => { for (const one of document.querySelectorAll('details')) one.open = true; })()",
    );
    browser.value("new Promise(resolve => setTimeout(resolve, 300))");
    assert!(
        browser
            .value("document.querySelectorAll('#cards article').length")
            .as_u64()
            > Some(0)
    );
    assert_eq!(browser.value("typeof window.hit"), "undefined");
    assert_eq!(browser.requests(), [address(&page)]);
    assert_eq!(
        browser.value("document.querySelectorAll('iframe, image, foreignObject').length"),
        0
    );
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_served_page_follows_a_run() {
    let folder = scratch("report-live");
    let Some(mut browser) = Browser::start(&folder) else {
        skip!("{NO_BROWSER}");
    };
    let run = folder.join("run");
    copy(&three_tasks::runs()[0], &run);
    let mut server = program()
        .args(["report", "--serve", "--addr", "127.0.0.1:0"])
        .arg(&run)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.split_whitespace().next().unwrap().to_owned();
    browser.open(&address, (1280, 900));
    let facts = "document.querySelector('.facts summary').innerText";
    assert!(
        browser
            .value(facts)
            .as_str()
            .unwrap()
            .contains("rl 4 steps")
    );
    let row = json!({"stage": "rl", "step": 9, "time": 2e9, "reward/total/mean": 0.5});
    let mut file = std::fs::File::options()
        .append(true)
        .open(run.join("metrics.jsonl"))
        .unwrap();
    writeln!(file, "{row}").unwrap();
    let begun = std::time::Instant::now();
    // The page may be away for a moment while it loads itself anew.
    while !browser
        .value("document.querySelector('.facts summary')?.innerText ?? ''")
        .as_str()
        .unwrap()
        .contains("rl 9 steps")
    {
        assert!(begun.elapsed().as_secs() < 60, "the page does not follow");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let other: Vec<String> = browser
        .requests()
        .into_iter()
        .filter(|asked| !asked.starts_with(&address))
        .collect();
    assert_eq!(other, Vec::<String>::new());
    server.kill().unwrap();
    server.wait().unwrap();
}
