//! Documents that attack: each is answered with a picture or a reason, soon, by a living process.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, Instant};
use svg::{ParseMode, Reason, RenderConfig, Renderer, Target, WorkerProgram};

fn renderer(deadline_ms: u64) -> Renderer {
    let program = WorkerProgram::At(env!("CARGO_BIN_EXE_svg-render-worker").into());
    Renderer::new(&program, Duration::from_millis(deadline_ms)).unwrap()
}

fn wrap(body: &str) -> String {
    let ns = "xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink'";
    format!("<svg {ns} viewBox='0 0 100 100'>{body}</svg>")
}

/// The reason, or none for a picture; fails when it takes long.
fn outcome(renderer: &Renderer, source: &str, mode: ParseMode) -> Option<Reason> {
    let config = RenderConfig {
        mode,
        ..RenderConfig::default()
    };
    let start = Instant::now();
    let result = renderer.render(source, Target::Longest(224), &config);
    let elapsed = start.elapsed();
    assert!(
        elapsed < Duration::from_secs(5),
        "{elapsed:?} for {}",
        &source[..source.len().min(80)]
    );
    result.err().map(|f| f.reason)
}

fn strict(source: &str) -> Option<Reason> {
    outcome(&renderer(2000), source, ParseMode::Strict)
}

fn bomb(levels: usize, width: usize) -> String {
    let mut body = "<defs><g id='b0'><rect width='9' height='9'/></g>".to_owned();
    for i in 1..=levels {
        body += &format!(
            "<g id='b{i}'>{}</g>",
            format!("<use href='#b{}'/>", i - 1).repeat(width)
        );
    }
    wrap(&format!("{body}</defs><use href='#b{levels}'/>"))
}

#[test]
fn what_multiplies_is_refused_before_it_is_drawn() {
    let entity = "<!DOCTYPE svg [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'>&b;</svg>";
    assert_eq!(strict(entity), Some(Reason::EntityDeclaration));
    assert_eq!(strict(&bomb(12, 10)), Some(Reason::TooManyElements));
    assert_eq!(strict(&bomb(80, 1)), Some(Reason::TooDeep));
    assert_eq!(strict(&bomb(2, 3)), None);
}

#[test]
fn a_second_element_of_one_id_hides_no_cost() {
    let many = "<rect width='9' height='9'/>".repeat(3000);
    let body = format!(
        "<g id='a'/><g id='a'>{many}</g>{}",
        "<use href='#a'/>".repeat(50)
    );
    assert_eq!(strict(&wrap(&body)), Some(Reason::TooManyElements));
}

#[test]
fn nesting_is_refused_however_deep() {
    let nested = |n: usize| wrap(&format!("{}{}", "<g>".repeat(n), "</g>".repeat(n)));
    assert_eq!(strict(&nested(100)), None);
    assert_eq!(strict(&nested(200)), Some(Reason::TooDeep));
    assert_eq!(strict(&nested(30_000)), Some(Reason::TooManyElements));
    assert_eq!(strict(&nested(100_000)), Some(Reason::TooManyBytes));
    let open = format!("<svg viewBox='0 0 1 1'>{}", "<g>".repeat(80_000));
    assert!(outcome(&renderer(2000), &open, ParseMode::Recover).is_some());
}

