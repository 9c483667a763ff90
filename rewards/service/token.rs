//! The bearer token: compared in a time that does not depend on where it differs.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use std::hint::black_box;

/// The digest of the token that callers must show.
#[derive(Clone)]
pub(crate) struct Token([u8; 32]);

impl Token {
    pub fn new(text: &str) -> Self {
        Token(Sha256::digest(text.as_bytes()).into())
    }

    /// Whether a request shows it as `Authorization: Bearer TOKEN`.
    pub fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let shown = shown.and_then(|value| value.split_first_chunk::<7>());
        match shown {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
                self.equals(token.trim_ascii())
            }
            _ => false,
        }
    }

    /// Digests are compared, all 32 bytes always: neither the length nor the first difference shows.
    fn equals(&self, token: &[u8]) -> bool {
        let other: [u8; 32] = Sha256::digest(token).into();
        let differing = self
            .0
            .iter()
            .zip(other)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        black_box(differing) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let token = Token::new("s3cret");
        let shown = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, text.parse().unwrap());
            token.is_shown(&headers)
        };
        assert!(shown("Bearer s3cret") && shown("bearer  s3cret"));
        for wrong in [
            "Bearer s3cre",
            "Bearer s3crett",
            "Bearer ",
            "s3cret",
            "Basic s3cret",
        ] {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!token.is_shown(&HeaderMap::new()));
    }
}
