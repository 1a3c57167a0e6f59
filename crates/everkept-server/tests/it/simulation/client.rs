//! One client: random commands, each sent again under its key until it is answered.
//!
//! Never takes silence for a no.

use super::house::{House, Kept, Submit};
use super::reader::read_along;
use super::wire::{self, Answer};
use crate::dice::Dice;
use serde_json::{Value, json};
use std::sync::{Arc, atomic::Ordering::SeqCst};
use tokio::task::JoinHandle;
use tokio::time::sleep;

const WORDS: [&str; 11] = ["", "", "", "!slow:20", "!think", "!tool:2", "!ask", "!big:40", "!fail", "!crash", "!hang"];
const MOST_SESSIONS: usize = 4;

pub struct Client {
    house: Arc<House>,
    number: u64,
    dice: Dice,
    sessions: Vec<String>,
    turns: Vec<String>,
    keys: u64,
    readers: Vec<JoinHandle<()>>,
}

impl Client {
    pub fn new(house: Arc<House>, number: u64) -> Client {
        let dice = Dice::new(house.seed, 100 + number);
        Client { house, number, dice, sessions: Vec::new(), turns: Vec::new(), keys: 0, readers: Vec::new() }
    }

    pub async fn live(mut self, commands: u64) -> turmoil::Result {
        self.create().await;
        if self.number == 0 {
            let shared = self.create().await;
            self.house.told().shared = Some(shared);
        } else {
            let shared = loop {
                let shared = self.house.told().shared.clone();
                match shared {
                    Some(shared) => break shared,
                    None => sleep(self.dice.millis(10, 50)).await,
                }
            };
            self.sessions.push(shared.clone());
            self.read(shared);
        }
        for _ in 0..commands {
            self.command().await;
            sleep(self.dice.millis(0, 250)).await;
        }
        self.house.told().busy_clients -= 1;
        for reader in self.readers {
            reader.await?;
        }
        Ok(())
    }

    async fn command(&mut self) {
        let session = self.dice.of(&self.sessions).unwrap().clone();
        match self.dice.below(100) {
            0..45 => self.submit(&session).await,
            45..53 => self.cancel().await,
            53..57 => _ = self.post(&format!("/api/sessions/{session}/clear"), json!({})).await,
            57..61 => self.fork(&session).await,
            61..65 => _ = self.post(&format!("/api/sessions/{session}/revert"), json!({})).await,
            65..69 => _ = self.post(&format!("/api/sessions/{session}/unrevert"), json!({})).await,
            69..82 => self.answer(&session).await,
            82..87 => {
                let messages =
                    json!({ "messages": [{ "role": "user", "content": "recorded" }, { "role": "assistant", "content": "noted" }] });
                _ = self.post(&format!("/api/sessions/{session}/messages"), messages).await;
            }
            87..93 => self.again().await,
            93..97 => self.dead_letter(&session).await,
            _ => self.look(&session).await,
        }
    }

    async fn create(&mut self) -> String {
        let answer = self.post("/api/sessions", json!({ "title": format!("of {}", self.number), "directory": std::env::temp_dir() })).await;
        self.adopt(&answer)
    }

    fn adopt(&mut self, answer: &Answer) -> String {
        let session = answer.json()["id"].as_str().expect("a session that was made has an id").to_owned();
        self.house.told().sessions.insert(session.clone(), 0);
        self.sessions.push(session.clone());
        self.read(session.clone());
        session
    }

    fn read(&mut self, session: String) {
        let dice = Dice::new(self.dice.next(), 7);
        self.readers.push(tokio::task::spawn_local(read_along(self.house.clone(), session, dice)));
    }

    async fn submit(&mut self, session: &str) {
        let word = format!("word-{}-{}", self.number, self.keys);
        let endless = self.dice.one_in(50);
        let how = if endless { "!long !slow:4" } else { self.dice.of(&WORDS).unwrap() };
        let input = format!("{how} {word}");
        let if_busy = ["queue", "queue", "queue", "interrupt", "reject"][usize::try_from(self.dice.below(5)).unwrap()];
        let submit = Submit { client: self.number, session: session.to_owned(), word, turn: None, boot: 0 };
        let at = {
            let mut told = self.house.told();
            told.submits.push(submit);
            told.submits.len() - 1
        };
        let answer = self.post(&format!("/api/sessions/{session}/turns"), json!({ "input": input, "if_busy": if_busy })).await;
        if answer.is_good() {
            let turn = answer.json()["id"].as_str().unwrap().to_owned();
            let boot = self.house.boots();
            self.house.told().submits[at].acknowledged(&turn, boot);
            self.turns.push(turn.clone());
            if endless {
                sleep(self.dice.millis(1_000, 4_000)).await;
                self.post(&format!("/api/turns/{turn}/cancel"), json!({})).await;
            }
        }
    }

