//! The first line of a run and its last ones.

use std::path::Path;

use tch::Device;
use trainer::RunHeader;
use trainer::config::StageCommon;

use crate::report;

/// Device, ranks, policy, rows, folder, and where it continues from: one line.
pub(super) fn header(run: &RunHeader<'_>) -> String {
    let device = match run.device {
        Device::Cuda(index) => {
            let name = torch_ext::device_name(run.device).ok().flatten();
            format!("cuda:{index} ({})", name.as_deref().unwrap_or("unnamed"))
        }
        _ => "cpu".to_owned(),
    };
    let plural = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        more => format!("{more} {one}s"),
    };
    let sources: Vec<String> = run
        .sources
        .iter()
        .map(|source| match source.held_out {
            0 => format!("{} {} rows", source.name, source.train),
            held => format!("{} {}+{held} rows", source.name, source.train),
        })
        .collect();
    let from = match run.from {
        Some(checkpoint) => format!("continues from {}", checkpoint.display()),
        None => "from the start".to_owned(),
    };
    format!(
        "{device}, {}, {}; policy {}; {}; {}; {from}",
        plural(run.threads, "thread"),
        plural(run.ranks, "rank"),
        parameters(run.parameters),
        sources.join(", "),
        run.folder.display()
    )
}

/// `7.6 B`, `494 M`, `12.3 k` parameters.
fn parameters(count: i64) -> String {
    let (scaled, unit) = match count as f64 {
        many if many >= 1e9 => (many / 1e9, "B"),
        many if many >= 1e6 => (many / 1e6, "M"),
        few => (few / 1e3, "k"),
    };
    match scaled >= 100.0 {
        true => format!("{scaled:.0} {unit}"),
        false => format!("{scaled:.1} {unit}"),
    }
}

/// What a finished run in `folder` came to: held-out numbers before and after, where things are, and what to do next.
pub(super) fn summary(folder: &Path, last: Option<&StageCommon>) -> Vec<String> {
    let mut lines = report::before_and_after(folder).unwrap_or_default();
    let checkpoints = folder.join("checkpoints");
    let newest = last.map(|stage| checkpoints.join(&stage.name).join("final"));
    let newest = newest.filter(|path| path.is_dir());
    lines.push(format!(
        "checkpoints: {}",
        newest.as_ref().unwrap_or(&checkpoints).display()
    ));
    lines.push(format!("report: {}", folder.join("report.html").display()));
    if let Some(newest) = newest {
        lines.push(format!(
            "next: svgrl generate --model {} --prompts prompts.jsonl --out out.jsonl",
            newest.display()
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use trainer::SourceCounts;
    use trainer::config::{AlgorithmConfig, SftConfig, StageConfig};

    use super::*;

    #[test]
    fn the_first_line_says_where_a_run_stands() {
        let source = |name: &str, held_out| SourceCounts {
            name: name.into(),
            train: 40,
            held_out,
        };
        let stage = StageConfig::new(AlgorithmConfig::Sft(SftConfig::default())).common;
        let mut run = RunHeader {
            device: Device::Cpu,
            threads: 2,
            ranks: 1,
            parameters: 1_940_000,
            sources: vec![source("shapes", 4), source("icons", 0)],
            folder: Path::new("runs/a"),
            from: None,
            stage: &stage,
            step: 0,
        };
        assert_eq!(
            header(&run),
            "cpu, 2 threads, 1 rank; policy 1.9 M; shapes 40+4 rows, icons 40 rows; runs/a; from the start"
        );
        run.parameters = 8_190_000_000;
        run.from = Some(Path::new("runs/a/checkpoints/rl/step_000003"));
        let line = header(&run);
        assert!(line.contains("policy 8.2 B"), "{line}");
        assert!(
            line.ends_with("continues from runs/a/checkpoints/rl/step_000003"),
            "{line}"
        );
        assert_eq!(parameters(494_000_000), "494 M");
        assert_eq!(parameters(12_345), "12.3 k");
    }
}
