//! A scripted agent with somebody between it and whoever listens, who misbehaves once, as a plan says.
//!
//! `hostile-agent PLAN AGENT...`: the plan is a file of JSON, and without it the agent is a good one. Every byte that is
//! written is in `PID.written` in `SCRIPTED_DIR` before anybody can hear it.
//! Never: anything outside of its own processes.

use crate::scripted_agent::{append, go_deaf, leave_daemons};
use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, close},
};
use serde::Deserialize;
use serde_json::Value;
use std::{
    fs::{self, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio, exit},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

const PACE: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
struct Plan {
    at: Place,
    /// What is written there, in one piece: each of these so many times. A character stands for the byte of its number;
    /// `$SESSION` and `$PROMPT` for the id of the session and of the running prompt.
    say: Vec<(String, usize)>,
    act: Act,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// Before anything is heard.
    Start,
    /// After so many lines.
    Line(u64),
    /// After the first line about a prompt.
    Prompt,
    /// In the middle of the next.
    MidLine,
    /// After a question.
    Asked,
    /// Before the line that ends a prompt.
    End,
    /// After it.
    Ended,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Act {
    GoOn,
    Exit(i32),
    /// By its number.
    Signal(i32),
    /// Says nothing any more.
    Hang,
    /// As that, and no signal but a kill ends it.
    Deaf,
    CloseOutput,
    CloseInput,
    /// Goes on saying it for ever.
    Chatter,
    /// Says every line twice from now on.
    Stutter,
    /// So many bytes of errors.
    Errors(usize),
    Children(usize),
    Daemons,
}

/// What is known of the conversation by listening to it.
#[derive(Default)]
struct Known {
    prompted: bool,
    session: String,
    prompt: String,
}

pub fn run(args: &[String]) -> Result<()> {
    let [plan, agent @ ..] = args else { bail!("hostile-agent PLAN AGENT...") };
    let plan: Option<Plan> = fs::read(plan).ok().map(|plan| serde_json::from_slice(&plan)).transpose().context("reading the plan")?;
    let folder = PathBuf::from(std::env::var_os("SCRIPTED_DIR").context("SCRIPTED_DIR is not set")?);
    fs::create_dir_all(&folder)?;
    let mut agent = Command::new(std::env::current_exe()?)
        .args(agent)
        .env_remove("SCRIPTED_WRITTEN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the agent")?;
    let known = Arc::new(Mutex::new(Known::default()));
    let lines = BufReader::new(agent.stdout.take().context("it has an output")?);
    let mut hostile = Hostile { folder, plan, known: known.clone(), said: 0, about_prompt: 0, stutters: false };
    if hostile.is_at(Place::Start) {
        hostile.act()?;
    }
    let closes = hostile.plan.as_ref().is_some_and(|plan| plan.act == Act::CloseInput);
    let input = agent.stdin.take().context("it has an input")?;
    thread::spawn(move || listen(input, &known, closes));
    hostile.speak(lines)?;
    exit(agent.wait()?.code().unwrap_or(1));
}

/// Hands on what comes in. Closes its own ear with the first prompt, if that is the plan.
fn listen(mut agent: ChildStdin, known: &Mutex<Known>, closes: bool) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        // An answer under an id that it was asked under here is nothing the agent could read.
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let prompts = matches!(message["method"].as_str(), Some("session/prompt" | "turn/start")) || message["type"] == "user";
        if prompts {
            let mut known = known.lock().expect("no one panics with it");
            (known.prompted, known.prompt) = (true, message["id"].to_string());
        }
        if agent.write_all(format!("{line}\n").as_bytes()).is_err() {
            return;
        }
        if prompts && closes {
            close(0).expect("it was open");
            // The agent goes on.
            std::mem::forget(agent);
            return;
        }
    }
}

struct Hostile {
    folder: PathBuf,
    /// None once it was carried out.
    plan: Option<Plan>,
    known: Arc<Mutex<Known>>,
    said: u64,
    /// Lines since the first prompt.
    about_prompt: u64,
    stutters: bool,
}

