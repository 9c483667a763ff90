//! References that multiply or run in circles, and paths that are long or wild.

use super::{Attack, Kind};

pub fn attacks() -> Vec<Attack> {
    [bombs(), circles(), paths(), words()].concat()
}

fn bombs() -> Vec<Attack> {
    let mut kind = Kind::new("bomb");
    let levels = |count: usize, width: usize, open: &str, close: &str| {
        let mut body = "<defs><g id='b0'><rect width='9' height='9'/></g>".to_owned();
        for i in 1..=count {
            let uses = format!("<use href='#b{}'/>", i - 1).repeat(width);
            body += &format!("<{open} id='b{i}'>{uses}</{close}>");
        }
        body + &format!("</defs><use href='#b{count}'/>")
    };
    for (count, width) in [(30, 2), (12, 10), (4, 100), (500, 1), (3, 20)] {
        kind.body(
            &format!("use {count} levels of {width}"),
            levels(count, width, "g", "g"),
        );
    }
    kind.body(
        "symbols",
        levels(14, 9, "symbol viewBox='0 0 9 9'", "symbol"),
    );
    kind.body("layers", levels(9, 5, "g opacity='.5'", "g"));
    kind.body(
        "clips",
        levels(9, 5, "g clip-path='url(#c)'", "g") + "<clipPath id='c'><circle r='9'/></clipPath>",
    );
    kind.body(
        "both kinds of link",
        levels(12, 8, "g", "g").replace("<use href", "<use xlink:href='#b0' href"),
    );
    let chain = |tag: &str, fill: &str| {
        let mut body = String::new();
        for i in 0..300 {
            body += &format!(
                "<{tag} id='p{i}' width='1' height='1' {fill}='url(#p{})'><rect width='1' height='1' {fill}='url(#p{})'/></{tag}>",
                i + 1,
                i + 1
            );
        }
        body + &format!("<rect width='50' height='50' {fill}='url(#p0)'/>")
    };
    kind.body("pattern chain", chain("pattern", "fill"));
    kind.body("mask chain", chain("mask", "mask"));
    kind.body("clip chain", chain("clipPath", "clip-path"));
    let doubled: String = (0..12)
        .map(|i| format!("<pattern id='p{i}' width='.1' height='.1'><rect width='9' height='9' fill='url(#p{0})'/><rect width='9' height='9' fill='url(#p{0})'/></pattern>", i + 1))
        .collect();
    kind.body(
        "pattern tree",
        doubled + "<rect width='99' height='99' fill='url(#p0)'/>",
    );
    let gradients: String = (0..3000)
        .map(|i| format!("<linearGradient id='g{i}' href='#g{}'/>", i + 1))
        .collect();
    kind.body(
        "gradient chain",
        gradients + "<rect width='9' height='9' fill='url(#g0)'/>",
    );
    kind.body("stops", format!("<linearGradient id='g'>{}</linearGradient><rect width='99' height='99' fill='url(#g)'/>", "<stop offset='.5'/>".repeat(9000)));
    kind.body(
        "markers",
        format!(
            "<marker id='m'><circle r='9'/></marker><path d='M0 0{}' marker-mid='url(#m)'/>",
            "l1 1".repeat(20_000)
        ),
    );
    kind.done()
}

fn circles() -> Vec<Attack> {
    let mut kind = Kind::new("circle");
    let bodies = [
        "<g id='a'><use href='#a'/></g>",
        "<use id='a' href='#a'/>",
        "<use id='a' href='#b'/><use id='b' href='#a'/>",
        "<symbol id='a'><use href='#a'/></symbol><use href='#a'/>",
        "<pattern id='a' width='9' height='9'><rect width='9' height='9' fill='url(#a)'/></pattern><rect width='9' height='9' fill='url(#a)'/>",
        "<pattern id='a' href='#b'/><pattern id='b' href='#a'/><rect width='9' height='9' fill='url(#a)'/>",
        "<mask id='a' mask='url(#a)'><rect width='9' height='9' mask='url(#a)'/></mask><rect width='9' height='9' mask='url(#a)'/>",
        "<clipPath id='a' clip-path='url(#b)'><rect width='9' height='9'/></clipPath><clipPath id='b' clip-path='url(#a)'><rect width='9' height='9'/></clipPath><rect width='9' height='9' clip-path='url(#a)'/>",
        "<clipPath id='a'><use href='#r'/></clipPath><rect id='r' width='9' height='9' clip-path='url(#a)'/>",
        "<linearGradient id='a' href='#a'/><rect width='9' height='9' fill='url(#a)'/>",
        "<marker id='a'><path d='M0 0 9 9' marker-end='url(#a)'/></marker><path d='M0 0 9 9' marker-end='url(#a)'/>",
        "<filter id='a'><feImage href='#r'/></filter><rect id='r' width='9' height='9' filter='url(#a)'/>",
        "<filter id='a' href='#a'><feFlood/></filter><rect width='9' height='9' filter='url(#a)'/>",
        "<path id='a' d='M0 0h9'/><text><textPath href='#a'><textPath href='#a'>a</textPath></textPath></text>",
        "<rect id='a' width='9' height='9' fill='url(#a)' stroke='url(#a)' clip-path='url(#a)' mask='url(#a)' filter='url(#a)'/>",
        "<svg id='a'><use href='#a'/></svg>",
        "<g id='a'><g id='b'><use href='#a'/></g><use href='#b'/></g>",
        "<use href=' #a '/><g id='a'><use xlink:href='#a'/></g>",
    ];
    for body in bodies {
        kind.body(&body[..body.len().min(50)], body);
    }
    kind.done()
}

