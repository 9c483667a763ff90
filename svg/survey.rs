//! What a parsed document asks for: one walk that counts, through `use`, the elements, depth, path
//! data, layers and filter work a drawing would take, refuses what is over a limit, and says whether
//! the rest is bounded well enough to be drawn in this process.
//!
//! Plain shapes, gradients, clips and `use` within the budgets below are; text, filters, masks,
//! patterns, markers, dashes and anything large go to a worker process, where time and memory are
//! limited from outside.

use crate::config::Limits;
use crate::extent::{is_near, largest, reach};
use crate::failure::{Failure, Reason};
use resvg::usvg::roxmltree::{Document, Node};
use std::collections::HashMap;

/// Where a document may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its work is bounded by the limits: on this process' threads.
    Here,
    /// Not bounded: in a worker process. Holds what decided.
    Worker(&'static str),
}

/// Pixels that shapes and layers may touch in process: about a fifth of a second at worst.
const PIXEL_BUDGET: u64 = 60_000_000;
/// Colour stops of all gradients: a pixel's colour is searched among its gradient's.
const STOP_BUDGET: u64 = 200;
/// Path bytes drawn in process, in all and of one path: edges that cross are sorted quadratically.
const PATH_BUDGET: u64 = 48 << 10;
const ONE_PATH_BUDGET: u64 = 16 << 10;
const STYLE_BUDGET: u64 = 200_000;

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
/// Properties of that kind, looked for in attribute names and in style text.
const UNBOUNDED_STYLE: [&str; 5] = ["filter", "mask", "marker", "dash", "transform:"];
const LAYER_STYLE: [&str; 4] = ["opacity", "clip-path", "mix-blend", "isolation"];

#[derive(Clone, Copy, Default)]
struct Cost {
    elements: u64,
    depth: u32,
    path_bytes: u64,
    layers: u64,
    filter_work: u64,
    stops: u64,
    /// Enlargement by its own transform and, at most, by those inside it.
    zoom: f64,
    inner_zoom: f64,
}

impl Cost {
    fn add(&mut self, part: &Cost) {
        self.elements = self.elements.saturating_add(part.elements);
        self.path_bytes = self.path_bytes.saturating_add(part.path_bytes);
        self.layers = self.layers.saturating_add(part.layers);
        self.filter_work = self.filter_work.saturating_add(part.filter_work);
        self.stops = self.stops.saturating_add(part.stops);
        self.depth = self.depth.max(part.depth.saturating_add(1));
        self.inner_zoom = self.inner_zoom.max(part.zoom + part.inner_zoom);
    }
}

