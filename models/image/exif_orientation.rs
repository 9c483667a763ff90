//! Which way up a photograph is, as its file says: what transformers' `load_image` asks of Pillow's
//! `exif_transpose`. The orientation stands in the Exif block of a JPEG, PNG or WebP, else in its XMP text.

/// Tag of the orientation within Exif.
const ORIENTATION: u16 = 0x0112;

/// 1 to 8, as Exif counts them; 1 where the file says nothing that can be used.
pub(super) fn orientation(file: &[u8]) -> u8 {
    let (mut exif, mut xmp) = (None, None);
    for block in blocks(file) {
        match block {
            MetadataBlock::Exif(tiff) => exif = exif.or(Some(tiff)),
            MetadataBlock::Xmp(text) => xmp = xmp.or(Some(text)),
        }
    }
    let said = exif
        .and_then(of_tiff)
        .or_else(|| xmp.and_then(of_xmp))
        .unwrap_or(1);
    match said {
        2..=8 => said as u8,
        _ => 1,
    }
}

/// Where a file says something of its own orientation.
enum MetadataBlock<'a> {
    /// A TIFF header with its tags.
    Exif(&'a [u8]),
    /// XML.
    Xmp(&'a [u8]),
}

fn blocks(file: &[u8]) -> Vec<MetadataBlock<'_>> {
    match file {
        [0xff, 0xd8, rest @ ..] => of_jpeg(rest),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', rest @ ..] => of_png(rest),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            rest @ ..,
        ] => of_webp(rest),
        _ => Vec::new(),
    }
}

/// The application segments before the scan.
fn of_jpeg(mut rest: &[u8]) -> Vec<MetadataBlock<'_>> {
    let mut found = Vec::new();
    while let [0xff, marker, after @ ..] = rest {
        // Fill bytes, and markers that stand alone.
        if matches!(marker, 0xff | 0x01 | 0xd0..=0xd8) {
            rest = if *marker == 0xff { &rest[1..] } else { after };
            continue;
        }
        let [high, low, ..] = after else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(body) = after.get(2..length) else {
            break;
        };
        match marker {
            0xda | 0xd9 => break,
            0xe1 => {
                let exif = body.strip_prefix(b"Exif\0\0").map(MetadataBlock::Exif);
                let xmp = || {
                    body.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0")
                        .map(MetadataBlock::Xmp)
                };
                found.extend(exif.or_else(xmp));
            }
            _ => {}
        }
        rest = &after[length..];
    }
    found
}

/// The chunks of a WebP, each of a name, a length and data to an even length.
fn of_webp(mut rest: &[u8]) -> Vec<MetadataBlock<'_>> {
    let mut found = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some((body, after)) = after.split_at_checked(length) else {
            break;
        };
        match &head[..4] {
            // Some writers keep the mark that stands before it in a JPEG.
            b"EXIF" => {
                let tiff = body.strip_prefix(b"Exif\0\0").unwrap_or(body);
                found.push(MetadataBlock::Exif(tiff));
            }
            b"XMP " => found.push(MetadataBlock::Xmp(body)),
            _ => {}
        }
        rest = after.get(length % 2..).unwrap_or_default();
    }
    found
}

/// The chunks, behind the pixels too.
fn of_png(mut rest: &[u8]) -> Vec<MetadataBlock<'_>> {
    let mut found = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some((body, after)) = after.split_at_checked(length) else {
            break;
        };
        match &head[4..] {
            b"eXIf" => found.push(MetadataBlock::Exif(
                body.strip_prefix(b"Exif\0\0").unwrap_or(body),
            )),
            b"iTXt" if body.starts_with(b"XML:com.adobe.xmp\0") => {
                found.push(MetadataBlock::Xmp(body))
            }
            _ => {}
        }
        // A checksum follows.
        rest = after.get(4..).unwrap_or_default();
    }
    found
}

/// The tag in the first directory of a TIFF block.
fn of_tiff(tiff: &[u8]) -> Option<u16> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| -> Option<u16> {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(match little {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        })
    };
    let long = |at: usize| -> Option<usize> {
        let (first, second) = (usize::from(short(at)?), usize::from(short(at + 2)?));
        Some(match little {
            true => second << 16 | first,
            false => first << 16 | second,
        })
    };
    let directory = long(4)?;
    let entries = usize::from(short(directory)?);
    let entry = (0..entries)
        .map(|index| directory + 2 + 12 * index)
        .find(|&at| short(at) == Some(ORIENTATION))?;
    // A single 16-bit number stands in the entry itself.
    match (short(entry + 2)?, long(entry + 4)?) {
        (3, 1) => short(entry + 8),
        _ => None,
    }
}

/// The digit behind the name, whether it is an attribute or an element.
fn of_xmp(text: &[u8]) -> Option<u16> {
    const NAME: &[u8] = b"tiff:Orientation";
    let ends = (NAME.len()..text.len()).filter(|&end| text[..end].ends_with(NAME));
    let digit = |end: usize| match &text[end..] {
        [b'=', b'"', digit @ b'0'..=b'9', ..] | [b'>', digit @ b'0'..=b'9', ..] => {
            Some(u16::from(digit - b'0'))
        }
        _ => None,
    };
    ends.filter_map(digit).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_blocks_say_nothing() {
        let exif = b"\xff\xd8\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0\xff\xda";
        assert_eq!(orientation(exif), 6);
        for end in 0..exif.len() {
            let said = orientation(&exif[..end]);
            assert!(said == 1 || said == 6, "{end}");
        }
        let mut far = exif.to_vec();
        far[16..20].fill(0xff);
        assert_eq!(orientation(&far), 1);
        let mut nine = exif.to_vec();
        nine[30] = 9;
        assert_eq!(orientation(&nine), 1);
        assert_eq!(orientation(b""), 1);
    }
}
