//! The quickstart's committed tokenizer on the drawings that it was made for.

use std::path::Path;

use tokenizers::Tokenizer;

use super::*;

fn tokenizer() -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/quickstart_tokenizer");
    Tokenizer::from_file(folder.join("tokenizer.json")).unwrap()
}

fn examples() -> Vec<Example> {
    let config = ShapesConfig {
        count: 500,
        teacher_noise: Some(TeacherNoise::default()),
        ..Default::default()
    };
    let opened = Shapes::open(&config, "shapes").unwrap();
    (0..596).map(|row| opened.rows.example(row)).collect()
}

#[test]
fn ids_of_prompts_and_drawings_decode_to_the_same_text() {
    let tokenizer = tokenizer();
    for example in examples() {
        let target = example.target.unwrap();
        let odd = format!("{target}\n é 円 <think> -7.25 <|im_end|>");
        for text in [&example.fields["prompt"], &target, &odd] {
            let ids = tokenizer.encode(text.as_str(), false).unwrap();
            assert_eq!(&tokenizer.decode(ids.get_ids(), false).unwrap(), text);
        }
    }
}

#[test]
fn a_drawing_takes_about_45_tokens_and_a_prompt_about_10() {
    let tokenizer = tokenizer();
    let mean = |text: fn(&Example) -> String| {
        let examples = examples();
        let tokens = |example| tokenizer.encode(text(example), false).unwrap().len();
        examples.iter().map(tokens).sum::<usize>() as f64 / examples.len() as f64
    };
    let drawing = mean(|example| example.reference.svg.clone().unwrap());
    let prompt = mean(|example| example.fields["prompt"].clone());
    assert!((40.0..50.0).contains(&drawing), "{drawing}");
    assert!(prompt < 10.0, "{prompt}");
    assert_eq!(tokenizer.get_vocab_size(true), 525);
}