/// Counts, refuses or places a document that will be drawn on `canvas` pixels.
///
/// `pixels_per_unit` is the root's enlargement from its own units to the canvas.
pub(crate) fn survey(
    document: &Document<'_>,
    canvas: (u32, u32),
    pixels_per_unit: f64,
    limits: &Limits,
) -> Result<Place, Failure> {
    let mut unbounded = None;
    let mut style = String::new();
    let (mut longest_path, mut coordinate) = (0, 0.0f64);
    let (mut nodes, mut own) = (Vec::new(), Vec::new());
    for node in document.descendants().filter(Node::is_element) {
        let mut cost = own_cost(&node);
        let reach = reach(&node);
        cost.zoom = reach.zoom;
        coordinate = coordinate.max(reach.coordinate);
        longest_path = longest_path.max(cost.path_bytes);
        unbounded = unbounded.or_else(|| unbounded_part(&node));
        if node.tag_name().name() == "style" {
            style.extend(
                node.descendants()
                    .filter(Node::is_text)
                    .filter_map(|n| n.text()),
            );
        }
        nodes.push(node);
        own.push(cost);
    }
    let written = nodes.len() as u64;
    if written > limits.max_elements {
        return Err(Failure::over(
            Reason::TooManyElements,
            "elements",
            written,
            limits.max_elements,
        ));
    }
    let total = expanded(document, &nodes, own)?;
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
    let unbounded = unbounded
        .or_else(|| find_word(&style, &UNBOUNDED_STYLE))
        .or(style.contains('\\').then_some("style escapes"));
    if let Some(part) = unbounded {
        return Ok(Place::Worker(part));
    }
    let styled_layers = if find_word(&style, &LAYER_STYLE).is_some() {
        total.elements
    } else {
        0
    };
    let area = u64::from(canvas.0) * u64::from(canvas.1);
    let touched = (total.elements + 8 * total.layers.max(styled_layers)).saturating_mul(area);
    let near = is_near(
        coordinate.max(largest(&style)),
        total.zoom + total.inner_zoom,
        pixels_per_unit,
    );
    Ok(if touched > PIXEL_BUDGET {
        Place::Worker("area")
    } else if !near {
        Place::Worker("extent")
    } else if total.stops > STOP_BUDGET {
        Place::Worker("gradient stops")
    } else if total.path_bytes > PATH_BUDGET || longest_path > ONE_PATH_BUDGET {
        Place::Worker("path data")
    } else if style_work > STYLE_BUDGET {
        Place::Worker("style rules")
    } else {
        Place::Here
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

/// The cost of the root with every `use` replaced by its target: depth first with memory, on an
/// explicit stack.
fn expanded(
    document: &Document<'_>,
    nodes: &[Node<'_, '_>],
    own: Vec<Cost>,
) -> Result<Cost, Failure> {
    let index: HashMap<_, _> = nodes.iter().enumerate().map(|(i, n)| (n.id(), i)).collect();
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        if let Some(id) = node.attribute("id") {
            by_id.entry(id).or_insert(i);
        }
    }
    let parts = |i: usize| -> Vec<usize> {
        let children = nodes[i]
            .children()
            .filter(Node::is_element)
            .filter_map(|n| index.get(&n.id()).copied());
        children
            .chain(target(&nodes[i]).and_then(|id| by_id.get(id).copied()))
            .collect()
    };
    let mut costs = own;
    let mut state = vec![State::New; nodes.len()];
    let root = index
        .get(&document.root_element().id())
        .copied()
        .unwrap_or(0);
    let mut stack = vec![(root, parts(root), 0)];
    state[root] = State::Open;
    while let Some((node, its_parts, next)) = stack.last_mut() {
        let node = *node;
        if let Some(&part) = its_parts.get(*next) {
            *next += 1;
            match state[part] {
                State::Done => {
                    let cost = costs[part];
                    costs[node].add(&cost);
                }
                State::New => {
                    state[part] = State::Open;
                    *next -= 1;
                    let parts = parts(part);
                    stack.push((part, parts, 0));
                }
                State::Open => {
                    let detail = format!(
                        "<{}> refers to an element it stands in",
                        nodes[node].tag_name().name()
                    );
                    return Err(Failure::new(Reason::ReferenceCycle, detail));
                }
            }
        } else {
            state[node] = State::Done;
            stack.pop();
        }
    }
    Ok(costs[root])
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

/// The id a `use` element stands for.
fn target<'a>(node: &Node<'a, '_>) -> Option<&'a str> {
    if node.tag_name().name() != "use" {
        return None;
    }
    let href = node.attributes().find(|a| a.name() == "href")?;
    href.value().trim().strip_prefix('#')
}

fn own_cost(node: &Node<'_, '_>) -> Cost {
    let mut cost = Cost {
        elements: 1,
        depth: 1,
        ..Cost::default()
    };
    for attribute in node.attributes() {
        let value = attribute.value();
        match attribute.name() {
            "d" | "points" => cost.path_bytes += value.len() as u64,
            "opacity" | "clip-path" | "mask" | "filter" => cost.layers += 1,
            "style" => {
                cost.layers += LAYER_STYLE
                    .iter()
                    .map(|w| value.matches(w).count() as u64)
                    .sum::<u64>()
            }
            _ => {}
        }
    }
    cost.stops = u64::from(node.tag_name().name() == "stop");
    if node.tag_name().name().starts_with("fe") {
        let number = |name| {
            node.attribute(name)
                .and_then(|v| v.split([' ', ',']).next()?.parse::<f64>().ok())
        };
        let order = number("order").unwrap_or(0.0);
        let weights = [
            number("radius").unwrap_or(0.0),
            order * order,
            number("numOctaves").unwrap_or(0.0),
        ];
        cost.filter_work = weights
            .iter()
            .fold(1, |sum, w| (sum as f64 + w.abs()) as u64);
    }
    cost
}

fn unbounded_part(node: &Node<'_, '_>) -> Option<&'static str> {
    let name = node.tag_name().name();
    let element = UNBOUNDED.iter().find(|&&e| e == name).copied();
    let inside_clip = || {
        node.ancestors()
            .skip(1)
            .any(|n| n.tag_name().name() == "clipPath")
    };
    element.or_else(|| {
        node.attributes().find_map(|a| match a.name() {
            "style" if a.value().contains('\\') => Some("style escapes"),
            "style" => find_word(a.value(), &UNBOUNDED_STYLE),
            "clip-path" if name == "clipPath" || inside_clip() => Some("nested clips"),
            "viewBox" if node.parent_element().is_some() => Some("nested viewBox"),
            name => find_word(name, &UNBOUNDED_STYLE),
        })
    })
}

fn find_word(text: &str, words: &[&'static str]) -> Option<&'static str> {
    words.iter().find(|w| text.contains(**w)).copied()
}
