//! What a parsed document asks for: one walk that counts, through `use`, the elements, depth, path
//! data, layers and filter work a drawing would take, refuses what is over a limit, and says whether
//! the rest is bounded well enough to be drawn in this process.
//!
//! Plain shapes, gradients, clips and `use` within the budgets below are; text, filters, masks,
//! patterns, markers, dashes and anything large go to a worker process, where time and memory are
//! limited from outside.

use crate::config::Limits;
use crate::cost::{Cost, LAYER_STYLE, Nesting, own_cost, total};
use crate::extent::{coordinate, is_near, largest, reach};
use crate::failure::{Failure, Reason};
use resvg::usvg::roxmltree::{Document, Node};

/// Where a document may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RenderTier {
    /// Its work is so little that nobody needs to watch it: on any thread with a large stack.
    Unwatched,
    /// Its work is bounded by the limits: on this process' threads.
    Here,
    /// Not bounded: in a worker process.
    Worker,
}

/// Pixels that shapes and layers may touch in process: about a fifth of a second at worst.
const PIXEL_BUDGET: u64 = 60_000_000;
/// Colour stops of all gradients: a pixel's colour is searched among its gradient's.
const STOP_BUDGET: u64 = 200;
/// Path bytes drawn in process, in all and of one path: edges that cross are sorted quadratically.
const PATH_BUDGET: u64 = 48 << 10;
const ONE_PATH_BUDGET: u64 = 16 << 10;
const STYLE_BUDGET: u64 = 200_000;
/// Of these budgets, what is drawn unwatched; a path is a quarter of what all may have. Even edges
/// that all cross take less than half a second then.
const UNWATCHED_PIXELS: u64 = 6_000_000;
const UNWATCHED_STOPS: u64 = 50;
const UNWATCHED_PATH: u64 = 8 << 10;
const UNWATCHED_STYLE: u64 = 2_000;

/// Elements whose cost has no simple bound.
const UNBOUNDED: [&str; 8] = [
    "filter",
    "mask",
    "pattern",
    "marker",
    "text",
    "textPath",
    "foreignObject",
    "switch",
];
/// How attributes of that kind begin.
const UNBOUNDED_NAMES: [&str; 4] = ["filter", "mask", "marker", "stroke-dash"];
/// Properties of that kind in style text; the last two enlarge coordinates, whose values are not read there.
const UNBOUNDED_STYLE: [&str; 6] = ["filter", "mask", "marker", "dash", "transform", "font"];

/// Counts, refuses or places a document that will be drawn on `canvas` pixels.
///
/// `pixels_per_unit` is the root's enlargement from its own units to the canvas.
pub(crate) fn survey(
    document: &Document<'_>,
    canvas: (u32, u32),
    pixels_per_unit: f64,
    limits: &Limits,
) -> Result<RenderTier, Failure> {
    let nodes: Vec<_> = document.descendants().filter(Node::is_element).collect();
    let written = nodes.len() as u64;
    let nesting = Nesting::of(&nodes);
    // What is written must be small before anything looks up and down in it.
    let (depth, deepest) = (nesting.depth as u64, u64::from(limits.max_depth));
    for (reason, what, got, bound) in [
        (
            Reason::TooManyElements,
            "elements",
            written,
            limits.max_elements,
        ),
        (Reason::TooDeep, "nesting", depth, deepest),
    ] {
        if got > bound {
            return Err(Failure::over(reason, what, got, bound));
        }
    }
    let mut unbounded = false;
    let mut style = String::new();
    let (mut longest_path, mut rough) = (0, 0.0f64);
    let mut own = Vec::with_capacity(nodes.len());
    for node in &nodes {
        let mut cost = own_cost(node);
        let reach = reach(node);
        cost.zoom = reach.zoom;
        rough = rough.max(reach.rough);
        longest_path = longest_path.max(cost.path_bytes);
        unbounded = unbounded || is_unbounded(node);
        if node.tag_name().name() == "style" {
            let texts = node.descendants().filter(Node::is_text);
            style.extend(texts.filter_map(|n| n.text()));
        }
        own.push(cost);
    }
    let total = total(&nodes, &nesting, own)?;
    check(&total, limits)?;
    let rules = style.matches(['{', ',']).count() as u64;
    let style_work = rules * written;
    if style_work > limits.max_style_work {
        return Err(Failure::over(
            Reason::TooMuchStyle,
            "style rules times elements",
            style_work,
            limits.max_style_work,
        ));
    }
    // Which rules meet inside a clip path is not looked at.
    let unbounded =
        unbounded || is_unbounded_style(&style) || style.contains("clip-path") || branches(&style);
    let styled_layers = if holds_word(&style, &LAYER_STYLE) {
        total.elements
    } else {
        0
    };
    let area = u64::from(canvas.0) * u64::from(canvas.1);
    let touched = (total.elements + 8 * total.layers.max(styled_layers)).saturating_mul(area);
    let near = |farthest: f64| {
        let farthest = farthest.max(largest(&style));
        is_near(farthest, total.zoom + total.inner_zoom, pixels_per_unit)
    };
    let near = near(rough) || near(nodes.iter().map(coordinate).fold(0.0, f64::max));
    let bounded = near
        && touched <= PIXEL_BUDGET
        && total.stops <= STOP_BUDGET
        && total.path_bytes <= PATH_BUDGET
        && longest_path <= ONE_PATH_BUDGET
        && style_work <= STYLE_BUDGET;
    let little = touched <= UNWATCHED_PIXELS
        && total.stops <= UNWATCHED_STOPS
        && total.path_bytes <= UNWATCHED_PATH
        && longest_path <= UNWATCHED_PATH / 4
        && style_work <= UNWATCHED_STYLE;
    Ok(match bounded && !unbounded {
        true if little => RenderTier::Unwatched,
        true => RenderTier::Here,
        false => RenderTier::Worker,
    })
}

