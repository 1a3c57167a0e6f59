//! What Everkept adds to an agent: the same turns of the same agent, driven by hand and through the server, by turns.
//!
//! The agent is the scripted one, which says 200 words at once. Never counts the client, which is this process.

use super::Options;
use super::figure::{Figure, median};
use super::server::{Folder, Server, cpu};
use super::turns::{WORDS, turn};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// CPU is counted in steps of 10 ms.
const TURNS: u64 = 50;

pub fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let words = vec!["word"; WORDS].join(" ");
    let own = Folder::new()?;
    let mut bare = Bare::start(&own.0)?;
    let server = serve()?;
    let session = server.session(&json!({"title": "a title"}))?;
    let input = json!({ "input": words }).to_string();
    // The first turn opens the agent's session.
    bare.turn(&words)?;
    let mut head = turn(&server, &session, 1, &input)?.head;
    let processes = Processes::of(&server)?;
    let (mut added, mut of_server, mut of_keeper, mut of_bare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut whole, mut bare_whole) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let before = cpu(bare.child.id())?;
        for _ in 0..TURNS {
            let begun = Instant::now();
            bare.turn(&words)?;
            bare_whole.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let alone = a_turn(cpu(bare.child.id())? - before);
        let before = processes.cpu()?;
        for _ in 0..TURNS {
            let turn = turn(&server, &session, head, &input)?;
            head = turn.head;
            whole.push(turn.whole * 1e3);
        }
        let after = processes.cpu()?;
        let [server, keeper, agent] = [0, 1, 2].map(|at| a_turn(after[at] - before[at]));
        added.push(server + keeper + agent - alone);
        of_server.push(server);
        of_keeper.push(keeper);
        of_bare.push(alone);
    }
    let (mut commits, mut syncs) = (0, f64::NAN);
    if let Some(counting) = server.count_syncs() {
        for _ in 0..TURNS {
            let turn = turn(&server, &session, head, &input)?;
            (head, commits) = (turn.head, commits + turn.commits);
        }
        syncs = counting.end().map_or(f64::NAN, |syncs| syncs / TURNS as f64);
    }
    let what = |what: &str| format!("200 words of an ACP agent: {what}");
    Ok(vec![
        Figure::new(what("CPU added a turn"), "ms", median(added)).at_most(15.0, 6.0),
        Figure::new(what("the server's CPU"), "ms", median(of_server)),
        Figure::new(what("the keeper's CPU"), "ms", median(of_keeper)),
        Figure::new(what("the bare agent's CPU"), "ms", median(of_bare)),
        Figure::new(what("turn after"), "ms", median(whole)).floor(median(bare_whole)),
        // The turn's deltas are packed in a commit that shows nothing. Now and then there is a checkpoint.
        Figure::new(what("syncs a turn, by commits"), "", syncs).floor(commits as f64 / TURNS as f64 + 1.0).times_floor(1.1, 1.05),
    ])
}

fn a_turn(cpu: Duration) -> f64 {
    cpu.as_secs_f64() * 1e3 / TURNS as f64
}

fn serve() -> anyhow::Result<Server> {
    let folder = Folder::new()?;
    let (program, agent) = (std::env::current_exe()?, folder.0.join("agent"));
    let config = format!(
        "default_agent = \"scripted\"\n[agents.scripted]\nprotocol = \"acp\"\ncommand = [{:?}, \"scripted-agent\"]\nenv = {{ SCRIPTED_DIR = {:?} }}\n",
        program, agent
    );
    fs::write(folder.0.join("config.toml"), config)?;
    Server::start_in(folder)
}

/// The server, its keeper and the agent under it.
struct Processes([u32; 3]);

impl Processes {
    fn of(server: &Server) -> anyhow::Result<Self> {
        let keeper = child_of(server.pid()).context("the server has a keeper")?;
        let agent = child_of(keeper).context("the keeper has an agent")?;
        Ok(Processes([server.pid(), keeper, agent]))
    }

    fn cpu(&self) -> anyhow::Result<[Duration; 3]> {
        let Processes([server, keeper, agent]) = *self;
        Ok([cpu(server)?, cpu(keeper)?, cpu(agent)?])
    }
}

fn child_of(parent: u32) -> Option<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        after.split_whitespace().nth(1).and_then(|ppid| ppid.parse::<u32>().ok()) == Some(parent)
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_child)
}

/// The agent and nothing between.
struct Bare {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Value,
    last: u64,
}

impl Bare {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("scripted-agent").env("SCRIPTED_DIR", folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("the agent does not start")?;
        let input = child.stdin.take().context("its input is piped")?;
        let output = BufReader::new(child.stdout.take().context("its output is piped")?);
        let mut bare = Bare { child, input, output, session: Value::Null, last: 0 };
        bare.call("initialize", json!({ "protocolVersion": 1 }))?;
        bare.session = bare.call("session/new", json!({ "cwd": folder, "mcpServers": [] }))?.0["sessionId"].clone();
        Ok(bare)
    }

    fn turn(&mut self, words: &str) -> anyhow::Result<()> {
        let prompt = json!({ "sessionId": self.session, "prompt": [{ "type": "text", "text": words }] });
        let (result, said) = self.call("session/prompt", prompt)?;
        ensure!(result["stopReason"] == "end_turn" && said > WORDS, "the agent said {said} words: {result}");
        Ok(())
    }

    /// The answer, and how many lines came before it.
    fn call(&mut self, method: &str, params: Value) -> anyhow::Result<(Value, usize)> {
        self.last += 1;
        writeln!(self.input, "{}", json!({ "jsonrpc": "2.0", "id": self.last, "method": method, "params": params }))?;
        let (mut line, mut before) = (String::new(), 0);
        loop {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                bail!("the agent ended");
            }
            // Read no more of what is said than a client must that looks for its answer.
            if !line.contains("\"method\"") {
                let mut answer: Value = serde_json::from_str(&line)?;
                ensure!(answer["id"] == self.last && answer["result"].is_object(), "{method}: {line}");
                return Ok((answer["result"].take(), before));
            }
            before += 1;
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
