//! Filters, masks and stylesheets that ask for more work than a picture is worth.

use super::{Attack, Kind};

pub fn attacks() -> Vec<Attack> {
    [filters(), styles()].concat()
}

fn filters() -> Vec<Attack> {
    let mut kind = Kind::new("filter");
    let filtered = |rest: &str, inside: &str| {
        format!(
            "<filter id='f' {rest}>{inside}</filter><rect width='90' height='90' filter='url(#f)'/>"
        )
    };
    let primitives = [
        "<feGaussianBlur stdDeviation='1e9'/>",
        "<feGaussianBlur stdDeviation='-1'/>",
        "<feGaussianBlur stdDeviation='NaN 1e30'/>",
        "<feMorphology radius='1e9'/>",
        "<feMorphology operator='dilate' radius='300'/>",
        "<feTurbulence baseFrequency='1e9' numOctaves='1000000000'/>",
        "<feTurbulence baseFrequency='1e-9' numOctaves='30' stitchTiles='stitch'/>",
        "<feConvolveMatrix order='1000' kernelMatrix='1'/>",
        "<feConvolveMatrix order='3' kernelMatrix='1 1 1 1 1 1 1 1 1' divisor='0' bias='1e30'/>",
        "<feOffset dx='1e30' dy='-1e30'/>",
        "<feTile/>",
        "<feFlood x='-1e9' y='-1e9' width='2e9' height='2e9'/>",
        "<feDisplacementMap in2='SourceGraphic' scale='1e30'/>",
        "<feImage href='#nothing'/>",
        "<feComposite in2='nothing' operator='arithmetic' k1='1e30' k2='NaN'/>",
        "<feColorMatrix values='1e30 NaN'/>",
        "<feComponentTransfer><feFuncR type='gamma' exponent='-1e30'/></feComponentTransfer>",
        "<feDiffuseLighting surfaceScale='1e30'><fePointLight x='NaN' z='1e30'/></feDiffuseLighting>",
        "<feSpecularLighting specularExponent='1e30'><feSpotLight limitingConeAngle='NaN'/></feSpecularLighting>",
        "<feDropShadow stdDeviation='1e9' dx='1e9'/>",
        "<feMerge><feMergeNode in='f'/></feMerge>",
        "<feBlend in2='SourceGraphic' result='SourceGraphic'/>",
    ];
    for primitive in primitives {
        kind.body(
            &primitive[1..primitive.len().min(60)],
            filtered("", primitive),
        );
        kind.body(
            &format!("region and {}", &primitive[1..primitive.len().min(20)]),
            filtered(
                "x='-1e6' y='-1e6' width='1e7' height='1e7' filterUnits='userSpaceOnUse'",
                primitive,
            ),
        );
    }
    kind.body(
        "long chain",
        filtered("", &"<feGaussianBlur stdDeviation='9'/>".repeat(1900)),
    );
    kind.body("long table", filtered("", &format!("<feComponentTransfer><feFuncR type='table' tableValues='{}'/></feComponentTransfer>", "1 ".repeat(90_000))));
    kind.body(
        "long kernel",
        filtered(
            "",
            &format!(
                "<feConvolveMatrix order='44' kernelMatrix='{}'/>",
                "1 ".repeat(44 * 44)
            ),
        ),
    );
    kind.body(
        "merge",
        filtered(
            "",
            &format!(
                "<feMerge>{}</feMerge>",
                "<feMergeNode in='SourceGraphic'/>".repeat(900)
            ),
        ),
    );
    kind.body(
        "on all",
        format!(
            "<filter id='f'><feGaussianBlur stdDeviation='5'/></filter>{}",
            "<rect width='90' height='90' filter='url(#f)'/>".repeat(900)
        ),
    );
    kind.body("nested", format!("<filter id='f'><feGaussianBlur stdDeviation='5'/></filter>{}<rect width='9' height='9'/>{}", "<g filter='url(#f)'>".repeat(90), "</g>".repeat(90)));
    kind.body(
        "functions",
        format!(
            "<rect width='90' height='90' filter='{}'/>",
            "blur(9px) ".repeat(900)
        ),
    );
    kind.body(
        "masks",
        format!(
            "<mask id='m'><rect width='90' height='90' fill='#fff'/></mask>{}",
            "<rect width='90' height='90' mask='url(#m)'/>".repeat(900)
        ),
    );
    kind.done()
}

fn styles() -> Vec<Attack> {
    let mut kind = Kind::new("style");
    let styled = |css: &str, body: &str| format!("<style>{css}</style>{body}");
    let many = "<g class='a'/>".repeat(3000);
    kind.body(
        "rules times elements",
        styled(&".a,.b{fill:red}".repeat(3000), &many),
    );
    kind.body(
        "descendants",
        styled(
            &format!("{}{{fill:red}}", "g ".repeat(9000)),
            &("<g>".repeat(100) + &"</g>".repeat(100)),
        ),
    );
    kind.body(
        "siblings",
        styled(&format!("{}g{{fill:red}}", "g+".repeat(9000)), &many),
    );
    kind.body("any", styled(&"*{fill:red}".repeat(9000), &many));
    for css in [
        "@import url('http://127.0.0.1:9/a.css');",
        "@import '/etc/passwd';",
        "rect{fill:url(http://127.0.0.1:9/a#b)}",
        "rect{fill:url(file:///etc/passwd)}",
        "@font-face{font-family:a;src:url(/etc/passwd)}",
        "rect{",
        "}",
        "/*",
        "\\",
        "rect{fill:red!important",
        "a{b:c;;;;}",
        "[x=\"",
        ":not(",
        "rect{transform:scale(1e9)}",
        "rect{width:calc(1e9px)}",
        "@media all{rect{fill:red}}",
        "rect::before{content:'a'}",
        "<!-- rect{fill:red} -->",
    ] {
        kind.body(
            &format!("{css:?}"),
            styled(&css.replace('<', "&lt;"), "<rect width='9' height='9'/>"),
        );
    }
    kind.body(
        "layers by style",
        styled(
            "g{opacity:.5;mix-blend-mode:multiply;isolation:isolate}",
            &("<g>".repeat(100) + "<rect width='90' height='90'/>" + &"</g>".repeat(100)),
        ),
    );
    kind.body(
        "a long attribute",
        format!("<g style='{}'/>", "fill:red;".repeat(20_000)),
    );
    kind.body(
        "blending",
        "<rect width='90' height='90' style='mix-blend-mode:luminosity'/>".repeat(1500),
    );
    kind.done()
}
