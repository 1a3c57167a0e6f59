//! Random orders. Which turn or question one is about is a number that the run makes an id of.

use crate::support::*;
use everkept_core::*;
use proptest::prelude::*;
use proptest::sample::select;

#[derive(Debug, Clone)]
pub enum Op {
    Create,
    Update {
        archived: Option<bool>,
        agent: Option<Option<&'static str>>,
        title: Option<Option<&'static str>>,
    },
    Release,
    Delete,
    Restore,
    Clear,
    Revert(Option<usize>),
    Unrevert,
    RemoveRule(usize),
    Submit {
        earlier: bool,
        text: &'static str,
        long: bool,
        choice: Choice,
        explicit: Option<&'static str>,
        if_busy: IfBusy,
    },
    Record {
        role: Role,
        text: &'static str,
        long: bool,
    },
    Edit {
        turn: usize,
        text: Option<&'static str>,
        choice: Choice,
    },
    Drop(usize),
    Cancel(usize),
    Retry {
        turn: usize,
        choice: Choice,
    },
    Redo {
        turn: usize,
        choice: Choice,
    },
    Continue {
        turn: usize,
        choice: Choice,
    },
    Answer {
        question: usize,
        option: &'static str,
    },
    Expire {
        question: usize,
        because: ExpiredBecause,
    },
    /// The first that waits, or any turn.
    Begin {
        turn: Option<usize>,
        agent_session: &'static str,
        because: AgentSessionBecause,
    },
    /// The one that runs, or any turn.
    Hear {
        turn: Option<usize>,
        said: Vec<Word>,
    },
    End {
        turn: Option<usize>,
        end: TurnEnd,
    },
    /// The one that runs, the first that waits, or any turn.
    Fail {
        turn: Option<usize>,
        how: How,
        persistent: bool,
    },
    RetryLetter {
        turn: usize,
        text: Option<&'static str>,
    },
    DismissLetter(usize),
    Settle,
    /// Everything in memory is lost.
    Crash,
    Fork {
        at: At,
        follow: bool,
    },
}

/// The agent and model asked for with a turn.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    pub agent: Option<&'static str>,
    pub model: Option<&'static str>,
}

#[derive(Debug, Clone, Copy)]
pub enum How {
    Opening { again: bool },
    Prompt(FailedEnd),
}

#[derive(Debug, Clone, Copy)]
pub enum At {
    Latest,
    Turn(usize),
    /// So many events before the last.
    Back(usize),
}

/// What an agent says, its questions still without an id.
#[derive(Debug, Clone)]
pub enum Word {
    Said(Said),
    Ask { kind: QuestionKind, call: &'static str },
    Withdraw(usize),
}

pub const OPTIONS: [&str; 7] = ["once", "always", "no", "continue", "redo", "leave", "maybe"];

pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..120)
}

