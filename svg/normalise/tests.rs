//! Small documents and their forms; each form is its own form.

use super::{NormaliseError, NormaliseOptions, normalise};
use crate::config::Limits;

fn form(source: &str, options: &NormaliseOptions) -> super::Normalised {
    let limits = Limits::default();
    let form = normalise(source, options, &limits).unwrap_or_else(|e| panic!("{source}: {e}"));
    let again = normalise(&form.svg, options, &limits).unwrap();
    assert_eq!(again.svg, form.svg, "the form of a form");
    form
}

/// What lies in the root of a document 32 wide and high: the scale is 4.
#[track_caller]
fn inside(body: &str) -> String {
    let source = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink' viewBox='0 0 32 32'>{body}</svg>"
    );
    let form = form(&source, &NormaliseOptions::default());
    assert_eq!(form.kept, None, "{body}");
    let open = r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128""#;
    let rest = form.svg.strip_prefix(open).unwrap();
    let rest = rest.strip_suffix("</svg>").unwrap();
    rest.strip_prefix('>').unwrap_or(rest).to_owned()
}

/// Body and form, in pairs.
#[track_caller]
fn check(pairs: &[(&str, &str)]) {
    for (body, expected) in pairs {
        assert_eq!(inside(body), *expected, "{body}");
    }
}

