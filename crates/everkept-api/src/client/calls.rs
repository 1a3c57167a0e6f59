//! Every native route the command line uses, one method each.
//!
//! Never: a path anywhere else.

use super::{Client, ClientError, segment};
use crate::*;

/// Which sessions; what is none is not asked for.
#[derive(Debug, Clone, Default)]
pub struct SessionsFilter {
    pub resource: Option<String>,
    pub thread: Option<String>,
    pub agent: Option<String>,
    pub state: Option<SessionState>,
    pub archived: Option<bool>,
    /// Only the trash.
    pub deleted: bool,
    /// Words that title or messages have.
    pub search: Option<String>,
    pub cursor: Option<String>,
    pub limit: Option<u32>,
}

/// Which events; what is none is not asked for.
#[derive(Debug, Clone, Default)]
pub struct EventsFilter {
    pub after: u64,
    pub kind: Option<String>,
    pub turn: Option<String>,
    pub limit: Option<u32>,
}

/// Which turns are added up, and what is told apart; what is none is not asked for.
#[derive(Debug, Clone, Default)]
pub struct UsageFilter {
    pub session: Option<String>,
    pub resource: Option<String>,
    pub agent: Option<String>,
    pub model: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub by: Option<String>,
}

impl UsageFilter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let Self { session, resource, agent, model, from, to, by } = self.clone();
        let all =
            [("session", session), ("resource", resource), ("agent", agent), ("model", model), ("from", from), ("to", to), ("by", by)];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

impl SessionsFilter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        let mut add = |key, value: Option<String>| query.extend(value.map(|value| (key, value)));
        add("resource", self.resource.clone());
        add("thread", self.thread.clone());
        add("agent", self.agent.clone());
        add("state", self.state.map(|state| state.to_string()));
        add("archived", self.archived.map(|archived| archived.to_string()));
        add("deleted", self.deleted.then(|| "true".to_owned()));
        add("q", self.search.clone());
        add("cursor", self.cursor.clone());
        add("limit", self.limit.map(|limit| limit.to_string()));
        query
    }
}

impl EventsFilter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![("after", self.after.to_string())];
        query.extend(self.kind.clone().map(|kind| ("kind", kind)));
        query.extend(self.turn.clone().map(|turn| ("turn", turn)));
        query.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        query
    }
}

