//! JSON that Python writes and no other reader takes: halves of characters (unpaired surrogates) as escapes, which a
//! policy may write, and `NaN` and `Infinity`, which stand where a table of pandas has gaps.

/// JSON text with what Python's writer does beyond the grammar mended: U+FFFD for each escaped half of a surrogate
/// pair that stands alone, `null` for `NaN`, `Infinity` and `-Infinity`; none where there is nothing of the kind.
pub fn mended_json(bytes: &[u8]) -> Option<Vec<u8>> {
    let whole = whole_characters(bytes);
    let numbers = without_nan(whole.as_deref().unwrap_or(bytes));
    numbers.or(whole)
}

/// `null` for numbers that are none, outside strings.
fn without_nan(bytes: &[u8]) -> Option<Vec<u8>> {
    const NAMES: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
    let mut out = Vec::with_capacity(bytes.len());
    let (mut at, mut in_string, mut found) = (0, false, false);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let name = NAMES
            .iter()
            .find(|name| !in_string && rest.starts_with(name));
        if let Some(name) = name {
            out.extend(b"null");
            (at, found) = (at + name.len(), true);
            continue;
        }
        let length = match rest[0] {
            b'\\' if in_string => 2.min(rest.len()),
            _ => 1,
        };
        in_string ^= rest[0] == b'"';
        out.extend(&rest[..length]);
        at += length;
    }
    found.then_some(out)
}

/// JSON text with U+FFFD for each escaped half of a surrogate pair that stands alone; none where there is none.
fn whole_characters(bytes: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| -> Option<u16> {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut out = Vec::with_capacity(bytes.len());
    let (mut at, mut surrogates) = (0, 0);
    while at < bytes.len() {
        let next = unit(at + 6);
        let length = match unit(at) {
            Some(0xd800..=0xdbff) if next.is_some_and(|low| low & 0xfc00 == 0xdc00) => 12,
            Some(0xd800..=0xdfff) => {
                out.extend(b"\\ufffd");
                (at, surrogates) = (at + 6, surrogates + 1);
                continue;
            }
            // An escaped backslash escapes nothing itself.
            _ => 1 + usize::from(bytes[at] == b'\\'),
        };
        let end = bytes.len().min(at + length);
        out.extend(&bytes[at..end]);
        at = end;
    }
    (surrogates > 0).then_some(out)
}
