//! Tokens: what a program or a browser shows to say on whose behalf it asks.

use std::fmt::{self, Write as _};
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// How many random bytes a token is made of.
const BYTES: usize = 32;

/// How every token begins, so that one that leaked can be found by its look.
const PREFIX: &str = "rl_";

/// A token: `rl_` and 256 random bits as 43 characters of base64url.
///
/// It is told once, when it is made, and known by its [hash](Token::hash) from then on.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Makes one of the operating system's random bytes; fails where it has none.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// Takes what looks like one. Nothing else needs to be looked for.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        (bytes.len() == BYTES).then(|| Self(text.to_owned()))
    }

    /// What is stored of it: SHA-256, 64 lower-case hexadecimal digits. A token is random, so that this is as hard
    /// to turn back as to guess.
    #[must_use]
    pub fn hash(&self) -> String {
        Sha256::digest(self.0.as_bytes()).iter().fold(String::with_capacity(64), |mut hash, byte| {
            // Writing to a string does not fail.
            let _ = write!(hash, "{byte:02x}");
            hash
        })
    }

    /// The token itself, for whoever it was made for.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    // By hand: a token is in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_token_is_read_back_and_shown_nowhere() {
        let token = Token::generate().unwrap();
        assert_eq!((token.reveal().len(), token.hash().len()), (46, 64));
        assert_eq!(Token::parse(token.reveal()), Some(token.clone()));
        assert_ne!(Token::generate().unwrap(), token);
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn the_hash_is_sha256_of_the_text() {
        let token = Token::parse("rl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        assert_eq!(token.hash(), "d3de013bc4596b311372ba01ab92d5c13f7dceaf3c835061b43e09ddf94a94bf");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in [
            "",
            "rl_",
            "rl_AAAA",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "rl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB",
            "rl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "rl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "rl_+AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }
}
