//! A token's change, whose caller may be gone before it is done.

use crate::world::World;
use everkept_core::*;
use everkept_engine::{Token, TokioRuntime};
use everkept_store::{FaultyStore, Store};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a4_a_token_that_is_revoked_for_a_caller_who_left_is_not_remembered_as_good() {
    let store = Arc::new(FaultyStore::default());
    let world = World::on(store.clone(), TokioRuntime::runtime(), |_| {}).await;
    store.slow_down();
    let mut left = 0;
    for n in 0..10 {
        let (id, secret_hash) = (TokenId(uuid::Uuid::from_u128(n)), digest_of(n.to_string()));
        let kind = "resource".into();
        let token = Token { id, secret_hash, kind, name: None, created_at: Timestamp(1), expires_at: None, revoked_at: None };
        world.engine.put_token(token).await.unwrap();
        assert!(world.engine.token_by_hash(secret_hash).await.unwrap().is_some(), "it is remembered from now on");
        let mut revoking = Box::pin(world.engine.revoke_token(id));
        for _ in 0..n {
            if futures::poll!(&mut revoking).is_ready() {
                break;
            }
            left += 1;
            tokio::task::yield_now().await;
        }
        drop(revoking);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let kept = store.token(secret_hash).await.unwrap().unwrap();
        let remembered = world.engine.token_by_hash(secret_hash).await.unwrap().unwrap();
        assert_eq!(remembered.revoked_at.is_some(), kept.revoked_at.is_some(), "after {n} looks");
    }
    assert!(left > 2, "nobody left while it was under way");
}
