//! From source text to a document that may be drawn: repair if asked, byte limits, the root given
//! its target size, one XML parse, and the survey of what it asks for.

use crate::config::{Limits, ParseMode, RenderConfig};
use crate::extract::closing_tag;
use crate::failure::{Failure, Reason};
use crate::geometry::Geometry;
use crate::prolog::RootTag;
use crate::target::Target;
use crate::{css_geometry, limits, recover, values, wellformed};
use resvg::usvg::roxmltree::{self, Error, ParsingOptions};
use std::borrow::Cow;

const SVG_NS: &str = "http://www.w3.org/2000/svg";

/// Source text whose root carries the target size, with the picture's own size beside it.
#[derive(Debug)]
pub(crate) struct SizedDocument {
    pub source: String,
    /// Width and height the document gives itself, CSS pixels.
    pub intrinsic: (f64, f64),
    /// Canvas in pixels.
    pub canvas: (u32, u32),
    /// Pixels that one unit of the document's coordinates takes, at most.
    pub pixels_per_unit: f64,
}

/// Checks the bytes and gives the root its target size.
pub(crate) fn prepare(
    source: &str,
    target: Target,
    config: &RenderConfig,
) -> Result<SizedDocument, Failure> {
    limits::check_bytes(source, &config.limits)?;
    let source = match config.mode {
        ParseMode::Strict => Cow::Borrowed(source),
        ParseMode::Recover => Cow::Owned(recover::repair(source)),
    };
    limits::check_markup(&source)?;
    if config.mode == ParseMode::Strict
        && let Some(detail) = wellformed::fault(&source)
    {
        return Err(Failure::new(Reason::MalformedXml, detail));
    }
    let source = css_geometry::written_out(
        source,
        |text| xml(text, &config.limits).ok(),
        &config.limits,
    )?;
    let source = values::readable(source);
    let Some(root) = RootTag::find(&source) else {
        return Err(malformed(&source));
    };
    if root.name.rsplit(':').next() != Some("svg") {
        return Err(Failure::new(
            Reason::NotSvg,
            format!("the root element is <{}>", root.name),
        ));
    }
    let geometry = match Geometry::of(&root) {
        Ok(geometry) => geometry,
        Err(detail) => {
            // A malformed document must not be reported as one without a size.
            parse(&source, &config.limits)?;
            return Err(Failure::new(Reason::NoSize, detail));
        }
    };
    let canvas = match target {
        Target::Exact { width, height } => (width, height),
        Target::Longest(side) => geometry.fit(side),
        Target::Intrinsic { cap } => {
            geometry.fit((geometry.width.max(geometry.height).round().max(1.0) as u32).min(cap))
        }
    };
    let max = config.limits.max_side;
    if canvas.0.max(canvas.1) > max || canvas.0.min(canvas.1) == 0 {
        let detail = format!(
            "sides must be from 1 to {max} pixels, got {}x{}",
            canvas.0, canvas.1
        );
        return Err(Failure::new(Reason::CanvasTooLarge, detail));
    }
    // What is taken out of the root is seen by no parser later.
    let plain =
        |b: u8| matches!(b, b' '..=b'~' | b'\t' | b'\n' | b'\r') && !matches!(b, b'&' | b'<');
    if !root.attributes.iter().all(|a| a.value.bytes().all(plain)) {
        xml(&source, &config.limits)?;
    }
    let source = resize_root(&source, &root, &geometry, canvas);
    let (units_x, units_y) = geometry.units;
    let pixels_per_unit = (f64::from(canvas.0) / units_x).max(f64::from(canvas.1) / units_y);
    Ok(SizedDocument {
        source,
        intrinsic: (geometry.width, geometry.height),
        canvas,
        pixels_per_unit,
    })
}

/// Whether a document may be drawn as far as its text tells: size limits, well-formed XML, an SVG
/// root with a size. Drawing it may still fail.
///
/// # Errors
/// The first reason why not.
pub fn check(source: &str, config: &RenderConfig) -> Result<(), Failure> {
    let prepared = prepare(source, config.own_target(), config)?;
    parse(&prepared.source, &config.limits).map(|_| ())
}

