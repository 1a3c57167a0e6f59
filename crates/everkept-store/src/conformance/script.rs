//! One seeded script on two stores: the same commands lead to the same logs and rows, byte for byte.

use super::{
    Stores,
    hand::{Hand, known, log, resource},
    ok,
};
use crate::{EventsQuery, MemoryStore, PlaceQuery, QuestionsQuery, SessionsQuery, Store, UsageBy, UsageQuery, verify};
use everkept_core::{
    AgainTurn, AnswerQuestion, Asked, Command, EndTurn, ExpiredBecause, IfBusy, Json, MessageId, ModelName, NewMessage, NewPart,
    OptionKind, Payload, QuestionKind, QuestionOption, QuestionState, Record, Role, Said, SessionId, SubmitTurn, ToolStatus, TurnEnd,
    TurnId, Unseen, UpdateSession, Usage, digest_of,
};

/// How many commands one script gives, and how many scripts there are.
const STEPS: usize = 400;
const SEEDS: [u64; 3] = [1, 20_261_120, 0xdead_beef];

pub async fn a_script_leads_to_the_log_of_the_memory_store(stores: &impl Stores) {
    for seed in SEEDS {
        let (model, store) = (MemoryStore::new(), stores.fresh());
        let (mut on_model, mut on_store) = (Hand::new(&model), Hand::new(&*store));
        play(&mut on_model, seed).await;
        play(&mut on_store, seed).await;
        compare(&model, &*store, seed).await;
    }
}

pub async fn verify_finds_nothing_after_a_script(stores: &impl Stores) {
    for seed in SEEDS {
        let store = stores.fresh();
        let mut hand = Hand::new(&*store);
        play(&mut hand, seed).await;
        let mut told = 0;
        let report = ok(verify(&*store, &mut |done| told = done)).await;
        assert_eq!(report.damages, [], "seed {seed}");
        assert_eq!((report.sessions, told), (hand.states.len() as u64, hand.states.len() as u64));
        assert_eq!(report.events, hand.states.values().map(|state| state.head).sum::<u64>());
    }
}

async fn compare(model: &dyn Store, store: &dyn Store, seed: u64) {
    while !ok(store.index()).await {}
    let sessions = ok(model.all_sessions(None, u32::MAX)).await;
    assert_eq!(ok(store.all_sessions(None, u32::MAX)).await, sessions, "seed {seed}");
    for &session in &sessions {
        assert_eq!(log(store, session).await, log(model, session).await, "seed {seed} {session}");
        assert_eq!(ok(store.head(session)).await, ok(model.head(session)).await);
        assert_eq!(sorted(ok(store.rows(session)).await), sorted(ok(model.rows(session)).await), "seed {seed} {session}");
        for backward in [false, true] {
            let query = PlaceQuery { session, after: None, before: None, backward, limit: 5 };
            assert_eq!(ok(store.turns(query.clone())).await, ok(model.turns(query.clone())).await, "seed {seed} {session}");
            assert_eq!(ok(store.messages(query.clone())).await, ok(model.messages(query)).await, "seed {seed} {session}");
        }
        for turn in ok(model.turns(PlaceQuery { session, after: None, before: None, backward: false, limit: 1_000 })).await {
            let query = EventsQuery { session: Some(session), turn: Some(turn.turn.id), limit: u32::MAX, ..EventsQuery::default() };
            assert_eq!(ok(store.events(query.clone())).await, ok(model.events(query)).await, "seed {seed} {session}");
        }
        assert_eq!(ok(store.children(session)).await, ok(model.children(session)).await);
        let query = QuestionsQuery { session: Some(session), ..QuestionsQuery::default() };
        assert_eq!(ok(store.questions(query.clone())).await, ok(model.questions(query)).await);
    }
    for open_only in [false, true] {
        let query = QuestionsQuery { open_only, ..QuestionsQuery::default() };
        assert_eq!(ok(store.questions(query.clone())).await, ok(model.questions(query)).await);
    }
    for by in [
        UsageBy::default(),
        UsageBy { session: true, agent: true, ..UsageBy::default() },
        UsageBy { day: true, model: true, resource: true, ..UsageBy::default() },
    ] {
        let query = UsageQuery { by, limit: 9, ..UsageQuery::default() };
        assert_eq!(ok(store.usage(query.clone())).await, ok(model.usage(query)).await, "seed {seed}");
    }
    assert_eq!(ok(store.owed()).await, ok(model.owed()).await);
    let searches = [None, Some("wor"), Some("word 1"), Some("answer"), Some("title")].map(|search| search.map(str::to_owned));
    for search in searches {
        for owner in [None, Some(resource("r0"))] {
            let query = SessionsQuery { resource: owner, search: search.clone(), limit: 7, ..SessionsQuery::default() };
            assert_eq!(ok(store.sessions(query.clone())).await, ok(model.sessions(query.clone())).await, "seed {seed} {query:?}");
            assert_eq!(ok(store.count_sessions(query.clone())).await, ok(model.count_sessions(query)).await);
        }
    }
}

