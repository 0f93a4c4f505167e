//! Bearer tokens. The server keeps only their hashes, so neither a log nor a
//! dump of its memory's tables gives one away; a lookup by hash takes the same
//! time whatever part of a guess is right.

use std::{collections::HashMap, fmt};

use aws_lc_rs::{digest, rand};

use super::Identity;

/// Random bytes in a token that we make.
const TOKEN_BYTES: usize = 32;
/// Shorter ones could be guessed.
const TOKEN_CHARACTERS_MIN: usize = 32;

/// A secret; never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why a string is not taken for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too short.
    #[error("a token must have at least {TOKEN_CHARACTERS_MIN} characters")]
    Short,
    /// Not fit for a header.
    #[error("a token must be visible ASCII without blanks")]
    Character,
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random,
}

impl Token {
    /// Takes a token from a file's content.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Character);
        }
        if text.len() < TOKEN_CHARACTERS_MIN {
            return Err(TokenError::Short);
        }
        Ok(Self(text.to_owned()))
    }

    /// Makes a new one.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0; TOKEN_BYTES];
        rand::fill(&mut bytes).map_err(|_| TokenError::Random)?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(format!("lineman_{hex}")))
    }

    /// The secret, to be written where only its owner reads.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The tokens that are known, by hash.
#[derive(Default)]
pub struct Tokens {
    by_hash: HashMap<Vec<u8>, Identity>,
}

impl Tokens {
    /// Makes `token` stand for the administrator `user`.
    pub fn add_administrator(&mut self, user: &str, token: &Token) {
        self.by_hash.insert(hash(&token.0), Identity::administrator(user));
    }

    pub(super) fn identify(&self, token: &str) -> Option<Identity> {
        self.by_hash.get(&hash(token)).cloned()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_hash.values().map(Identity::user)).finish()
    }
}

fn hash(token: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, token.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::auth::{Auth, Unauthenticated};

    #[test]
    fn only_known_tokens_are_let_in_and_none_is_shown() {
        let token = Token::generate().unwrap();
        assert_ne!(token, Token::generate().unwrap());
        let mut tokens = Tokens::default();
        tokens.add_administrator("admin", &token);
        assert_eq!(format!("{token:?} {tokens:?}"), "Token(…) [\"admin\"]");

        let auth = Auth::new(tokens);
        let ask = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_str(value).unwrap());
            auth.authenticate(&headers).map(|identity| identity.user().to_owned())
        };
        assert_eq!(ask(&format!("Bearer {}", token.reveal())), Ok("admin".to_owned()));
        assert_eq!(ask(&format!("bearer {}", token.reveal())), Ok("admin".to_owned()));
        for wrong in ["", "Bearer", "Bearer ", "Bearer x", token.reveal(), "Basic YTpi"] {
            assert_eq!(ask(wrong), Err(Unauthenticated::Invalid), "{wrong:?}");
        }
        assert_eq!(auth.authenticate(&HeaderMap::new()), Err(Unauthenticated::Missing));
    }

    #[test]
    fn weak_tokens_are_not_taken() {
        assert_eq!(Token::parse("secret\n"), Err(TokenError::Short));
        assert_eq!(Token::parse(&"ü".repeat(40)), Err(TokenError::Character));
        assert_eq!(Token::parse(&format!("{} \n", "x".repeat(32))).unwrap().reveal().len(), 32);
    }
}
