//! A server without a socket, and everybody who may come to it.
//!
//! Never: a credential that the server did not make itself.

use crate::line::Line;
use everkept_core::{SessionId, Timestamp, TokenId};
use everkept_engine::{Access, Caller, Engine, Token};
use everkept_server::{BODY_LIMIT, Server, create_token, login_link, secret_hash};
use everkept_store::{FaultyStore, Store};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

pub struct House {
    pub engine: Engine,
    pub store: Arc<FaultyStore>,
    pub server: Server,
    /// The header of the one who may do everything.
    pub admin: String,
    _directory: tempfile::TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl House {
    pub async fn start() -> House {
        let directory = tempfile::tempdir().unwrap();
        let (engine, admin, store) = crate::server::engine(directory.path()).await;
        let (stop, ended) = tokio::sync::watch::channel(false);
        let server = Server::new(engine.clone(), crate::line::PORT, BODY_LIMIT, ended).unwrap();
        House { engine, store, server, admin: bearer(&admin), _directory: directory, _stop: stop }
    }

    pub async fn token(&self, kind: &str, name: &str) -> String {
        bearer(&create_token(&self.engine, kind, Some(name.into()), None).await.unwrap().1)
    }

    /// Its time is over.
    pub async fn expired(&self) -> String {
        bearer(&create_token(&self.engine, "admin", None, Some(Duration::ZERO)).await.unwrap().1)
    }

    pub async fn revoked(&self) -> String {
        let (token, secret) = create_token(&self.engine, "admin", None, None).await.unwrap();
        assert!(self.engine.revoke_token(token.id).await.unwrap());
        bearer(&secret)
    }

    /// Of a kind that only a later version knows.
    pub async fn of_a_later_kind(&self) -> String {
        let (id, secret) = (TokenId(uuid::Uuid::from_u128(99)), "ek_later");
        let (secret_hash, kind) = (secret_hash(secret), "share".to_owned());
        let token = Token { id, secret_hash, kind, name: None, created_at: Timestamp(0), expires_at: None, revoked_at: None };
        self.engine.put_token(token).await.unwrap();
        bearer(secret)
    }

    /// A code that would let a browser in, as a token.
    pub async fn code(&self) -> String {
        login_link(&self.engine, "").await.unwrap().split_once("#code=").unwrap().1.to_owned()
    }

    /// A browser's cookie, without the header that its page adds to what it writes.
    pub async fn cookie(&self) -> String {
        let code = json!({ "code": self.code().await });
        let answer = Line::new(&self.server).as_client("", "POST", "/login", Some(&code)).await;
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap();
        format!("cookie: {cookie}\r\n")
    }

    /// Where every log ends, and how many tokens there are: all that a request could have changed for good.
    pub async fn kept(&self) -> (Vec<(SessionId, u64)>, usize) {
        let mut heads = Vec::new();
        for session in self.store.all_sessions(None, 10_000).await.unwrap() {
            heads.push((session, self.store.head(session).await.unwrap().unwrap().seq));
        }
        (heads, self.store.tokens().await.unwrap().len())
    }

    /// The turn has ended.
    pub async fn ended(&self, turn: &str) {
        let caller = Caller { access: Access::All, principal: "test".into() };
        tokio::time::timeout(crate::server::PATIENCE, self.engine.wait_turn(&caller, turn.parse().unwrap())).await.unwrap().unwrap();
    }
}

pub fn bearer(secret: &str) -> String {
    format!("authorization: Bearer {secret}\r\n")
}
