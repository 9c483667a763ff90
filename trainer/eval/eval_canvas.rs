//! How a task's predictions lie, are found in answers and are drawn, and what becomes of those that cannot be.

use rewards::{CompletionConfig, Sgp, Variant};
use svg::extract::as_released;
use svg::{CanvasRule, ParseMode, Reason, RenderConfig};

/// How a task's predictions lie, are found and are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalCanvas {
    /// What they are drawn on.
    pub size: EvalSize,
    /// What stands for a missing one.
    pub missing: MissingPicture,
    /// How they lie.
    pub layout: PredictionLayout,
    /// How an SVG is found in an answer.
    pub answers: AnswerShape,
    /// Whether malformed SVGs are repaired before they are drawn.
    pub repairs: bool,
    /// Pixels of a side at which LPIPS compares; none: as they are.
    pub lpips_side: Option<usize>,
    /// Pixels of a square that references are squashed to before encoders see them; none: as they are.
    pub squash: Option<usize>,
}

/// What pictures are drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalSize {
    /// A square of so many pixels.
    Square(u32),
    /// The SVG's own size, shrunk to so many pixels where it is larger.
    Own(u32),
}

/// What stands for a prediction that cannot be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingPicture {
    /// A picture of this colour.
    Filled([u8; 3]),
    /// White, and a red cross where the SVG could be read but not drawn.
    WhiteOrCross,
    /// No picture: each of its numbers is 0.
    Zero,
}

/// How predictions lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictionLayout {
    /// `output.jsonl`, `svg/{id}.svg`, `images/{id}.png`.
    Flat,
    /// The same, and a given picture counts only beside its SVG.
    FlatWithSvg,
    /// Each item in a folder of its own, as VectorGym's code leaves them.
    FolderEach,
}

/// How an SVG is found in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerShape {
    /// The first `<svg .. </svg>` of the whole answer, as SArena's and CTRL-S' scripts cut.
    #[default]
    First,
    /// The same; one that was cut off is closed, as VectorGym's code does.
    FirstClosed,
    /// The last one of an answer in SGP-RL's shape.
    Sgp,
    /// The first one behind the last `<answer>`, or of the whole answer where there is none.
    FirstOfAnswer,
}

impl EvalCanvas {
    /// SArena's: 448 pixels, black where there is none.
    pub const SARENA: Self = Self {
        size: EvalSize::Square(448),
        missing: MissingPicture::Filled([0; 3]),
        layout: PredictionLayout::Flat,
        answers: AnswerShape::First,
        repairs: false,
        lpips_side: None,
        squash: None,
    };
    /// SVG-Sophia's: the same, an SVG beside each picture.
    pub const SOPHIA: Self = Self {
        layout: PredictionLayout::FlatWithSvg,
        ..Self::SARENA
    };
    /// VectorGym's: 512 pixels, white where there is none, LPIPS at 384.
    pub const VECTORGYM: Self = Self {
        size: EvalSize::Square(512),
        missing: MissingPicture::WhiteOrCross,
        layout: PredictionLayout::FolderEach,
        answers: AnswerShape::FirstClosed,
        repairs: true,
        lpips_side: Some(384),
        squash: None,
    };
    /// SGP-GenBench's objects and scenes: the SVG's own size, 0 where there is none, references squashed to 224.
    pub const SGP: Self = Self {
        size: EvalSize::Own(1024),
        missing: MissingPicture::Zero,
        layout: PredictionLayout::Flat,
        answers: AnswerShape::Sgp,
        repairs: true,
        lpips_side: None,
        squash: Some(224),
    };
    /// SGP-CompBench's: the SVG's own size, unrepaired.
    pub const COMPOSITION: Self = Self {
        answers: AnswerShape::FirstOfAnswer,
        repairs: false,
        ..Self::SGP
    };

    /// How an SVG is drawn.
    pub(super) fn render(self, mode: ParseMode) -> RenderConfig {
        let (canvas, size) = match self.size {
            EvalSize::Square(side) => (CanvasRule::Fixed, side),
            EvalSize::Own(cap) => (CanvasRule::Intrinsic, cap),
        };
        RenderConfig {
            canvas,
            size,
            mode,
            ..RenderConfig::default()
        }
    }

    /// Pixels of a side of what stands for a missing picture.
    pub(super) fn side(self) -> usize {
        let (EvalSize::Square(side) | EvalSize::Own(side)) = self.size;
        side as usize
    }

    /// The picture that stands for a missing one, red, green and blue of each pixel; `failed` says why it was not drawn,
    /// where there was an SVG.
    pub(super) fn missing_picture(self, failed: Option<Reason>) -> Vec<u8> {
        let side = self.side();
        let unread = |reason| matches!(reason, Reason::MalformedXml | Reason::NoSvg);
        match self.missing {
            MissingPicture::Filled(colour) => colour.repeat(side * side),
            MissingPicture::Zero => [255; 3].repeat(side * side),
            MissingPicture::WhiteOrCross if failed.is_some_and(|reason| !unread(reason)) => {
                cross(side)
            }
            MissingPicture::WhiteOrCross => [255; 3].repeat(side * side),
        }
    }
}

