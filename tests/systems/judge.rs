//! A judge that stands in for one behind an endpoint: a score from 1 to 100 that depends on the picture alone, for one picture
//! or for each of several, or a critique where one is asked for, and now and then nonsense.

use serde_json::json;

use crate::support::chat_server::chat_server;

/// Its address.
pub fn judge() -> String {
    chat_server(move |asked| {
        let parts = asked["messages"][0]["content"].as_array().unwrap();
        let pictures = parts
            .iter()
            .filter_map(|part| part["image_url"]["url"].as_str());
        let sums: Vec<u64> = pictures
            .map(|picture| picture.bytes().map(u64::from).sum())
            .collect();
        let sum = sums[0];
        let asked = parts[0]["text"].as_str().unwrap();
        if asked.contains("image_1_score") {
            let scores = sums.iter().enumerate();
            let scores: Vec<String> = scores
                .map(|(at, sum)| format!("\"image_{}_score\": {}", at + 1, 1 + sum % 100))
                .collect();
            return json!(format!("```json\n{{{}}}\n```", scores.join(", ")));
        }
        let critique =
            json!({"score": sum % 11, "critique": "it is small", "suggestions": "make it larger"});
        let words = match asked.contains("JSON") {
            false => (1 + sum % 100).to_string(),
            true if sum.is_multiple_of(7) => "no idea".to_owned(),
            true => critique.to_string(),
        };
        json!(words)
    })
}