impl Hostile {
    fn is_at(&self, place: Place) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.at == place)
    }

    fn speak(&mut self, lines: impl BufRead) -> Result<()> {
        for line in lines.lines() {
            let line = line? + "\n";
            self.learn(&line);
            let prompted = self.known.lock().expect("no one panics with it").prompted;
            let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
            let ends = has(&["\"stopReason\"", "\"type\":\"result\"", "turn/completed"]);
            if self.is_at(Place::MidLine) && self.about_prompt == 1 {
                self.write(&line.as_bytes()[..line.len() / 2])?;
                self.act()?;
                continue;
            }
            if self.is_at(Place::End) && ends {
                self.act()?;
            }
            for _ in 0..if self.stutters { 2 } else { 1 } {
                self.write(line.as_bytes())?;
            }
            self.said += 1;
            self.about_prompt += u64::from(prompted);
            let asks = has(&["session/request_permission", "can_use_tool", "requestApproval"]);
            let here = (self.is_at(Place::Line(self.said)))
                || (self.is_at(Place::Prompt) && prompted)
                || (self.is_at(Place::Asked) && asks)
                || (self.is_at(Place::Ended) && ends);
            if here {
                self.act()?;
            }
        }
        Ok(())
    }

    fn learn(&self, line: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else { return };
        let result = &message["result"];
        if let Some(session) = result["sessionId"].as_str().or(result["thread"]["id"].as_str()) {
            self.known.lock().expect("no one panics with it").session = session.to_owned();
        }
    }

    fn act(&mut self) -> Result<()> {
        let Some(plan) = self.plan.take() else { return Ok(()) };
        let said = self.words(&plan.say);
        self.write(&said)?;
        match plan.act {
            Act::Children(count) => self.have_children(count)?,
            Act::Daemons => leave_daemons(&self.folder)?,
            Act::GoOn
            | Act::Exit(_)
            | Act::Signal(_)
            | Act::Hang
            | Act::Deaf
            | Act::CloseOutput
            | Act::CloseInput
            | Act::Chatter
            | Act::Stutter
            | Act::Errors(_) => {}
        }
        append(&self.folder.join("acted"), "")?;
        match plan.act {
            Act::GoOn | Act::CloseInput | Act::Children(_) | Act::Daemons => {}
            Act::Exit(code) => exit(code),
            Act::Signal(signal) => {
                kill(Pid::this(), Signal::try_from(signal)?)?;
                stay();
            }
            Act::Hang => stay(),
            Act::Deaf => {
                go_deaf()?;
                stay();
            }
            Act::CloseOutput => {
                close(1)?;
                stay();
            }
            Act::Chatter => loop {
                thread::sleep(PACE);
                self.write(&said)?;
            },
            Act::Stutter => self.stutters = true,
            Act::Errors(bytes) => {
                let errors = vec![b'e'; 64 * 1024];
                for _ in 0..bytes.div_ceil(errors.len()) {
                    io::stderr().write_all(&errors)?;
                }
            }
        }
        Ok(())
    }

    fn have_children(&self, count: usize) -> Result<()> {
        for _ in 0..count {
            let child = Command::new("sleep").arg("600").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
            append(&self.folder.join("daemons.log"), &format!("{}\n", child.id()))?;
        }
        Ok(())
    }

    fn words(&self, say: &[(String, usize)]) -> Vec<u8> {
        let known = self.known.lock().expect("no one panics with it");
        let mut words = Vec::new();
        for (text, times) in say {
            let text = text.replace("$SESSION", &known.session).replace("$PROMPT", &known.prompt);
            let bytes: Vec<u8> = text.chars().map(|letter| u8::try_from(u32::from(letter)).expect("a letter is a byte")).collect();
            (0..*times).for_each(|_| words.extend_from_slice(&bytes));
        }
        words
    }

    /// Nobody listens any more: then there is nothing left to do.
    fn write(&self, bytes: &[u8]) -> Result<()> {
        keep(&self.folder, bytes)?;
        let mut out = io::stdout().lock();
        if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
            exit(1);
        }
        Ok(())
    }
}

fn keep(folder: &Path, bytes: &[u8]) -> Result<()> {
    let file = folder.join(format!("{}.written", std::process::id()));
    Ok(OpenOptions::new().create(true).append(true).open(file)?.write_all(bytes)?)
}

fn stay() -> ! {
    loop {
        thread::park();
    }
}
