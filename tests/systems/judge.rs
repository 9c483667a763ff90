//! A judge that stands in for one behind an endpoint: a score from 1 to 100 that depends on the picture alone, or a
//! critique where JSON is asked for, and now and then nonsense.

use serde_json::json;

use crate::support::chat_server::chat_server;

/// Its address.
pub fn judge() -> String {
    chat_server(move |asked| {
        let parts = asked["messages"][0]["content"].as_array().unwrap();
        let picture = parts
            .iter()
            .find_map(|part| part["image_url"]["url"].as_str());
        let sum: u64 = picture.unwrap().bytes().map(u64::from).sum();
        let critique =
            json!({"score": sum % 11, "critique": "it is small", "suggestions": "make it larger"});
        let words = match parts[0]["text"].as_str().unwrap().contains("JSON") {
            false => (1 + sum % 100).to_string(),
            true if sum.is_multiple_of(7) => "no idea".to_owned(),
            true => critique.to_string(),
        };
        json!(words)
    })
}
