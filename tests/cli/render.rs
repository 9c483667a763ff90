//! `svgrl render`: names, sizes, and files that do not render.

use super::program::{program, scratch, told, write};
use super::tiny::drawing;

/// Width and height in a PNG's header.
fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn what_renders_is_written_and_the_rest_is_listed_with_reasons() {
    let folder = scratch("render");
    let good = write(&folder, "good.svg", &drawing("<circle r='20'/>"));
    let broken = write(
        &folder,
        "broken.svg",
        "<svg xmlns='http://www.w3.org/2000/svg'><g>",
    );
    let words = write(&folder, "words.svg", "no drawing at all");
    let missing = folder.join("missing.svg");
    let wide = write(
        &folder,
        "wide.one.svg",
        "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='20'/>",
    );
    let out = folder.join("png/deeper");
    let done = told(
        program()
            .arg("render")
            .args([&good, &broken, &words, &missing, &wide])
            .arg("--out")
            .arg(&out),
    );
    done.refused(
        1,
        &[
            "broken.svg: malformed_xml",
            "words.svg: ",
            "missing.svg: ",
            "3 of 5",
        ],
    );
    let png = |name: &str| size(&std::fs::read(out.join(name)).unwrap());
    assert_eq!(png("good.png"), (64, 64));
    assert_eq!(png("wide.one.png"), (40, 20));
    assert!(!out.join("broken.png").exists());
}

#[test]
fn size_background_and_repair_are_as_asked() {
    let folder = scratch("render_flags");
    let cut = write(
        &folder,
        "cut.svg",
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 10'><g><rect width='5'",
    );
    let out = folder.join("png");
    let run = |flags: &[&str]| {
        told(
            program()
                .arg("render")
                .arg(&cut)
                .arg("--out")
                .arg(&out)
                .args(flags),
        )
    };
    run(&["--mode", "recover", "--size", "100"]).fine();
    let white = std::fs::read(out.join("cut.png")).unwrap();
    assert_eq!(size(&white), (100, 50));
    run(&[
        "--mode",
        "recover",
        "--size",
        "100",
        "--background",
        "#ff0000",
    ])
    .fine();
    assert_ne!(std::fs::read(out.join("cut.png")).unwrap(), white);
    run(&["--size", "0"]).refused(2, &["--size"]);
    run(&["--background", "mauve"]).refused(2, &["--background"]);
}

#[test]
fn files_without_an_end_or_of_another_kind_are_listed_with_their_reason() {
    let folder = scratch("render_odd");
    let good = write(&folder, "good.svg", &drawing("<circle r='20'/>"));
    let bytes = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let packed = bytes("packed.svgz", b"\x1f\x8b\x08\0\0\0\0\0");
    let wide: Vec<u8> = drawing("")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let wide = bytes("wide.svg", &wide);
    let latin = bytes(
        "latin.svg",
        b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><text>\xe9</text></svg>",
    );
    let large = write(&folder, "large.svg", &drawing(&"<g/>".repeat(3 << 20)));
    let endless = std::path::PathBuf::from("/dev/zero");
    let mut command = program();
    command
        .arg("render")
        .args([&packed, &wide, &latin, &large, &endless, &good]);
    let out = folder.join("png");
    told(command.arg("--out").arg(&out)).refused(
        1,
        &[
            "packed.svgz: malformed_xml: the file is compressed",
            "wide.svg: malformed_xml",
            "latin.svg: malformed_xml: not UTF-8",
            "large.svg: too_many_bytes: at most 262144",
            "/dev/zero: too_many_bytes",
            "5 of 6",
        ],
    );
    assert!(out.join("good.png").exists());
}
