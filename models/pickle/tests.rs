//! What a checkpoint may not do. That good ones are read as torch reads them is checked by the parity
//! tests of the networks.

use super::parse;

/// A zip archive of stored entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let offset = out.len() as u32;
        let sizes = [data.len() as u32; 2].map(u32::to_le_bytes).concat();
        let name_len = (name.len() as u16).to_le_bytes();
        out.extend(b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        out.extend(&sizes);
        out.extend(name_len);
        out.extend([0, 0]);
        out.extend(name.as_bytes());
        out.extend(*data);
        directory.extend(b"PK\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        directory.extend(&sizes);
        directory.extend(name_len);
        directory.extend([0; 12]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (at, len) = (out.len() as u32, directory.len() as u32);
    let count = (entries.len() as u16).to_le_bytes();
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count);
    out.extend(count);
    out.extend(len.to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn pickle(body: &[u8]) -> Vec<u8> {
    [&[0x80, 2][..], body].concat()
}

fn refusal(body: &[u8], storage: &[u8]) -> String {
    let data = pickle(body);
    parse(&archive(&[("a/data.pkl", &data), ("a/data/0", storage)]))
        .map(|found| format!("{found:?}"))
        .unwrap_err()
}

/// `{"w": tensor}` over a float storage of four elements, with this offset, size and stride.
fn one_tensor(offset: u8, size: u8, stride: u8) -> Vec<u8> {
    let mut body = b"}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ".to_vec();
    body.extend([b'K', offset, b'K', size, 0x85, b'K', stride, 0x85, 0x89]);
    body.extend(b"ccollections\nOrderedDict\n)RtRs.");
    body
}

#[test]
fn a_tensor_is_read_through_its_offset_and_stride() {
    let storage: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let data = pickle(&one_tensor(1, 2, 2));
    let found = parse(&archive(&[("a/data.pkl", &data), ("a/data/0", &storage)])).unwrap();
    assert_eq!(Vec::<f32>::try_from(&found["w"]).unwrap(), [2.0, 4.0]);
}

/// The older form, as Python 2 wrote it (the lpips package's own weights are of this kind): short byte strings,
/// and an ordered dict made of a list of its items.
#[test]
fn a_checkpoint_of_python_2_is_read() {
    for rebuild in ["_rebuild_tensor_v2", "_rebuild_tensor"] {
        let whole = [
            &b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."[..],
            b"\x80\x02M\xe9\x03.",
            b"\x80\x02}U\x04typeK\x04s.",
            b"\x80\x02ccollections\nOrderedDict\n](](U\x01wctorch._utils\n",
            rebuild.as_bytes(),
            b"\n((U\x07storagectorch\nFloatStorage\nU\x0212U\x06cuda:0\x8a\x01\x03NtQK\0(K\x03t(K\x01t\x89NtRee\x85R",
            b"}U\x09_metadata}sb.",
            b"\x80\x02]U\x0212a.",
            &3u64.to_le_bytes(),
            &[1f32, -2.0, 0.5].map(f32::to_le_bytes).concat(),
        ]
        .concat();
        let found = parse(&whole).unwrap();
        let values = Vec::<f32>::try_from(&found["w"]).unwrap();
        assert_eq!(values, [1.0, -2.0, 0.5]);
        assert!(parse(&whole[..whole.len() - 1]).is_err());
    }
}

#[test]
fn code_in_a_checkpoint_is_refused_by_its_name() {
    for (body, name) in [
        (&b"cos\nsystem\nX\x04\0\0\0true\x85R."[..], "os.system"),
        (b"cbuiltins\neval\nX\x01\0\0\x001\x85R.", "builtins.eval"),
        (b"X\x05\0\0\0posixX\x06\0\0\0system\x93.", "posix.system"),
        (b"ctorch\nload\n)R.", "torch.load"),
        (
            b"cnumpy.core.multiarray\nscalar\n.",
            "numpy.core.multiarray.scalar",
        ),
    ] {
        let reason = refusal(body, &[]);
        assert!(
            reason.contains(name) && reason.contains("refused"),
            "{reason}"
        );
    }
}

#[test]
fn a_tensor_beyond_its_storage_is_refused() {
    for (offset, size, stride) in [(0, 5, 1), (4, 1, 1), (1, 2, 4), (255, 1, 1)] {
        let reason = refusal(&one_tensor(offset, size, stride), &[0; 16]);
        assert!(reason.contains("beyond its storage"), "{reason}");
    }
    let short = refusal(&one_tensor(0, 4, 1), &[0; 15]);
    assert!(short.contains("cut short"), "{short}");
}

#[test]
fn a_tensor_that_repeats_its_storage_without_end_is_refused() {
    let shaped = |size: &[i32]| {
        let mut body = one_tensor(0, 4, 1);
        let (from, to) = (b"K\x04\x85K\x01\x85", size);
        let at = body.windows(6).position(|part| part == from).unwrap();
        let ints = |values: &mut dyn Iterator<Item = i32>| {
            let each = values.flat_map(|value| [&b"J"[..], &value.to_le_bytes()].concat());
            [&b"("[..], &each.collect::<Vec<u8>>(), b"t"].concat()
        };
        let both = [
            ints(&mut to.iter().copied()),
            ints(&mut to.iter().map(|_| 0)),
        ]
        .concat();
        body.splice(at..at + 6, both);
        body
    };
    let reason = refusal(&shaped(&[1 << 30, 1 << 20]), &[0; 16]);
    assert!(reason.contains("repeats its 4 numbers"), "{reason}");
    let reason = refusal(&shaped(&[i32::MAX; 3]), &[0; 16]);
    assert!(reason.contains("impossible shape"), "{reason}");
    let data = pickle(&shaped(&[3, 5]));
    let found = parse(&archive(&[("a/data.pkl", &data), ("a/data/0", &[0; 16])]));
    assert_eq!(found.unwrap()["w"].size(), [3, 5]);
}

#[test]
fn no_cut_of_a_checkpoint_is_taken_for_one() {
    let data = pickle(&one_tensor(0, 4, 1));
    let whole = archive(&[("a/data.pkl", &data), ("a/data/0", &[0; 16])]);
    assert!(parse(&whole).is_ok());
    for len in 0..whole.len() {
        assert!(parse(&whole[..len]).is_err(), "{len} bytes");
    }
    for len in 0..data.len() {
        assert!(
            parse(&archive(&[
                ("a/data.pkl", &data[..len]),
                ("a/data/0", &[0; 16])
            ]))
            .is_err()
        );
    }
}

#[test]
fn a_dict_within_itself_ends() {
    // d = {}; d["a"] = d, twenty names deep at most.
    let reason = refusal(b"}q\0X\x01\0\0\0ah\0s.", &[]);
    assert!(reason.contains("no tensors"), "{reason}");
}