fn paths() -> Vec<Attack> {
    let mut kind = Kind::new("path");
    let path = |d: &str, rest: &str| format!("<path d='{d}' {rest}/>");
    kind.body(
        "of ten million segments",
        path(&format!("M0 0{}", "h1v1".repeat(5_000_000)), ""),
    );
    for command in [
        "l1 1",
        "h9",
        "v-9",
        "c1 2 3 4 5 6",
        "s1 2 3 4",
        "q1 2 3 4",
        "t9 9",
        "a1 2 3 0 1 4 5",
        "z",
        "m1 1",
        "L99 0 0 99",
    ] {
        let data = format!("M0 0{}", command.repeat(15_000 / command.len()));
        kind.body(&format!("full of {command}"), path(&data, "stroke='red'"));
    }
    for data in [
        "",
        "M",
        "m 1",
        "L 1 1",
        "M0 0 L",
        "M1e999 1",
        "M0 0Q",
        "M0,0,,1",
        "M0 0 A 1 1 0 5 5 9 9",
        "zzzz",
        "M0 0 1e38 1e38 -1e38 1e38z",
        "M.1.2.3.4",
        "MNaN NaN",
        "M0 0\u{0}L9 9",
        "M0 0X9 9",
    ] {
        kind.body(
            &format!("{data:?}"),
            path(data, "stroke='red' stroke-width='3'"),
        );
    }
    let star: String = (0..3000)
        .map(|i| format!("{} {} ", (i * 7919) % 100, (i * 104_729) % 100))
        .collect();
    kind.body(
        "crossing itself",
        path(&format!("M0 0 {star}"), "fill-rule='evenodd'"),
    );
    kind.body(
        "many crossing",
        path(
            &format!("M0 0 {star}"),
            "stroke='red' stroke-width='9' stroke-linejoin='round'",
        )
        .repeat(8),
    );
    for dash in ["1e-9", "0 0", "-1 1", "1e-3 1e-3", "NaN", "0.001", "1e9"] {
        kind.body(
            &format!("dashed {dash}"),
            path(
                "M0 0H99V99Z",
                &format!("stroke='red' stroke-dasharray='{dash}'"),
            ),
        );
        kind.body(
            &format!("far and dashed {dash}"),
            path(
                "M0 0H1e6V1e6Z",
                &format!("stroke='red' stroke-dasharray='{dash}'"),
            ),
        );
    }
    kind.body(
        "long dash list",
        path(
            "M0 0H99",
            &format!("stroke='red' stroke-dasharray='{}'", "1 ".repeat(50_000)),
        ),
    );
    kind.body(
        "points",
        format!("<polygon points='{}'/>", "9 9,".repeat(30_000)),
    );
    kind.body(
        "odd points",
        "<polyline points='1 2 3 x'/><polygon points=','/><polyline points='1e999 0 9'/>",
    );
    kind.done()
}

fn words() -> Vec<Attack> {
    let mut kind = Kind::new("text");
    let text = |rest: &str, inner: &str| format!("<text y='50' {rest}>{inner}</text>");
    kind.body("long", text("", &"word ".repeat(20_000)));
    kind.body("one word", text("", &"w".repeat(100_000)));
    kind.body(
        "spans",
        text("", &"<tspan dx='1' rotate='9'>a</tspan>".repeat(5000)),
    );
    kind.body(
        "positions",
        text(&format!("x='{}'", "1 ".repeat(50_000)), "abc"),
    );
    for rest in [
        "font-size='1e9'",
        "font-size='-5'",
        "font-size='NaN'",
        "font-size='1e-9'",
        "letter-spacing='1e9'",
        "word-spacing='-1e9'",
        "textLength='1e9'",
        "font-family='\u{0}'",
        "font-weight='99999'",
        "writing-mode='tb'",
        "baseline-shift='1e9'",
        "text-decoration='underline'",
    ] {
        kind.body(rest, text(rest, "some words"));
    }
    kind.body(
        "families",
        text(&format!("font-family='{}'", "a,".repeat(30_000)), "a"),
    );
    kind.body("along a far path", "<path id='p' d='M0 0C1e9 1e9 -1e9 1e9 9 9'/><text><textPath href='#p' startOffset='1e9'>abc</textPath></text>");
    kind.body(
        "along a long path",
        format!(
            "<path id='p' d='M0 0{}'/><text><textPath href='#p'>{}</textPath></text>",
            "l9 9-9 0".repeat(1500),
            "abc ".repeat(2000)
        ),
    );
    kind.done()
}