impl Client {
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.get("/api/health", &[]).await
    }

    pub async fn agents(&self) -> Result<List<Agent>, ClientError> {
        self.get("/api/agents", &[]).await
    }

    pub async fn sessions(&self, filter: &SessionsFilter) -> Result<List<Session>, ClientError> {
        self.get("/api/sessions", &filter.query()).await
    }

    pub async fn create_session(&self, body: &CreateSession) -> Result<Session, ClientError> {
        self.post("/api/sessions", body).await
    }

    pub async fn session(&self, session: &str) -> Result<Session, ClientError> {
        self.get(&of_session(session, ""), &[]).await
    }

    pub async fn update_session(&self, session: &str, body: &UpdateSession) -> Result<Session, ClientError> {
        self.patch(&of_session(session, ""), body).await
    }

    /// To the trash.
    pub async fn delete_session(&self, session: &str) -> Result<(), ClientError> {
        self.delete(&of_session(session, "")).await
    }

    /// From the trash.
    pub async fn restore_session(&self, session: &str) -> Result<Session, ClientError> {
        self.post(&of_session(session, "/restore"), &Empty {}).await
    }

    pub async fn fork_session(&self, session: &str, body: &ForkSession) -> Result<Session, ClientError> {
        self.post(&of_session(session, "/fork"), body).await
    }

    pub async fn clear_context(&self, session: &str) -> Result<Cleared, ClientError> {
        self.post(&of_session(session, "/clear"), &Empty {}).await
    }

    pub async fn revert_session(&self, session: &str, body: &RevertSession) -> Result<Session, ClientError> {
        self.post(&of_session(session, "/revert"), body).await
    }

    pub async fn unrevert_session(&self, session: &str) -> Result<Session, ClientError> {
        self.post(&of_session(session, "/unrevert"), &Empty {}).await
    }

    pub async fn summary(&self, session: &str) -> Result<Summary, ClientError> {
        self.get(&of_session(session, "/summary"), &[]).await
    }

    pub async fn snapshot(&self, session: &str) -> Result<Snapshot, ClientError> {
        self.get(&of_session(session, "/snapshot"), &[]).await
    }

    /// The newest `last` messages, oldest first.
    pub async fn last_messages(&self, session: &str, last: u32) -> Result<List<Message>, ClientError> {
        self.get(&of_session(session, "/messages"), &[("last", last.to_string())]).await
    }

    pub async fn record_messages(&self, session: &str, body: &RecordMessages) -> Result<Recorded, ClientError> {
        self.post(&of_session(session, "/messages"), body).await
    }

    /// One page of events; [`Client::follow`] for all there are and will be.
    pub async fn events(&self, session: &str, filter: &EventsFilter) -> Result<List<Event>, ClientError> {
        self.get(&of_session(session, "/events"), &filter.query()).await
    }

    pub async fn submit_turn(&self, session: &str, body: &SubmitTurn) -> Result<Turn, ClientError> {
        self.post(&of_session(session, "/turns"), body).await
    }

    /// In the one session of the pair, which is made when there is none.
    pub async fn submit_to_thread(&self, resource: &str, thread: &str, body: &SubmitTurn) -> Result<Turn, ClientError> {
        self.post(&format!("/api/threads/{}/{}/turns", segment(resource), segment(thread)), body).await
    }

    pub async fn turn(&self, turn: &str) -> Result<Turn, ClientError> {
        self.get(&of_turn(turn, ""), &[]).await
    }

    pub async fn edit_turn(&self, turn: &str, body: &EditTurn) -> Result<Turn, ClientError> {
        self.patch(&of_turn(turn, ""), body).await
    }

    /// Takes a queued turn back.
    pub async fn drop_turn(&self, turn: &str) -> Result<(), ClientError> {
        self.delete(&of_turn(turn, "")).await
    }

    pub async fn cancel_turn(&self, turn: &str) -> Result<Turn, ClientError> {
        self.post(&of_turn(turn, "/cancel"), &Empty {}).await
    }

    pub async fn retry_turn(&self, turn: &str, body: &AgainTurn) -> Result<Turn, ClientError> {
        self.post(&of_turn(turn, "/retry"), body).await
    }

    pub async fn redo_turn(&self, turn: &str, body: &AgainTurn) -> Result<Turn, ClientError> {
        self.post(&of_turn(turn, "/redo"), body).await
    }

    pub async fn continue_turn(&self, turn: &str, body: &AgainTurn) -> Result<Turn, ClientError> {
        self.post(&of_turn(turn, "/continue"), body).await
    }

    /// One page, newest first.
    pub async fn dead_letters(&self, cursor: Option<&str>, limit: u32) -> Result<List<DeadLetter>, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
        self.get("/api/dead-letters", &query).await
    }

    pub async fn retry_dead_letter(&self, turn: &str, body: &RetryDeadLetter) -> Result<Turn, ClientError> {
        self.post(&format!("/api/dead-letters/{}/retry", segment(turn)), body).await
    }

    pub async fn drop_dead_letter(&self, turn: &str) -> Result<(), ClientError> {
        self.delete(&format!("/api/dead-letters/{}", segment(turn))).await
    }

    pub async fn breakers(&self) -> Result<List<Breaker>, ClientError> {
        self.get("/api/breakers", &[]).await
    }

    pub async fn usage(&self, filter: &UsageFilter) -> Result<UsageReport, ClientError> {
        self.get("/api/usage", &filter.query()).await
    }

    /// The open ones.
    pub async fn questions(&self) -> Result<List<Question>, ClientError> {
        self.get("/api/questions", &[]).await
    }

    pub async fn answer_question(&self, question: &str, body: &AnswerQuestion) -> Result<Question, ClientError> {
        self.post(&format!("/api/questions/{}/answer", segment(question)), body).await
    }

    pub async fn tokens(&self) -> Result<List<Token>, ClientError> {
        self.get("/api/tokens", &[]).await
    }

    pub async fn create_token(&self, body: &CreateToken) -> Result<CreatedToken, ClientError> {
        self.post("/api/tokens", body).await
    }

    pub async fn create_login_link(&self) -> Result<LoginLink, ClientError> {
        self.post("/api/login-links", &Empty {}).await
    }

    pub async fn revoke_token(&self, token: &str) -> Result<(), ClientError> {
        self.delete(&format!("/api/tokens/{}", segment(token))).await
    }
}

fn of_session(session: &str, rest: &str) -> String {
    format!("/api/sessions/{}{rest}", segment(session))
}

fn of_turn(turn: &str, rest: &str) -> String {
    format!("/api/turns/{}{rest}", segment(turn))
}
