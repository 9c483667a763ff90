//! What a trained policy makes of its own drawings: the loop of draft, critique and correction, and rows to train on.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::program::{program, rows, told, write_rows};

/// A policy of IntroSVG's example, the example, and a judge.
pub struct Maker<'a> {
    pub model: &'a Path,
    pub example: &'a Path,
    pub endpoint: &'a str,
    pub out: PathBuf,
}

impl Maker<'_> {
    /// Rounds of every prompt, pictures and strips; the same again for the same seed.
    pub fn refines(&self) {
        let prompts: Vec<Value> = ["a large red circle", "a small blue star above a green bar"]
            .iter()
            .enumerate()
            .map(|(id, prompt)| serde_json::json!({"id": id, "prompt": prompt}))
            .collect();
        std::fs::create_dir_all(&self.out).unwrap();
        let prompts = write_rows(&self.out, "prompts.jsonl", &prompts);
        let refine = |out: &str, more: &[&str]| {
            let mut command = program();
            command.args([
                "refine",
                "--max-new-tokens",
                "96",
                "--critique-tokens",
                "48",
                "--rounds",
                "2",
            ]);
            command
                .arg("--model")
                .arg(self.model)
                .arg("--prompts")
                .arg(&prompts);
            told(command.arg("--out").arg(self.out.join(out)).args(more))
        };
        refine("a", &[]).fine();
        refine("b", &[]).fine();
        let all = rows(&self.out.join("a/rounds.jsonl"));
        assert_eq!(all.len(), 6, "a draft and two corrections each");
        let roles: Vec<&str> = all.iter().filter_map(|row| row["role"].as_str()).collect();
        assert_eq!(roles[..3], ["draft", "correction", "correction"]);
        for row in &all {
            assert!(row["picture"].is_null() != row["reason"].is_null(), "{row}");
            assert!(
                row["picture"].is_null() == row["critique"].is_null(),
                "{row}"
            );
            if let Some(picture) = row["picture"].as_str() {
                assert!(self.out.join("a").join(picture).is_file());
            }
        }
        let read =
            |folder: &str, file: &str| std::fs::read(self.out.join(folder).join(file)).unwrap();
        for file in [
            "rounds.jsonl",
            "final.jsonl",
            "strips/000000.png",
            "strips/000001.png",
        ] {
            assert!(read("a", file) == read("b", file), "{file}");
        }
        refine("a", &[]).refused(2, &["--out", "is not empty"]);
        refine("c", &["--templates", "nowhere.yaml"]).refused(2, &["--templates nowhere.yaml"]);
    }

    fn make(&self, what: &str, more: &[&str]) -> (PathBuf, String) {
        let file = self.out.join(format!("{what}.jsonl"));
        let mut command = program();
        command.args([
            "data",
            what,
            "--sources",
            "omnisvg",
            "--prompts",
            "12",
            "--candidates",
            "3",
        ]);
        command.args(["--max-new-tokens", "96"]);
        command
            .arg("--config")
            .arg(self.example.join("config.yaml"))
            .arg("--model")
            .arg(self.model);
        let said = told(command.arg("--out").arg(&file).args(more)).fine();
        (file, said.out + &said.err)
    }

    /// Drafts within their bounds, in the layout that `alpaca` reads.
    pub fn makes_drafts(&self) {
        let (file, said) = self.make("drafts", &["--min-ssim", "-1", "--max-ssim", "0.99"]);
        let drafts = rows(&file);
        assert!(!drafts.is_empty(), "{said}");
        for row in &drafts {
            let asked = row["instruction"].as_str().unwrap();
            assert!(
                asked.contains("<image>") && asked.contains("Draft Code:\n<svg"),
                "{asked}"
            );
            assert!(row["output"].as_str().unwrap().contains("<svg"));
            assert!(row["ssim"].as_f64().unwrap() <= 0.99);
            assert!(self.out.join(row["images"][0].as_str().unwrap()).is_file());
        }
        // Made again, the candidates are those that were kept.
        let before = std::fs::read(&file).unwrap();
        self.make("drafts", &["--min-ssim", "-1", "--max-ssim", "0.99"]);
        assert!(std::fs::read(&file).unwrap() == before);
    }

    /// Critiques and corrections; answers that mean nothing are counted and kept.
    pub fn makes_critiques_and_corrections(&self) {
        let judge = ["--endpoint", self.endpoint, "--judge", "stand-in"];
        let (file, _) = self.make("critiques", &judge);
        let critiques = rows(&file);
        assert!(!critiques.is_empty());
        for row in &critiques {
            let asked = row["messages"][0]["content"].as_str().unwrap();
            assert_eq!(asked.matches("<image>").count(), 1, "{asked}");
            let answer: Value =
                serde_json::from_str(row["messages"][1]["content"].as_str().unwrap()).unwrap();
            assert!(answer["score"].as_f64().is_some(), "{answer}");
            assert!(self.out.join(row["images"][0].as_str().unwrap()).is_file());
        }
        let (file, _) = self.make("corrections", &judge);
        let corrections = rows(&file);
        assert_eq!(corrections.len(), critiques.len());
        for row in &corrections {
            let asked = row["messages"][0]["content"].as_str().unwrap();
            assert!(
                asked.contains("it is small") && asked.contains("make it larger"),
                "{asked}"
            );
            assert!(
                row["messages"][1]["content"]
                    .as_str()
                    .unwrap()
                    .starts_with("<svg")
            );
        }
        let answers = rows(&self.out.join("critiques.jsonl.answers.jsonl"));
        assert!(answers.len() >= critiques.len());
    }
}
