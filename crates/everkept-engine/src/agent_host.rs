//! One running agent on behalf of one session, and how it comes to run.
//!
//! Never prompts: it only opens, once. Whether a start that failed is tried again, the core says.

use crate::failpoint::{self, Injected};
use crate::inner::Inner;
use crate::kept;
use everkept_agent::{Abilities, Agent, AgentFault, AgentFaultKind, Connection, Held, Open, OpenSession, Place};
use everkept_core::{AgentName, AgentSessionBecause, AgentSessionId, KeptSession, ModelName, PutBackAgentSession, SessionId, Turn, TurnId};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// An agent that is open for a session. Dropping it ends the agent and all it started.
pub(crate) struct Host {
    pub agent: AgentName,
    pub context: u32,
    /// The one it is in, which an agent may change.
    pub agent_session: AgentSessionId,
    /// Why the first turn runs on this agent session; later ones inherit it.
    pub because: AgentSessionBecause,
    /// The agent session knows nothing of the conversation yet.
    pub fresh: bool,
    pub model: Option<ModelName>,
    pub model_set: Option<bool>,
    pub abilities: Abilities,
    pub connection: Connection,
    /// How many bytes of what the connection said were taken.
    pub taken: u64,
    pub idle_since: Duration,
    _permit: OwnedSemaphorePermit,
}

/// What to open for a turn.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub session: SessionId,
    pub turn: TurnId,
    pub agent: AgentName,
    pub context: u32,
    pub open: OpenSession,
    /// What is kept of the agent session to be taken up or forked.
    pub kept: Option<KeptSession>,
    pub because: AgentSessionBecause,
    pub directory: std::path::PathBuf,
    pub model: Option<ModelName>,
}

impl Plan {
    /// Whether what is opened by it is what another one wants. A model is set before a prompt where one is wanted.
    pub fn serves(&self, other: &Plan) -> bool {
        // What is kept follows from what is opened.
        let Plan { session, turn: _, agent, context, open, kept: _, because, directory, model } = self;
        let same = (session, agent, context, open, because, directory);
        same == (&other.session, &other.agent, &other.context, &other.open, &other.because, &other.directory)
            && (other.model.is_some() || model.is_none())
    }

    /// What an agent can do shows when it runs: one that turned out unable to take up or to fork a session begins a new
    /// one, as if that had been known. An id that somebody asked for is nothing to do without.
    fn does_without(&mut self, abilities: Abilities) -> bool {
        let able = match &self.open {
            OpenSession::New => true,
            OpenSession::Resume(_) => abilities.resume,
            OpenSession::Fork(_) => abilities.fork,
        };
        if able || self.because == AgentSessionBecause::Request {
            return false;
        }
        self.open = OpenSession::New;
        self.because = AgentSessionBecause::Detected;
        true
    }
}

/// Opens what the plan says, once there is room. What the agent had lost of the session it is given back before.
pub(crate) async fn open(inner: Arc<Inner>, plan: Plan) -> (Option<PutBackAgentSession>, Result<Host, AgentFault>) {
    let permit = permit(&inner).await;
    let Some(agent) = inner.agents.get(&plan.agent) else {
        return (None, Err(cannot_start(format!("starting agent {}", plan.agent), "it is not configured any more")));
    };
    let made = match agent.place() {
        Place::Here => make_directory(&inner, &plan.directory),
        Place::Elsewhere { .. } => Ok(()),
    };
    if let Err(fault) = made {
        return (None, Err(fault));
    }
    let put_back = match agent.transcripts() {
        Some(transcripts) => kept::put_back(&inner, &*transcripts, &plan).await,
        None => None,
    };
    (put_back, open_now(&inner, &*agent, plan, permit).await)
}

