//! Limits that are read off the bytes, before any parser runs: one linear pass each, no allocation.

use crate::config::Limits;
use crate::failure::{Failure, Reason};

/// Attributes one tag may have: duplicate detection in XML parsers is quadratic in them.
const MAX_ATTRIBUTES: u64 = 1_000;
/// Namespace declarations: a parser copies the inherited ones at each declaring element.
const MAX_NAMESPACES: u64 = 200;

/// Size of the source.
pub(crate) fn check_bytes(source: &str, limits: &Limits) -> Result<(), Failure> {
    if source.len() > limits.max_bytes {
        return Err(Failure::over(
            Reason::TooManyBytes,
            "bytes of source",
            source.len() as u64,
            limits.max_bytes as u64,
        ));
    }
    Ok(())
}

/// Markup that makes a parser work more than linearly: entities, attributes of one tag, namespaces.
pub(crate) fn check_markup(source: &str) -> Result<(), Failure> {
    // Only a document type can declare them; elsewhere the word is text.
    if source.contains("<!ENTITY") && source.contains("<!DOCTYPE") {
        return Err(Failure::new(
            Reason::EntityDeclaration,
            "a document must not declare entities",
        ));
    }
    // Each attribute and each declaration has its `=`; most documents have few.
    let assignments = source.bytes().filter(|&byte| byte == b'=').count() as u64;
    if assignments <= MAX_NAMESPACES.min(MAX_ATTRIBUTES) {
        return Ok(());
    }
    // No `<` may stand inside a tag, so the `=` between two of them bound one tag's attributes.
    for tag in source.split('<') {
        let run = tag.bytes().filter(|&byte| byte == b'=').count() as u64;
        if run > MAX_ATTRIBUTES {
            return Err(Failure::over(
                Reason::TooManyAttributes,
                "attributes of one tag",
                run,
                MAX_ATTRIBUTES,
            ));
        }
    }
    let namespaces = source.matches("xmlns").count() as u64;
    if namespaces > MAX_NAMESPACES {
        return Err(Failure::over(
            Reason::TooManyAttributes,
            "namespace declarations",
            namespaces,
            MAX_NAMESPACES,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_and_attribute_floods_are_refused() {
        let reason = |s: &str| check_markup(s).err().map(|f| f.reason);
        assert_eq!(reason("<svg a='1' b='2'/>"), None);
        assert_eq!(
            reason("<!DOCTYPE svg [<!ENTITY a 'b'>]><svg/>"),
            Some(Reason::EntityDeclaration)
        );
        assert_eq!(
            reason(&format!("<svg{}/>", " a=''".repeat(1001))),
            Some(Reason::TooManyAttributes)
        );
        assert_eq!(
            reason(&"<g xmlns='a'>".repeat(201)),
            Some(Reason::TooManyAttributes)
        );
    }

    #[test]
    fn a_long_source_is_refused() {
        let limits = Limits {
            max_bytes: 4,
            ..Limits::default()
        };
        assert!(check_bytes("1234", &limits).is_ok());
        assert_eq!(
            check_bytes("12345", &limits).err().map(|f| f.reason),
            Some(Reason::TooManyBytes)
        );
    }
}