fn op() -> impl Strategy<Value = Op> {
    let turn = || prop_oneof![3 => 0..2_usize, 2 => 2..5_usize];
    let running = || prop_oneof![9 => Just(None), 1 => turn().prop_map(Some)];
    let texts = || select(vec!["a", "b", "", "äöü"]);
    let names = || select(vec!["demo", "coder", "gone"]);
    let agent = || prop_oneof![3 => Just(None), 1 => names().prop_map(Some)];
    let model = || prop::option::weighted(0.2, select(vec!["a/b", "c/d"]));
    let choice = move || (agent(), model()).prop_map(|(agent, model)| Choice { agent, model });
    let sessions = || select(vec!["s1", "s2", "s3"]);
    let busy = || select(vec![IfBusy::Queue, IfBusy::Queue, IfBusy::Queue, IfBusy::Reject, IfBusy::Interrupt]);
    let because = || {
        select(vec![
            AgentSessionBecause::Request,
            AgentSessionBecause::Inherited,
            AgentSessionBecause::Detected,
            AgentSessionBecause::Preserved,
            AgentSessionBecause::Forked,
            AgentSessionBecause::Reverted,
        ])
    };
    let end = || {
        select(vec![
            TurnEnd::Completed,
            TurnEnd::Completed,
            TurnEnd::Failed,
            TurnEnd::Failed,
            TurnEnd::Cancelled,
            TurnEnd::TimedOut,
            TurnEnd::Interrupted,
            TurnEnd::DeadLettered,
        ])
    };
    let how = select(vec![
        How::Opening { again: true },
        How::Opening { again: false },
        How::Prompt(FailedEnd::Failed),
        How::Prompt(FailedEnd::TimedOut),
    ]);
    let fail = (running(), how, any::<bool>()).prop_map(|(turn, how, persistent)| Op::Fail { turn, how, persistent });
    let again = move || (turn(), choice());
    let submit =
        (prop::bool::weighted(0.1), texts(), prop::bool::weighted(0.05), choice(), prop::option::weighted(0.15, sessions()), busy())
            .prop_map(|(earlier, text, long, choice, explicit, if_busy)| Op::Submit { earlier, text, long, choice, explicit, if_busy });
    let title = prop::option::of(prop::option::of(Just("t")));
    let update = (prop::option::of(any::<bool>()), prop::option::weighted(0.3, prop::option::of(names())), title)
        .prop_map(|(archived, agent, title)| Op::Update { archived, agent, title });
    let role = select(vec![Role::User, Role::Assistant, Role::System]);
    let expired = select(vec![ExpiredBecause::Timeout, ExpiredBecause::AgentGone]);
    let begin = (running(), sessions(), because());
    let at = prop_oneof![Just(At::Latest), turn().prop_map(At::Turn), (0..20_usize).prop_map(At::Back)];
    prop_oneof![
        1 => Just(Op::Create),
        2 => update,
        1 => Just(Op::Release),
        1 => Just(Op::Delete),
        6 => Just(Op::Restore),
        3 => Just(Op::Clear),
        3 => prop::option::of(turn()).prop_map(Op::Revert),
        2 => Just(Op::Unrevert),
        1 => turn().prop_map(Op::RemoveRule),
        14 => submit,
        2 => (role, texts(), prop::bool::weighted(0.1)).prop_map(|(role, text, long)| Op::Record { role, text, long }),
        3 => (turn(), prop::option::of(texts()), choice()).prop_map(|(turn, text, choice)| Op::Edit { turn, text, choice }),
        2 => turn().prop_map(Op::Drop),
        3 => turn().prop_map(Op::Cancel),
        4 => again().prop_map(|(turn, choice)| Op::Retry { turn, choice }),
        3 => again().prop_map(|(turn, choice)| Op::Redo { turn, choice }),
        3 => again().prop_map(|(turn, choice)| Op::Continue { turn, choice }),
        5 => (turn(), select(OPTIONS.to_vec())).prop_map(|(question, option)| Op::Answer { question, option }),
        2 => (turn(), expired).prop_map(|(question, because)| Op::Expire { question, because }),
        16 => begin.prop_map(|(turn, agent_session, because)| Op::Begin { turn, agent_session, because }),
        14 => (running(), prop::collection::vec(word(), 1..5)).prop_map(|(turn, said)| Op::Hear { turn, said }),
        12 => (running(), end()).prop_map(|(turn, end)| Op::End { turn, end }),
        12 => fail,
        3 => (turn(), prop::option::of(texts())).prop_map(|(turn, text)| Op::RetryLetter { turn, text }),
        2 => turn().prop_map(Op::DismissLetter),
        1 => Just(Op::Settle),
        3 => Just(Op::Crash),
        5 => (at, prop::bool::weighted(0.3)).prop_map(|(at, follow)| Op::Fork { at, follow }),
    ]
}

fn word() -> impl Strategy<Value = Word> {
    let key = || prop::option::of(select(vec!["m1".to_owned(), "m2".to_owned()]));
    let text = || prop_oneof![9 => select(vec!["x".to_owned(), String::new(), "y".to_owned()]), 1 => Just("ä".repeat(MAX_DELTA_BYTES))];
    let status = || select(vec![ToolStatus::Pending, ToolStatus::Running, ToolStatus::Completed, ToolStatus::Failed]);
    let call = || select(vec!["c1".to_owned(), "c2".to_owned()]);
    let payload = || prop::option::of(select(vec![Payload::Json(json("null")), Payload::Json(json(r#"{"a":"\ud800"}"#))]));
    let raw =
        select(vec![AgentRaw::Text("\u{0}".into()), AgentRaw::Json(json("1e400")), AgentRaw::Text("\u{1}".repeat(MAX_DELTA_BYTES + 1))]);
    let usage = any::<u8>().prop_map(|n| Usage { input_tokens: Some(n.into()), ..Usage::default() });
    let kinds = select(vec![QuestionKind::Permission, QuestionKind::Choice]);
    prop_oneof![
        6 => (key(), text()).prop_map(|(message, text)| Word::Said(Said::Text { message, text })),
        2 => (key(), text()).prop_map(|(message, text)| Word::Said(Said::Reasoning { message, text })),
        2 => (call(), status(), payload()).prop_map(|(call, status, input)| {
            Word::Said(Said::ToolStarted { name: call.clone(), call, title: None, status, input })
        }),
        2 => (call(), prop::option::of(status()), payload()).prop_map(|(call, status, output)| {
            Word::Said(Said::ToolUpdated { call, status, title: Some("t".into()), input: None, output })
        }),
        1 => Just(Word::Said(Said::Plan { entries: Payload::Json(json("[]")) })),
        1 => usage.prop_map(|usage| Word::Said(Said::Usage(usage))),
        1 => select(vec!["null", "{}"]).prop_map(|text| Word::Said(Said::FileChanges(json(text)))),
        1 => any::<bool>().prop_map(|on| Word::Said(Said::Compacting(on))),
        2 => select(vec!["s1", "s2", "s4"]).prop_map(|id| Word::Said(Said::AgentSession(agent_session(id)))),
        3 => (kinds, select(vec!["ls", "rm"])).prop_map(|(kind, call)| Word::Ask { kind, call }),
        1 => (0..4_usize).prop_map(Word::Withdraw),
        1 => raw.prop_map(|raw| Word::Said(Said::Raw(raw))),
    ]
}
