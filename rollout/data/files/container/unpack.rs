//! Files as they are kept: compressed text is unpacked, text of sixteen bits becomes UTF-8. Both go to a file
//! without a name in the system's folder for such, so that rows are read by place as those of any other file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The endings that say how a file is packed, without what is in it.
const PACKED: [&str; 3] = ["gz", "zst", "zstd"];
/// First bytes that are looked at.
const HEAD: usize = 8;

/// What a file's first bytes say of its packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstd,
    /// Text in units of sixteen bits, the lower byte first or last, and the bytes of the mark before it.
    Utf16 {
        low_first: bool,
        mark: u64,
    },
    /// Not read, by its name.
    Other(&'static str),
    None,
}

impl Packing {
    fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
                Self::Other("text in UTF-32: save it as UTF-8")
            }
            [0xff, 0xfe, ..] => Self::Utf16 {
                low_first: true,
                mark: 2,
            },
            [0xfe, 0xff, ..] => Self::Utf16 {
                low_first: false,
                mark: 2,
            },
            // Without a mark: no text of eight bits begins like this.
            [b'{' | b'[' | b'<', 0, ..] => Self::Utf16 {
                low_first: true,
                mark: 0,
            },
            [0, b'{' | b'[' | b'<', ..] => Self::Utf16 {
                low_first: false,
                mark: 0,
            },
            [b'P', b'K', 3, 4, ..] => Self::Other("a zip archive: unpack it"),
            [b'B', b'Z', b'h', ..] => Self::Other("packed with bzip2: unpack it (bunzip2)"),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Self::Other("packed with xz: unpack it (unxz)"),
            [b'7', b'z', 0xbc, 0xaf, ..] => Self::Other("a 7z archive: unpack it"),
            _ => Self::None,
        }
    }
}

/// The file at `path` with what is in it unpacked: gzip, zstd and UTF-16 are, anything else is the
/// file itself.
///
/// # Errors
/// A file that cannot be read, one that is packed otherwise, by what it is, or no room to unpack it.
pub fn open_unpacked(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(file);
    }
    let head = head(&file)?;
    let unpacked = match Packing::of(&head) {
        Packing::None => return Ok(file),
        Packing::Other(what) => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is {what}"),
            ));
        }
        Packing::Gzip => aside(|out| {
            let mut reader = flate2::read::MultiGzDecoder::new(BufReader::new(&file));
            io::copy(&mut reader, out).map(drop)
        }),
        Packing::Zstd => aside(|out| {
            let mut reader = zstd::stream::read::Decoder::new(&file)?;
            io::copy(&mut reader, out).map(drop)
        }),
        Packing::Utf16 { low_first, mark } => {
            (&file).seek(SeekFrom::Start(mark))?;
            aside(|out| transcode(BufReader::new(&file), out, low_first))
        }
    };
    let unpacked = unpacked.map_err(|error| {
        let said = format!(
            "unpacking it into {}: {error}",
            std::env::temp_dir().display()
        );
        io::Error::new(error.kind(), said)
    })?;
    // What was packed may be text of sixteen bits; packed twice nothing is.
    match Packing::of(&self::head(&unpacked)?) {
        Packing::Utf16 { low_first, mark } => {
            (&unpacked).seek(SeekFrom::Start(mark))?;
            aside(|out| transcode(BufReader::new(&unpacked), out, low_first))
        }
        _ => Ok(unpacked),
    }
}

/// The ending of a path in small letters, without that of its packing: `jsonl` of `a.jsonl.gz`. An `svgz` is a
/// packed `svg`.
pub fn ending(path: &Path) -> String {
    let of = |path: &Path| {
        path.extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_ascii_lowercase()
    };
    let last = of(path);
    match last.as_str() {
        "svgz" => "svg".to_owned(),
        packed if PACKED.contains(&packed) => of(Path::new(path.file_stem().unwrap_or_default())),
        _ => last,
    }
}

