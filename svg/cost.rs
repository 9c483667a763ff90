//! The cost of a document by counting: elements, depth, path data, layers, filter work, summed through
//! `use` as if every reference were written out.

use crate::failure::{Failure, Reason};
use resvg::usvg::roxmltree::Node;
use std::collections::HashMap;

/// Style words that give an element an off-screen layer.
pub(crate) const LAYER_STYLE: [&str; 4] = ["opacity", "clip-path", "mix-blend", "isolation"];

/// What an element and everything in it cost.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub elements: u64,
    pub depth: u32,
    pub path_bytes: u64,
    pub layers: u64,
    pub filter_work: u64,
    pub stops: u64,
    /// Enlargement by its own transform and, at most, by those inside it.
    pub zoom: f64,
    pub inner_zoom: f64,
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

/// How elements in the document's order stand in one another.
pub(crate) struct Nesting {
    /// The place of the element that each stands in; none for the root.
    parents: Vec<Option<usize>>,
    /// Elements on the longest way down, the root counted.
    pub depth: usize,
}

impl Nesting {
    pub fn of(nodes: &[Node<'_, '_>]) -> Self {
        let (mut parents, mut open) = (Vec::with_capacity(nodes.len()), Vec::<usize>::new());
        let mut depth = 0;
        for (at, node) in nodes.iter().enumerate() {
            let parent = node.parent();
            while open.last().is_some_and(|&last| Some(nodes[last]) != parent) {
                open.pop();
            }
            parents.push(open.last().copied());
            open.push(at);
            depth = depth.max(open.len());
        }
        Nesting { parents, depth }
    }
}

/// The cost of the root, the first of `nodes` (elements in the document's order), with every `use`
/// replaced by its target.
pub(crate) fn total(
    nodes: &[Node<'_, '_>],
    nesting: &Nesting,
    own: Vec<Cost>,
) -> Result<Cost, Failure> {
    match nodes.iter().any(is_use) {
        true => expanded(nodes, own),
        false => Ok(written(nesting, own)),
    }
}

/// The cost where nothing refers to anything: from the last element to the first, each adds itself to
/// the one it stands in.
fn written(nesting: &Nesting, mut costs: Vec<Cost>) -> Cost {
    for (at, parent) in nesting.parents.iter().enumerate().rev() {
        if let Some(parent) = *parent {
            let cost = costs[at];
            costs[parent].add(&cost);
        }
    }
    costs.first().copied().unwrap_or_default()
}

/// The cost with references: depth first with memory, on an explicit stack.
fn expanded(nodes: &[Node<'_, '_>], own: Vec<Cost>) -> Result<Cost, Failure> {
    let index: HashMap<_, _> = nodes.iter().enumerate().map(|(i, n)| (n.id(), i)).collect();
    // Which of several elements of one id is meant is the renderer's choice: all count.
    let mut by_id: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        if let Some(id) = node.attribute("id") {
            by_id.entry(id).or_default().push(i);
        }
    }
    let parts = |i: usize| -> Vec<usize> {
        let children = nodes[i]
            .children()
            .filter(Node::is_element)
            .filter_map(|n| index.get(&n.id()).copied());
        let targets = targets(&nodes[i]).filter_map(|id| by_id.get(id)).flatten();
        let whole = is_drawn_whole(&nodes[i]).then_some(0);
        children.chain(targets.copied()).chain(whole).collect()
    };
    let mut costs = own;
    let mut state = vec![VisitState::New; nodes.len()];
    let mut stack = vec![(0, parts(0), 0)];
    state[0] = VisitState::Open;
    while let Some((node, its_parts, next)) = stack.last_mut() {
        let node = *node;
        if let Some(&part) = its_parts.get(*next) {
            *next += 1;
            match state[part] {
                VisitState::Done => {
                    let cost = costs[part];
                    costs[node].add(&cost);
                }
                VisitState::New => {
                    state[part] = VisitState::Open;
                    *next -= 1;
                    let parts = parts(part);
                    stack.push((part, parts, 0));
                }
                VisitState::Open => {
                    let detail = format!(
                        "<{}> refers to an element it stands in",
                        nodes[node].tag_name().name()
                    );
                    return Err(Failure::new(Reason::ReferenceCycle, detail));
                }
            }
        } else {
            state[node] = VisitState::Done;
            stack.pop();
        }
    }
    Ok(costs[0])
}

#[derive(Clone, Copy, PartialEq)]
enum VisitState {
    New,
    Open,
    Done,
}

fn is_use(node: &Node<'_, '_>) -> bool {
    node.tag_name().name() == "use"
}

/// Whether a `use` that links nowhere is drawn: it stands for the whole document to CairoSVG, unless it
/// has only a place.
fn is_drawn_whole(node: &Node<'_, '_>) -> bool {
    const KEPT: [&str; 7] = [
        "defs", "symbol", "clipPath", "mask", "pattern", "marker", "switch",
    ];
    let links = || node.attributes().filter(|a| a.name() == "href");
    is_use(node)
        && node.attributes().any(|a| !matches!(a.name(), "x" | "y"))
        && links().all(|a| matches!(a.value().trim(), "" | "#"))
        && !node
            .ancestors()
            .any(|n| KEPT.contains(&n.tag_name().name()))
}

/// The ids a `use` element may stand for: which of several `href`, of whatever namespace, is meant is
/// the renderer's choice.
fn targets<'a>(node: &Node<'a, '_>) -> impl Iterator<Item = &'a str> {
    let is_use = is_use(node);
    let links = node
        .attributes()
        .filter(move |a| is_use && a.name() == "href");
    links.filter_map(|link| link.value().trim().strip_prefix('#'))
}

pub(crate) fn own_cost(node: &Node<'_, '_>) -> Cost {
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