fn check(total: &Cost, limits: &Limits) -> Result<(), Failure> {
    let bounds = [
        (
            Reason::TooManyElements,
            "elements with use expanded",
            total.elements,
            limits.max_elements,
        ),
        (
            Reason::TooDeep,
            "nesting with use expanded",
            u64::from(total.depth),
            u64::from(limits.max_depth),
        ),
        (
            Reason::TooMuchPath,
            "bytes of path data with use expanded",
            total.path_bytes,
            limits.max_path_bytes,
        ),
        (
            Reason::TooManyLayers,
            "off-screen layers",
            total.layers,
            limits.max_layers,
        ),
        (
            Reason::TooMuchFilter,
            "filter work",
            total.filter_work,
            limits.max_filter_work,
        ),
    ];
    for (reason, what, got, bound) in bounds {
        if got > bound {
            return Err(Failure::over(reason, what, got, bound));
        }
    }
    Ok(())
}

fn is_unbounded(node: &Node<'_, '_>) -> bool {
    let name = node.tag_name().name();
    // What a clip path clips or takes from elsewhere multiplies along a chain of them.
    let inside_clip = || {
        let mut above = node.ancestors().skip(1);
        name == "clipPath" || above.any(|n| n.tag_name().name() == "clipPath")
    };
    UNBOUNDED.contains(&name)
        || (name == "use" && inside_clip())
        || node.attributes().any(|a| match a.name() {
            "style" => {
                is_unbounded_style(a.value()) || (a.value().contains("clip-path") && inside_clip())
            }
            "clip-path" => inside_clip(),
            "font-size" => {
                let relative = ["%", "em", "ex", "larger"];
                relative
                    .iter()
                    .any(|end| a.value().trim_end().ends_with(end))
            }
            "viewBox" => node.parent_element().is_some(),
            name => UNBOUNDED_NAMES.iter().any(|start| name.starts_with(start)),
        })
}

/// Whether style text sets a property without a bound, or spells one so that it cannot be told.
fn is_unbounded_style(style: &str) -> bool {
    style.contains('\\') || holds_word(style, &UNBOUNDED_STYLE)
}