/// The name of a path without its endings.
pub(super) fn stem(path: &Path) -> String {
    let ending = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    let stem = Path::new(path.file_stem().unwrap_or_default());
    let stem = match PACKED.contains(&ending.as_str()) {
        true => stem.file_stem().unwrap_or_default(),
        false => stem.as_os_str(),
    };
    stem.to_string_lossy().into_owned()
}

/// The first bytes; the file stands at its start afterwards.
pub(super) fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut reader = file;
    reader.seek(SeekFrom::Start(0))?;
    reader.take(HEAD as u64).read_to_end(&mut head)?;
    reader.seek(SeekFrom::Start(0))?;
    Ok(head)
}

/// A file without a name that `write` fills.
fn aside(write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<File> {
    let mut out = BufWriter::with_capacity(1 << 20, tempfile::tempfile()?);
    write(&mut out)?;
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// UTF-16 as UTF-8; halves of characters become the sign for them.
fn transcode(mut from: impl Read, out: &mut impl Write, low_first: bool) -> io::Result<()> {
    let mut ended = false;
    let mut failed = None;
    let units = std::iter::from_fn(|| {
        let mut pair = [0; 2];
        match from.read_exact(&mut pair) {
            _ if ended => None,
            Ok(()) if low_first => Some(u16::from_le_bytes(pair)),
            Ok(()) => Some(u16::from_be_bytes(pair)),
            Err(error) => {
                ended = true;
                failed = Some(error).filter(|error| error.kind() != io::ErrorKind::UnexpectedEof);
                None
            }
        }
    });
    for c in char::decode_utf16(units) {
        let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
        out.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
    }
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut file = open_unpacked(&path).map_err(|error| error.to_string())?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map(|_| text)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn gzip_zstd_and_sixteen_bits_come_out_as_text() {
        let text = "{\"a\": \"\u{1d11e} ü\"}\n";
        let gzip = |parts: &[&[u8]]| -> Vec<u8> {
            let pack = |part: &&[u8]| {
                let mut writer =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(part).unwrap();
                writer.finish().unwrap()
            };
            parts.iter().flat_map(pack).collect()
        };
        let wide = |low_first: bool, mark: &[u8]| -> Vec<u8> {
            let units = text.encode_utf16().flat_map(|unit| match low_first {
                true => unit.to_le_bytes(),
                false => unit.to_be_bytes(),
            });
            mark.iter().copied().chain(units).collect()
        };
        let (start, end) = text.as_bytes().split_at(7);
        let files = [
            text.as_bytes().to_vec(),
            // Two members one after the other, as parallel packers write them.
            gzip(&[start, end]),
            zstd::stream::encode_all(text.as_bytes(), 1).unwrap(),
            wide(true, b"\xff\xfe"),
            wide(false, b"\xfe\xff"),
            wide(true, b""),
            wide(false, b""),
            gzip(&[&wide(true, b"\xff\xfe")]),
        ];
        for (at, bytes) in files.iter().enumerate() {
            assert_eq!(read("a", bytes).as_deref(), Ok(text), "{at}");
        }
        assert!(
            read("a", &gzip(&[start])[..12])
                .unwrap_err()
                .contains("unpacking")
        );
        for (bytes, part) in [
            (&b"PK\x03\x04...."[..], "zip archive: unpack"),
            (b"BZh91AY", "bunzip2"),
            (b"\xfd7zXZ\0", "unxz"),
            (b"\xff\xfe\0\0{\0\0\0", "UTF-32"),
        ] {
            let said = read("a", bytes).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn the_ending_of_the_packing_is_passed_over() {
        let both = |name: &str| (ending(Path::new(name)), stem(Path::new(name)));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(both("x/a.b.JSONL.gz"), pair("jsonl", "a.b"));
        assert_eq!(both("a.svgz"), pair("svg", "a"));
        assert_eq!(both("a.parquet"), pair("parquet", "a"));
        assert_eq!(both("gz"), pair("", "gz"));
    }
}
