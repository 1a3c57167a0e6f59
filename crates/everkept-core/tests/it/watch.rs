//! What the watch finds: silence, chatter, a child that is gone, a human who is waited for, and times that lie in each other.

use crate::support::*;
use everkept_core::*;
use std::time::Duration;

const LIMITS: Limits = Limits { silence: at(10), progress: at(30), tool: at(60), turn: at(200), session: at(500) };

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn event(body: impl Into<Body>) -> Event {
    Event { session: session(1), turn: Some(turn(1)), context: 0, at: NOW, body: body.into() }
}

fn words() -> Event {
    event(PartDelta { message: message(1), part: part(1), kind: TextKind::Text, text: "x".into() })
}

fn part(n: u64) -> PartId {
    PartId(id(5, n))
}

fn tool(n: u64) -> Event {
    let (call, name) = ("c".into(), "ls".into());
    event(ToolStarted { message: message(1), part: part(n), call, name, title: None, status: ToolStatus::Running, input: None })
}

fn tool_done(n: u64) -> Event {
    event(ToolCompleted { message: message(1), part: part(n), status: ToolStatus::Completed, title: None, input: None, output: None })
}

fn tool_again(n: u64, output: Option<Payload>) -> Event {
    event(ToolUpdated { message: message(1), part: part(n), status: ToolStatus::Running, title: None, input: None, output })
}

/// A turn that began at 0.
fn running() -> Watch {
    let mut watch = Watch::default();
    watch.look(Some(turn(1)), false, true, at(0));
    watch
}

/// Heard of, and getting on, every five seconds until then.
fn lively(watch: &mut Watch, from: u64, until: u64) {
    for now in (from..=until).step_by(5) {
        watch.heard(at(now));
        watch.note(&words(), at(now));
    }
}

fn find(watch: &Watch, now: u64) -> Option<Finding> {
    watch.find(&LIMITS, at(now))
}

#[test]
fn re_05_a_silent_agent_is_found_and_a_heartbeat_is_enough_not_to_be() {
    let mut watch = running();
    assert_eq!(find(&watch, 9), Some(Finding::Well { until: at(10) }));
    watch.heard(at(9));
    assert_eq!(find(&watch, 18), Some(Finding::Well { until: at(19) }));
    assert_eq!(find(&watch, 19), Some(Finding::AgentSilent));
    assert_eq!(find(&Watch::default(), 999), None, "nothing runs");
}

#[test]
fn re_05_an_agent_that_chatters_and_does_not_get_on_is_another_finding() {
    let mut watch = running();
    for now in (0..=29).step_by(5) {
        watch.heard(at(now));
        watch.note(&event(AgentRaw::Text("still here".into())), at(now));
        watch.note(&event(UsageReported { usage: Usage::default() }), at(now));
        watch.note(&tool_again(1, None), at(now));
    }
    assert_eq!(find(&watch, 29), Some(Finding::Well { until: at(30) }));
    assert_eq!(find(&watch, 30), Some(Finding::AgentChattering));
    let output = Some(Payload::Json(json("1")));
    for said in [words(), tool_again(1, output), event(PlanUpdated { entries: Payload::Json(json("[]")) })] {
        let mut watch = watch.clone();
        watch.note(&said, at(30));
        assert_eq!(find(&watch, 30), Some(Finding::Well { until: at(35) }), "{said:?}");
    }
}

#[test]
fn re_05_who_waits_for_a_human_hangs_not_however_long_that_takes() {
    let mut watch = running();
    lively(&mut watch, 0, 5);
    watch.note(&tool(1), at(5));
    watch.look(Some(turn(1)), true, true, at(8));
    for now in [9, 1_000, 1_000_000] {
        watch.look(Some(turn(1)), true, true, at(now));
        assert_eq!(find(&watch, now), Some(Finding::WaitsForHuman));
    }
    // What had passed before the question has passed, and no more.
    watch.look(Some(turn(1)), false, true, at(1_000_008));
    assert_eq!(find(&watch, 1_000_008), Some(Finding::Well { until: at(1_000_015) }));
}

#[test]
fn re_05_a_dead_child_is_gone_and_neither_silent_nor_late() {
    let mut watch = running();
    watch.gone();
    assert_eq!(find(&watch, 1_000), Some(Finding::AgentGone));
}

#[test]
fn re_04_a_tool_a_turn_and_a_session_have_their_times_one_within_the_other() {
    let mut watch = running();
    lively(&mut watch, 0, 100);
    watch.note(&tool(1), at(100));
    watch.note(&tool(2), at(110));
    watch.note(&tool_done(1), at(120));
    lively(&mut watch, 100, 165);
    assert_eq!(find(&watch, 169), Some(Finding::Well { until: at(170) }));
    assert_eq!(find(&watch, 170), Some(Finding::Overdue(Overdue::Tool)));
    watch.note(&tool_done(2), at(170));
    lively(&mut watch, 170, 195);
    assert_eq!(find(&watch, 200), Some(Finding::Overdue(Overdue::Turn)));
    // The next turns of a session that had something to do all the while.
    for (n, from) in [(2, 200), (3, 380)] {
        watch.look(Some(turn(n)), false, true, at(from));
        assert_eq!(find(&watch, from), Some(Finding::Well { until: at(from + 10) }));
    }
    for now in (380..=495).step_by(5) {
        watch.heard(at(now));
        watch.note(&Event { turn: Some(turn(3)), ..words() }, at(now));
    }
    assert_eq!(find(&watch, 500), Some(Finding::Overdue(Overdue::Session)));
    watch.rest();
    watch.look(Some(turn(3)), false, true, at(500));
    assert_eq!(find(&watch, 500), Some(Finding::Well { until: at(505) }));
}

#[test]
fn a_session_that_had_nothing_to_do_begins_anew() {
    let mut watch = running();
    watch.look(None, false, false, at(490));
    watch.look(Some(turn(2)), false, true, at(495));
    assert_eq!(find(&watch, 500), Some(Finding::Well { until: at(505) }));
}

#[test]
fn what_is_said_of_another_turn_is_no_news_of_this_one() {
    let mut watch = running();
    watch.note(&Event { turn: Some(turn(9)), ..words() }, at(25));
    watch.heard(at(25));
    assert_eq!(find(&watch, 25), Some(Finding::Well { until: at(30) }));
}

#[test]
fn re_04_the_usual_times_lie_in_each_other() {
    let usual = Limits::default();
    assert!(usual.silence < usual.progress && usual.progress < usual.tool && usual.tool < usual.turn && usual.turn < usual.session);
    assert_eq!(usual.silence, at(600));
}