/// The one XML parse; iterative, so nesting cannot overflow the stack.
pub(crate) fn parse<'a>(
    source: &'a str,
    limits: &Limits,
) -> Result<roxmltree::Document<'a>, Failure> {
    let document = xml(source, limits)?;
    let name = document.root_element().tag_name();
    if name.name() != "svg" || name.namespace() != Some(SVG_NS) {
        let detail = format!(
            "the root element is {}:{}",
            name.namespace().unwrap_or("(no namespace)"),
            name.name()
        );
        return Err(Failure::new(Reason::NotSvg, detail));
    }
    Ok(document)
}

fn xml<'a>(source: &'a str, limits: &Limits) -> Result<roxmltree::Document<'a>, Failure> {
    // Text nodes, comments and attributes count as nodes too.
    let nodes_limit = u32::try_from(limits.max_elements.saturating_mul(8)).unwrap_or(u32::MAX);
    let options = ParsingOptions {
        allow_dtd: true,
        nodes_limit,
        ..ParsingOptions::default()
    };
    roxmltree::Document::parse_with_options(source, options).map_err(xml_failure)
}

/// The reason behind an XML parser's error.
pub(crate) fn xml_failure(error: Error) -> Failure {
    let reason = match error {
        Error::NodesLimitReached => Reason::TooManyElements,
        _ => Reason::MalformedXml,
    };
    Failure::new(reason, error.to_string())
}

fn malformed(source: &str) -> Failure {
    let detail = match roxmltree::Document::parse(source) {
        Err(error) => error.to_string(),
        Ok(_) => "the root element's tag cannot be read".into(),
    };
    Failure::new(Reason::MalformedXml, detail)
}

/// Replaces the root's width and height; adds a viewBox and the SVG namespace where they are missing
/// (CairoSVG draws a document without the namespace); hands the root's transform to a group inside it.
fn resize_root(
    source: &str,
    root: &RootTag<'_>,
    geometry: &Geometry,
    canvas: (u32, u32),
) -> String {
    let mut added = format!(" width=\"{}\" height=\"{}\"", canvas.0, canvas.1);
    if !geometry.has_view_box {
        added += &format!(" viewBox=\"0 0 {} {}\"", geometry.width, geometry.height);
    }
    let unnamed = !root.name.contains(':') && root.get("xmlns").is_none_or(str::is_empty);
    if unnamed {
        added += &format!(" xmlns=\"{SVG_NS}\"");
    }
    let mut result = String::with_capacity(source.len() + added.len());
    result += &source[..root.name_end];
    result += &added;
    let mut at = root.name_end;
    let dropped = |name: &str| {
        matches!(name, "width" | "height")
            || (name == "viewBox" && !geometry.has_view_box)
            || (name == "xmlns" && unnamed)
    };
    let group = transformed_group(source, root);
    let moved = |name: &str| name == "transform" && group.is_some();
    let mut seen = Vec::new();
    for attribute in &root.attributes {
        // A repeated name is left in place, so that the XML parser refuses it.
        if (dropped(attribute.name) || moved(attribute.name)) && !seen.contains(&attribute.name) {
            seen.push(attribute.name);
            result += &source[at..attribute.span.start];
            at = attribute.span.end;
        }
    }
    if let Some(group) = group {
        let RootGroup {
            name,
            transform,
            inside,
        } = group;
        result += &source[at..inside.start];
        result += &format!("<{name} {transform}>");
        result += &source[inside.clone()];
        result += &format!("</{name}>");
        at = inside.end;
    }
    result += &source[at..];
    result
}

/// What takes the root's transform.
struct RootGroup<'a> {
    name: String,
    /// The attribute as it is written.
    transform: &'a str,
    /// Everything between the root's tags.
    inside: std::ops::Range<usize>,
}

/// The root's transform moves what the viewBox has placed, in the document's own units; left on the
/// root it would count pixels of whatever canvas was chosen. None where there is nothing to move.
fn transformed_group<'a>(source: &'a str, root: &RootTag<'_>) -> Option<RootGroup<'a>> {
    let mut written = root.attributes.iter().filter(|a| a.name == "transform");
    let (transform, None) = (written.next()?, written.next()) else {
        return None;
    };
    let start = source[root.end..]
        .starts_with('>')
        .then_some(root.end + 1)?;
    let end = closing_tag(source, root.name_end - root.name.len() - 1)?.start;
    let name = match root.name.rsplit_once(':') {
        Some((prefix, _)) => format!("{prefix}:g"),
        None => "g".to_owned(),
    };
    Some(RootGroup {
        name,
        transform: &source[transform.span.clone()],
        inside: start..end,
    })
}
