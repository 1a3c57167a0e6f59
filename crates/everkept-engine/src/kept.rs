//! From the pieces that the store has to the files an agent wrote, and back to the agent.
//!
//! Never: a piece that is not what its digest says, or a look at what is written.

use crate::agent_host::Plan;
use crate::inner::Inner;
use everkept_agent::{AgentFault, AgentFaultKind, Kept, OpenSession, SoFar, Transcripts, Whole};
use everkept_core::{AgentSessionId, FilePutBack, KeptFile, KeptSession, PutBackAgentSession, digest_of};

/// What an agent is told of what is kept of its session.
pub(crate) fn as_kept(directory: &str, session: &AgentSessionId, kept: Option<&KeptSession>) -> Kept {
    let file = |file: &KeptFile| {
        let last = *file.pieces.last()?;
        Some(SoFar { name: file.file.clone(), bytes: file.bytes(), last })
    };
    let files = kept.into_iter().flat_map(|kept| &kept.files).filter_map(file).collect();
    Kept { directory: directory.into(), session: session.clone(), files }
}

/// Gives the agent what it lacks of the session that the plan opens. What cannot be given back is missing as before.
pub(crate) async fn put_back(inner: &Inner, transcripts: &dyn Transcripts, plan: &Plan) -> Option<PutBackAgentSession> {
    let (OpenSession::Resume(session) | OpenSession::Fork(session)) = &plan.open else { return None };
    let kept = plan.kept.as_ref()?;
    match give(inner, transcripts, plan, session, kept).await {
        Ok(files) if files.is_empty() => None,
        Ok(files) => {
            tracing::info!(session = %plan.session, turn = %plan.turn, agent_session = %session, "the agent had lost its session and was given it back");
            Some(PutBackAgentSession { turn: plan.turn, agent_session: session.clone(), files })
        }
        Err(fault) => {
            tracing::warn!(session = %plan.session, turn = %plan.turn, %fault, "the agent's session could not be put back");
            None
        }
    }
}

async fn give(
    inner: &Inner,
    transcripts: &dyn Transcripts,
    plan: &Plan,
    session: &AgentSessionId,
    kept: &KeptSession,
) -> Result<Vec<FilePutBack>, AgentFault> {
    let lacking = transcripts.lacking(as_kept(&plan.directory.to_string_lossy(), session, Some(kept))).await?;
    let mut files = Vec::new();
    for file in kept.files.iter().filter(|file| lacking.contains(&file.file)) {
        files.push(Whole { file: file.file.clone(), bytes: whole(inner, file).await? });
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let sizes: Vec<FilePutBack> =
        files.iter().map(|file| FilePutBack { file: file.file.clone(), bytes: file.bytes.len() as u64 }).collect();
    let taken = transcripts.put_back(plan.directory.clone(), session.clone(), files).await?;
    Ok(sizes.into_iter().filter(|file| taken.contains(&file.file)).collect())
}

async fn whole(inner: &Inner, file: &KeptFile) -> Result<bytes::Bytes, AgentFault> {
    let mut bytes = bytes::BytesMut::new();
    for piece in &file.pieces {
        let held = inner.check(inner.store.blob(piece.id).await).map_err(|failure| fault(&failure.to_string()))?;
        let held =
            held.filter(|held| digest_of(held) == piece.id).ok_or_else(|| fault(&format!("blob {} is damaged or gone", piece.id)))?;
        bytes.extend_from_slice(&held);
    }
    Ok(bytes.freeze())
}

fn fault(message: &str) -> AgentFault {
    AgentFault {
        kind: AgentFaultKind::Refused,
        doing: "reading what is kept of an agent's session".into(),
        message: message.into(),
        retryable: true,
        may_have_happened: false,
    }
}

/// As an agent's disk would have it.
pub(crate) fn unreadable() -> AgentFault {
    AgentFault { doing: "copying a session".into(), ..fault("it cannot be read") }
}
