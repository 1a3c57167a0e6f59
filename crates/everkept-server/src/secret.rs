//! Secrets: 256 random bits as text, of which only the SHA-256 is ever kept.
//!
//! Never: a secret in a log, an error, or the database.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use everkept_core::{TextDigest, Timestamp, TokenId, digest_of};
use everkept_engine::{Engine, Failure, Token};
use std::time::Duration;

/// Fresh from the system's generator.
pub fn new_secret() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has random bytes; without them no secret is one");
    format!("ek_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// What a token is looked up by.
pub fn secret_hash(secret: &str) -> TextDigest {
    digest_of(secret)
}

/// Makes a token of `kind` (see [`Token::kind`]) and answers its secret, which is told nowhere else.
pub async fn create_token(engine: &Engine, kind: &str, name: Option<String>, lives: Option<Duration>) -> Result<(Token, String), Failure> {
    let secret = new_secret();
    let now: Timestamp = engine.latest_wall();
    let token = Token {
        id: TokenId(engine.runtime().ids.uuid()),
        secret_hash: secret_hash(&secret),
        kind: kind.to_owned(),
        name,
        created_at: now,
        expires_at: lives.map(|lives| now.plus(lives)),
        revoked_at: None,
    };
    engine.put_token(token.clone()).await?;
    Ok((token, secret))
}