#[test]
fn references_to_themselves_do_not_hang() {
    assert_eq!(
        strict(&wrap("<g id='a'><use href='#a'/></g>")),
        Some(Reason::ReferenceCycle)
    );
    assert_eq!(
        strict(&wrap(
            "<use id='a' xlink:href='#b'/><use id='b' xlink:href='#a'/>"
        )),
        Some(Reason::ReferenceCycle)
    );
    let harmless = [
        "<pattern id='p' width='9' height='9'><rect width='9' height='9' fill='url(#p)'/></pattern><rect width='50' height='50' fill='url(#p)'/>",
        "<mask id='m'><rect width='9' height='9' mask='url(#m)'/></mask><rect width='50' height='50' mask='url(#m)'/>",
        "<clipPath id='c' clip-path='url(#c)'><rect width='9' height='9'/></clipPath><rect width='50' height='50' clip-path='url(#c)'/>",
        "<linearGradient id='g' href='#h'/><linearGradient id='h' href='#g'/><rect width='50' height='50' fill='url(#g)'/>",
        "<marker id='m'><path d='M0 0 9 9' marker-end='url(#m)'/></marker><path d='M0 0 9 9' stroke='red' marker-end='url(#m)'/>",
        "<filter id='f'><feImage href='#r'/></filter><rect id='r' width='50' height='50' filter='url(#f)'/>",
    ];
    for body in harmless {
        assert_eq!(strict(&wrap(body)), None, "{body}");
    }
}

#[test]
fn large_canvases_are_ours_to_choose() {
    let giant = "<svg xmlns='http://www.w3.org/2000/svg' width='1000000' height='999999'><rect width='9' height='9'/></svg>";
    let config = RenderConfig::default();
    let rendered = renderer(2000)
        .render(giant, Target::Intrinsic { cap: 64 }, &config)
        .unwrap();
    assert_eq!((rendered.raster.width, rendered.raster.height), (64, 64));
    assert_eq!(rendered.intrinsic, (1_000_000.0, 999_999.0));
    let exact = renderer(2000).render(
        giant,
        Target::Exact {
            width: 100_000,
            height: 9,
        },
        &config,
    );
    assert_eq!(exact.err().map(|f| f.reason), Some(Reason::CanvasTooLarge));
    let no_size = Some(Reason::NoSize);
    for (size, expected) in [
        ("width='0' height='5'", no_size),
        ("width='-1' height='5'", no_size),
        ("width='nan' height='5'", no_size),
        ("width='1e40' height='1e40'", None),
        ("", no_size),
    ] {
        let source = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' {size}><rect width='9' height='9'/></svg>"
        );
        assert_eq!(strict(&source), expected, "{size}");
    }
}

#[test]
fn slow_filters_are_refused_or_end_at_the_deadline() {
    let morphology = |radius: &str| {
        wrap(&format!(
            "<filter id='f'><feMorphology operator='dilate' radius='{radius}'/></filter><rect width='90' height='90' filter='url(#f)'/>"
        ))
    };
    assert_eq!(strict(&morphology("1")), None);
    assert_eq!(strict(&morphology("100000")), Some(Reason::TooMuchFilter));
    let turbulence = "<feTurbulence baseFrequency='0.01' numOctaves='20'/>".repeat(90);
    let slow = wrap(&format!(
        "<filter id='f'>{turbulence}</filter><rect width='90' height='90' filter='url(#f)'/>"
    ));
    // Seconds of work; a new worker has drawn a word in a fraction of this, on a busy machine too.
    let renderer = renderer(500);
    assert_eq!(
        outcome(&renderer, &slow, ParseMode::Strict),
        Some(Reason::Deadline)
    );
    assert_eq!(
        outcome(
            &renderer,
            &wrap("<text y='20'>after</text>"),
            ParseMode::Strict
        ),
        None,
        "a killed worker is replaced"
    );
}

