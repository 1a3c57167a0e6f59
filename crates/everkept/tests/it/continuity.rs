//! REQUIREMENTS C on every driver's protocol: ten flows, each as it is, with an agent session that cannot be validated, with
//! one that nobody answers for, with an agent that goes on in another, and with an id that somebody named.
//!
//! Each cell has an agent of its own, so that the sessions there are on the agent's side are the cell's.
//! Never: a session there that the log does not explain, or a cell left out without its reason.

use crate::bench::*;
use crate::real::World;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    First,
    Next,
    Retry,
    Redo,
    Continue,
    Fallback,
    Build,
    RedoBuild,
    Refresh,
    Restart,
}

use Flow::*;

const FLOWS: [Flow; 10] = [First, Next, Retry, Redo, Continue, Fallback, Build, RedoBuild, Refresh, Restart];

/// How the agent session is found when the flow comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// The agent does not answer for it the next time.
    Silent,
    /// It says that it does not know it, and does.
    Unknown,
    /// It has lost all of it.
    Lost,
    /// It goes on in another.
    Other,
    /// The turn names one that the agent has from elsewhere, and leaves it for another where it can.
    Named,
    Plain,
}

use Condition::*;

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Becomes {
    Runs,
    /// The turn is put off and runs by itself.
    PutOff,
    /// The agent says no, and the turn fails; asked for again it runs.
    Refused,
    /// It is begun again under its id, and told the conversation.
    BegunAgain,
    /// The other one is listed, and gone on with.
    MovesOn,
    CannotBe(&'static str),
}

use Becomes::*;

struct Peer {
    protocol: &'static str,
    /// None for a model, which is no process.
    program: Option<&'static str>,
    table: [(Condition, Becomes); 6],
}

const NO_LOSS: &str = "it chooses its ids itself, so one that it has lost cannot be begun again: it is one that it does not know";
const A_NAME: &str = "a model's agent session is only a name, which nobody can be asked about and which has no other";

const ACP: Peer = Peer {
    protocol: "acp",
    program: Some("scripted-agent"),
    // An answer that names another session than was asked for is not taken for it: the protocol has no word for a move.
    table: [(Silent, PutOff), (Unknown, Refused), (Lost, CannotBe(NO_LOSS)), (Other, Refused), (Named, Runs), (Plain, Runs)],
};

const CODEX: Peer = Peer { protocol: "codex", program: Some("scripted-codex"), ..ACP };

const CLAUDE: Peer = Peer {
    protocol: "claude-code",
    program: Some("scripted-claude"),
    // Its id is ours: what it does not know is begun again under it, which ends at once when it knows it after all.
    table: [(Silent, PutOff), (Unknown, PutOff), (Lost, BegunAgain), (Other, MovesOn), (Named, MovesOn), (Plain, Runs)],
};

const OPENAI: Peer = Peer {
    protocol: "openai",
    program: None,
    table: [
        (Silent, CannotBe(A_NAME)),
        (Unknown, CannotBe(A_NAME)),
        (Lost, CannotBe(A_NAME)),
        (Other, CannotBe(A_NAME)),
        (Named, Runs),
        (Plain, Runs),
    ],
};

const ANTHROPIC: Peer = Peer { protocol: "anthropic", ..OPENAI };

/// Long enough for a start on a loaded machine.
const OPEN_WITHIN_S: u64 = 5;
/// How many cells are busy at once.
const AT_ONCE: usize = 16;

struct Cell {
    flow: Flow,
    condition: Condition,
    becomes: Becomes,
    is_model: bool,
    agent: String,
    folder: PathBuf,
    session: String,
    /// The session whose agent session is named.
    donor: Option<String>,
    named: Option<String>,
    /// What the flow acts on.
    turn: String,
    /// Why each turn runs on its agent session.
    because: Vec<&'static str>,
    /// The first id, as soon as there is one.
    first: Value,
}

async fn matrix(peer: &Peer) {
    let world = World::new();
    let data = world.path("data");
    let mut cells = Vec::new();
    let mut config = String::from("[keeper]\nhold_ms = 0\n");
    for (condition, becomes) in peer.table {
        if let CannotBe(reason) = becomes {
            println!("{}: no {condition:?}: {reason}", peer.protocol);
            continue;
        }
        for flow in FLOWS {
            let cell = Cell::new(peer, flow, condition, becomes, &data);
            write!(config, "{}", cell.config(peer, &world)).unwrap();
            cells.push(cell);
        }
    }
    std::fs::write(data.join("config.toml"), config).unwrap();

    let mut server = Server::start(&data);
    let begun = stream::iter(cells).map(|mut cell| async {
        cell.begin(&server).await;
        if !cell.is_restarted() {
            cell.act(&server).await;
        }
        cell
    });
    let cells: Vec<Cell> = begun.buffered(AT_ONCE).collect().await;
    server.kill();
    server = Server::start(&data);
    let acted = stream::iter(cells).map(|mut cell| async {
        if cell.is_restarted() {
            cell.act(&server).await;
        }
        cell.check(&server).await;
        cell
    });
    let cells: Vec<Cell> = acted.buffered(AT_ONCE).collect().await;
    println!("{}: {} cells", peer.protocol, cells.len());
    server.kill();
}

impl Cell {
    fn new(peer: &Peer, flow: Flow, condition: Condition, becomes: Becomes, data: &Path) -> Cell {
        let agent = format!("{flow:?}-{condition:?}").to_lowercase();
        let folder = data.join(&agent);
        let (donor, named, turn, because) = (None, None, String::new(), Vec::new());
        Cell {
            flow,
            condition,
            becomes,
            is_model: peer.program.is_none(),
            agent,
            folder,
            session: String::new(),
            donor,
            named,
            turn,
            because,
            first: Value::Null,
        }
    }

    fn config(&self, peer: &Peer, world: &World) -> String {
        let head = format!("[agents.{}]\nprotocol = {:?}\n", self.agent, peer.protocol);
        let within = if self.condition == Silent { format!("open_within_s = {OPEN_WITHIN_S}\n") } else { String::new() };
        match peer.program {
            Some(program) => {
                format!("{head}{within}command = [{:?}, {program:?}]\nenv = {{ SCRIPTED_DIR = {:?} }}\n", xtask(), self.folder)
            }
            None => {
                let path = if peer.protocol == "openai" { "/v1" } else { "" };
                format!("{head}base_url = \"{}{path}\"\nmodel = \"fake\"\n", world.url)
            }
        }
    }

    /// An agent session is validated when an agent that is not open yet is to open it.
    fn is_restarted(&self) -> bool {
        self.flow == Restart || !matches!(self.condition, Named | Plain)
    }

    /// The agent session that the flow comes to, and what it comes after.
    async fn begin(&mut self, server: &Server) {
        let mut new = json!({ "agent": self.agent });
        if self.condition == Named || (self.flow == First && self.condition != Plain) {
            let donor = server.session(new.clone()).await;
            self.ask(server, &donor, json!({ "input": "elsewhere" })).await;
            self.named = Some(pin(server, &donor).await["first"].as_str().unwrap().to_owned());
            self.donor = Some(donor);
            if self.condition == Named && self.becomes == MovesOn {
                self.next(self.named.as_deref(), "other");
            }
            // A first turn finds the id on its session, where it does not name it itself.
            if self.flow == First && self.condition != Named {
                new["agent_session"] = json!(self.named);
            }
        }
        self.session = server.session(new).await;
        if self.flow == First {
            return;
        }
        let fails = match (self.is_model, self.flow) {
            (true, Fallback) => "FAIL:fake",
            (true, _) => "FAIL",
            (false, _) => "!fail:once",
        };
        let (first, second) = match self.flow {
            First => return,
            Next | Build | Refresh | Restart => ("one".to_owned(), None),
            Retry | Continue | Fallback if self.condition == Named => ("one".to_owned(), Some(format!("two {fails}"))),
            Retry | Continue | Fallback => (format!("one {fails}"), None),
            Redo if self.condition == Named => ("one".to_owned(), Some("two".to_owned())),
            Redo => ("one".to_owned(), None),
            RedoBuild => ("the plan".to_owned(), Some("proceed with build !tool".to_owned())),
        };
        let turn = self.ask(server, &self.session.clone(), json!({ "input": first })).await;
        self.turn = turn["id"].as_str().unwrap().to_owned();
        self.because.push("detected");
        self.first = pin(server, &self.session).await["first"].clone();
        if let Some(second) = second {
            let turn = self.ask(server, &self.session.clone(), self.asking(second)).await;
            self.turn = turn["id"].as_str().unwrap().to_owned();
            self.because.push(if self.named.is_some() { "request" } else { "inherited" });
        }
    }

    /// What becomes of the next try to open the session.
    fn next(&self, id: Option<&str>, opening: &str) {
        std::fs::write(self.folder.join(format!("{}.next", id.unwrap())), format!("{opening}\n")).unwrap();
    }

    /// A turn that names the id where it is to.
    fn asking(&self, input: String) -> Value {
        match &self.named {
            Some(named) if self.condition == Named => json!({ "input": input, "agent_session": named }),
            Some(_) | None => json!({ "input": input }),
        }
    }

    async fn ask(&self, server: &Server, session: &str, body: Value) -> Value {
        let turn = server.post(&format!("/api/sessions/{session}/turns"), body).await;
        ended(server, turn["id"].as_str().unwrap()).await
    }

    async fn act(&mut self, server: &Server) {
        let id = self.named.as_deref().or(self.first.as_str());
        match self.condition {
            Silent => self.next(id, "silent"),
            Unknown => self.next(id, "unknown"),
            Lost => self.next(id, "lost"),
            Other => self.next(id, "other"),
            Named | Plain => {}
        }
        let path = |what: &str| format!("/api/turns/{}/{what}", self.turn);
        let other = if self.is_model { "other" } else { "scripted/two" };
        let turns = format!("/api/sessions/{}/turns", self.session);
        let turn = match self.flow {
            First | Next | Restart => server.post(&turns, self.asking("now".into())).await,
            Build => server.post(&turns, self.asking("proceed with build !tool".into())).await,
            Refresh => {
                let page = server.get(&format!("/api/sessions/{}/snapshot", self.session)).await;
                assert_eq!(page["session"]["agent_sessions"][0]["first"], self.first, "{}", self.agent);
                server.post(&turns, self.asking("now".into())).await
            }
            Retry => server.post(&path("retry"), json!({})).await,
            Redo | RedoBuild => server.post(&path("redo"), json!({})).await,
            Continue => server.post(&path("continue"), json!({})).await,
            Fallback => server.post(&path("retry"), json!({ "model": other })).await,
        };
        let mut turn = ended(server, turn["id"].as_str().unwrap()).await;
        if self.becomes == Refused {
            let code = &turn["error"]["code"];
            assert_eq!((&turn["state"], code), (&json!("failed"), &json!("agent_session_unknown")), "{}: {turn}", self.agent);
            assert_eq!(turn["error"]["may_have_happened"], false, "{}", self.agent);
            turn = server.post(&format!("/api/turns/{}/retry", turn["id"].as_str().unwrap()), json!({})).await;
            turn = ended(server, turn["id"].as_str().unwrap()).await;
        }
        let model_says_no_again = self.is_model && self.flow == Retry;
        assert_eq!(turn["state"], if model_says_no_again { "failed" } else { "completed" }, "{}: {turn}", self.agent);
        assert_eq!(turn["tries"]["opening"], u64::from(self.becomes == PutOff), "{}: {turn}", self.agent);
        if self.flow == Fallback {
            assert_eq!(turn["model"], other, "{}: {turn}", self.agent);
        }
        self.because.push(match (self.condition, self.becomes, self.flow) {
            (Named, ..) => "request",
            (_, BegunAgain, _) => "preserved",
            (Plain, _, First) => "detected",
            _ => "inherited",
        });
        let last = self.ask(server, &self.session, json!({ "input": "the last" })).await;
        assert_eq!(last["state"], "completed", "{}: {last}", self.agent);
        self.because.push("inherited");
    }

    async fn check(&self, server: &Server) {
        let cell = &self.agent;
        let events = server.events(&self.session).await;
        let of = |kind: &str| events.iter().filter(|event| event["kind"] == kind).cloned().collect::<Vec<_>>();
        let started: Vec<Value> = of("turn.started").into_iter().map(|event| event["data"]["agent_session_because"].clone()).collect();
        assert_eq!(started, self.because, "{cell}: OC-12: every resolution is in the log");
        let pins = of("agent_session.pinned");
        assert_eq!(pins.len(), 1, "{cell}: one id is pinned, once");
        let pinned = pin(server, &self.session).await;
        assert_eq!(pinned["first"], pins[0]["data"]["agent_session"], "{cell}: the first id is final");
        if self.flow != First {
            assert_eq!(pinned["first"], self.first, "{cell}: the first id is final");
        } else if let Some(named) = &self.named {
            assert_eq!(pinned["first"], named.as_str(), "{cell}: the id that was named");
        }
        let successors = pinned["successors"].as_array().unwrap();
        let causes: BTreeSet<&str> = successors.iter().map(|successor| successor["cause"].as_str().unwrap()).collect();
        let listed = match (self.condition, self.becomes, self.flow) {
            (Named, Runs, First) => BTreeSet::new(),
            (Named, ..) => BTreeSet::from(["explicit"]),
            (_, MovesOn, _) => BTreeSet::from(["agent"]),
            _ => BTreeSet::new(),
        };
        assert_eq!(causes, listed, "{cell}: OC-10: {pinned}");
        let current = if self.becomes == MovesOn && self.condition != Named { &successors[0]["id"] } else { &pinned["first"] };
        assert_eq!(pinned["current"], *current, "{cell}: {pinned}");
        if self.is_model {
            return;
        }
        let mut explained = ids(&pinned);
        if let Some(donor) = &self.donor {
            explained.extend(ids(&pin(server, donor).await));
        }
        assert_eq!(self.sessions(), explained, "{cell}: every session that the agent has is in a log, and the other way round");
        self.check_prompts(server, &pinned, &events).await;
    }

    /// Each turn that was started was given to the agent once, and the last one there had seen all that came before.
    async fn check_prompts(&self, server: &Server, pinned: &Value, events: &[Value]) {
        let log = std::fs::read_to_string(self.folder.join("prompts.log")).unwrap();
        let prompts: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let started = events.iter().filter(|event| event["kind"] == "turn.started").count();
        assert_eq!(prompts.len(), started + usize::from(self.donor.is_some()), "{}: {log}", self.agent);
        let line: Vec<&Value> = if self.becomes == MovesOn && self.condition != Named {
            vec![&pinned["first"], &pinned["current"]]
        } else {
            vec![&pinned["first"]]
        };
        let seen = match self.becomes {
            // Nothing of it was left; the conversation was given anew.
            BegunAgain => 2,
            _ => prompts.iter().filter(|prompt| line.contains(&&prompt["session"])).count(),
        };
        let said = server.said(&self.session).await;
        assert_eq!(said.last().unwrap().1, format!("reply {seen} to: the last"), "{}: {log}", self.agent);
        let given: Vec<u64> = events.iter().filter_map(|event| event["data"]["given_messages"].as_u64()).collect();
        let told = given.iter().filter(|given| **given > 0).count();
        // Of the first request asked again, there is nothing before it.
        let expected = usize::from(self.becomes == BegunAgain && !matches!(self.flow, First | Retry | Redo | Fallback));
        assert!(self.condition == Named || told == expected, "{}: what it holds is not told again: {given:?}", self.agent);
    }

    /// The ids of the sessions that the agent has.
    fn sessions(&self) -> BTreeSet<String> {
        let files = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        files.filter_map(|name| name.strip_suffix(".session").map(str::to_owned)).collect()
    }
}

async fn pin(server: &Server, session: &str) -> Value {
    let held = server.get(&format!("/api/sessions/{session}")).await;
    assert_eq!(held["agent_sessions"].as_array().unwrap().len(), 1, "{held}");
    held["agent_sessions"][0].clone()
}

fn ids(pinned: &Value) -> BTreeSet<String> {
    let successors = pinned["successors"].as_array().unwrap().iter().map(|successor| &successor["id"]);
    successors.chain([&pinned["first"]]).map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// Looked for less often than elsewhere: many wait at once.
async fn ended(server: &Server, turn: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let held = server.get(&format!("/api/turns/{turn}")).await;
        if !held["ended_at"].is_null() {
            return held;
        }
        assert!(Instant::now() < until, "the turn stays {held}\n{}", stderr(&server.data));
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_01_to_12_an_acp_agents_session_is_one_through_ten_flows_and_six_conditions() {
    matrix(&ACP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_01_to_12_claude_codes_session_is_one_through_ten_flows_and_six_conditions() {
    matrix(&CLAUDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_01_to_12_a_codex_thread_is_one_through_ten_flows_and_six_conditions() {
    matrix(&CODEX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_01_to_12_a_models_session_is_one_name_through_ten_flows() {
    for peer in [OPENAI, ANTHROPIC] {
        matrix(&peer).await;
    }
}