/// Whether a selector stands for an element inside of something inside of something: for each step the
/// matcher tries every ancestor, and again for each of these, which multiplies.
fn branches(style: &str) -> bool {
    let mut text = String::with_capacity(style.len());
    let mut rest = style;
    while let Some((before, comment)) = rest.split_once("/*") {
        text += before;
        text.push(' ');
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    text += rest;
    let steps = |selector: &str| {
        let combinator = |word: &&str| matches!(*word, ">" | "+" | "~");
        let words = selector.split_whitespace().count();
        let direct = selector.split_whitespace().filter(combinator).count();
        words.saturating_sub(2 * direct + 1)
    };
    text.split('}').any(|rule| {
        let selectors = rule.rsplit_once('{').map_or("", |(selectors, _)| selectors);
        selectors.split(['{', ',']).any(|one| steps(one) > 1)
    })
}

fn holds_word(text: &str, words: &[&str]) -> bool {
    !text.is_empty() && words.iter().any(|w| text.contains(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(body: &str) -> RenderTier {
        let source =
            format!("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'>{body}</svg>");
        let document = Document::parse(&source).unwrap();
        survey(&document, (224, 224), 224.0 / 24.0, &Limits::default()).unwrap()
    }

    #[test]
    fn icons_are_drawn_unwatched_and_what_is_larger_is_not() {
        let icon = "<path d='M12 2 2 7l10 5 10-5z' stroke='red'/><circle cx='9' cy='9' r='3'/>";
        assert_eq!(place(icon), RenderTier::Unwatched);
        assert_eq!(place(&icon.repeat(100)), RenderTier::Here);
        let path = format!("<path d='M1 1{}'/>", "l1 1".repeat(600));
        assert_eq!(place(&path), RenderTier::Here);
        assert_eq!(place("<text>a</text>"), RenderTier::Worker);
        assert_eq!(place("<path d='M0 0L1e9 9'/>"), RenderTier::Worker);
    }

    #[test]
    fn what_multiplies_unseen_goes_to_a_worker() {
        let clips = "<clipPath id='a'>@</clipPath><rect id='r' width='9' height='9'/>";
        for inside in [
            "<rect clip-path='url(#b)'/>",
            "<rect style='fill:red;clip-path:url(#b)'/>",
            "<g><use href='#r'/></g>",
        ] {
            assert_eq!(
                place(&clips.replace('@', inside)),
                RenderTier::Worker,
                "{inside}"
            );
        }
        assert_eq!(place(&clips.replace('@', "<rect/>")), RenderTier::Unwatched);
        for other in [
            "<style>.c{clip-path:url(#a)}</style>",
            "<style>g{transform : scale(900)}</style>",
            "<g style='transform : scale(900)'/>",
            "<g style='transform/**/:scale(900)'/>",
            "<g style='font-size:300%'/>",
            "<g font-size='9em '/>",
            "<g font-size='larger'/>",
            "<style>x g g{fill:red}</style>",
            "<style>.a{fill:red} x/**/g/* } */g , b {fill:red}</style>",
            "<style>@media all{x g g > rect{}}</style>",
        ] {
            assert_eq!(place(other), RenderTier::Worker, "{other}");
        }
        for plain in [
            "<g font-size='12px'/>",
            "<style>/* one two three */ .a .b, svg > g > rect { fill: none; stroke: red }</style>",
        ] {
            assert_eq!(place(plain), RenderTier::Unwatched, "{plain}");
        }
    }

    #[test]
    fn elements_deep_in_one_another_are_refused_before_each_looks_up() {
        // 81 million steps otherwise, for each question asked of the elements above.
        let (deep, wide) = (9_000, "<use a=''/>".repeat(9_000));
        let source = format!(
            "<svg xmlns='http://www.w3.org/2000/svg'><defs>{}{wide}{}</defs></svg>",
            "<g>".repeat(deep),
            "</g>".repeat(deep)
        );
        let document = Document::parse(&source).unwrap();
        let refused = survey(&document, (64, 64), 1.0, &Limits::default()).unwrap_err();
        assert_eq!(
            refused,
            Failure::over(Reason::TooDeep, "nesting", 9_003, 128)
        );
    }

    #[test]
    fn every_link_of_a_use_counts() {
        let levels = |link: &str| {
            let level = |i: u32| {
                let link = link.replace('@', &format!("#u{}", i + 1));
                format!("<g id='u{i}'>{}</g>", format!("<use {link}/>").repeat(9))
            };
            let body: String = (0..6).map(level).collect();
            let source = format!(
                "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink' xmlns:q='urn:q' viewBox='0 0 9 9'>{body}<g id='u6'><circle r='9'/></g></svg>"
            );
            let document = Document::parse(&source).unwrap();
            survey(&document, (64, 64), 1.0, &Limits::default())
        };
        for link in [
            "href='@'",
            "xlink:href='#none' href='@'",
            "href='#none' xlink:href='@'",
            "q:href='#none' href='@'",
        ] {
            let refused = levels(link).err().map(|failure| failure.reason);
            assert_eq!(refused, Some(Reason::TooManyElements), "{link}");
        }
    }
}