fn sorted(mut rows: Vec<Record>) -> Vec<String> {
    rows.sort_by_key(|row| format!("{row:?}"));
    rows.iter().map(|row| format!("{row:?}")).collect()
}

/// Marsaglia's xorshift: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap_or(0)
    }
}

/// Gives the same commands for the same seed. What the core refuses changes nothing.
async fn play(hand: &mut Hand<'_>, seed: u64) {
    let mut dice = Dice(seed | 1);
    for _ in 0..3 {
        hand.create_for(Some("a title"), Some("r0"), None).await;
    }
    for step in 0..STEPS {
        hand.later(dice.roll(2_000_000) as i64 - 300_000);
        let sessions: Vec<SessionId> = hand.states.keys().copied().collect();
        let session = sessions[dice.roll(sessions.len())];
        match dice.roll(24) {
            0 => {
                let owner = format!("r{}", dice.roll(3));
                hand.create_for((step % 2 == 0).then_some("title two"), Some(&owner), Some(&format!("t{step}"))).await;
            }
            1 => {
                // A fork may be refused: of what is in the trash.
                let _ = hand.try_fork(session, None, None).await;
            }
            2 => {
                let running = hand.state(session).turns.iter().rev().find(|entry| entry.ended_seq.is_some()).map(|entry| entry.turn.id);
                if let Some(turn) = running {
                    ok(hand.store.pack(session, turn)).await;
                }
            }
            roll => {
                let command = command(hand, &mut dice, session, roll, step);
                if let Some(command) = command {
                    // What the core refuses, no store ever sees.
                    let _ = hand.order(session, command).await;
                }
            }
        }
    }
}