    async fn cancel(&mut self) {
        let Some(turn) = self.dice.of(&self.turns).cloned() else { return };
        let answer = self.post(&format!("/api/turns/{turn}/cancel"), json!({})).await;
        if answer.json()["error"]["code"] == "turn_ended" || answer.json()["ended_at"].is_string() {
            self.house.mark("a cancel came after the end");
        }
    }

    async fn fork(&mut self, session: &str) {
        if self.sessions.len() < MOST_SESSIONS {
            let answer = self.post(&format!("/api/sessions/{session}/fork"), json!({})).await;
            self.adopt(&answer);
        }
    }

    async fn again(&mut self) {
        let Some(turn) = self.dice.of(&self.turns).cloned() else { return };
        let how = ["retry", "redo", "continue"][usize::try_from(self.dice.below(3)).unwrap()];
        let answer = self.post(&format!("/api/turns/{turn}/{how}"), json!({})).await;
        if answer.is_good() {
            self.turns.push(answer.json()["id"].as_str().unwrap().to_owned());
        }
    }

    /// Takes up what was given up, as it was or with another request, or puts it away.
    async fn dead_letter(&mut self, session: &str) {
        let Some(listed) = wire::send("GET", &format!("/api/dead-letters?session={session}"), None, "").await else { return };
        let listed = listed.json();
        let Some(letter) = listed["items"].as_array().and_then(|items| self.dice.of(items)) else { return };
        let path = format!("/api/dead-letters/{}", letter["turn"]["id"].as_str().unwrap());
        if self.dice.one_in(3) {
            let answer = self.write("DELETE", &path, json!({})).await;
            assert!(answer.is_good() || answer.status == 404, "{path}: {}", answer.status);
            self.house.mark("a dead letter was put away");
            return;
        }
        let body = if self.dice.one_in(2) { json!({ "input": "less" }) } else { json!({}) };
        let answer = self.post(&format!("{path}/retry"), body).await;
        if answer.is_good() {
            self.turns.push(answer.json()["id"].as_str().unwrap().to_owned());
            self.house.mark("a dead letter was taken up");
        }
    }

    async fn answer(&mut self, session: &str) {
        let Some(listed) = wire::send("GET", &format!("/api/questions?session={session}"), None, "").await else { return };
        let listed = listed.json();
        let Some(question) = listed["items"].as_array().and_then(|items| self.dice.of(items)) else { return };
        let options: Vec<&Value> = question["options"].as_array().unwrap().iter().collect();
        let option = self.dice.of(&options).unwrap()["id"].clone();
        let path = format!("/api/questions/{}/answer", question["id"].as_str().unwrap());
        let answer = self.post(&path, json!({ "option": option })).await;
        if answer.is_good() {
            self.house.mark(if question["kind"] == "review" { "an interrupted turn was reviewed" } else { "a permission was answered" });
        }
    }

    /// A snapshot never shows less than one did before it.
    async fn look(&mut self, session: &str) {
        let before = self.house.told().sessions[session];
        let Some(answer) = wire::send("GET", &format!("/api/sessions/{session}/snapshot"), None, "").await else { return };
        if answer.is_good() {
            let cursor = answer.json()["cursor"].as_u64().unwrap();
            assert!(cursor >= before, "{session} was shown up to {before}, and now ends at {cursor}");
            let mut told = self.house.told();
            let seen = told.sessions.get_mut(session).unwrap();
            *seen = cursor.max(*seen);
        }
    }

    async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.write("POST", path, body).await
    }

    async fn write(&mut self, method: &'static str, path: &str, body: Value) -> Answer {
        self.keys += 1;
        let key = format!("key-{}-{}", self.number, self.keys);
        let body = body.to_string();
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            let crashes = self.house.crashes.load(SeqCst);
            match wire::send(method, path, Some(&key), &body).await {
                Some(answer) if answer.status < 500 => break answer,
                Some(answer) => self.house.saw(format!("{key} {path} {}", answer.status)),
                None if self.house.crashes.load(SeqCst) > crashes => self.house.mark("a crash while a command was under way"),
                None => self.house.mark("a command went unanswered without a crash"),
            }
            sleep(self.dice.millis(10, 400)).await;
        };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        self.house.saw(format!("{key} {path} {} after {tries}: {text}", answer.status));
        assert_ne!(answer.status, 401, "{text}");
        if answer.replayed {
            assert!(tries > 1, "{key} was answered from a kept answer at its first try");
            self.house.mark("a retry was given the kept answer");
        }
        if answer.is_good() {
            let kept = Kept {
                method,
                path: path.to_owned(),
                key: key.clone(),
                body: body.clone(),
                status: answer.status,
                answer: answer.body.clone(),
            };
            self.house.told().kept.push(kept);
            if self.dice.one_in(8)
                && let Some(same) = wire::send(method, path, Some(&key), &body).await.filter(|same| same.status < 500)
            {
                assert_eq!((same.status, same.replayed, &same.body), (answer.status, true, &answer.body), "{key} {path}");
            }
        }
        answer
    }
}
