//! What a preparation writes: rows, rejections, the report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use rollout::data::{At, RecordRow};
use serde_json::{Value, json};

use super::duplicates::{Duplicate, DuplicateIndex};
use super::options::Args;
use super::perceptual_hash::PerceptualHash;
use super::row::{Accepted, Rejection};
use crate::cli::CliFailure;
use crate::cli::data::stats::{Lengths, Similarities};
use crate::cli::rows::RowWriter;

/// The files being written and what was counted.
pub struct Output {
    files: OutputFiles,
    kept: Option<DuplicateIndex>,
    /// Share of rows held out, and the seed that picks them.
    split: (f64, u64),
    counts: PreparedCounts,
}

struct OutputFiles {
    train: RowWriter,
    held_out: Option<RowWriter>,
    rejected: RowWriter,
    report: RowWriter,
    folder: PathBuf,
}

/// What a preparation writes.
const FILES: [&str; 4] = [
    "train.jsonl",
    "held_out.jsonl",
    "rejected.jsonl",
    "report.json",
];

/// Where pictures are.
const PICTURES: &str = "pictures";

#[derive(Default)]
struct PreparedCounts {
    rows: u64,
    train: u64,
    held_out: u64,
    rejected: BTreeMap<String, u64>,
    /// Rows whose coordinates stayed, by reason.
    unscaled: BTreeMap<String, u64>,
    asking_nothing: u64,
    /// Columns that no row of JSON can hold.
    left_behind: BTreeSet<String>,
    similarity: Similarities,
    lengths: Sizes,
}

#[derive(Default)]
struct Sizes {
    characters: [Lengths; 2],
    tokens: Lengths,
    bytes: [u64; 2],
}

/// What is said at the end.
pub struct Summary {
    pub text: String,
    pub rows: u64,
}

impl Output {
    /// Opens the files; the folder must be new or empty unless it may be written over.
    pub fn create(args: &Args, seed: u64) -> Result<Self, CliFailure> {
        let folder = &args.out;
        let wrong =
            |problem: String| CliFailure::input(format!("--out {}: {problem}", folder.display()));
        std::fs::create_dir_all(folder).map_err(|error| wrong(error.to_string()))?;
        let mut inside = std::fs::read_dir(folder).map_err(|error| wrong(error.to_string()))?;
        // What a preparation that was killed left aside is nobody's.
        let begun = |name: &str| FILES.iter().any(|file| name == format!("{file}.partial"));
        let taken = inside
            .any(|entry| entry.is_ok_and(|entry| !begun(&entry.file_name().to_string_lossy())));
        if taken && !args.overwrite {
            return Err(wrong(
                "is not empty; name another, or give --overwrite".into(),
            ));
        }
        // Pictures of an earlier preparation would stand beside these.
        let earlier = folder.join(PICTURES);
        if args.overwrite && earlier.is_dir() {
            std::fs::remove_dir_all(&earlier).map_err(|error| wrong(error.to_string()))?;
        }
        let holds_out = args.held_out > 0.0;
        let open = |name: &str| RowWriter::create(&folder.join(name));
        Ok(Self {
            files: OutputFiles {
                train: open(FILES[0])?,
                held_out: holds_out.then(|| open(FILES[1])).transpose()?,
                rejected: open(FILES[2])?,
                report: open(FILES[3])?,
                folder: folder.clone(),
            },
            kept: (!args.filters.keep_duplicates)
                .then(|| DuplicateIndex::new(args.filters.near_duplicates)),
            split: (args.held_out, seed),
            counts: PreparedCounts::default(),
        })
    }

    /// Takes one row's verdict, in the order of the rows.
    pub fn take(
        &mut self,
        row: &RecordRow,
        verdict: Result<Accepted, Rejection>,
    ) -> Result<(), CliFailure> {
        self.counts.rows += 1;
        self.counts
            .left_behind
            .extend(row.left_behind.iter().cloned());
        let verdict = verdict.and_then(|accepted| {
            let kept = self.kept.as_mut();
            let digest = digest(accepted.svg.as_bytes());
            match kept.and_then(|kept| kept.add(digest, &accepted.hash)) {
                None => Ok(accepted),
                Some(Duplicate::Same) => {
                    Err(Rejection::new("duplicate", "the same SVG was there before"))
                }
                Some(Duplicate::Alike) => Err(Rejection::new(
                    "near_duplicate",
                    "a picture like it was there before",
                )),
            }
        });
        match verdict {
            Ok(accepted) => self.accept(accepted),
            Err(rejection) => self.reject(row, &rejection),
        }
    }

    fn accept(&mut self, mut accepted: Accepted) -> Result<(), CliFailure> {
        if let Some(png) = accepted.png.take() {
            let name = self
                .files
                .picture(self.counts.train + self.counts.held_out, &png)?;
            accepted.row["images"] = json!([name]);
        }
        let counts = &mut self.counts;
        counts.similarity.add(accepted.ssim);
        counts.asking_nothing += u64::from(!accepted.asks);
        if let Some(why) = &accepted.kept {
            *counts.unscaled.entry(why.clone()).or_default() += 1;
        }
        let sizes = &mut counts.lengths;
        sizes.characters[0].add(accepted.before.0);
        sizes.characters[1].add(accepted.svg.chars().count());
        sizes.bytes[0] += accepted.before.1 as u64;
        sizes.bytes[1] += accepted.svg.len() as u64;
        if let Some(tokens) = accepted.tokens {
            sizes.tokens.add(tokens);
        }
        match &mut self.files.held_out {
            Some(file) if is_held_out(&accepted.hash, self.split) => {
                counts.held_out += 1;
                file.write(&accepted.row)
            }
            _ => {
                counts.train += 1;
                self.files.train.write(&accepted.row)
            }
        }
    }

