//! Blocks marked `sh run`, as they stand, a page after the other in a folder of its own.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::{pages, root, text};
use crate::cli::program::{program, scratch, told, write};

/// The blocks of a page that are to be run.
fn blocks(page: &str) -> Vec<&str> {
    let after = page.split("```sh run\n").skip(1);
    after.filter_map(|rest| rest.split("```").next()).collect()
}

/// bash with the program first on its path, and with the settings under which tests start the program.
fn bash(script: &str, folder: &Path) -> Command {
    let program = program();
    let beside = Path::new(program.get_program())
        .parent()
        .unwrap()
        .to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("PATH", format!("{}:{path}", beside.display()));
    // What goes to the user's folders stays here.
    command.env("HOME", folder).current_dir(folder);
    command
}

#[test]
fn what_is_marked_to_be_run_runs() {
    let mut count = 0;
    for path in pages(&root().join("docs")) {
        let page = text(&path);
        let blocks = blocks(&page);
        if blocks.is_empty() {
            continue;
        }
        count += blocks.len();
        let folder = scratch(&format!(
            "docs_{}",
            path.file_stem().unwrap().to_string_lossy()
        ));
        symlink(root().join("configs"), folder.join("configs")).unwrap();
        let said = told(&mut bash(&blocks.join("\n"), &folder));
        assert_eq!(said.code, 0, "{}: {}{}", path.display(), said.out, said.err);
        check(&path, &folder);
    }
    assert!(count >= 7, "{count}");
}

/// Lines about the quickstart's run that need seconds once there is one.
const LINES: [&str; 4] = [
    "svgrl generate --model runs/quickstart/checkpoints/rl/final --prompts prompts.jsonl --out out.jsonl",
    "svgrl samples runs/quickstart --to samples.parquet",
    "svgrl reward --config configs/quickstart.yaml --data completions.jsonl --out scores.jsonl",
    "svgrl data prepare --from icons/ --out prepared --held-out 0.05",
];

#[test]
fn lines_about_the_quickstart_run_after_it() {
    let folder = scratch("docs_quickstart");
    symlink(root().join("configs"), folder.join("configs")).unwrap();
    std::fs::create_dir(folder.join("icons")).unwrap();
    for (name, side) in [("red square", 9), ("small dot", 4), ("large box", 16)] {
        let svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 20'><rect width='{side}' height='{side}' fill='red'/></svg>"
        );
        write(&folder.join("icons"), &format!("{name}.svg"), &svg);
    }
    write(
        &folder,
        "prompts.jsonl",
        "{\"id\": \"a\", \"prompt\": \"a large red circle\"}\n",
    );
    let row = "{\"id\": \"a\", \"prompt\": \"a dot\", \"completion\": \"<svg/>\", \"reference\": {\"svg\": \"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><circle r='4'/></svg>\"}}\n";
    write(&folder, "completions.jsonl", row);
    let mut script = "svgrl train configs/quickstart.yaml -q".to_owned();
    for set in [
        "stages.sft.steps=1",
        "stages.rl.steps=1",
        "stages.rl.batch.size=1",
        "stages.sft.eval.prompts=1",
        "stages.rl.eval.prompts=1",
    ] {
        script += &format!(" --set {set}");
    }
    let mut documents = pages(&root().join("docs"));
    documents.push(root().join("README.md"));
    let documents: String = documents.iter().map(|path| text(path)).collect();
    for line in LINES {
        assert!(
            documents.contains(&format!("\n{line}")),
            "no document says `{line}`"
        );
        script += &format!("\n{line}");
    }
    told(&mut bash(&script, &folder)).fine();
    for file in [
        "out.jsonl",
        "samples.parquet",
        "scores.jsonl",
        "prepared/train.jsonl",
    ] {
        assert!(folder.join(file).exists(), "{file}");
    }
}

/// What the pages say comes out.
fn check(page: &Path, folder: &Path) {
    match page.file_name().unwrap().to_str().unwrap() {
        "tutorial.md" => {
            for file in [
                "data.html",
                "drawings.jsonl",
                "runs/look/report.html",
                "runs/look/checkpoints/rl/final",
            ] {
                assert!(folder.join(file).exists(), "{file}");
            }
            let drawings = text(&folder.join("drawings.jsonl"));
            assert_eq!(drawings.lines().count(), 4, "{drawings}");
        }
        "own_reward.md" => {
            let scores = text(&folder.join("scores.jsonl"));
            let row: serde_json::Value = serde_json::from_str(scores.trim()).unwrap();
            assert_eq!(row["parts"]["circles"], 0.2, "{row}");
            assert!(
                (row["parts"]["ssim"].as_f64().unwrap() - 1.0).abs() < 1e-9,
                "{row}"
            );
        }
        "runs.md" => {
            let completions = folder.join(".local/share/bash-completion/completions/svgrl");
            let asked = format!(
                "source {}; COMP_WORDS=(svgrl da); COMP_CWORD=1; _svgrl svgrl da svgrl; echo ${{COMPREPLY[@]}}",
                completions.display()
            );
            let answer = told(&mut bash(
                &asked.replace("source", "set +eu; source"),
                folder,
            ))
            .fine();
            assert_eq!(answer.out.trim(), "data");
            let pages = std::fs::read_dir(folder.join(".local/share/man/man1")).unwrap();
            let names: Vec<String> = pages
                .map(|page| page.unwrap().file_name().to_string_lossy().into_owned())
                .collect();
            for name in ["svgrl.1", "svgrl-train.1", "svgrl-data-prepare.1"] {
                assert!(names.iter().any(|page| page == name), "{names:?}");
            }
        }
        _ => {}
    }
}
