//! SAgoge's rows, which InternSVG and CTRL-S begin with: InternVL's conversations, a folder for each domain and task.

use serde_json::{Value, json};

use super::super::super::CliFailure;
use super::drawings::ExampleDrawing;
use super::folder::ExampleFolder;

/// Rows of one of SAgoge's domains: words to SVG and picture to SVG.
///
/// # Errors
/// Whatever the file system says.
pub fn sagoge(
    folder: &ExampleFolder,
    domain: &str,
    drawn: &[ExampleDrawing],
) -> Result<(), CliFailure> {
    let root = format!("data/SAgoge/{domain}");
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    for (index, drawing) in drawn.iter().enumerate() {
        let picture = format!("icon/{index}.png");
        folder.bytes(&format!("{root}/media/{picture}"), &drawing.png)?;
        let question = format!("Instruction: {}", drawing.words);
        texts.push(json!({"id": index, "conversations": turns(&question, &drawing.svg)}));
        let question = "<image>\nInstruction: draw this";
        images.push(json!({
            "id": index, "image": picture, "conversations": turns(question, &drawing.svg),
        }));
    }
    folder.lines(&format!("{root}/text2svg/train.jsonl"), &texts)?;
    folder.lines(&format!("{root}/img2svg/train.jsonl"), &images)
}

/// A question and its answer as InternVL writes them.
pub fn turns(question: &str, answer: &str) -> Value {
    json!([{"from": "human", "value": question}, {"from": "gpt", "value": answer}])
}
