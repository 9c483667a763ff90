//! Text that is hard on parsers: entities, depth, floods, broken tags, bytes that are no text.

use super::{Attack, Kind, wrap};

pub fn attacks() -> Vec<Attack> {
    [entities(), nesting(), floods(), broken(), bytes()].concat()
}

fn entities() -> Vec<Attack> {
    let mut kind = Kind::new("entity");
    let laughs: String = (1..12)
        .map(|n| format!("<!ENTITY e{n} '{}'>", format!("&e{};", n - 1).repeat(10)))
        .collect();
    let with = |subset: &str, body: &str| format!("<!DOCTYPE svg [{subset}]>{}", wrap(body));
    kind.raw(
        "laughs",
        with(&format!("<!ENTITY e0 'ha'>{laughs}"), "<text>&e11;</text>"),
    );
    let long = "a".repeat(50_000);
    kind.raw(
        "quadratic",
        with(
            &format!("<!ENTITY a '{long}'>"),
            &format!("<text>{}</text>", "&a;".repeat(5000)),
        ),
    );
    kind.raw(
        "of itself",
        with("<!ENTITY a '&b;'><!ENTITY b '&a;'>", "<text>&a;</text>"),
    );
    kind.raw(
        "file",
        with(
            "<!ENTITY a SYSTEM 'file:///etc/passwd'>",
            "<text>&a;</text>",
        ),
    );
    kind.raw(
        "http",
        with(
            "<!ENTITY a SYSTEM 'http://127.0.0.1:9/a'>",
            "<text>&a;</text>",
        ),
    );
    kind.raw(
        "parameter",
        with("<!ENTITY % a SYSTEM 'http://127.0.0.1:9/a'> %a;", ""),
    );
    kind.raw(
        "in an attribute",
        with("<!ENTITY a 'M0 0'>", "<path d='&a;'/>"),
    );
    kind.raw("with markup", with("<!ENTITY a '<g><g>'>", "&a;</g></g>"));
    kind.raw(
        "spelt apart",
        with("<!\u{20}ENTITY a 'b'>", "<text>&a;</text>"),
    );
    kind.raw(
        "external subset",
        "<!DOCTYPE svg SYSTEM 'file:///etc/passwd'><svg viewBox='0 0 1 1'/>",
    );
    kind.raw(
        "default attributes",
        with("<!ATTLIST rect width CDATA '1e9'>", "<rect height='9'/>"),
    );
    kind.raw(
        "long subset",
        with(&format!("<!-- {} -->", "x".repeat(200_000)), ""),
    );
    kind.raw("open subset", "<!DOCTYPE svg [<!ELEMENT a ANY>");
    kind.raw(
        "nested subsets",
        format!("<!DOCTYPE svg {}", "[".repeat(50_000)),
    );
    kind.body("unknown", "<text>&nbsp;&lol;</text>");
    for code in [
        "0",
        "x0",
        "xD800",
        "x110000",
        "xFFFFFFFFFF",
        "-1",
        "99999999999999999999",
        "",
    ] {
        kind.body(&format!("number {code}"), format!("<text>&#{code};</text>"));
    }
    kind.body(
        "many numbers",
        format!("<text>{}</text>", "&#x1F600;".repeat(20_000)),
    );
    kind.done()
}

fn nesting() -> Vec<Attack> {
    let mut kind = Kind::new("nested");
    for name in [
        "g",
        "svg",
        "a",
        "switch",
        "clipPath",
        "mask",
        "pattern",
        "symbol",
        "marker",
        "text",
        "tspan",
        "defs",
        "foreignObject",
        "unknown",
    ] {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        kind.body(
            &format!("{name} 3000"),
            open.repeat(3000) + &close.repeat(3000),
        );
        kind.body(&format!("{name} open"), open.repeat(9000));
    }
    kind.body("g 100000", "<g>".repeat(100_000) + &"</g>".repeat(100_000));
    kind.body(
        "transformed",
        "<g transform='scale(1.5)'>".repeat(120) + "<circle r='1'/>" + &"</g>".repeat(120),
    );
    kind.body(
        "opacity",
        "<g opacity='.9'>".repeat(120) + "<circle r='9'/>" + &"</g>".repeat(120),
    );
    kind.raw(
        "comments",
        format!("<svg viewBox='0 0 1 1'>{}", "<!--".repeat(60_000)),
    );
    kind.raw(
        "ends",
        format!("<svg viewBox='0 0 1 1'>{}", "</g>".repeat(60_000)),
    );
    kind.done()
}

