//! Samples of one step: prompt, picture beside target, reward and source.

use std::collections::HashSet;
use std::fmt::Write;

use serde_json::Value;

use super::chart::short;
use super::page::{clipped, escape, picture};

/// Turns a completion, or the source of a reference SVG, into a PNG; `None` when it does not
/// render.
pub type Rasterise<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// Rows shown of a step: the first completion of each prompt, then further ones.
const MOST_ROWS: usize = 8;

/// The samples of a step as cards under a title.
pub(super) fn html(title: &str, rows: &[Value], rasterise: Rasterise<'_>) -> String {
    let title = escape(title);
    let mut out = format!("<h3>{title}</h3><div class=\"samples\">\n");
    for row in chosen(rows) {
        out.push_str(&card(row, rasterise));
    }
    out.push_str("</div>\n");
    out
}

fn chosen(rows: &[Value]) -> Vec<&Value> {
    let mut seen = HashSet::new();
    let (first, further): (Vec<&Value>, Vec<&Value>) = rows
        .iter()
        .partition(|row| seen.insert(row["prompt_id"].to_string()));
    first.into_iter().chain(further).take(MOST_ROWS).collect()
}

fn card(row: &Value, rasterise: Rasterise<'_>) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let completion = text("completion");
    let target = row["reference"]["svg"].as_str();
    let reason = match text("reason") {
        "" => "does not render",
        reason => reason,
    };
    let mut out = String::from("<article><div class=\"pair\">");
    if row["valid"] == true && !completion.contains("<svg") {
        // Words were asked for, and are compared with words.
        let wanted = row["reference"]["text"].as_str().unwrap_or_default();
        out.push_str(&words("completion", completion));
        out.push_str(&words("target", wanted));
    } else {
        out.push_str(&picture("completion", rasterise(completion), reason));
    }
    if let Some(target) = target {
        out.push_str(&picture("target", rasterise(target), "does not render"));
    }
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "</div><p class=\"prompt\">{}</p><p class=\"score\"><b>{}</b>",
        escape(&clipped(text("prompt"))),
        number(&row["total"])
    );
    for (name, value) in row["parts"].as_object().into_iter().flatten() {
        let _ = write!(
            out,
            " <span class=\"chip\">{} {}</span>",
            escape(name),
            number(value)
        );
    }
    let _ = write!(
        out,
        " <span class=\"chip\">advantage {}</span>",
        number(&row["advantage"])
    );
    for (flag, show) in [
        ("truncated", text("finish_reason") == "length"),
        ("invalid", row["valid"] == false),
        ("not scored", row.get("total").is_some_and(Value::is_null)),
    ] {
        if show {
            let _ = write!(out, " <span class=\"chip bad\">{flag}</span>");
        }
    }
    let _ = writeln!(
        out,
        "</p><details><summary>source, {} characters</summary><pre>{}</pre></details></article>",
        completion.chars().count(),
        escape(&clipped(completion))
    );
    out
}

/// Words where pictures stand for drawings.
fn words(caption: &str, text: &str) -> String {
    let text = escape(&clipped(text));
    format!("<figure><p>{text}</p><figcaption>{caption}</figcaption></figure>")
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_stand_beside_words_and_lack_no_picture() {
        let caption = json!({
            "valid": true, "reason": null, "completion": "a <red> dot", "total": 0.5,
            "reference": {"text": "a red dot on white"},
        });
        let page = card(&caption, &|_| None);
        assert!(
            page.contains("a &lt;red&gt; dot") && page.contains("a red dot on white"),
            "{page}"
        );
        assert!(
            !page.contains("does not render") && !page.contains("invalid"),
            "{page}"
        );
        // An answer without a drawing where one was asked for is still told as such.
        let lacking = json!({
            "valid": false, "reason": "no_svg", "completion": "sorry", "total": 0,
            "reference": {"svg": "<svg/>", "text": "a red dot"},
        });
        let page = card(&lacking, &|_| None);
        assert!(
            page.contains("no_svg") && page.contains("invalid"),
            "{page}"
        );
    }
}
