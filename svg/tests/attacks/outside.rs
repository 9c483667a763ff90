//! Links that lead out of the document, pictures inside it, and programs.

use super::{Attack, Kind};

const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Every way to name the file at `path` or the server at `host`.
pub fn attacks(path: &str, host: &str) -> Vec<Attack> {
    [links(path, host), pictures(), programs(path)].concat()
}

fn links(path: &str, host: &str) -> Vec<Attack> {
    let mut kind = Kind::new("link");
    let relative = format!("../../../../../../../../..{path}");
    let places = [
        path.to_owned(),
        relative,
        format!("file://{path}"),
        format!("file:{path}"),
        format!("FILE://localhost{path}"),
        format!("http://{host}/a.png"),
        format!("https://{host}/a.svg"),
        format!("//{host}/a.png"),
        format!("ftp://{host}/a"),
        "\\\\127.0.0.1\\a\\b.svg".to_owned(),
        "javascript:alert(1)".to_owned(),
        "/dev/zero".to_owned(),
        "/proc/self/environ".to_owned(),
    ];
    for place in &places {
        for (what, body) in [
            (
                "image",
                format!("<image width='9' height='9' href='{place}'/>"),
            ),
            (
                "xlink",
                format!("<image width='9' height='9' xlink:href='{place}'/>"),
            ),
            ("use", format!("<use href='{place}#a'/>")),
            (
                "filter",
                format!(
                    "<filter id='f'><feImage href='{place}'/></filter><rect width='9' height='9' filter='url(#f)'/>"
                ),
            ),
            (
                "paint",
                format!("<rect width='9' height='9' fill='url({place}#a)' mask='url({place}#b)'/>"),
            ),
        ] {
            kind.body(&format!("{what} to {place}"), body);
        }
    }
    let place = &places[0];
    kind.raw(
        "stylesheet",
        format!("<?xml-stylesheet href='{place}'?><svg viewBox='0 0 1 1'/>"),
    );
    kind.raw("include", format!("<svg viewBox='0 0 1 1' xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='{place}' parse='text'/></svg>"));
    kind.raw("base", format!("<svg viewBox='0 0 1 1' xml:base='file:///' xmlns:xlink='http://www.w3.org/1999/xlink'><image href='{}'/></svg>", &place[1..]));
    kind.raw("schema", format!("<svg viewBox='0 0 1 1' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:schemaLocation='a {place}'/>"));
    kind.done()
}

fn pictures() -> Vec<Attack> {
    let mut kind = Kind::new("picture");
    let image = |data: &str| format!("<image width='99' height='99' href='data:{data}'/>");
    kind.body("png", image(&format!("image/png;base64,{PNG}")));
    // A header that promises 60,000 by 60,000 pixels.
    kind.body(
        "expanding png",
        image("image/png;base64,iVBORw0KGgoAAAANSUhEUgAA6mAAAOpgCAIAAAAAAAAAAAAAAElFTkSuQmCC"),
    );
    kind.body(
        "gif",
        image("image/gif;base64,R0lGODlh////AAAALAAAAAD///8AAAI="),
    );
    kind.body(
        "jpeg",
        image("image/jpeg;base64,/9j/4AAQSkZJRgABAQAAAQABAAD/"),
    );
    kind.body(
        "svg",
        image(
            "image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 1 1%22/%3E",
        ),
    );
    kind.body("svg of svg", image("image/svg+xml;base64,PHN2Zz48aW1hZ2UgaHJlZj0iZGF0YTppbWFnZS9zdmcreG1sO2Jhc2U2NCIvPjwvc3ZnPg=="));
    kind.body(
        "gzipped svg",
        image("image/svg+xml;base64,H4sIAAAAAAAAA7Mp"),
    );
    kind.body("wrong base64", image("image/png;base64,!!!!"));
    kind.body("no type", image(","));
    kind.body(
        "many",
        image(&format!("image/png;base64,{PNG}")).repeat(1500),
    );
    kind.body(
        "long",
        image(&format!("image/png;base64,{}", "A".repeat(200_000))),
    );
    kind.done()
}

fn programs(path: &str) -> Vec<Attack> {
    let mut kind = Kind::new("program");
    kind.body("script", "<script>while(true){}</script>");
    kind.body("script elsewhere", format!("<script href='{path}'/>"));
    kind.body(
        "handlers",
        "<g onload='while(1);' onclick='a'><rect width='9' height='9'/></g>",
    );
    kind.body("foreign", format!("<foreignObject width='9' height='9'><iframe xmlns='http://www.w3.org/1999/xhtml' src='{path}'/></foreignObject>"));
    kind.body("animation", "<rect width='9' height='9'><animate attributeName='x' values='0;1e9' dur='1e-9s' repeatCount='indefinite'/></rect>".repeat(900));
    kind.body(
        "setting",
        format!("<image><set attributeName='href' to='{path}'/></image>"),
    );
    kind.body(
        "handler element",
        "<handler type='application/ecmascript'>a</handler><listener/>",
    );
    kind.done()
}
