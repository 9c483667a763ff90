//! Halves of characters (unpaired surrogates) in JSON: Python writes a string that holds one as an escape that no other
//! reader takes, and a policy may write it.

/// JSON text with U+FFFD for each escaped half of a surrogate pair that stands alone; none where there is none.
pub fn whole_characters(bytes: &[u8]) -> Option<Vec<u8>> {
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
