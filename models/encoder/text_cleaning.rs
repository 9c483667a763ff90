//! Texts as OpenAI's CLIP cleans them before its tokenizer, which Long-CLIP kept: `ftfy.fix_text`, HTML entities
//! unescaped twice, white space joined, lower case. Hugging Face's tokenizers do less, so this goes with the original
//! checkpoints alone.
//!
//! Left out: ftfy's guess at texts decoded with the wrong code page, and HTML's rarer named entities.

use tokenizers::NormalizedString;

/// `text` cleaned.
pub(super) fn clean(text: &str) -> String {
    let fixed = composed(&fixed(&without_escapes(text)));
    let plain = unescaped(&unescaped(&fixed));
    let words: Vec<&str> = plain
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ").to_lowercase()
}

/// White space of Python's regular expressions.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Without a terminal's colour codes.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit() && c != ';');
        match end.filter(|&end| part.as_bytes()[end].is_ascii_alphabetic()) {
            Some(end) => out.push_str(&part[end + 1..]),
            None => {
                out.push_str("\u{1b}[");
                out.push_str(part);
            }
        }
    }
    out
}

/// ftfy's steps that look at one character at a time.
fn fixed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\u{80}'..='\u{9f}' => out.push(windows(c)),
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => out.push('\''),
            '\u{201c}'..='\u{201f}' => out.push('"'),
            '\r' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\u{3000}' => out.push(' '),
            '\u{ff01}'..='\u{ffef}' => out.push_str(&narrow(c)),
            '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' => {}
            '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' => {}
            _ => match LIGATURES.iter().find(|(joined, _)| *joined == c) {
                Some((_, apart)) => out.push_str(apart),
                None => out.push(c),
            },
        }
    }
    out
}

const LIGATURES: [(char, &str); 22] = [
    ('Ĳ', "IJ"),
    ('ĳ', "ij"),
    ('ŉ', "ʼn"),
    ('Ǳ', "DZ"),
    ('ǲ', "Dz"),
    ('ǳ', "dz"),
    ('Ǆ', "DŽ"),
    ('ǅ', "Dž"),
    ('ǆ', "dž"),
    ('Ǉ', "LJ"),
    ('ǈ', "Lj"),
    ('ǉ', "lj"),
    ('Ǌ', "NJ"),
    ('ǋ', "Nj"),
    ('ǌ', "nj"),
    ('ﬀ', "ff"),
    ('ﬁ', "fi"),
    ('ﬂ', "fl"),
    ('ﬃ', "ffi"),
    ('ﬄ', "ffl"),
    ('ﬅ', "ſt"),
    ('ﬆ', "st"),
];

/// What a byte of 0x80 to 0x9f means in Windows-1252; itself where it means nothing.
fn windows(c: char) -> char {
    const TABLE: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";
    TABLE.chars().nth(c as usize - 0x80).unwrap_or(c)
}

/// A full-width or half-width form as the ordinary character.
fn narrow(c: char) -> String {
    let mut wide = NormalizedString::from(c.to_string());
    wide.nfkc();
    wide.get().to_owned()
}

fn composed(text: &str) -> String {
    let mut text = NormalizedString::from(text);
    text.nfc();
    text.get().to_owned()
}

/// Character references resolved once, as Python's `html.unescape` does.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match reference(part) {
            Some((meant, len)) => {
                out.push_str(&meant);
                out.push_str(&part[len..]);
            }
            None => {
                out.push('&');
                out.push_str(part);
            }
        }
    }
    out
}