#[test]
fn shapes_far_larger_than_the_canvas_cannot_stall_it() {
    let renderer = renderer(300);
    let bodies = [
        "<circle r='1e9' stroke-width='1e8' stroke='red'/>".repeat(2000),
        "<circle cx='50' cy='50' r='45' stroke='red' stroke-width='.001' transform='scale(1e6)'/>"
            .repeat(2000),
        "<g transform='scale(999)'>".repeat(9) + "<circle r='9' stroke='red'/>" + &"</g>".repeat(9),
        "<path stroke='red' stroke-width='1e20' d='M-1e30 -1e30 L1e30 1e30 L1e30 -1e30Z'/>"
            .repeat(100),
        "<style>circle{r:1e9;stroke:red;stroke-width:1e9}</style>".to_owned()
            + &"<circle r='9'/>".repeat(999),
        "<radialGradient id='g'>".to_owned()
            + &"<stop offset='.5' stop-color='red'/>".repeat(300)
            + "</radialGradient>"
            + &"<rect width='100' height='100' fill='url(#g)'/>".repeat(4000),
    ];
    for body in bodies {
        let reason = outcome(&renderer, &wrap(&body), ParseMode::Strict);
        // Numbers beyond those that resvg's assertions allow for.
        let beyond = [
            "<g transform='scale(999)'>",
            "<path stroke='red' stroke-width='1e20'",
        ]
        .iter()
        .any(|start| body.starts_with(start));
        assert!(
            matches!(reason, None | Some(Reason::Deadline))
                || (beyond && reason == Some(Reason::Panic)),
            "{reason:?}: {}",
            &body[..40]
        );
    }
    assert_eq!(
        outcome(
            &renderer,
            &wrap("<text y='20'>after</text>"),
            ParseMode::Strict
        ),
        None
    );
}

#[test]
fn paths_and_styles_have_caps() {
    let zigzag = |n: usize| format!("<path d='M0 0{}'/>", " 99 99 0 99 99 0".repeat(n));
    assert_eq!(strict(&wrap(&zigzag(12_000))), None);
    let path = "<path id='p' d='M0 0".to_owned() + &" 1 1".repeat(20_000) + "'/>";
    assert_eq!(
        strict(&wrap(&(path + &"<use href='#p'/>".repeat(50)))),
        Some(Reason::TooMuchPath)
    );
    let rules = format!(
        "<style>{}</style>{}",
        "a,b{}".repeat(4000),
        "<g/>".repeat(4000)
    );
    assert_eq!(strict(&wrap(&rules)), Some(Reason::TooMuchStyle));
    let layers = "<g opacity='.5'/>".repeat(9000);
    assert_eq!(strict(&wrap(&layers)), Some(Reason::TooManyLayers));
    assert_eq!(
        strict(&wrap(
            "<path d='M0 0H99' stroke='red' stroke-dasharray='1e-9'/>"
        )),
        None
    );
    assert_eq!(
        strict(&wrap(
            "<path d='M0 0 1e38 1e38 -1e38 1e38' stroke='red' stroke-width='1e30'/>"
        )),
        None
    );
    assert_eq!(
        strict(&wrap(&format!("<g{}/>", " a=''".repeat(2000)))),
        Some(Reason::TooManyAttributes)
    );
}

#[test]
fn links_out_of_the_document_draw_nothing() {
    let canvas = Target::Exact {
        width: 8,
        height: 8,
    };
    let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/red.svg").to_owned();
    let links = [file.clone(), format!("file://{file}"), "http://127.0.0.1:9/a.png".into(), format!("data:image/png;base64,{png}"),
        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'><rect width='1' height='1'/></svg>".replace('<', "&lt;").replace('\'', "&quot;")];
    for link in links {
        let source = wrap(&format!(
            "<image width='100' height='100' href='{link}'/><use href='{link}#a'/>"
        ));
        let rendered = renderer(2000)
            .render(&source, canvas, &RenderConfig::default())
            .unwrap();
        assert!(rendered.raster.rgba.iter().all(|&v| v == 255), "{link}");
    }
}

#[test]
fn bytes_that_are_no_svg_are_malformed() {
    let zipped = String::from_utf8_lossy(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).into_owned();
    for source in [
        "",
        "\0",
        " ",
        "<",
        "<svg",
        "<svg>",
        "<svg/",
        "text",
        &zipped,
        "<svg viewBox='0 0 1 1'>\0</svg>",
        "\u{feff}<a",
        "<svg a=1/>",
    ] {
        assert_eq!(strict(source), Some(Reason::MalformedXml), "{source:?}");
    }
    assert_eq!(strict("<html><body/></html>"), Some(Reason::NotSvg));
    assert_eq!(
        strict("<svg xmlns='http://example.com' viewBox='0 0 1 1'/>"),
        Some(Reason::NotSvg)
    );
}