fn floods() -> Vec<Attack> {
    let mut kind = Kind::new("flood");
    let many =
        |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
    kind.body("elements", "<g/>".repeat(60_000));
    kind.body(
        "attributes",
        format!("<g{}/>", many(20_000, &|i| format!(" a{i}=''"))),
    );
    kind.body("one attribute", format!("<g{}/>", " a=''".repeat(40_000)));
    kind.body(
        "namespaces",
        many(5000, &|i| format!("<g xmlns:n{i}='u{i}'>")),
    );
    kind.body(
        "namespaces of one tag",
        format!("<g{}/>", many(9000, &|i| format!(" xmlns:n{i}='u{i}'"))),
    );
    kind.body("identifiers", many(9000, &|i| format!("<g id='i{i}'/>")));
    kind.body(
        "one identifier",
        "<g id='a'/>".repeat(9000) + &"<use href='#a'/>".repeat(9000),
    );
    kind.body("long name", format!("<{}/>", "a".repeat(200_000)));
    kind.body(
        "long attribute name",
        format!("<g {}=''/>", "a".repeat(200_000)),
    );
    kind.body("long value", format!("<g a='{}'/>", "a".repeat(200_000)));
    kind.body("instructions", "<?a b?>".repeat(30_000));
    kind.body("text nodes", "a<g/>".repeat(15_000));
    kind.body("cdata", "<![CDATA[<]]>".repeat(15_000));
    kind.body(
        "classes",
        format!("<g class='{}'/>", many(30_000, &|i| format!("c{i} "))),
    );
    kind.raw("roots", "<svg viewBox='0 0 1 1'/>".repeat(9000));
    kind.raw("bytes", wrap(&" ".repeat(20 << 20)));
    kind.raw("opening words", "<svg ".repeat(50_000));
    kind.raw("fences", "```svg\n".repeat(30_000));
    kind.done()
}

fn broken() -> Vec<Attack> {
    let mut kind = Kind::new("broken");
    let texts = [
        "",
        " ",
        "<",
        "<svg",
        "<svg ",
        "<svg>",
        "<svg/",
        "<svg/>",
        "</svg>",
        "<svg></svg",
        "<svg><",
        "<svg></",
        "<svg viewBox",
        "<svg viewBox=",
        "<svg viewBox='",
        "<svg viewBox='0 0 9 9",
        "<svg viewBox='0 0 9 9'",
        "<!",
        "<!-",
        "<!--",
        "<?",
        "<?xml",
        "<?xml version='9'?><svg/>",
        "<![CDATA[",
        "]]>",
        "<svg><![CDATA[",
        "<svg><!DOCTYPE a></svg>",
        "&",
        "&amp",
        "<svg>&</svg>",
        "<svg viewBox='0 0 1 1'></svg></svg>",
        "<svg viewBox='0 0 1 1'><g></svg></g>",
        "<svg viewBox='0 0 1 1' viewBox='0 0 2 2'/>",
        "<svg viewBox=0 0 1 1/>",
        "<svg viewBox='0 0 1 1'/ >",
        "<svg viewBox='<'/>",
        "<svg\nviewBox\n=\n'0 0 1 1'\n/>",
        "<SVG viewBox='0 0 1 1'/>",
        "<svg:svg viewBox='0 0 1 1'/>",
        "<:svg/>",
        "<svg:/>",
        "<svg xmlns=''/>",
        "<svg xmlns='http://www.w3.org/2000/svg' xmlns='http://www.w3.org/2000/svg'/>",
        "<svg xmlns:xml='a'/>",
        "<svg xmlns:xmlns='a'/>",
        "<svg xml:space='preserve' viewBox='0 0 1 1'/>",
        "<html><svg/></html>",
        "{\"svg\": 1}",
    ];
    for text in texts {
        kind.raw(&format!("{text:?}"), text);
    }
    kind.done()
}

fn bytes() -> Vec<Attack> {
    let mut kind = Kind::new("bytes");
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let document = wrap("<circle r='9'/>");
    kind.raw(
        "gzip",
        lossy(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xb3, 0x29, 0x2e, 0x4b]),
    );
    kind.raw("zip", lossy(b"PK\x03\x04\x14\0\0\0\x08\0<svg></svg>"));
    kind.raw("png", lossy(b"\x89PNG\r\n\x1a\n<svg></svg>"));
    let wide: Vec<u8> = document.encode_utf16().flat_map(u16::to_le_bytes).collect();
    kind.raw("utf-16", lossy(&[&[0xff, 0xfe], &wide[..]].concat()));
    kind.raw(
        "latin-1",
        lossy(b"<svg viewBox='0 0 1 1'><text>\xe9\xff</text></svg>"),
    );
    kind.raw(
        "declared otherwise",
        format!("<?xml version='1.0' encoding='EBCDIC-CP-US'?>{document}"),
    );
    kind.raw("mark in front", format!("\u{feff}{document}"));
    for code in [
        '\0', '\u{1}', '\u{8}', '\u{b}', '\u{1f}', '\u{7f}', '\u{fffe}', '\u{fffd}', '\u{2028}',
        '\u{e000}',
    ] {
        let inside = document.replace("r='9'", &format!("r='{code}9'"));
        kind.raw(&format!("{code:?} in a value"), inside);
        kind.raw(
            &format!("{code:?} in a name"),
            document.replace("circle", &format!("cir{code}cle")),
        );
    }
    kind.body(
        "marks on one letter",
        format!("<text y='50'>a{}</text>", "\u{301}".repeat(20_000)),
    );
    kind.body(
        "right to left",
        format!("<text y='50'>{}</text>", "\u{202e}\u{5d0}a".repeat(5000)),
    );
    kind.body(
        "no glyphs",
        format!("<text y='50'>{}</text>", "\u{10ffff}\u{1f600}".repeat(5000)),
    );
    kind.done()
}
