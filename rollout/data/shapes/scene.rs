//! A scene of one or two shapes: its words and its exact drawing. All numbers in a drawing
//! are integers, so that a tokenizer with integer tokens writes each as one token.

use super::super::shuffle::Stream;

/// Side of the canvas, in user units.
const CANVAS: f64 = 128.0;
/// Distance of each of two shapes from the middle.
const APART: f64 = 28.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    Circle,
    Square,
    Triangle,
    Ring,
    Bar,
    Star,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Yellow,
    Red,
    Orange,
    Green,
    Blue,
    Purple,
    Gray,
    Black,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FigureSize {
    Small,
    Medium,
    Large,
}

/// Where the first shape is, seen from the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Above,
    Below,
    LeftOf,
    RightOf,
}

pub(super) const FIGURES: [Figure; 6] = [
    Figure::Circle,
    Figure::Square,
    Figure::Triangle,
    Figure::Ring,
    Figure::Bar,
    Figure::Star,
];
pub(super) const COLOURS: [Colour; 8] = [
    Colour::Yellow,
    Colour::Red,
    Colour::Orange,
    Colour::Green,
    Colour::Blue,
    Colour::Purple,
    Colour::Gray,
    Colour::Black,
];
const SIZES: [FigureSize; 3] = [FigureSize::Small, FigureSize::Medium, FigureSize::Large];
const RELATIONS: [Relation; 4] = [
    Relation::Above,
    Relation::Below,
    Relation::LeftOf,
    Relation::RightOf,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SceneItem {
    figure: Figure,
    colour: Colour,
    size: FigureSize,
}

/// One or two shapes and how they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scene {
    first: SceneItem,
    second: Option<(Relation, SceneItem)>,
}

/// A shape at its place; lengths in user units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Placed {
    pub(super) figure: Figure,
    pub(super) colour: Colour,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) radius: f64,
}

impl Colour {
    /// Any colour but yellow.
    pub(super) fn first_of_training(stream: &mut Stream) -> Self {
        stream.choose(&COLOURS[1..])
    }

    fn word(self) -> &'static str {
        match self {
            Self::Yellow => "yellow",
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Purple => "purple",
            Self::Gray => "gray",
            Self::Black => "black",
        }
    }
}

impl SceneItem {
    fn drawn(stream: &mut Stream, colour: Colour) -> Self {
        Self {
            figure: stream.choose(&FIGURES),
            colour,
            size: stream.choose(&SIZES),
        }
    }

    fn words(self) -> String {
        let figure = match self.figure {
            Figure::Circle => "circle",
            Figure::Square => "square",
            Figure::Triangle => "triangle",
            Figure::Ring => "ring",
            Figure::Bar => "bar",
            Figure::Star => "star",
        };
        let colour = self.colour.word();
        match self.size {
            FigureSize::Small => format!("a small {colour} {figure}"),
            FigureSize::Large => format!("a large {colour} {figure}"),
            FigureSize::Medium if self.colour == Colour::Orange => format!("an {colour} {figure}"),
            FigureSize::Medium => format!("a {colour} {figure}"),
        }
    }

    fn placed(self, dx: f64, dy: f64) -> Placed {
        Placed {
            figure: self.figure,
            colour: self.colour,
            x: CANVAS / 2.0 + dx * APART,
            y: CANVAS / 2.0 + dy * APART,
            radius: match self.size {
                FigureSize::Small => 12.0,
                FigureSize::Medium => 18.0,
                FigureSize::Large => 26.0,
            },
        }
    }
}

impl Scene {
    /// A random scene whose first colour `first` chooses. Two in three have two shapes.
    pub(super) fn drawn(stream: &mut Stream, first: impl Fn(&mut Stream) -> Colour) -> Self {
        let colour = first(stream);
        let first = SceneItem::drawn(stream, colour);
        let second = (stream.below(3) > 0).then(|| {
            let relation = stream.choose(&RELATIONS);
            let colour = stream.choose(&COLOURS);
            (relation, SceneItem::drawn(stream, colour))
        });
        Self { first, second }
    }

    /// The description, such as "a large red circle above a blue star".
    pub(super) fn words(&self) -> String {
        let first = self.first.words();
        match &self.second {
            None => first,
            Some((relation, second)) => {
                let relation = match relation {
                    Relation::Above => "above",
                    Relation::Below => "below",
                    Relation::LeftOf => "left of",
                    Relation::RightOf => "right of",
                };
                format!("{first} {relation} {}", second.words())
            }
        }
    }

    /// The shapes where they belong.
    pub(super) fn placed(&self) -> Vec<Placed> {
        let Some((relation, second)) = &self.second else {
            return vec![self.first.placed(0.0, 0.0)];
        };
        let (dx, dy) = match relation {
            Relation::Above => (0.0, -1.0),
            Relation::Below => (0.0, 1.0),
            Relation::LeftOf => (-1.0, 0.0),
            Relation::RightOf => (1.0, 0.0),
        };
        vec![self.first.placed(dx, dy), second.placed(-dx, -dy)]
    }

    /// The exact drawing.
    pub(super) fn svg(&self) -> String {
        svg_of(&self.placed())
    }
}

/// The drawing of placed shapes.
pub(super) fn svg_of(shapes: &[Placed]) -> String {
    let mut svg = String::from(r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">"#);
    for shape in shapes {
        svg.push_str(&shape.element());
    }
    svg.push_str("</svg>");
    svg
}

impl Placed {
    fn element(&self) -> String {
        let colour = self.colour.word();
        let (x, y, r) = (self.x, self.y, self.radius);
        match self.figure {
            Figure::Circle => format!(
                r#"<circle cx="{}" cy="{}" r="{}" fill="{colour}"/>"#,
                whole(x),
                whole(y),
                whole(r)
            ),
            Figure::Ring => format!(
                r#"<circle cx="{}" cy="{}" r="{}" fill="none" stroke="{colour}" stroke-width="{}"/>"#,
                whole(x),
                whole(y),
                whole(r * 0.75),
                whole(r * 0.5)
            ),
            Figure::Square => self.rect(r * 0.9, r * 0.9),
            Figure::Bar => self.rect(r, r / 3.0),
            Figure::Triangle => self.polygon(&[-90.0, 30.0, 150.0]),
            // A pentagram crosses itself; the nonzero rule fills its middle as well.
            Figure::Star => self.polygon(&[-90.0, 54.0, 198.0, 342.0, 126.0]),
        }
    }

    fn rect(&self, half_width: f64, half_height: f64) -> String {
        format!(
            r#"<rect x="{}" y="{}" width="{}" height="{}" fill="{}"/>"#,
            whole(self.x - half_width),
            whole(self.y - half_height),
            whole(2.0 * half_width),
            whole(2.0 * half_height),
            self.colour.word()
        )
    }

    /// Corners on the shape's circle, at angles in degrees clockwise from the right.
    fn polygon(&self, angles: &[f64]) -> String {
        let points: Vec<String> = angles
            .iter()
            .map(|angle| {
                let (sin, cos) = angle.to_radians().sin_cos();
                let (x, y) = (self.x + self.radius * cos, self.y + self.radius * sin);
                format!("{},{}", whole(x), whole(y))
            })
            .collect();
        let (points, colour) = (points.join(" "), self.colour.word());
        format!(r#"<polygon points="{points}" fill="{colour}"/>"#)
    }
}

fn whole(value: f64) -> i64 {
    value.round() as i64
}
