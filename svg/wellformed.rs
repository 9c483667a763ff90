//! What CairoSVG's XML parser (expat, with Python's encodings) refuses and this crate's lets pass:
//! attributes that touch, references to characters XML does not have, reserved names, declarations
//! in the wrong place, encodings that are not the text's. One linear pass over the markup; whatever
//! it cannot follow is left to the parser.

use crate::prolog::{doctype_length, is_name, skip_space};

/// The first such fault, as a sentence.
pub(crate) fn fault(source: &str) -> Option<String> {
    let text = source.strip_prefix('\u{feff}').unwrap_or(source);
    if text.starts_with('\u{feff}') {
        return Some("a second byte order mark".into());
    }
    // Most documents hold no number to judge.
    let numbered = text.contains("&#");
    let mut at = 0;
    while let Some(found) = text[at..].find('<') {
        if numbered && let Some(said) = bad_reference(&text[at..at + found]) {
            return Some(said);
        }
        at += found;
        let rest = &text[at..];
        let step = if rest.starts_with("<!--") {
            rest.find("-->").map(|i| i + 3)
        } else if rest.starts_with("<![CDATA[") {
            rest.find("]]>").map(|i| i + 3)
        } else if rest.starts_with("<?") {
            if let Some(said) = bad_instruction(rest, at == 0) {
                return Some(said);
            }
            rest.find("?>").map(|i| i + 2)
        } else if rest.starts_with("<!") {
            doctype_length(rest)
        } else if rest.starts_with("</") {
            rest.find('>').map(|i| i + 1)
        } else {
            match tag(rest, numbered) {
                Ok(length) => length,
                Err(said) => return Some(said),
            }
        };
        at += step?;
    }
    bad_reference(&text[at..])
}

/// The length of a start tag, whose values may hold numeric references if `numbered`; none when it
/// cannot be followed.
fn tag(rest: &str, numbered: bool) -> Result<Option<usize>, String> {
    let bytes = rest.as_bytes();
    let end = |mut at: usize| {
        while at < bytes.len() && is_name(bytes[at]) {
            at += 1;
        }
        at
    };
    let mut at = end(1);
    name(&rest[1..at])?;
    loop {
        let start = skip_space(bytes, at);
        match bytes.get(start) {
            None => return Ok(None),
            Some(b'>') => return Ok(Some(start + 1)),
            Some(b'/') => return Ok(rest[start..].starts_with("/>").then_some(start + 2)),
            Some(_) if start == at => {
                return Err("an attribute touches what stands before it".into());
            }
            Some(_) => {}
        }
        at = end(start);
        let attribute = &rest[start..at];
        name(attribute)?;
        at = skip_space(bytes, at);
        if bytes.get(at) != Some(&b'=') {
            return Ok(None);
        }
        at = skip_space(bytes, at + 1);
        let Some(quote @ (b'"' | b'\'')) = bytes.get(at).copied() else {
            return Ok(None);
        };
        let Some(length) = rest[at + 1..].find(char::from(quote)) else {
            return Ok(None);
        };
        let value = &rest[at + 1..at + 1 + length];
        at += length + 2;
        if numbered && let Some(said) = bad_reference(value) {
            return Err(said);
        }
        if attribute == "xmlns:xmlns" || (attribute.starts_with("xmlns:") && value.is_empty()) {
            return Err(format!("{attribute}: this namespace cannot be declared so"));
        }
    }
}

/// Names begin with no colon, and letters beyond the first plane are none to expat.
fn name(name: &str) -> Result<(), String> {
    let bad = name.starts_with(':') || name.bytes().any(|first| first >= 0xf0);
    match bad {
        true => Err(format!("not a name: {name:?}")),
        false => Ok(()),
    }
}

/// A numeric reference to a character that XML does not have.
fn bad_reference(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(start) = rest.find("&#") {
        rest = &rest[start + 2..];
        let end = rest.find(';')?;
        let digits = &rest[..end];
        let code = match digits.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        let exists = code.is_ok_and(|code| {
            let allowed = matches!(code, 9 | 10 | 13 | 0x20..=0xfffd | 0x1_0000..);
            allowed && char::from_u32(code).is_some()
        });
        if !exists {
            let shown: String = digits.chars().take(12).collect();
            return Some(format!(
                "reference to a character that does not exist: &#{shown};"
            ));
        }
    }
    None
}

/// `<?xml` stands first or nowhere, in lower case, and names an encoding the text can be in.
fn bad_instruction(rest: &str, first: bool) -> Option<String> {
    let bytes = rest.as_bytes();
    let is_declaration = bytes.get(2..5)?.eq_ignore_ascii_case(b"xml")
        && bytes
            .get(5)
            .is_none_or(|b| b.is_ascii_whitespace() || *b == b'?');
    if !is_declaration {
        return None;
    }
    if !first || !rest.starts_with("<?xml") {
        return Some("an XML declaration that does not stand first".into());
    }
    let declaration = &rest[..rest.find("?>")?];
    if !declaration.contains("version") {
        return Some("an XML declaration without a version".into());
    }
    let value = |name: &str| {
        let (_, after) = declaration.split_once(name)?;
        let value = after.trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        value[1..].split(quote).next()
    };
    if value("standalone").is_some_and(|said| !matches!(said, "yes" | "no")) {
        return Some("an XML declaration whose standalone is neither yes nor no".into());
    }
    let encoding = value("encoding")?.to_ascii_lowercase();
    let one_byte = [
        "iso-8859-",
        "iso8859-",
        "windows-125",
        "cp125",
        "koi8-",
        "latin",
    ];
    let known = matches!(
        encoding.as_str(),
        "utf-8" | "utf8" | "us-ascii" | "ascii" | "latin-1"
    ) || one_byte.iter().any(|start| encoding.starts_with(start));
    (!known).then(|| format!("encoding {encoding:?} is not that of the text"))
}

#[cfg(test)]
mod tests {
    use super::fault;

    #[test]
    fn what_expat_refuses_is_a_fault() {
        for source in [
            "<svg a='1'b='2'/>",
            "<svg><g a=\"1\"b=\"2\"></g></svg>",
            "<svg>&#xD800;</svg>",
            "<svg a='&#x110000;'/>",
            "<svg a='&#1;'/>",
            "<svg><:a/></svg>",
            "<svg :a=''/>",
            "<svg xmlns:xmlns='u'/>",
            "<svg xmlns:a=''/>",
            "<svg><?XML a?></svg>",
            "\u{feff}\u{feff}<svg/>",
            "<?xml version='1.0' encoding='UTF-16'?><svg/>",
            "<?xml version='1.0' encoding=\"bogus\"?><svg/>",
            "<svg><\u{1f600}/></svg>",
        ] {
            assert!(fault(source).is_some(), "{source}");
        }
    }

    #[test]
    fn what_expat_accepts_is_none() {
        for source in [
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\" standalone='no'?>\n<svg a='1'\tb = \"2\" />",
            "<svg xmlns:a='u' a:b='&#65;&#x1F600;&lt;'><!-- a='1'b='2' &#0; --><![CDATA[<:a &#0;]]><?xmlish?></svg>",
            "<!DOCTYPE svg [<!ATTLIST a b CDATA 'c'>]><svg/>",
            "<svg>\u{1f600}</svg>",
            "<?xml version='1.0' encoding=\u{fffd}UTF-8'?><svg/>",
            "<svg",
            "",
        ] {
            assert_eq!(fault(source), None, "{source}");
        }
    }
}