    fn reject(&mut self, row: &RecordRow, rejection: &Rejection) -> Result<(), CliFailure> {
        let count = self.counts.rejected.entry(rejection.reason.clone());
        *count.or_default() += 1;
        let line = match row.at {
            At::Line(line) | At::Record(line) => Some(line),
            At::RowGroup { .. } | At::File => None,
        };
        let id = row.value.as_ref().ok().and_then(|value| value.get("id"));
        self.files.rejected.write(&json!({
            "file": row.path, "line": line, "place": format!("{}{}", row.path.display(), row.at),
            "id": id, "reason": rejection.reason, "detail": rejection.detail,
        }))
    }

    /// Puts every file in its place, the report with its `options` last: where it is, all are there.
    pub fn finish(mut self, options: Value) -> Result<Summary, CliFailure> {
        self.files
            .report
            .write_pretty(&self.counts.report(options))?;
        let files = self.files;
        let old = |name: &str| {
            let path = files.folder.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(CliFailure::other(format!("{}: {error}", path.display())))
                }
                _ => Ok(()),
            }
        };
        old(FILES[3])?;
        files.train.finish()?;
        match files.held_out {
            Some(file) => file.finish()?,
            None => old(FILES[1])?,
        }
        files.rejected.finish()?;
        files.report.finish()?;
        Ok(Summary {
            text: self.counts.text(),
            rows: self.counts.rows,
        })
    }
}

impl OutputFiles {
    /// Writes the picture of the row with this number; what the row calls it.
    fn picture(&self, number: u64, png: &[u8]) -> Result<String, CliFailure> {
        // A thousand to a folder.
        let name = format!("{PICTURES}/{:04}/{number:07}.png", number / 1000);
        let path = self.folder.join(&name);
        let above = path.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(above)
            .and_then(|()| std::fs::write(&path, png))
            .map_err(|error| CliFailure::other(format!("{}: {error}", path.display())))?;
        Ok(name)
    }
}

impl PreparedCounts {
    fn report(&self, options: Value) -> Value {
        let sizes = &self.lengths;
        let tokens = (sizes.tokens.total() > 0).then(|| sizes.tokens.json());
        json!({
            "options": options,
            "rows": self.rows,
            "accepted": {"train": self.train, "held_out": self.held_out},
            "rejected": self.rejected,
            "coordinates_kept": self.unscaled,
            "asking_nothing": self.asking_nothing,
            "left_behind": self.left_behind,
            "ssim": self.similarity.json(),
            "characters": {"before": sizes.characters[0].json(), "after": sizes.characters[1].json()},
            "tokens": tokens,
            "bytes": {"before": sizes.bytes[0], "after": sizes.bytes[1]},
        })
    }

    fn text(&self) -> String {
        let rejected: u64 = self.rejected.values().sum();
        let mut out = format!(
            "{} rows: {} to train on, {} held out, {rejected} rejected\n",
            self.rows, self.train, self.held_out
        );
        // Writing to a string cannot fail.
        for (reason, count) in &self.rejected {
            let _ = writeln!(out, "  {count} {reason}");
        }
        if !self.left_behind.is_empty() {
            let columns: Vec<&str> = self.left_behind.iter().map(String::as_str).collect();
            let columns = columns.join(", ");
            let _ = writeln!(out, "left behind, as JSON has no form for it: {columns}");
        }
        if let Some((mean, least)) = self.similarity.mean_and_least() {
            let quantile = |share| self.similarity.quantile(share).unwrap_or(least);
            let _ = writeln!(
                out,
                "SSIM before and after: mean {mean:.4}, median {:.4}, 1st percentile {:.4}, least {least:.4}",
                quantile(0.5),
                quantile(0.01)
            );
        }
        let [before, after] = &self.lengths.characters;
        let _ = writeln!(
            out,
            "characters: mean {:.0} before, {:.0} after; longest {}",
            before.mean(),
            after.mean(),
            after.longest()
        );
        let [before, after] = self.lengths.bytes;
        let change = 100.0 * (after as f64 / before.max(1) as f64 - 1.0);
        let word = if change > 0.0 { "more" } else { "fewer" };
        let _ = writeln!(
            out,
            "bytes: {before} before, {after} after ({:.1} % {word})",
            change.abs()
        );
        if self.lengths.tokens.total() > 0 {
            let tokens = &self.lengths.tokens;
            let _ = writeln!(
                out,
                "tokens: mean {:.0}, longest {}",
                tokens.mean(),
                tokens.longest()
            );
        }
        let unscaled: u64 = self.unscaled.values().sum();
        if unscaled > 0 {
            let _ = writeln!(
                out,
                "{unscaled} keep their own coordinates in a nested viewport"
            );
        }
        if self.asking_nothing > 0 {
            let _ = writeln!(
                out,
                "{} have no prompt, draft or picture: `format: jsonl` needs one of them",
                self.asking_nothing
            );
        }
        out
    }
}

/// Whether a picture belongs to the share held out: the same for like shapes, whatever else is there.
fn is_held_out(hash: &PerceptualHash, (share, seed): (f64, u64)) -> bool {
    let drawn = rollout::mix(rollout::mix(0, seed), hash.bits);
    (drawn as f64) < share * 2f64.powi(64)
}

/// 128 bits of a text; FNV-1a, which is the same on every machine and with every version.
fn digest(bytes: &[u8]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const START: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    bytes.iter().fold(START, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
    })
}
