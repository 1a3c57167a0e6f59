//! When nobody is sent to an agent and model, who finds out whether it works again, and what says nothing of it.

use crate::support::*;
use everkept_core::*;

const SECOND: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 + seconds * SECOND)
}

fn new() -> Breaker {
    Breaker::new(agent("demo"), None)
}

/// As often as it takes to open it.
fn open() -> Breaker {
    let mut breaker = new();
    for n in 1..=5 {
        assert_eq!(breaker.admit(turn(n), NOW), Admission::Admitted);
        assert!(breaker.note(turn(n), Verdict::Failed, NOW));
    }
    breaker
}

#[test]
fn re_02_five_failures_in_a_row_open_it_and_one_that_worked_in_between_does_not() {
    let mut breaker = new();
    for n in 1..=4 {
        breaker.note(turn(n), Verdict::Failed, NOW);
    }
    assert!(breaker.note(turn(5), Verdict::Worked, NOW));
    for n in 6..=9 {
        breaker.note(turn(n), Verdict::Failed, NOW);
    }
    assert_eq!((breaker.state(NOW), breaker.failures), (BreakerState::Closed, 4));
    breaker.note(turn(10), Verdict::Failed, NOW);
    assert_eq!((breaker.state(NOW), breaker.admit(turn(11), NOW)), (BreakerState::Open, Admission::NotBefore(at(30))));
}

#[test]
fn re_02_after_its_time_one_turn_at_a_time_finds_out() {
    let mut breaker = open();
    assert_eq!(breaker.admit(turn(6), at(29)), Admission::NotBefore(at(30)));
    assert_eq!(breaker.state(at(30)), BreakerState::HalfOpen);
    assert_eq!(breaker.admit(turn(6), at(30)), Admission::Admitted);
    assert_eq!(breaker.admit(turn(6), at(31)), Admission::Admitted, "it is the one");
    assert_eq!(breaker.admit(turn(7), at(31)), Admission::NotBefore(at(61)));
    assert!(breaker.note(turn(6), Verdict::Worked, at(40)));
    assert_eq!((breaker.state(at(40)), breaker.admit(turn(7), at(40))), (BreakerState::Closed, Admission::Admitted));
}

#[test]
fn re_02_a_probe_that_fails_opens_it_for_twice_as_long_and_never_beyond_five_minutes() {
    let mut breaker = open();
    let mut now = 30;
    for (n, open) in (6..).zip([60, 120, 240, 300, 300]) {
        assert_eq!(breaker.admit(turn(n), at(now)), Admission::Admitted);
        breaker.note(turn(n), Verdict::Failed, at(now));
        assert_eq!(breaker.admit(turn(n + 1), at(now)), Admission::NotBefore(at(now + open)));
        now += open;
    }
}

#[test]
fn a_failure_of_what_began_before_it_opened_opens_it_for_no_longer() {
    let mut breaker = open();
    breaker.note(turn(99), Verdict::Failed, at(10));
    assert_eq!(breaker.admit(turn(6), at(10)), Admission::NotBefore(at(30)));
}

#[test]
fn a_probe_that_tells_nothing_makes_room_for_another() {
    let mut breaker = open();
    breaker.admit(turn(6), at(30));
    assert!(!breaker.note(turn(6), Verdict::NotCounted, at(31)), "nothing to keep");
    assert_eq!(breaker.admit(turn(7), at(31)), Admission::Admitted);
    assert_eq!(breaker.admit(turn(8), at(60)), Admission::NotBefore(at(61)));
    assert_eq!(breaker.admit(turn(8), at(61)), Admission::Admitted, "re_n1: nobody waits for ever for one that says nothing");
}

#[test]
fn l3_a_start_with_a_clock_that_was_set_back_keeps_it_open_for_no_longer_than_it_can_be() {
    let breaker = open().taken_up(at(-86_400));
    assert_eq!(breaker.open_until, Some(at(-86_400 + 300)));
    assert_eq!(open().taken_up(at(1)).open_until, Some(at(30)));
}

#[test]
fn what_nobody_can_know_and_what_a_prompt_brought_about_says_nothing() {
    let ended =
        |state, reason: &str, code: &str| Verdict::of(&TurnEnded { state, reason: reason.into(), error: Some(failure(code)) }.into());
    assert_eq!(ended(TurnEnd::Completed, "end_turn", ""), Some(Verdict::Worked));
    for (state, reason) in [(TurnEnd::Cancelled, REASON_CANCELLED), (TurnEnd::Interrupted, REASON_AGENT_EXITED)] {
        assert_eq!(ended(state, reason, "overloaded"), Some(Verdict::NotCounted));
    }
    for code in ["overloaded_error", "rate_limit_exceeded", "http_503", "529", "httpConnectionFailed", "serverOverloaded", "cut_off"] {
        for state in [TurnEnd::Failed, TurnEnd::DeadLettered] {
            assert_eq!(ended(state, REASON_AGENT_ERROR, code), Some(Verdict::Failed), "{code}");
        }
    }
    for code in ["invalid_request_error", "context_length_exceeded", "http_400", "413", "demo_failure", "-32603", "unknown", ""] {
        assert_eq!(ended(TurnEnd::Failed, REASON_AGENT_ERROR, code), Some(Verdict::NotCounted), "{code}");
    }
    assert_eq!(ended(TurnEnd::TimedOut, REASON_AGENT_SILENT, REASON_AGENT_SILENT), Some(Verdict::Failed));
    assert_eq!(ended(TurnEnd::DeadLettered, REASON_BREAKER_OPEN, REASON_BREAKER_OPEN), Some(Verdict::NotCounted));
    let delayed = |code: &str| Verdict::of(&TurnDelayed { tries: 1, until: NOW, error: failure(code) }.into());
    assert_eq!(delayed(REASON_START_FAILED), Some(Verdict::Failed));
    assert_eq!(delayed(REASON_BREAKER_OPEN), Some(Verdict::NotCounted));
    assert_eq!(Verdict::of(&TurnCancelling {}.into()), None);
}