impl AnswerShape {
    /// The SVG of an answer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(self, answer: &str) -> Result<String, String> {
        let none = || "no_svg: the answer holds no <svg .. </svg>".to_owned();
        let first = |text: &str| as_released::first_svg(text).map(str::to_owned);
        match self {
            Self::First => first(answer).ok_or_else(none),
            Self::FirstClosed => first(answer)
                .or_else(|| Some(as_released::truncated_tail(answer)?.to_owned() + "</svg>"))
                .ok_or_else(none),
            Self::FirstOfAnswer => {
                let answered = answer.rsplit_once("<answer>").map(|(_, behind)| behind);
                first(answered.unwrap_or(answer)).ok_or_else(none)
            }
            Self::Sgp => {
                let shape = CompletionConfig::Sgp(Sgp {
                    extraction: Some(Variant::AsReleased),
                    ..Sgp::default()
                });
                let found = shape.extract(answer).map(str::to_owned);
                found.map_err(|fault| fault.as_str().to_owned())
            }
        }
    }
}

/// VectorGym's picture of a failed drawing: white, with a red cross of two fifths of the side, its strokes a fiftieth
/// wide with round ends, pixel for pixel as OpenCV draws lines (tests/parity/vectorgym/cross.py).
fn cross(side: usize) -> Vec<u8> {
    let (centre, arm) = ((side / 2) as f64, (side / 5) as f64);
    let half = (side / 50).max(1) as f64 / 2.0;
    let pixel = |at: usize| {
        let (x, y) = ((at % side) as f64 - centre, (at / side) as f64 - centre);
        // Along a diagonal and across it.
        let near = |along: f64, across: f64| {
            let beyond = along.abs() - arm * std::f64::consts::SQRT_2;
            match beyond > 0.0 {
                true => beyond.hypot(across) <= half,
                // A stroke's edge takes the pixels that it cuts.
                false => across.abs() <= half + std::f64::consts::FRAC_1_SQRT_2,
            }
        };
        let (falling, rising) = ((x + y) / f64::sqrt(2.0), (x - y) / f64::sqrt(2.0));
        match near(falling, rising) || near(rising, falling) {
            true => [255, 0, 0],
            false => [255; 3],
        }
    };
    (0..side * side).flat_map(pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_s_svg_is_found_as_each_suite_finds_it() {
        let two = "<svg>1</svg> then <svg>2</svg>";
        assert_eq!(AnswerShape::First.find(two).unwrap(), "<svg>1</svg>");
        let cut = "so: <svg a='1'><g>";
        assert!(
            AnswerShape::First
                .find(cut)
                .unwrap_err()
                .starts_with("no_svg")
        );
        assert_eq!(
            AnswerShape::FirstClosed.find(cut).unwrap(),
            "<svg a='1'><g></svg>"
        );
        let thought = "<svg>0</svg></think> <answer><svg>1</svg><svg>2</svg></answer>";
        assert_eq!(AnswerShape::Sgp.find(thought).unwrap(), "<svg>2</svg>");
        assert_eq!(
            AnswerShape::FirstOfAnswer.find(thought).unwrap(),
            "<svg>1</svg>"
        );
        assert_eq!(
            AnswerShape::FirstOfAnswer.find(two).unwrap(),
            "<svg>1</svg>"
        );
        assert_eq!(AnswerShape::Sgp.find(two).unwrap_err(), "no_answer_block");
    }

    /// The count and the checksum are those that tests/parity/vectorgym/cross.py prints (OpenCV 5.0).
    #[test]
    fn a_failed_drawing_is_opencv_s_red_cross_and_an_unreadable_one_is_white() {
        let canvas = EvalCanvas::VECTORGYM;
        let red = |picture: &[u8]| picture.chunks_exact(3).filter(|p| p[1] == 0).count();
        let crossed = canvas.missing_picture(Some(Reason::Deadline));
        assert_eq!(red(&crossed), 6957);
        assert_eq!(crc32fast::hash(&crossed), 3_788_646_014);
        let at = |x: usize, y: usize| &crossed[3 * (512 * y + x)..][..3];
        assert_eq!(
            (at(256, 256), at(154, 358)),
            (&[255, 0, 0][..], &[255, 0, 0][..])
        );
        assert_eq!((at(256, 280), at(148, 148)), (&[255; 3][..], &[255; 3][..]));
        for reason in [None, Some(Reason::MalformedXml), Some(Reason::NoSvg)] {
            assert_eq!(red(&canvas.missing_picture(reason)), 0);
        }
        assert!(
            EvalCanvas::SARENA
                .missing_picture(None)
                .iter()
                .all(|v| *v == 0)
        );
    }
}
