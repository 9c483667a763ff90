//! The source `shapes` alone.

use super::*;

fn opened(config: &ShapesConfig) -> Opened<Shapes> {
    Shapes::open(config, "data.sources.shapes").unwrap()
}

fn noisy() -> ShapesConfig {
    ShapesConfig {
        count: 3000,
        teacher_noise: Some(TeacherNoise::default()),
        ..Default::default()
    }
}

#[test]
fn example_depends_on_seed_and_number_alone() {
    let few = ShapesConfig {
        count: 10,
        ..noisy()
    };
    let (many, few) = (opened(&noisy()).rows, opened(&few).rows);
    for row in 0..10 {
        assert_eq!(many.example(row), few.example(row));
    }
    let other = opened(&ShapesConfig { seed: 1, ..noisy() }).rows;
    assert_ne!(many.example(0), other.example(0));
}

#[test]
fn training_never_shows_yellow_first_and_held_out_always_does() {
    let source = opened(&noisy());
    let first_is_yellow = |row: &u32| {
        let prompt = source.rows.example(*row as usize).fields["prompt"].clone();
        prompt
            .split(' ')
            .find(|word| !["a", "an", "small", "large"].contains(word))
            .unwrap()
            == "yellow"
    };
    assert_eq!(source.train.len(), 3000);
    assert!(!source.train.iter().any(first_is_yellow));
    assert_eq!(source.held_out.len(), 96);
    assert!(source.held_out.iter().all(first_is_yellow));
    let prompts: HashSet<_> = source
        .held_out
        .iter()
        .map(|row| source.rows.example(*row as usize).fields["prompt"].clone())
        .collect();
    assert_eq!(prompts.len(), 96);
}

#[test]
fn yellow_is_seen_in_second_place() {
    let source = opened(&noisy());
    let seen = source.train.iter().any(|row| {
        let example = source.rows.example(*row as usize);
        example.fields["prompt"].contains("yellow")
    });
    assert!(seen);
}

#[test]
fn sloppy_teacher_deviates_and_the_reference_does_not() {
    let (noisy, exact) = (
        opened(&noisy()).rows,
        opened(&ShapesConfig {
            count: 3000,
            ..Default::default()
        })
        .rows,
    );
    let (mut cut, mut same) = (0, 0);
    for row in 0..3000 {
        let (example, clean) = (noisy.example(row), exact.example(row));
        assert_eq!(example.reference, clean.reference);
        assert_eq!(clean.target, clean.reference.svg);
        let target = example.target.unwrap();
        cut += usize::from(!target.ends_with("</svg>"));
        same += usize::from(Some(target) == example.reference.svg);
    }
    // 6 % of 3000 is 180 with a standard deviation of 13.
    assert!((128..232).contains(&cut), "{cut} files cut");
    assert!(same < 30, "{same} targets are exact");
}

#[test]
fn refinement_gives_a_flawed_draft_and_an_exact_target() {
    let config = ShapesConfig {
        kind: ShapesKind::Refinement,
        ..noisy()
    };
    let rows = opened(&config).rows;
    let flawed = (0..100)
        .map(|row| rows.example(row))
        .filter(|example| {
            assert_eq!(example.target, example.reference.svg);
            Some(&example.fields["draft"]) != example.reference.svg.as_ref()
        })
        .count();
    assert!(flawed > 90, "{flawed} of 100 drafts are flawed");
}

#[test]
fn every_number_of_a_drawing_lies_on_the_canvas() {
    let rows = opened(&noisy()).rows;
    for row in 0..3000 {
        let target = rows.example(row).target.unwrap();
        let drawn = target.split_once("viewBox").map_or("", |(_, rest)| rest);
        for number in drawn.split(|c: char| !(c.is_ascii_digit() || c == '-')) {
            // "stroke-width" splits into "-"; cut numbers are still in range.
            if let Ok(number) = number.parse::<i64>() {
                assert!((0..=128).contains(&number), "{target}");
            }
        }
    }
}

#[test]
fn bounds_are_named() {
    let config = ShapesConfig {
        teacher_noise: Some(TeacherNoise {
            cut_short: 6.0,
            ..Default::default()
        }),
        ..Default::default()
    };
    let error = Shapes::open(&config, "data.sources.shapes").unwrap_err();
    assert_eq!(
        error.to_string(),
        "data.sources.shapes.teacher_noise.cut_short: must be 0 to 1, got 6"
    );
}

#[test]
fn a_picture_shows_the_exact_drawing_whatever_the_teacher_does() {
    let config = |picture| ShapesConfig {
        kind: ShapesKind::ImageToSvg,
        picture,
        count: 4,
        held_out: 1,
        teacher_noise: Some(TeacherNoise::default()),
        ..Default::default()
    };
    for (picture, side) in [(None, 128), (Some(48), 48)] {
        let shapes = Shapes::open(&config(picture), "s").unwrap().rows;
        for row in 0..5 {
            let example = shapes.example(row);
            let [ImageSource::Png(png)] = example.images.as_slice() else {
                panic!("{:?}", example.images);
            };
            let shown = svg::Raster::decode(png, 1024).unwrap();
            let exact = example.reference.svg.unwrap();
            let size = svg::Target::Exact {
                width: side,
                height: side,
            };
            let drawn = svg::draw_own(&exact, size, &svg::RenderConfig::default()).unwrap();
            assert_eq!(shown, drawn);
        }
    }
    let words = ShapesConfig {
        kind: ShapesKind::TextToSvg,
        ..config(None)
    };
    let shapes = Shapes::open(&words, "s").unwrap().rows;
    assert!(shapes.example(0).images.is_empty());
    assert!(Shapes::open(&config(Some(8)), "s").is_err());
}
