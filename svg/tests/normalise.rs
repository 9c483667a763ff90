//! The normal form draws the same picture, is its own form, and survives documents that attack.

#![allow(clippy::panic, clippy::unwrap_used)]

// Of the corpus only the documents are wanted here.
#[allow(dead_code, unused_imports)]
mod attacks;

use std::time::Duration;
use svg::{
    Limits, NormaliseError, NormaliseOptions, Raster, Reason, RenderConfig, Renderer, Target,
    WorkerProgram, normalise,
};

fn renderer() -> Renderer {
    let program = WorkerProgram::At(env!("CARGO_BIN_EXE_svg-render-worker").into());
    Renderer::new(&program, Duration::from_secs(10)).unwrap()
}

fn draw(renderer: &Renderer, source: &str) -> Option<Raster> {
    let target = Target::Exact {
        width: 256,
        height: 256,
    };
    let rendered = renderer.render(source, target, &RenderConfig::default());
    rendered.ok().map(|rendered| rendered.raster)
}

/// Mean difference of a channel, in levels.
fn difference(a: &Raster, b: &Raster) -> f64 {
    let pairs = a.rgba.iter().zip(&b.rgba);
    pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.rgba.len() as f64
}

/// Ways to place and style what is inside them.
const AROUND: [(&str, &str); 11] = [
    ("", ""),
    ("<g transform='translate(3 -2)'>", "</g>"),
    ("<g transform='scale(1.7)' stroke='blue'>", "</g>"),
    ("<g transform='rotate(20 20 20)' fill='green'>", "</g>"),
    (
        "<g transform='matrix(-1 .2 .1 1 50 0)' stroke='none'>",
        "</g>",
    ),
    (
        "<g transform='translate(5) scale(.5)' fill='url(#user)'>",
        "</g>",
    ),
    ("<g fill='url(#box)' opacity='.5'>", "</g>"),
    (
        "<g clip-path='url(#clip)' transform='translate(4 4)'>",
        "</g>",
    ),
    ("<g mask='url(#mask)'>", "</g>"),
    ("<g filter='url(#blur)' transform='translate(1)'>", "</g>"),
    (
        "<g style='stroke:red;stroke-width:3;stroke-dasharray:4 2'>",
        "</g>",
    ),
];

const SHAPES: [&str; 13] = [
    "<rect style='x:5px;y:6px;width:20px;height:12px;rx:3px' height='3'/>",
    "<rect x='5' y='6' width='20' height='12' rx='3'/>",
    "<circle cx='20' cy='20' r='25%'/>",
    "<ellipse cx='15' cy='20' rx='9' ry='4' stroke='black'/>",
    "<line x1='2' y1='3' x2='30' y2='31' stroke='red'/>",
    "<polyline points='1,1 20,5 9,30' fill='none' stroke='#123' stroke-linejoin='round'/>",
    "<polygon points='1,1 20,5 9,30'/>",
    "<path d='M5 5h20v10c0 5-5 10-10 10s-10-5-10-10zm3 3l3 3q4-4 8 0t4 4'/>",
    "<path d='M10 20a10 10 0 0 1 20 0a10 4 30 1 0-20 0' fill-rule='evenodd'/>",
    "<text x='4' y='20' font-size='12' dx='1 2' letter-spacing='1'>Aé<tspan dy='3'>b</tspan></text>",
    "<use href='#part' x='3' y='4' stroke='orange'/>",
    "<use href='#part' transform='rotate(30) translate(10 -5)'/>",
    "<g transform='skewX(15)'><rect width='10' height='10' class='c'/></g>",
];

const DEFS: &str = "<style>.c{fill:purple}</style><defs>\
    <linearGradient id='base'><stop stop-color='red'/><stop offset='1' stop-color='blue'/></linearGradient>\
    <linearGradient id='user' href='#base' gradientUnits='userSpaceOnUse' x1='10%' x2='30' gradientTransform='rotate(10)'/>\
    <radialGradient id='box' href='#base' r='70%'/>\
    <clipPath id='clip'><circle cx='18' cy='18' r='14' transform='scale(.9)'/></clipPath>\
    <mask id='mask'><rect width='24' height='40' fill='white' opacity='.7'/></mask>\
    <filter id='blur'><feGaussianBlur stdDeviation='1.5'/><feOffset dx='2'/></filter>\
    <g id='part' fill='teal'><rect width='9' height='9' transform='translate(1 1)'/><path d='M0 0l9 9'/></g>\
    </defs>";

#[test]
fn every_shape_in_every_surrounding_draws_the_same() {
    let renderer = renderer();
    let options = NormaliseOptions::default();
    let (mut compared, mut kept) = (0, 0);
    for root in [
        "viewBox='0 0 40 40'",
        "viewBox='-4 -2 40 50'",
        "width='64' height='40'",
    ] {
        for (open, close) in AROUND {
            for shape in SHAPES {
                let source = format!(
                    "<svg xmlns='http://www.w3.org/2000/svg' {root}>{DEFS}{open}{shape}{close}</svg>"
                );
                let form = normalise(&source, &options, &Limits::default()).unwrap();
                kept += usize::from(form.kept.is_some());
                let again = normalise(&form.svg, &options, &Limits::default()).unwrap();
                assert_eq!(again.svg, form.svg, "{source}");
                let (before, after) = (draw(&renderer, &source), draw(&renderer, &form.svg));
                let (before, after) = (before.unwrap(), after.unwrap());
                let away = difference(&before, &after);
                assert!(away < 0.35, "{away}: {source}\n{}", form.svg);
                compared += 1;
            }
        }
    }
    assert_eq!((compared, kept), (429, 0));
}

#[test]
fn attacks_have_a_form_or_a_reason_and_the_form_is_stable() {
    let options = NormaliseOptions::default();
    let mut formed = 0;
    for (name, source) in attacks::all() {
        let Ok(form) = normalise(&source, &options, &Limits::default()) else {
            continue;
        };
        formed += 1;
        match normalise(&form.svg, &options, &Limits::default()) {
            Ok(again) => assert_eq!(again.svg, form.svg, "{name}"),
            // Written out it may be longer than a document may be.
            Err(NormaliseError::Failure(over)) if over.reason == Reason::TooManyBytes => {}
            Err(error) => panic!("{name}: its form has none: {error}"),
        }
        assert!(
            !form.svg.contains("<script") && !form.svg.contains("<!"),
            "{name}"
        );
    }
    assert_eq!(formed, 341);
}

#[test]
fn a_transformed_root_keeps_its_picture() {
    let renderer = renderer();
    let options = NormaliseOptions::default();
    for transform in ["translate(9 5)", "scale(.5)", "rotate(30 20 20)"] {
        for root in ["viewBox='0 0 40 40'", "viewBox='-4 -2 40 50'"] {
            let source = format!(
                "<svg xmlns='http://www.w3.org/2000/svg' {root} transform='{transform}'><rect x='5' y='6' width='20' height='12'/></svg>"
            );
            let form = normalise(&source, &options, &Limits::default()).unwrap();
            let [before, after] = [&source, &form.svg].map(|svg| draw(&renderer, svg).unwrap());
            let away = difference(&before, &after);
            assert!(away < 0.35, "{away}: {source}\n{}", form.svg);
            let again = normalise(&form.svg, &options, &Limits::default()).unwrap();
            assert_eq!(again.svg, form.svg);
        }
    }
}
