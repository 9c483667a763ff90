//! Documents against the real command line: every svgrl line in a block of shell commands parses, and what stands in the
//! middle of a sentence names a command and flags that are there.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use super::Cli;

/// Programs that are given another one's command line.
const RUNNERS: [&str; 4] = ["torchrun", "srun", "docker", "exec"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` that end in `ending`.
fn below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(below(&path, ending)),
            false if path.to_string_lossy().ends_with(ending) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = below(&root().join("docs"), ".md");
    for name in [
        "README.md",
        "CONTRIBUTING.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
    ] {
        paths.push(root().join(name));
    }
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// The lines of a text's blocks without a language or in a shell's, continued ones joined.
fn block_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut language: Option<String> = None;
    let mut open = String::new();
    for line in text.lines() {
        if let Some(words) = line.trim_start().strip_prefix("```") {
            let first = words.split([' ', ',']).next().unwrap_or_default();
            language = match language {
                None => Some(first.to_owned()),
                Some(_) => None,
            };
            continue;
        }
        if !matches!(language.as_deref(), Some("" | "sh" | "console")) {
            continue;
        }
        open.push_str(line);
        if open.ends_with('\\') {
            open.pop();
        } else {
            lines.push(std::mem::take(&mut open));
        }
    }
    lines
}

/// The simple commands of a shell line, as words: quotes taken off, cut at `;`, `&&` and pipes, without comments and
/// redirections.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    for sign in line.chars() {
        match (quote, sign) {
            (Some(open), _) if sign == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(sign),
            (None, '\'' | '"') => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | ';' | '&' | '|' | '>') => {
                let last = all.last_mut().unwrap();
                last.extend(word.take());
                match sign {
                    ' ' => {}
                    // Where it is written to.
                    '>' => last.push("\0".to_owned()),
                    _ => all.push(Vec::new()),
                }
            }
            (None, _) => word.get_or_insert_default().push(sign),
        }
    }
    let last = all.last_mut().unwrap();
    last.extend(word);
    for words in &mut all {
        if let Some(at) = words.iter().position(|word| word == "\0") {
            words.truncate(at);
        }
    }
    all
}

/// The command line of svgrl within a command's words.
fn of_svgrl(words: &[String]) -> Option<Vec<String>> {
    let set = words.iter().take_while(|word| {
        let name = word.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_uppercase() || c == '_')
        })
    });
    let words = words.get(set.count()..)?;
    let first = words.first()?;
    let at = words.iter().position(|word| {
        word == "svgrl"
            || word.ends_with("/svgrl")
            || (first == "docker" && word.starts_with("svgrl:"))
    })?;
    let taken = at == 0 || RUNNERS.contains(&first.as_str());
    let built = first == "docker" && words.get(1).is_some_and(|word| word != "run");
    (taken && !built).then(|| words.get(at..).unwrap_or_default().to_vec())
}

/// Parses `words`, and what a launcher's `--` hands on.
fn parse(words: &[String]) -> Result<(), String> {
    Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    match words.iter().position(|word| word == "--") {
        Some(at) => {
            let own = words.iter().skip(at + 1).cloned();
            parse(
                &std::iter::once("svgrl".to_owned())
                    .chain(own)
                    .collect::<Vec<_>>(),
            )
        }
        None => Ok(()),
    }
}

/// Parses every svgrl line of `lines`; how many there were.
fn all_parse(lines: &[String], document: &str) -> usize {
    let mut count = 0;
    for line in lines {
        for words in commands(line).iter().filter_map(|words| of_svgrl(words)) {
            count += 1;
            if let Err(problem) = parse(&words) {
                panic!("{document}: `{line}`: {problem}");
            }
        }
    }
    count
}

#[test]
fn every_line_of_the_documents_parses() {
    let mut count = 0;
    for (path, text) in documents() {
        count += all_parse(&block_lines(&text), &path.display().to_string());
    }
    assert!(count > 60, "{count}");
}

