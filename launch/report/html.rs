//! The page around its data: one file with its style, its script and its JSON.
//!
//! The content security policy lets the page load nothing, and run the one script whose digest it names. What a policy
//! wrote stands in the JSON, where no `<` is left as it is, and the script puts it into the page as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::page::escape;
use super::page_data::PageData;

const STYLE: &str = include_str!("page/report.css");

/// The script's files, in order.
const SCRIPT: [&str; 6] = [
    include_str!("page/element.js"),
    include_str!("page/overview.js"),
    include_str!("page/chart.js"),
    include_str!("page/curves.js"),
    include_str!("page/samples.js"),
    include_str!("page/main.js"),
];

/// The whole page.
pub(super) fn page(data: &PageData) -> String {
    let names: Vec<&str> = data.runs.iter().map(|run| run.name()).collect();
    let title = names.join(", ");
    let script = format!(
        "\"use strict\";\n(() => {{\n{}\n}})();\n",
        SCRIPT.join("\n")
    );
    let digest = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let connect = match data.live {
        true => "connect-src 'self'; ",
        false => "",
    };
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; {connect}base-uri 'none'; form-action 'none'",
        digest(&script),
        digest(STYLE),
    );
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <title>{}</title>\n<style>{STYLE}</style></head>\n<body>\
         <noscript>This page draws itself with the script inside it, which loads nothing.</noscript>\n\
         <main id=\"page\"></main>\n<script type=\"application/json\" id=\"data\">{}</script>\n\
         <script>{script}</script></body></html>\n",
        escape(&title),
        json(data),
    )
}

/// JSON in which nothing can end the element that it stands in.
fn json(data: &PageData) -> String {
    let text = serde_json::to_string(data).unwrap_or_else(|_| "{}".to_owned());
    text.replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}