#[test]
fn well_formedness_is_judged_as_expat_judges_it() {
    let ns = "xmlns='http://www.w3.org/2000/svg' width='10' height='10'";
    let accepted = [
        "<svg width='10' height='10'><rect width='5' height='5'/></svg>".to_owned(),
        format!("<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd'><svg {ns}/>"),
        format!("\n <svg {ns}/>\n"),
        "<s:svg xmlns:s='http://www.w3.org/2000/svg' width='10' height='10'><s:rect width='5' height='5'/></s:svg>".to_owned(),
        format!("<svg {ns}><rect width='abc' height='5'/></svg>"),
        format!("<svg {ns}><path d='M 0 0 L 5 x 3'/></svg>"),
    ];
    for source in accepted {
        assert_eq!(strict(&source), None, "{source}");
    }
    let refused = [
        format!("<svg {ns}><use xlink:href='#a'/></svg>"),
        format!("<svg {ns}><text>&nbsp;</text></svg>"),
        format!("<svg {ns}/> junk"),
        format!("\n <?xml version='1.0'?><svg {ns}/>"),
        format!("<svg {ns} width='11'/>"),
        format!("<svg {ns}><text>\u{1}</text></svg>"),
        format!("<svg {ns}><!-- a -- b --></svg>"),
        format!("<svg {ns}><text>a & b</text></svg>"),
        "<svg xmlns='http://www.w3.org/2000/svg' width=10 height='10'></svg>".to_owned(),
    ];
    for source in refused {
        assert_eq!(strict(&source), Some(Reason::MalformedXml), "{source}");
    }
}

#[test]
fn a_cut_off_document_draws_when_it_may_be_repaired() {
    let whole = wrap("<rect width='100' height='100' fill='#ff0000'/><path d='M0 0L9 9'/>");
    let cut = &whole[..whole.find("L9").unwrap()];
    let renderer = renderer(2000);
    assert_eq!(
        outcome(&renderer, cut, ParseMode::Strict),
        Some(Reason::MalformedXml)
    );
    let config = RenderConfig {
        mode: ParseMode::Recover,
        ..RenderConfig::default()
    };
    let rendered = renderer.render(cut, Target::Longest(4), &config).unwrap();
    assert_eq!(rendered.raster.rgba[..4], [255, 0, 0, 255]);
    for end in 0..whole.len() {
        outcome(&renderer, &whole[..end], ParseMode::Recover);
    }
}

#[test]
fn a_worker_that_cannot_be_started_for_a_moment_is_waited_for() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busy-worker");
    std::fs::copy(env!("CARGO_BIN_EXE_svg-render-worker"), &program).unwrap();
    let renderer =
        Renderer::new(&WorkerProgram::At(program.clone()), Duration::from_secs(5)).unwrap();
    let words = wrap("<text y='40'>a</text>");
    // The system starts no program that is open for writing.
    let writer = OpenOptions::new().append(true).open(&program).unwrap();
    std::thread::scope(|scope| {
        let drawn = scope.spawn(|| outcome(&renderer, &words, ParseMode::Strict));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!drawn.is_finished());
        drop(writer);
        assert_eq!(drawn.join().unwrap(), None);
    });
}

#[test]
fn a_missing_worker_is_said_at_once() {
    let program = WorkerProgram::At("/nonexistent/worker".into());
    let error = Renderer::new(&program, Duration::from_secs(1))
        .err()
        .map(|f| f.reason);
    assert_eq!(error, Some(Reason::WorkerUnavailable));
}
