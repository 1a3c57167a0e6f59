//! Tokens that were looked up before, so that not every request reads the store.
//!
//! Never outlives a change: whoever changes a token waits until nothing older is held, and one server has the store.

use everkept_core::TextDigest;
use everkept_store::Token;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// More are forgotten all at once: it is a memory for the few that ask all the time.
const KEPT: usize = 1_024;

#[derive(Default)]
pub(crate) struct KnownTokens(Mutex<Known>);

#[derive(Default)]
struct Known {
    tokens: BTreeMap<TextDigest, Token>,
    /// How often something was changed.
    changes: u64,
}

impl KnownTokens {
    /// The token, or what to hand to [`KnownTokens::learn`] once it was read.
    pub fn get(&self, hash: &TextDigest) -> Result<Token, u64> {
        let known = self.lock();
        known.tokens.get(hash).cloned().ok_or(known.changes)
    }

    /// A token that was read after `changes` was told; one that may have been changed since is not kept.
    pub fn learn(&self, token: &Token, changes: u64) {
        let mut known = self.lock();
        if known.changes != changes {
            return;
        }
        if known.tokens.len() >= KEPT {
            known.tokens.clear();
        }
        known.tokens.insert(token.secret_hash, token.clone());
    }

    /// After a change is in the store and before it is acknowledged.
    pub fn changed(&self) {
        let mut known = self.lock();
        known.changes += 1;
        known.tokens.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no task panics while it holds the known tokens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everkept_core::{Timestamp, TokenId, digest_of};

    #[test]
    fn a_token_that_was_read_before_a_change_is_not_kept() {
        let known = KnownTokens::default();
        let hash = digest_of("secret");
        let id = TokenId(uuid::Uuid::nil());
        let token =
            Token { id, secret_hash: hash, kind: "admin".into(), name: None, created_at: Timestamp(0), expires_at: None, revoked_at: None };
        let before = known.get(&hash).unwrap_err();
        known.changed();
        known.learn(&token, before);
        let now = known.get(&hash).unwrap_err();
        known.learn(&token, now);
        assert_eq!(known.get(&hash), Ok(token));
        known.changed();
        assert!(known.get(&hash).is_err());
    }
}
