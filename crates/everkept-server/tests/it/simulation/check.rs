//! What must be true of what is kept, held against what everybody was told and saw.
//!
//! Never: a rule that the engine's own code decides; events are read as the JSON they are.

use super::house::{House, Told};
use bytes::Bytes;
use everkept_agent::demo::DemoMemory;
use everkept_store::{EventsQuery, Store, verify};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Each session's log as bytes.
pub type Logs = BTreeMap<String, Vec<Bytes>>;

pub async fn check(house: &House, store: &dyn Store, memory: &dyn DemoMemory) -> Logs {
    let mut logs = Logs::new();
    for session in store.all_sessions(None, 1_000).await.unwrap() {
        let query = EventsQuery { session: Some(session), limit: 1_000_000, ..EventsQuery::default() };
        let events = store.events(query).await.unwrap();
        let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "O1: {session}");
        logs.insert(session.to_string(), events.into_iter().map(|event| event.bytes).collect());
    }
    let report = verify(store, &mut |_| {}).await.unwrap();
    assert_eq!(report.damages, [], "verify");
    let told = house.told();
    assert_eq!(told.panics, Vec::<String>::new());
    readers_saw_the_log(&told, &logs);
    let known: BTreeSet<&String> = told.sessions.keys().collect();
    assert_eq!(logs.keys().collect::<BTreeSet<_>>(), known, "every session there is was acknowledged, once");
    let mut turns = Turns::default();
    for (session, log) in &logs {
        let events: Vec<Value> = log.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect();
        contexts_only_rise(session, &events);
        let own: Vec<Value> = events.into_iter().filter(|event| event["session"] == **session).collect();
        pins_hold(session, &own);
        turns.read(session, &own);
        submits_are_there(&told, session, &own);
    }
    turns.check(&told);
    turns.check_memory(&told, memory);
    logs
}

fn readers_saw_the_log(told: &Told, logs: &Logs) {
    for reading in &told.readings {
        let log = &logs[&reading.session];
        let from = usize::try_from(reading.after).unwrap();
        assert!(from <= log.len(), "D3: {} was shown up to {from} and ends at {}", reading.session, log.len());
        assert_eq!(reading.events.len(), log.len() - from, "O2: a reader of {} from {from}", reading.session);
        for (seen, kept) in reading.events.iter().zip(&log[from..]) {
            assert_eq!(seen, kept, "D3: {}", reading.session);
        }
    }
}

fn contexts_only_rise(session: &str, events: &[Value]) {
    let contexts: Vec<u64> = events.iter().map(|event| event["context"].as_u64().unwrap()).collect();
    assert!(contexts.is_sorted(), "{session}: {contexts:?}");
}

fn pins_hold(session: &str, own: &[Value]) {
    let mut pins = BTreeMap::new();
    for event in own.iter().filter(|event| event["kind"] == "agent_session.pinned") {
        let (place, pin) = ((event["context"].to_string(), event["data"]["agent"].to_string()), event["data"]["agent_session"].to_string());
        assert_eq!(pins.insert(place, pin), None, "O7: {session} was pinned again: {event}");
    }
}

fn submits_are_there(told: &Told, session: &str, own: &[Value]) {
    let mut added = BTreeMap::<String, Vec<(u64, String)>>::new();
    for event in own.iter().filter(|event| event["kind"] == "message.added" && event["data"]["role"] == "user") {
        let text = event["data"]["parts"][0]["text"].as_str().unwrap_or_default();
        if let Some(word) = text.split_whitespace().find(|word| word.starts_with("word-")) {
            let place = (event["seq"].as_u64().unwrap(), event["turn"].as_str().unwrap_or_default().to_owned());
            added.entry(word.to_owned()).or_default().push(place);
        }
    }
    let mut last = BTreeMap::new();
    for submit in told.submits.iter().filter(|submit| submit.session == session) {
        let places = added.remove(&submit.word).unwrap_or_default();
        assert!(places.len() <= 1, "O3: {submit:?} is there at {places:?}");
        let Some(turn) = &submit.turn else { continue };
        let [(seq, of)] = &places[..] else { panic!("D1: {submit:?} was acknowledged and is gone") };
        assert_eq!(of, turn, "D1: {submit:?}");
        let before = last.insert(submit.client, *seq).unwrap_or(0);
        assert!(before < *seq, "{submit:?} came before what its client sent earlier");
    }
    assert!(added.is_empty(), "{session} has what nobody sent to it: {added:?}");
}

#[derive(Default)]
struct Turns {
    queued: BTreeSet<String>,
    started: BTreeMap<String, String>,
    ended: BTreeMap<String, String>,
    /// Agent sessions that hold more than their own prompts: forked ones, and those that were given a conversation.
    fuller: BTreeSet<String>,
}

impl Turns {
    fn read(&mut self, session: &str, own: &[Value]) {
        for event in own {
            let turn = event["turn"].as_str().unwrap_or_default().to_owned();
            let data = |name: &str| event["data"][name].as_str().unwrap_or_default().to_owned();
            match event["kind"].as_str().unwrap() {
                "turn.queued" => assert!(self.queued.insert(turn), "{session}: {event}"),
                "agent_session.pinned" if event["data"]["because"] == "forked" => _ = self.fuller.insert(data("agent_session")),
                "turn.started" => {
                    if event["data"]["given_messages"] != 0 || event["data"]["agent_session_because"] == "forked" {
                        self.fuller.insert(data("agent_session"));
                    }
                    assert!(self.queued.contains(&turn) && !self.ended.contains_key(&turn), "{session}: {event}");
                    assert_eq!(self.started.insert(turn, data("agent_session")), None, "O5: {session}: {event}");
                }
                "turn.ended" => assert_eq!(self.ended.insert(turn, data("state")), None, "O6: {session}: {event}"),
                _ => {}
            }
        }
    }

    fn check(&self, told: &Told) {
        assert_eq!(self.queued, self.ended.keys().cloned().collect(), "O6: every turn has one end, and none is open");
        let mut given = BTreeSet::new();
        for prompt in &told.prompts {
            assert!(given.insert(&prompt.turn), "O5: given twice: {prompt:?}");
            assert_eq!(self.started.get(&prompt.turn), Some(&prompt.agent_session), "D2: {prompt:?} is not claimed in the log");
            if let Some(submit) = told.submits.iter().find(|submit| submit.turn.as_ref() == Some(&prompt.turn)) {
                assert!(prompt.text.ends_with(&submit.word), "{prompt:?} is not {submit:?}");
            }
        }
        for (turn, state) in &self.ended {
            assert!(state != "completed" || given.contains(turn), "{turn} completed although no agent was asked");
        }
        for turn in self.started.keys() {
            assert!(given.contains(turn) || self.ended[turn] != "completed", "{turn}");
        }
    }

    /// What the agent remembers is what the log claims: no completed prompt unheard, and none heard twice.
    fn check_memory(&self, told: &Told, memory: &dyn DemoMemory) {
        for agent_session in self.started.values().filter(|id| !self.fuller.contains(*id)) {
            let own = || self.started.iter().filter(|(_, id)| *id == agent_session);
            let completed = own().filter(|(turn, _)| self.ended[*turn] == "completed").count() as u64;
            let given = told.prompts.iter().filter(|prompt| prompt.agent_session == *agent_session).count() as u64;
            let heard = memory.prompts(agent_session).unwrap().unwrap_or(0);
            assert!((completed..=given).contains(&heard), "{agent_session} heard {heard} of {given}, and completed {completed}");
        }
    }
}
