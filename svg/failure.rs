//! Why an SVG did not become a picture. A failure is data about a completion, never a program error.

use serde::{Deserialize, Serialize};

/// The kinds of failure; the snake-case name is what samples and reports carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The completion holds no `<svg` element to take.
    NoSvg,
    /// Not well-formed XML.
    MalformedXml,
    /// Well-formed, but the root is not an SVG element.
    NotSvg,
    /// Neither a usable width and height nor a viewBox: the picture has no size.
    NoSize,
    /// Declares an XML entity, which CairoSVG's parser refuses too.
    EntityDeclaration,
    /// More source bytes than allowed.
    TooManyBytes,
    /// More elements than allowed, counted after `use` is expanded.
    TooManyElements,
    /// Nested deeper than allowed, counted through `use`.
    TooDeep,
    /// One tag with more attributes than allowed.
    TooManyAttributes,
    /// `use` elements that refer to themselves.
    ReferenceCycle,
    /// More path data than allowed, counted after `use` is expanded.
    TooMuchPath,
    /// More style rules times elements than allowed.
    TooMuchStyle,
    /// Filters that ask for more work than allowed.
    TooMuchFilter,
    /// More off-screen layers (opacity, clips, masks, blending) than allowed.
    TooManyLayers,
    /// A canvas larger than allowed was asked for.
    CanvasTooLarge,
    /// The worker process was still drawing when its time ran out.
    Deadline,
    /// The drawing code panicked.
    Panic,
    /// The worker process ran out of stack.
    StackOverflow,
    /// The worker process ran out of its memory allowance.
    OutOfMemory,
    /// The worker process died in another way.
    WorkerCrashed,
    /// The document needs a worker process, or a thread, and none can be started: nothing is said of the document.
    WorkerUnavailable,
    /// The renderer itself refused the document.
    RenderFailed,
}

impl Reason {
    /// The snake-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NoSvg => "no_svg",
            Reason::MalformedXml => "malformed_xml",
            Reason::NotSvg => "not_svg",
            Reason::NoSize => "no_size",
            Reason::EntityDeclaration => "entity_declaration",
            Reason::TooManyBytes => "too_many_bytes",
            Reason::TooManyElements => "too_many_elements",
            Reason::TooDeep => "too_deep",
            Reason::TooManyAttributes => "too_many_attributes",
            Reason::ReferenceCycle => "reference_cycle",
            Reason::TooMuchPath => "too_much_path",
            Reason::TooMuchStyle => "too_much_style",
            Reason::TooMuchFilter => "too_much_filter",
            Reason::TooManyLayers => "too_many_layers",
            Reason::CanvasTooLarge => "canvas_too_large",
            Reason::Deadline => "deadline",
            Reason::Panic => "panic",
            Reason::StackOverflow => "stack_overflow",
            Reason::OutOfMemory => "out_of_memory",
            Reason::WorkerCrashed => "worker_crashed",
            Reason::WorkerUnavailable => "worker_unavailable",
            Reason::RenderFailed => "render_failed",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reason with one sentence of detail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{reason}: {detail}")]
pub struct Failure {
    /// Which of the kinds.
    pub reason: Reason,
    /// What was found, for people.
    pub detail: String,
}

impl Failure {
    /// A failure from a reason and its detail.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Failure {
            reason,
            detail: detail.into(),
        }
    }

    /// `what` exceeded `bound`.
    pub(crate) fn over(reason: Reason, what: &str, got: u64, bound: u64) -> Self {
        Failure::new(reason, format!("{what}: at most {bound}, got {got}"))
    }
}
