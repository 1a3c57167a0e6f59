//! Access tokens.

use super::{Stores, hand::id, ok};
use crate::Token;
use everkept_core::{TextDigest, Timestamp, TokenId};

pub async fn tokens_are_found_by_their_secret_and_revoked_once(stores: &impl Stores) {
    let store = stores.fresh();
    let token = |n: u8, at| Token {
        id: id(TokenId::PREFIX, n.into()),
        secret_hash: TextDigest([n; 32]),
        kind: "resource".into(),
        name: (n != 2).then(|| format!("owner {n}")),
        created_at: Timestamp(at),
        expires_at: (n == 3).then_some(Timestamp(99)),
        revoked_at: None,
    };
    let (a, b, c) = (token(1, 30), token(2, 10), token(3, 30));
    for token in [&c, &a, &b] {
        ok(store.put_token(token.clone())).await;
    }
    assert_eq!(ok(store.tokens()).await, [b.clone(), a.clone(), c.clone()]);
    assert_eq!(ok(store.token(a.secret_hash)).await, Some(a.clone()));
    assert_eq!(ok(store.token(TextDigest([9; 32]))).await, None);
    assert!(ok(store.revoke_token(a.id, Timestamp(40))).await);
    assert!(ok(store.revoke_token(a.id, Timestamp(50))).await);
    assert!(!ok(store.revoke_token(id(TokenId::PREFIX, 9), Timestamp(50))).await);
    assert_eq!(ok(store.token(a.secret_hash)).await, Some(Token { revoked_at: Some(Timestamp(40)), ..a }));
    let renewed = Token { secret_hash: TextDigest([8; 32]), ..b.clone() };
    ok(store.put_token(renewed.clone())).await;
    assert_eq!(ok(store.token(b.secret_hash)).await, None);
    assert_eq!(ok(store.token(renewed.secret_hash)).await, Some(renewed));
}