fn command(hand: &mut Hand<'_>, dice: &mut Dice, session: SessionId, roll: usize, step: usize) -> Option<Command> {
    let state = hand.state(session);
    let running = state.running;
    let queued = state.queue.front().copied();
    let any = state.turns.get(dice.roll(state.turns.len() + 1)).map(|entry| entry.turn.id);
    let open = state.questions.iter().find(|question| question.state == QuestionState::Open).map(|question| question.id);
    let text = |dice: &mut Dice| format!("word {} and word {}", dice.roll(9), "x".repeat(dice.roll(40)));
    Some(match roll {
        3..=5 => {
            let parts = vec![NewPart::Text(if dice.roll(12) == 0 { "long word ".repeat(2_500) } else { text(dice) })];
            let if_busy = [IfBusy::Queue, IfBusy::Queue, IfBusy::Interrupt, IfBusy::Reject][dice.roll(4)];
            let (turn, message) = (hand.fresh(TurnId::PREFIX), hand.fresh(MessageId::PREFIX));
            let submit = SubmitTurn {
                turn,
                earlier: vec![],
                message,
                parts,
                agent: None,
                model: None,
                agent_session: None,
                if_busy,
                known: known(),
            };
            Command::SubmitTurn(submit)
        }
        6 | 7 => {
            let turn = queued?;
            Command::BeginTurn(everkept_core::BeginTurn {
                turn,
                agent_session: everkept_core::AgentSessionId::new(format!("as {}", dice.roll(3))).ok()?,
                because: everkept_core::AgentSessionBecause::Detected,
                given: Unseen::default(),
                model_set: None,
            })
        }
        8..=13 => {
            let said = (0..=dice.roll(4)).map(|_| said(hand, dice, step)).collect();
            Command::HearAgent { turn: running?, said }
        }
        14 | 15 => {
            let end = [TurnEnd::Completed, TurnEnd::Failed, TurnEnd::TimedOut][dice.roll(3)];
            Command::EndTurn(EndTurn { turn: running?, end, reason: "over".into(), error: None })
        }
        16 => Command::UpdateSession(UpdateSession {
            title: Some((dice.roll(3) > 0).then(|| format!("title {step}"))),
            archived: Some(dice.roll(5) == 0),
            ..UpdateSession::default()
        }),
        17 => {
            let again = AgainTurn { turn: any?, by: hand.fresh(TurnId::PREFIX), agent: None, model: None, known: known() };
            [Command::RetryTurn as fn(AgainTurn) -> Command, Command::RedoTurn, Command::ContinueTurn][dice.roll(3)](again)
        }
        18 => match dice.roll(3) {
            0 => Command::Revert { turn: any },
            1 => Command::Unrevert,
            _ => Command::ClearContext,
        },
        19 => match dice.roll(2) {
            0 => Command::CancelTurn { turn: any? },
            _ => Command::DropTurn { turn: queued.filter(|turn| hand.state(session).queue.contains(turn))? },
        },
        20 => {
            let role = [Role::User, Role::Assistant, Role::System][dice.roll(3)];
            let message =
                |hand: &mut Hand<'_>, text| NewMessage { id: hand.fresh(MessageId::PREFIX), role, parts: vec![NewPart::Text(text)] };
            Command::RecordMessages {
                messages: vec![message(hand, text(dice)), message(hand, "recorded word ".repeat(1 + dice.roll(1_200)))],
            }
        }
        21 => {
            let question = open?;
            match dice.roll(3) {
                0 => Command::ExpireQuestion { question, because: ExpiredBecause::Timeout },
                roll => {
                    let option = hand.state(session).question(question)?.options.get(roll % 2)?.id.clone();
                    Command::AnswerQuestion(AnswerQuestion {
                        question,
                        option,
                        note: None,
                        turn: hand.fresh(TurnId::PREFIX),
                        known: known(),
                    })
                }
            }
        }
        22 => Command::SettleTurn { reason: "server_crashed", message: "it stopped".into(), question: hand.question(), expires_at: None },
        _ if dice.roll(3) == 0 => Command::DeleteSession { keep_ms: None },
        _ => Command::RestoreSession,
    })
}

fn said(hand: &mut Hand<'_>, dice: &mut Dice, step: usize) -> Said {
    let message = (dice.roll(6) == 0).then(|| format!("message {}", dice.roll(3)));
    let json =
        |n: usize| Payload::Json(Json::parse(format!(r#"{{"n": {n}.50e+1, "u": "\ud800"}}"#)).unwrap_or_else(|_| Json::empty_object()));
    match dice.roll(12) {
        0..=5 => Said::Text { message, text: format!("answer {} ", dice.roll(100)) },
        6 => Said::Reasoning { message, text: "hm ".repeat(dice.roll(6)) },
        7 => Said::ToolStarted {
            call: format!("call {}", dice.roll(3)),
            name: "run".into(),
            title: None,
            status: ToolStatus::Running,
            input: Some(json(step)),
        },
        8 => Said::ToolUpdated {
            call: format!("call {}", dice.roll(3)),
            status: Some([ToolStatus::Running, ToolStatus::Completed, ToolStatus::Failed][dice.roll(3)]),
            title: Some("ran".into()),
            input: None,
            output: Some(json(step)),
        },
        9 => {
            let part = |n: usize| Usage {
                input_tokens: Some(n as u64),
                cost_usd_micros: n.is_multiple_of(3).then_some(n as u64),
                ..Usage::default()
            };
            let models = ["p/m", "p/n"].iter().take(step % 3).map(|name| (ModelName::new(*name).expect("a good name"), part(step)));
            Said::Usage(Usage { models: models.collect(), ..part(step) })
        }
        10 => {
            let call = format!(r#"{{"command":"{}"}}"#, dice.roll(2));
            let option = |id: &str, kind| QuestionOption { id: id.into(), label: id.into(), kind };
            Said::Asked(Asked {
                question: hand.question(),
                kind: QuestionKind::Permission,
                title: "may I".into(),
                digest: digest_of(&call),
                call: Payload::Json(Json::parse(call).unwrap_or_else(|_| Json::empty_object())),
                request: format!("request {step}"),
                options: vec![option("once", OptionKind::AllowOnce), option("always", OptionKind::AllowAlways)],
                expires_at: None,
            })
        }
        _ => Said::Plan { entries: json(step) },
    }
}
