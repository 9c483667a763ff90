//! What svgrl's pages share: one file that loads nothing from anywhere and runs no script. Text from
//! outside goes through [`escape`]; what is drawn goes in as PNG, never as markup.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Characters of a prompt or completion that are shown.
pub(crate) const MOST_CHARACTERS: usize = 6000;

/// A whole page; `body` is markup, `title` is text.
pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; img-src data:\">\
         <title>{}</title><style>{}</style></head><body><main>\n{body}</main></body></html>\n",
        escape(title),
        include_str!("style.css"),
    )
}

/// Writes a page, which appears whole or not at all.
///
/// # Errors
/// What the file system says.
pub(crate) fn write(out: &Path, page: &str) -> std::io::Result<()> {
    trainer::files::write_whole(out, page.as_bytes()).map_err(|error| match error {
        trainer::TrainError::Io { source, .. } => source,
        other => std::io::Error::other(other.to_string()),
    })
}

/// Text that is safe between tags and in double-quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A picture, or why there is none.
pub(crate) fn picture(caption: &str, png: Option<Vec<u8>>, reason: &str) -> String {
    let caption = escape(caption);
    let inside = match png {
        Some(png) => format!(
            "<img alt=\"{caption}\" src=\"data:image/png;base64,{}\">",
            STANDARD.encode(png)
        ),
        None => format!("<div class=\"none\">{}</div>", escape(reason)),
    };
    format!("<figure>{inside}<figcaption>{caption}</figcaption></figure>")
}

/// The beginning of a long text.
pub(crate) fn clipped(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
