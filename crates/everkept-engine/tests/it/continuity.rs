//! REQUIREMENTS C: one agent session through everything.

use crate::world::*;
use everkept_agent::OpenSession;
use everkept_core::*;
use everkept_engine::*;

#[tokio::test(start_paused = true)]
async fn oc_01_the_first_message_pins_the_agent_session_it_detects() {
    let world = World::new().await;
    let session = world.session().await;
    let (turn, answer) = world.ask(session, "hello").await;
    assert_eq!((turn.state, answer.as_str()), (TurnState::Completed, "reply 1 to: hello"));
    let held = world.held(session).await;
    assert_eq!(held.agent_sessions.len(), 1);
    assert_eq!(held.agent_sessions[0].first, held.agent_sessions[0].current);
    assert_eq!(world.opened(), [OpenSession::New]);
}
