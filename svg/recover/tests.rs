//! Repair against the answers of lxml.

use super::repair;
use serde_json::Value;

#[test]
fn documents_are_repaired_as_lxml_repairs_them() {
    let cases = [
        (
            r#"<svg><g><rect x="1"/><path d="M0 0"#,
            r#"<svg><g><rect x="1"/><path/></g></svg>"#,
        ),
        (
            r#"<svg><g><rect x="1"/><pa"#,
            r#"<svg><g><rect x="1"/><pa/></g></svg>"#,
        ),
        (
            r#"<svg><g><rect x="1"/></g"#,
            r#"<svg><g><rect x="1"/></g></svg>"#,
        ),
        (
            r#"<svg><g><rect/></b><circle/></g></svg>"#,
            r#"<svg><g><rect/></g><circle/></svg>"#,
        ),
        (
            r#"<svg><text>a & b &nbsp; c</text><rect/></svg>"#,
            r#"<svg><text>a  b  c</text><rect/></svg>"#,
        ),
        (
            r#"<svg><g><rect></svg>"#,
            r#"<svg><g><rect></rect></g></svg>"#,
        ),
        (
            r#"<svg><rect a="1" a="2"/></svg>"#,
            r#"<svg><rect a="1"/></svg>"#,
        ),
        (
            r#"<svg><rect a="x<y"/></svg>"#,
            r#"<svg><rect a="x&lt;y"/></svg>"#,
        ),
        (r#"<svg><rect/></svg><g/>"#, r#"<svg><rect/></svg>"#),
        (r#"<svg><!-- foo"#, r#"<svg></svg>"#),
        (r#"<svg><style>a{b"#, r#"<svg><style>a{b</style></svg>"#),
        (r#"<svg><rect x="1" y="#, r#"<svg><rect x="1"/></svg>"#),
        (r#"<svg><rect x="1" y"#, r#"<svg><rect x="1"/></svg>"#),
        (r#"<svg wi"#, r#"<svg/>"#),
        (r#"<svg width="10"#, r#"<svg/>"#),
        (
            r#"<svg><text>a < b</text><rect/></svg>"#,
            r#"<svg><text>a  b</text><rect/></svg>"#,
        ),
        (
            r#"<svg><a x="a&b"/><b/></svg>"#,
            r#"<svg><a x="a"/><b/></svg>"#,
        ),
        (
            r#"<svg><g><rect/></svg></g><b/>"#,
            r#"<svg><g><rect/></g></svg>"#,
        ),
        (r#"<svg><![CDATA[ab"#, r#"<svg></svg>"#),
        (r#"<svg><a></g></a><b/></svg>"#, r#"<svg><a></a></svg>"#),
        (
            r#"<svg><g><a></g><b/></svg>"#,
            r#"<svg><g><a></a><b/></g></svg>"#,
        ),
        ("<svg><text>\u{1}</text></svg>", "<svg><text></text></svg>"),
        (r#"<svg><g a><b/></g></svg>"#, r#"<svg><g><b/></g></svg>"#),
        (
            r#"<svg><g a=1 b="2"><rect/></g></svg>"#,
            r#"<svg><g/>1 b="2"><rect/></svg>"#,
        ),
        (
            r#"<svg><a x="1"y="2"/><b/></svg>"#,
            r#"<svg><a x="1"/>y="2"/><b/></svg>"#,
        ),
    ];
    for (broken, repaired) in cases {
        assert_eq!(repair(broken), repaired, "{broken}");
    }
}

#[test]
fn what_is_repaired_parses() {
    let sources = [
        "<svg><use xlink:href='#a'/>",
        "<svg>]]> &#0; &#65; &#x1F600;",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><svg>",
        "<svg a='\u{2}'>",
    ];
    for source in sources {
        let text = repair(source);
        assert!(
            resvg::usvg::roxmltree::Document::parse(&text).is_ok(),
            "{source} -> {text}"
        );
    }
}

/// A tree as the fixture writes it: name, attributes, and text and elements inside.
fn tree(node: resvg::usvg::roxmltree::Node<'_, '_>) -> Value {
    let mut inside: Vec<Value> = Vec::new();
    for child in node.children() {
        if child.is_element() {
            inside.push(tree(child));
        } else if let (true, Some(text)) = (child.is_text(), child.text()) {
            match inside.last_mut() {
                Some(Value::String(last)) => last.push_str(text),
                _ => inside.push(text.into()),
            }
        }
    }
    let attributes: serde_json::Map<String, Value> = node
        .attributes()
        .map(|a| (a.name().to_owned(), a.value().into()))
        .collect();
    serde_json::json!([node.tag_name().name(), attributes, inside])
}

/// The fixture beside its script holds lxml's own answers.
#[test]
fn repaired_documents_are_the_trees_that_lxml_recovers() {
    let rows: Vec<(String, Value)> =
        serde_json::from_str(include_str!("../tests/fixtures/recover.json")).unwrap();
    let mut wrong = Vec::new();
    for (source, expected) in &rows {
        let text = repair(source);
        let found = match resvg::usvg::roxmltree::Document::parse(&text) {
            Ok(document) => tree(document.root_element()),
            Err(_) => Value::Null,
        };
        if found != *expected {
            wrong.push(format!(
                "{source:?}\n  lxml {expected}\n  here {found}\n  text {text:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}