/// What the reference that `text` starts with (behind its `&`) means, and its bytes.
fn reference(text: &str) -> Option<(String, usize)> {
    if let Some(number) = text.strip_prefix('#') {
        let (radix, skip) = match number.starts_with(['x', 'X']) {
            true => (16, 2),
            false => (10, 1),
        };
        let digits = text.get(skip..)?;
        let len = digits
            .find(|c: char| !c.is_digit(radix))
            .unwrap_or(digits.len());
        if len == 0 {
            return None;
        }
        let end = skip + len + usize::from(digits[len..].starts_with(';'));
        let code = u32::from_str_radix(&digits[..len], radix).unwrap_or(u32::MAX);
        return Some((numbered(code), end));
    }
    let legacy = |name: &str| {
        let place = LATIN.split(' ').position(|known| known == name);
        let latin = place.and_then(|at| char::from_u32(0xa0 + at as u32));
        latin.or_else(|| Some(BASIC.iter().find(|(known, _)| *known == name)?.1))
    };
    let word = text
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    if text[word..].starts_with(';')
        && let Some((_, meant)) = OTHERS.iter().find(|(name, _)| *name == &text[..word])
    {
        return Some((meant.to_string(), word + 1));
    }
    // The oldest names need no semicolon, and may be followed by letters.
    let (meant, len) = (2..=word)
        .rev()
        .find_map(|len| Some((legacy(&text[..len])?, len)))?;
    Some((
        meant.to_string(),
        len + usize::from(text[len..].starts_with(';')),
    ))
}

/// The character of a number, as HTML reads it.
fn numbered(code: u32) -> String {
    match char::from_u32(code) {
        None | Some('\0') => "\u{fffd}".into(),
        Some('\r') => "\r".into(),
        Some(c @ '\u{80}'..='\u{9f}') => windows(c).into(),
        Some(
            '\u{1}'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{fdd0}'..='\u{fdef}',
        ) => String::new(),
        Some(c) if c as u32 & 0xfffe == 0xfffe => String::new(),
        Some(c) => c.into(),
    }
}

const BASIC: [(&str, char); 10] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("AMP", '&'),
    ("LT", '<'),
    ("GT", '>'),
    ("QUOT", '"'),
    ("COPY", '©'),
    ("REG", '®'),
];

/// Names that end in a semicolon.
const OTHERS: [(&str, char); 17] = [
    ("apos", '\''),
    ("ndash", '–'),
    ("mdash", '—'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("sbquo", '‚'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bdquo", '„'),
    ("hellip", '…'),
    ("bull", '•'),
    ("trade", '™'),
    ("euro", '€'),
    ("rarr", '→'),
    ("larr", '←'),
    ("uarr", '↑'),
    ("darr", '↓'),
];

/// Latin-1's names, in order from U+00A0.
const LATIN: &str = "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 \
sup3 acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig \
Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave \
Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave \
iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml";

#[cfg(test)]
mod tests {
    use super::clean;

    /// What `ftfy` 6.3, `html` and `re` of Python make of them.
    #[test]
    fn texts_are_cleaned_as_the_original_cleans_them() {
        for (text, want) in [
            (
                "  It\u{2019}s \u{201c}red\u{201d}\r\nand\u{2028}blue ",
                "it's \"red\" and blue",
            ),
            (
                "a &lt;svg&gt; &amp;amp; &copy 5&#x20AC; &eacute;t&eacute &ampx &#0; &#128;",
                "a <svg> & © 5€ été &x \u{fffd} €",
            ),
            (
                "\u{fb01}ne \u{ff21}\u{ff11} \u{3000}wide\u{85}",
                "fine a1 wide…",
            ),
            ("ΑΣ İ ǅ e\u{301}", "ας i\u{307} dž é"),
            (
                "bell\u{7} \u{1b}[31mred\u{1b}[0m \u{feff}bom",
                "bell red bom",
            ),
            (
                "5 &lt 6 & 7 &unknown; &notit; &#xZ;",
                "5 < 6 & 7 &unknown; ¬it; &#xz;",
            ),
            ("ÀÉ &Agrave;&yuml; &hellip;", "àé àÿ …"),
            ("a\u{a0}b\u{200b}c", "a b\u{200b}c"),
            ("x &nbsp; y &#10; z", "x y z"),
            ("", ""),
        ] {
            assert_eq!(clean(text), want, "{text:?}");
        }
    }
}