#[test]
fn every_line_in_the_comments_of_configs_parses() {
    let mut count = 0;
    for path in below(&root().join("configs"), ".yaml") {
        let text = fs::read_to_string(&path).unwrap();
        let comments = text
            .lines()
            .filter_map(|line| line.strip_prefix("# Try it:"));
        let lines: Vec<String> = comments.map(|line| line.trim().to_owned()).collect();
        count += all_parse(&lines, &path.display().to_string());
    }
    assert!(count >= 10, "{count}");
}

#[test]
fn every_example_of_the_help_parses() {
    fn walk(command: &clap::Command, count: &mut usize) {
        let help = command.get_after_help().map(ToString::to_string);
        let joined = help.unwrap_or_default().replace("\\\n", " ");
        let lines: Vec<String> = joined.lines().map(|line| line.trim().to_owned()).collect();
        *count += all_parse(&lines, command.get_name());
        command
            .get_subcommands()
            .for_each(|inner| walk(inner, count));
    }
    let mut count = 0;
    walk(&Cli::command(), &mut count);
    assert!(count > 40, "{count}");
}

/// Follows the words of `said` into the commands; the first that no command or flag has.
fn unknown(said: &str) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    let mut at = &command;
    let mut words = said.split_whitespace().skip(1).peekable();
    while let Some(inner) = words.peek().and_then(|word| at.find_subcommand(word)) {
        at = inner;
        words.next();
    }
    if at.has_subcommands()
        && let Some(word) = words.peek()
    {
        // `data drafts|pairs`, `bench ..`, `COMMAND`
        let listed = word
            .split('|')
            .all(|word| at.find_subcommand(word).is_some());
        let stands_for_some = !word.chars().any(|c| c.is_ascii_lowercase());
        if !listed && !stands_for_some && !word.starts_with('-') {
            return Some((*word).to_owned());
        }
    }
    let flags = words
        .take_while(|word| *word != "--")
        .filter(|word| word.starts_with("--"));
    let mut names = flags.filter_map(|word| word.get(2..)?.split('=').next());
    let known = |name: &str| {
        let mut long = at
            .get_arguments()
            .filter_map(clap::Arg::get_long_and_visible_aliases);
        long.any(|names| names.contains(&name)) || ["help", "version"].contains(&name)
    };
    names
        .find(|name| !known(name))
        .map(|name| format!("--{name}"))
}

#[test]
fn commands_named_in_sentences_are_there() {
    let mut count = 0;
    for (path, text) in documents() {
        for said in text.split('`').skip(1).step_by(2) {
            if said.starts_with("svgrl ") && !said.contains('\n') {
                count += 1;
                if let Some(word) = unknown(said) {
                    panic!("{}: `{said}`: no {word}", path.display());
                }
            }
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn lines_are_read_as_a_shell_would() {
    let words = |line: &str| {
        commands(line)
            .iter()
            .filter_map(|words| of_svgrl(words))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        words("svgrl reference > 'a b.md'  # all"),
        [["svgrl", "reference"]]
    );
    let line = "A_B=1 svgrl check \"x y.yaml\" && svgrl schema | head";
    assert_eq!(
        words(line),
        [vec!["svgrl", "check", "x y.yaml"], vec!["svgrl", "schema"]]
    );
    let line = "docker run --rm svgrl:cpu train a.yaml";
    assert_eq!(words(line), [["svgrl:cpu", "train", "a.yaml"]]);
    for other in [
        "docker build -t svgrl:cpu .",
        "cp target/debug/svgrl /usr/bin",
        "# svgrl train",
    ] {
        assert!(words(other).is_empty(), "{other}");
    }
    assert_eq!(
        block_lines("svgrl a\n```sh\nsvgrl b \\\n  c\n```\nd\n```yaml\ne: f\n```"),
        ["svgrl b   c"]
    );
    assert_eq!(
        unknown("svgrl eval compare --outt x").as_deref(),
        Some("--outt")
    );
    assert_eq!(unknown("svgrl evil").as_deref(), Some("evil"));
    assert_eq!(unknown("svgrl data drafts|pairs"), None);
    assert!(
        parse(
            &[
                "svgrl",
                "launch",
                "--nproc-per-node",
                "2",
                "--",
                "trian",
                "a.yaml"
            ]
            .map(str::to_owned)
        )
        .is_err()
    );
}
