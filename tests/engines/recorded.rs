//! The stand-ins' replies against those of the real servers, which tests/engines/real.py has recorded: whatever a stand-in
//! says, the real one says under the same name and in the same form.

use std::path::Path;

use serde_json::Value;

use super::small;
use super::words::Speech;

/// What of `own` is not in `real` in the same form, by its path.
fn differences(path: &str, own: &Value, real: &Value, found: &mut Vec<String>) {
    match (own, real) {
        (Value::Object(own), Value::Object(real)) => {
            for (key, value) in own {
                let path = format!("{path}.{key}");
                match real.get(key) {
                    Some(real) => differences(&path, value, real, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(own), Value::Array(real)) => {
            for (own, real) in own.iter().zip(real) {
                differences(&format!("{path}[]"), own, real, found);
            }
        }
        (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_)) => {}
        (Value::Null, _) | (Value::Bool(_), Value::Bool(_)) => {}
        _ => found.push(format!("{path}: {own} where the real one has {real}")),
    }
}

#[test]
fn stand_ins_speak_as_the_real_servers_do() {
    let policy = small("engines_recorded");
    for (speech, name) in [(Speech::Vllm, "vllm"), (Speech::Sglang, "sglang")] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/engines/recorded/{name}.json"));
        let recorded: Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let server = policy.server(speech);
        let answer = |path: &str, body: Option<&Value>| -> Value {
            let caller =
                rewards::Caller::new(&server.address, None, std::time::Duration::from_secs(20), 0);
            caller.call(path, body, &|| false).unwrap()
        };
        let own = answer(
            recorded["path"].as_str().unwrap(),
            Some(&recorded["request"]),
        );
        let mut found = Vec::new();
        differences("reply", &own, &recorded["reply"], &mut found);
        differences(
            "models",
            &answer("/v1/models", None),
            &recorded["models"],
            &mut found,
        );
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}
