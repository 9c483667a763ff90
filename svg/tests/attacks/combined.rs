//! Parts that multiply when they stand in one another: each level draws the next one twice.

use super::{Attack, Kind};

pub fn attacks() -> Vec<Attack> {
    let mut kind = Kind::new("combined");
    let rect = "<rect width='100' height='100'/>";
    for (what, level, last, user) in [
        (
            "patterns",
            "<pattern id='a@' width='1' height='1'><rect width='90' height='90' stroke-width='20' fill='url(#a%)' stroke='url(#a%)'/></pattern>",
            "<pattern id='a@' width='1' height='1'><rect width='9' height='9'/></pattern>",
            "<rect width='100' height='100' fill='url(#a0)'/>",
        ),
        (
            "patterns in text",
            "<pattern id='a@' width='1' height='1'><text fill='url(#a%)' stroke='url(#a%)'>a</text></pattern>",
            "<pattern id='a@' width='1' height='1'><rect width='9' height='9'/></pattern>",
            "<text y='50' font-size='50' fill='url(#a0)'>a</text>",
        ),
        (
            "masks",
            "<mask id='a@'><rect width='50' height='100' mask='url(#a%)'/><rect width='100' height='50' mask='url(#a%)'/></mask>",
            "<mask id='a@'><rect width='9' height='9'/></mask>",
            "<rect width='100' height='100' mask='url(#a0)'/>",
        ),
        (
            "clip paths",
            "<clipPath id='a@'><rect width='50' height='100' clip-path='url(#a%)'/><rect width='100' height='50' clip-path='url(#a%)'/></clipPath>",
            "<clipPath id='a@'><rect width='9' height='9'/></clipPath>",
            "<rect width='100' height='100' clip-path='url(#a0)'/>",
        ),
        (
            "markers",
            "<marker id='a@'><path d='M0 0 1 1 2 2 3 3' stroke='red' marker-mid='url(#a%)' marker-end='url(#a%)'/></marker>",
            "<marker id='a@'><rect width='9' height='9'/></marker>",
            "<path d='M0 0 9 9 50 50' stroke='red' marker-mid='url(#a0)'/>",
        ),
        (
            "filters",
            "<filter id='f@'><feImage href='#a%'/><feImage href='#a%'/></filter><g id='a@' filter='url(#f@)'><rect width='9' height='9'/></g>",
            "<g id='a@'><rect width='9' height='9'/></g>",
            "",
        ),
    ] {
        let name = |text: &str, at: usize| {
            let next = (at + 1).to_string();
            text.replace('@', &at.to_string()).replace('%', &next)
        };
        let levels: String = (0..24).map(|at| name(level, at)).collect();
        kind.body(what, levels + &name(last, 24) + user);
    }
    let use_of = "<use href='#g'/>".repeat(400);
    kind.body(
        "pattern in mask in filter in use",
        format!(
            "<defs><pattern id='p' width='.01' height='.01'><circle r='1'/></pattern><mask id='m'><rect width='100' height='100' fill='url(#p)'/></mask><filter id='f'><feGaussianBlur stdDeviation='5'/></filter><g id='g' filter='url(#f)'><rect width='100' height='100' mask='url(#m)'/></g></defs>{use_of}"
        ),
    );
    kind.body(
        "markers of many elements",
        format!(
            "<marker id='m'>{}</marker><path d='M0 0{}' marker-mid='url(#m)'/>",
            rect.repeat(2000),
            " 1 1".repeat(30_000)
        ),
    );
    kind.body(
        "use without a link, deep",
        format!(
            "<defs>{}{}{}</defs>",
            "<g>".repeat(9000),
            "<use a=''/>".repeat(9000),
            "</g>".repeat(9000)
        ),
    );
    kind.body(
        "transforms with units",
        "<g transform='translate(1px)'/>".repeat(8000),
    );
    kind.body(
        "filters that are not there",
        "<g filter='url(#a)'/>".repeat(11_000),
    );
    kind.raw(
        "declarations without an end",
        format!("<svg><style>{}", "filter:".repeat(37_000)),
    );
    kind.done()
}