#[test]
fn shapes_stay_shapes_and_take_the_scale() {
    check(&[
        (
            "<rect x='1' y='0' width='50%' height='1in' rx='.5'/>",
            r#"<rect x="4" width="64" height="384" rx="2"/>"#,
        ),
        (
            "<circle cx='8' cy='8.333' r='2px'/>",
            r#"<circle cx="32" cy="33.33" r="8"/>"#,
        ),
        ("<ellipse rx='2' ry='1'/>", r#"<ellipse rx="8" ry="4"/>"#),
        (
            "<line x2='4' y2='4' stroke='red' stroke-width='.5'/>",
            r#"<line x2="16" y2="16" stroke="red" stroke-width="2"/>"#,
        ),
        (
            "<polygon points='0,0 1,0,1 1'/>",
            r#"<polygon points="0 0 4 0 4 4"/>"#,
        ),
        ("<path d='m1,1 l2 0'/>", r#"<path d="M4 4l8 0"/>"#),
        (
            "<text x='1' y='2' font-size='3' dx='1 .5em'>a &lt; b</text>",
            r#"<text x="4" y="8" font-size="12" dx="4 .5em">a &lt; b</text>"#,
        ),
    ]);
}

#[test]
fn transforms_go_where_they_can() {
    check(&[
        (
            "<g transform='translate(1 2)'><rect width='2' height='2'/></g>",
            r#"<rect width="8" height="8" x="4" y="8"/>"#,
        ),
        (
            "<g transform='scale(2)' stroke='red'><path d='M0 0h1'/></g>",
            r#" stroke-width="4"><g stroke="red" stroke-width="8"><path d="M0 0h8"/></g>"#,
        ),
        (
            "<rect width='2' height='2' transform='rotate(45 1 1)'/>",
            r#"<rect width="8" height="8" transform="rotate(45 4 4)"/>"#,
        ),
        (
            "<g transform='scale(1 -1)'><path d='M0 0h1v-2'/></g>",
            r#"<path d="M0 0h4v8"/>"#,
        ),
        (
            "<path stroke='red' stroke-width='1' d='M0 0h1' transform='scale(1 2)'/>",
            r#"<path stroke="red" stroke-width="4" d="M0 0h4" transform="scale(1 2)"/>"#,
        ),
    ]);
}

#[test]
fn what_is_referred_to_keeps_the_roots_scale() {
    check(&[
        (
            "<linearGradient id='a' gradientUnits='userSpaceOnUse' x2='8'><stop offset='50%'/></linearGradient><g transform='translate(2)'><rect width='4' height='4' fill='url(#a)'/></g>",
            r##"<linearGradient id="a" gradientUnits="userSpaceOnUse" x2="32" x1="0" y1="0" y2="0"><stop offset=".5"/></linearGradient><rect width="16" height="16" fill="url(#a)" transform="translate(8)"/>"##,
        ),
        (
            "<defs><circle id='c' r='1'/><circle id='unused' r='2'/></defs><use xlink:href='#c' x='3' y='2'/>",
            r##"<defs><circle id="c" r="4"/></defs><use href="#c" x="12" y="8"/>"##,
        ),
        (
            "<clipPath id='k'><rect width='2' height='2'/></clipPath><g clip-path='url(#k)' transform='translate(1)'><circle r='4'/></g>",
            r##"<clipPath id="k"><rect width="8" height="8"/></clipPath><g clip-path="url(#k)" transform="translate(4)"><circle r="16"/></g>"##,
        ),
    ]);
}

#[test]
fn lengths_that_filters_do_not_state_take_the_scale_too() {
    check(&[(
        "<filter id='f'><feDropShadow dy='1'/></filter><rect width='4' height='4' filter='url(#f)'/>",
        r##"<filter id="f"><feDropShadow dy="4" dx="8" stdDeviation="8"/></filter><rect width="16" height="16" filter="url(#f)"/>"##,
    )]);
    for radius in ["", "radius='0'", "radius='2 -1'"] {
        let source = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><filter id='f'><feMorphology {radius}/></filter><rect width='4' height='4' filter='url(#f)'/></svg>"
        );
        let kept = form(&source, &NormaliseOptions::default()).kept;
        let kept = kept.unwrap_or_default();
        assert!(kept.starts_with("a morphology"), "{radius}: {kept}");
    }
}

#[test]
fn styles_become_attributes_in_the_cascades_order() {
    check(&[
        (
            "<style>rect{fill:red;stroke:none} .b{fill:blue} #c{fill:green!important}</style><rect class='b' width='1' height='1'/><rect id='c' class='b' style='fill:black;mix-blend-mode:multiply' width='1' height='1'/>",
            r#"<rect width="4" height="4" fill="blue"/><rect width="4" height="4" fill="green" style="mix-blend-mode:multiply"/>"#,
        ),
        (
            "<path style='fill:none;stroke:#000;stroke-width:1;stroke-linecap:butt;fill-opacity:1' d='M0 0h1'/>",
            r##"<path d="M0 0h4" fill="none" stroke="#000" stroke-width="4"/>"##,
        ),
        (
            "<style>rect{width:2px;x:1} .w{width:3px!important}</style><rect style='height:1px' x='9'/><rect class='w' style='width:9px;fill:red' height='1'/>",
            r#"<rect width="8" height="4" x="4"/><rect width="12" x="4" height="4" fill="red"/>"#,
        ),
    ]);
}

#[test]
fn a_sheet_that_is_kept_sets_no_geometry() {
    let source = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><style>svg{width:48px}rect:hover{x:1;fill:blue}rect{width:9px}</style><rect height='9'/></svg>";
    let form = form(source, &NormaliseOptions::default());
    assert_eq!(
        form.svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128"><svg viewBox="0 0 32 32" width="128" height="128"><style>svg{}rect:hover{fill:blue}rect{}</style><rect width="9px" height="9"/></svg></svg>"#
    );
}

#[test]
fn shares_are_rounded_before_they_are_compared() {
    check(&[
        (
            "<rect width='1' height='1' opacity='.998'/>",
            r#"<rect width="4" height="4"/>"#,
        ),
        (
            "<g fill-opacity='.502'><rect width='1' height='1' fill-opacity='.5'/><rect width='2' height='1' fill-opacity='.9'/></g>",
            r#"<g fill-opacity=".5"><rect width="4" height="4"/><rect width="8" height="4" fill-opacity=".9"/></g>"#,
        ),
    ]);
}

#[test]
fn what_is_not_drawn_is_left_out() {
    check(&[(
        "<!-- c --><title>t</title><metadata/><script>1</script><g/><x:y xmlns:x='u'/><rect id='r' data-a='1' onclick='x' width='1' height='1' opacity='1' x:z='1' xmlns:x='u'/>",
        r#"<rect width="4" height="4"/>"#,
    )]);
}

#[test]
fn the_view_box_is_fitted_as_it_says() {
    let fitted = |root: &str| {
        let source =
            format!("<svg xmlns='http://www.w3.org/2000/svg' {root}><circle r='1'/></svg>");
        let svg = form(&source, &NormaliseOptions::default()).svg;
        svg.split_once("<circle ")
            .unwrap()
            .1
            .replace("/></svg>", "")
    };
    assert_eq!(fitted("viewBox='0 0 64 32'"), r#"r="2" cy="32""#);
    assert_eq!(fitted("viewBox='-1 0 2 2'"), r#"r="64" cx="64""#);
    assert_eq!(
        fitted("viewBox='0 0 64 32' preserveAspectRatio='xMinYMax'"),
        r#"r="2" cy="64""#
    );
    assert_eq!(
        fitted("viewBox='0 0 64 32' preserveAspectRatio='xMinYMin slice'"),
        r#"r="4""#
    );
    assert_eq!(fitted("width='256' height='256'"), r#"r=".5""#);
    let whole = NormaliseOptions {
        side: 200,
        decimals: 0,
    };
    let source = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'><circle cx='1' cy='2' r='.01'/></svg>";
    assert!(
        form(source, &whole)
            .svg
            .ends_with(r#"viewBox="0 0 200 200"><circle cx="8" cy="17" r="1"/></svg>"#)
    );
}

#[test]
fn coordinates_of_another_kind_stay_in_a_viewport_of_their_own() {
    let source = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32' fill='red'><pattern id='p' width='.5' height='.5'><circle r='1'/></pattern><rect width='9' height='9' fill='url(#p)'/></svg>";
    let form = form(source, &NormaliseOptions::default());
    assert_eq!(form.kept.as_deref(), Some("<pattern>"));
    assert!(
        form.svg
            .contains(r#"<svg viewBox="0 0 32 32" width="128" height="128" fill="red"><pattern"#),
        "{}",
        form.svg
    );
}

#[test]
fn what_has_no_still_vector_form_is_refused() {
    let refused = |root: &str, body: &str| {
        let source = format!("<svg xmlns='http://www.w3.org/2000/svg' {root}>{body}</svg>");
        normalise(&source, &NormaliseOptions::default(), &Limits::default()).unwrap_err()
    };
    let square = "viewBox='0 0 9 9'";
    assert_eq!(
        refused(square, "<image href='data:,'/>"),
        NormaliseError::Picture
    );
    assert_eq!(refused(square, "<foreignObject/>"), NormaliseError::Foreign);
    assert_eq!(refused(square, "<g><animate/></g>"), NormaliseError::Moving);
    assert_eq!(
        refused("viewBox='0 0 9 8' preserveAspectRatio='none'", ""),
        NormaliseError::Stretched
    );
    assert_eq!(refused(square, "<g>").name(), "malformed_xml");
}