async fn open_now(inner: &Inner, agent: &dyn Agent, mut plan: Plan, permit: OwnedSemaphorePermit) -> Result<Host, AgentFault> {
    loop {
        let open = Open { directory: plan.directory.clone(), session: plan.open.clone(), model: plan.model.clone() };
        let opened = match inner.runtime.reach(failpoint::Failpoint::OpenAgent, Some(plan.session)).await {
            Ok(()) => agent.open(open).await,
            Err(Injected) => Err(gone(&plan, true)),
        };
        let opened = match inner.runtime.reach(failpoint::Failpoint::AgentOpened, Some(plan.session)).await {
            Ok(()) => opened,
            Err(Injected) => Err(gone(&plan, false)),
        };
        let fault = match opened {
            Ok(opened) => {
                let explicit = plan.because == AgentSessionBecause::Request;
                // One that remembers its sessions, and not this one, has it begun again under its old id.
                let forgot = agent.abilities().remember && !opened.abilities.remember;
                let because = match plan.because {
                    AgentSessionBecause::Inherited if forgot => AgentSessionBecause::Preserved,
                    because => because,
                };
                let agent_session = match &plan.open {
                    // An id that was asked for stands, whatever the agent calls it.
                    OpenSession::Resume(asked) if explicit => asked.clone(),
                    OpenSession::Resume(_) | OpenSession::New | OpenSession::Fork(_) => opened.agent_session,
                };
                return Ok(Host {
                    agent: plan.agent,
                    context: plan.context,
                    agent_session,
                    because,
                    fresh: matches!(plan.open, OpenSession::New) || !opened.abilities.remember,
                    model_set: opened.model_set,
                    model: plan.model.filter(|_| opened.model_set == Some(true)),
                    abilities: opened.abilities,
                    connection: opened.connection,
                    taken: 0,
                    idle_since: inner.runtime.clock.monotonic(),
                    _permit: permit,
                });
            }
            Err(fault) => fault,
        };
        if plan.does_without(agent.abilities()) {
            tracing::info!(session = %plan.session, turn = %plan.turn, %fault, "the agent begins a new session and is told the conversation");
            continue;
        }
        return Err(fault);
    }
}

/// An agent that outlived the last server, in the middle of `turn`; `kept` is how many bytes are kept of that.
pub(crate) async fn go_on(
    inner: &Arc<Inner>,
    held: Held,
    turn: &Turn,
    agent_session: AgentSessionId,
    abilities: Abilities,
    kept: u64,
) -> Host {
    let permit = permit(inner).await;
    Host {
        agent: turn.agent.clone(),
        context: turn.context,
        agent_session,
        because: AgentSessionBecause::Inherited,
        fresh: false,
        // Which one was set, nobody noted: the next turn's is set in any case.
        model: None,
        model_set: None,
        abilities,
        connection: (held.go_on)(kept),
        taken: 0,
        idle_since: inner.runtime.clock.monotonic(),
        _permit: permit,
    }
}

/// A session's private folder is made when it is first needed; a directory somebody named has to be there.
fn make_directory(inner: &Inner, directory: &Path) -> Result<(), AgentFault> {
    if directory.starts_with(&inner.settings.private_directories) {
        let doing = || format!("making the directory {}", directory.display());
        return std::fs::create_dir_all(directory).map_err(|error| cannot_start(doing(), &error.to_string()));
    }
    match directory.is_dir() {
        true => Ok(()),
        false => Err(cannot_start(format!("going to the directory {}", directory.display()), "there is no such directory")),
    }
}

fn cannot_start(doing: String, message: &str) -> AgentFault {
    AgentFault { kind: AgentFaultKind::CannotStart, doing, message: message.into(), retryable: false, may_have_happened: false }
}

fn gone(plan: &Plan, retryable: bool) -> AgentFault {
    let doing = format!("opening agent {}", plan.agent);
    AgentFault { kind: AgentFaultKind::Exited, doing, message: "it ended".into(), retryable, may_have_happened: false }
}

/// What opens it panicked.
pub(crate) fn broken(plan: &Plan) -> AgentFault {
    AgentFault { message: "the server broke down over it".into(), ..gone(plan, false) }
}

/// Room for one more agent process. Whoever waits for it makes idle ones end.
async fn permit(inner: &Arc<Inner>) -> OwnedSemaphorePermit {
    if let Ok(permit) = inner.permits.clone().try_acquire_owned() {
        return permit;
    }
    struct Waiting<'a>(&'a Inner);
    impl Drop for Waiting<'_> {
        fn drop(&mut self) {
            self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
    inner.waiting.fetch_add(1, Ordering::SeqCst);
    let _waiting = Waiting(inner);
    inner.pressure.notify_waiters();
    inner.permits.clone().acquire_owned().await.expect("the semaphore is never closed")
}
