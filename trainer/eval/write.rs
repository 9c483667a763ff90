//! Results as files: `scores.json`, `items.jsonl`, `table.md`, `table.csv`.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::item::EvalItem;
use super::result::{ResultRow, SuiteScores};
use crate::TrainError;
use crate::files::{make_folder, write_whole};

/// A table of words: what stands above its columns, and its rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextTable {
    /// Names of the columns.
    pub head: Vec<String>,
    /// As many words each.
    pub rows: Vec<Vec<String>>,
}

impl TextTable {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = vec!["---".to_owned(); self.head.len()];
        let rows = self.rows.iter().map(|row| line(row));
        line(&self.head) + &line(&rule) + &rows.collect::<String>()
    }

    /// As CSV (RFC 4180, with line ends alone).
    pub fn csv(&self) -> String {
        let cell = |cell: &String| match cell.contains(['"', ',', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.clone(),
        };
        let line = |cells: &Vec<String>| {
            let cells: Vec<String> = cells.iter().map(cell).collect();
            cells.join(",") + "\n"
        };
        line(&self.head) + &self.rows.iter().map(line).collect::<String>()
    }
}

/// A number for people: three places behind the point, four below ten.
pub fn rounded(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.abs() < 10.0 => format!("{value:.4}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// A number for machines; empty where there is none.
pub fn exact(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

impl SuiteScores {
    /// The result's numbers, each by `number`.
    fn table(&self, number: fn(Option<f64>) -> String) -> TextTable {
        let head = [
            "task", "metric", "value", "low", "high", "items", "left_out",
        ];
        let row = |row: &ResultRow| {
            let counts = |count: usize| match row.task {
                Some(_) => count.to_string(),
                None => String::new(),
            };
            vec![
                row.task.clone().unwrap_or_default(),
                row.metric.clone(),
                number(row.value),
                number(row.interval.map(|interval| interval.low)),
                number(row.interval.map(|interval| interval.high)),
                counts(row.items),
                counts(row.left_out),
            ]
        };
        TextTable {
            head: head.map(str::to_owned).to_vec(),
            rows: self.rows.iter().map(row).collect(),
        }
    }

    /// The table for people.
    pub fn markdown(&self) -> String {
        self.table(rounded).markdown()
    }

    /// Writes all four files.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        write_items(&folder.join("items.jsonl"), &self.result.items)?;
        write_tables(folder, &self.markdown(), &self.table(exact).csv())?;
        write_json(&folder.join("scores.json"), &self.to_json())
    }
}

/// One row an item.
fn write_items(path: &Path, items: &[EvalItem]) -> Result<(), TrainError> {
    let mut text = String::new();
    for item in items {
        text += &line(item)?;
        text.push('\n');
    }
    make_folder(crate::files::parent(path))?;
    write_whole(path, text.as_bytes())
}

fn line(value: &impl Serialize) -> Result<String, TrainError> {
    serde_json::to_string(value).map_err(|error| TrainError::Other(error.to_string()))
}

/// `table.md` and `table.csv`.
///
/// # Errors
/// Whatever the file system says.
pub fn write_tables(folder: &Path, markdown: &str, csv: &str) -> Result<(), TrainError> {
    make_folder(folder)?;
    write_whole(&folder.join("table.md"), markdown.as_bytes())?;
    write_whole(&folder.join("table.csv"), csv.as_bytes())
}

/// A value over several lines.
///
/// # Errors
/// Whatever the file system says.
pub fn write_json(path: &Path, value: &Value) -> Result<(), TrainError> {
    make_folder(crate::files::parent(path))?;
    write_whole(path, format!("{value:#}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_marks_stay_one_cell() {
        let table = TextTable {
            head: vec!["a".into(), "b".into()],
            rows: vec![vec!["x|y".into(), "1,\"2\"".into()]],
        };
        assert_eq!(
            table.markdown(),
            "| a | b |\n| --- | --- |\n| x\\|y | 1,\"2\" |\n"
        );
        assert_eq!(table.csv(), "a,b\nx|y,\"1,\"\"2\"\"\"\n");
        assert_eq!((rounded(None), exact(None)), ("-".into(), String::new()));
        assert_eq!(rounded(Some(25.9444)), "25.944");
        assert_eq!(exact(Some(0.1)), "0.1");
    }
}
