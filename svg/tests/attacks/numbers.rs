//! Numbers that are no numbers, or too large, in every place that takes one.

use super::{Attack, Kind, wrap};

const NUMBERS: [&str; 10] = [
    "NaN",
    "inf",
    "-1",
    "0",
    "1e308",
    "-1e308",
    "1e-308",
    "1e999",
    "99999999999999999999",
    "1%e9",
];

pub fn attacks() -> Vec<Attack> {
    [places(), canvases()].concat()
}

fn places() -> Vec<Attack> {
    let mut kind = Kind::new("number");
    for number in NUMBERS {
        let bodies = [
            (
                "sides",
                format!("<rect width='{number}' height='{number}'/>"),
            ),
            (
                "corner",
                format!("<rect x='{number}' y='{number}' width='9' height='9'/>"),
            ),
            (
                "corners",
                format!("<rect width='9' height='9' rx='{number}' ry='1'/>"),
            ),
            ("radius", format!("<circle r='{number}' stroke='red'/>")),
            (
                "width",
                format!(
                    "<line x2='99' stroke='red' stroke-width='{number}' stroke-miterlimit='{number}'/>"
                ),
            ),
            (
                "transform",
                format!(
                    "<g transform='scale({number}) translate({number}) rotate({number})'><rect width='9' height='9'/></g>"
                ),
            ),
            (
                "matrix",
                format!(
                    "<g transform='matrix({number} 0 0 {number} 0 0)'><rect width='9' height='9' stroke='red'/></g>"
                ),
            ),
            (
                "opacity",
                format!(
                    "<g opacity='{number}'><rect width='9' height='9' fill-opacity='{number}'/></g>"
                ),
            ),
            (
                "gradient",
                format!(
                    "<radialGradient id='g' r='{number}' fx='{number}' gradientTransform='scale({number})'><stop offset='{number}'/><stop offset='1'/></radialGradient><rect width='9' height='9' fill='url(#g)'/>"
                ),
            ),
            (
                "pattern",
                format!(
                    "<pattern id='p' width='{number}' height='{number}' viewBox='0 0 {number} {number}'><rect width='9' height='9'/></pattern><rect width='99' height='99' fill='url(#p)'/>"
                ),
            ),
            (
                "marker",
                format!(
                    "<marker id='m' markerWidth='{number}' markerHeight='{number}' orient='{number}'><circle r='9'/></marker><path d='M0 0 9 9' stroke='red' marker-end='url(#m)'/>"
                ),
            ),
            (
                "inner picture",
                format!(
                    "<svg width='{number}' height='9' viewBox='0 0 {number} 9'><rect width='9' height='9'/></svg>"
                ),
            ),
        ];
        for (place, body) in bodies {
            kind.body(&format!("{number} as {place}"), body);
        }
    }
    kind.done()
}

fn canvases() -> Vec<Attack> {
    let mut kind = Kind::new("canvas");
    for number in NUMBERS {
        kind.raw(&format!("width {number}"), format!("<svg xmlns='http://www.w3.org/2000/svg' width='{number}' height='9'><rect width='9' height='9'/></svg>"));
        kind.raw(
            &format!("view {number}"),
            wrap("<rect width='9' height='9'/>")
                .replace("0 0 100 100", &format!("{number} 0 {number} 9")),
        );
    }
    for view in [
        "",
        "0",
        "0 0 9",
        "0 0 9 9 9",
        "0,0,9,9",
        "a b c d",
        "0 0 1e-300 1e-300",
        "0 0 1e300 1",
        "1e300 1e300 9 9",
    ] {
        kind.raw(
            &format!("view box {view:?}"),
            wrap("<circle r='9' stroke='red'/>").replace("0 0 100 100", view),
        );
    }
    kind.done()
}
