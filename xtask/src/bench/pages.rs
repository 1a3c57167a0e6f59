//! What a browser is sent for the pages, and how long a conversation of 10,000 messages takes to be there.
//!
//! Never timed by us: the browser's own clock says when it painted and when the conversation stood.

use super::Options;
use super::figure::{Figure, median};
use super::server::{Folder, Server};
use anyhow::{Context, bail};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

const MESSAGES: usize = 10_000;
const AT_ONCE: usize = 500;
const PATIENCE: Duration = Duration::from_secs(60);
const CODE: &str = "some code:\n\n```rust\nfn main() {}\n```\n";

pub fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let session = server.session(&json!({ "title": "long" }))?;
    let mut connection = server.connect()?;
    for piece in 0..MESSAGES / AT_ONCE {
        let message = |number: usize| json!({ "role": if number.is_multiple_of(2) { "user" } else { "assistant" }, "content": CODE });
        let messages: Vec<_> = (piece * AT_ONCE..(piece + 1) * AT_ONCE).map(message).collect();
        connection.post(&format!("/api/sessions/{session}/messages"), json!({ "messages": messages }).to_string().as_bytes())?;
    }
    server.settle()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let link = connection.post("/api/login-links", b"{}")?["url"].as_str().context("a link has a url")?.to_owned();
        rounds.push(runtime.block_on(round(&link, &session))?);
    }
    let of = |what: fn(&Round) -> f64| median(rounds.iter().map(what).collect());
    Ok(vec![
        Figure::new("scripts and styles of all pages, as they are sent", "KiB", of(|round| round.kib)).at_most(150.0, 100.0),
        Figure::new("10,000 messages: first paint", "ms", of(|round| round.painted)).at_most(500.0, 250.0),
        Figure::new("10,000 messages: the conversation can be read and answered", "ms", of(|round| round.shown)),
        Figure::new("the same from the browser's cache: first paint", "ms", of(|round| round.again)),
    ])
}

struct Round {
    kib: f64,
    painted: f64,
    shown: f64,
    again: f64,
}

async fn round(link: &str, session: &str) -> anyhow::Result<Round> {
    let mut browser = Browser::open().await?;
    browser.call("Network.enable", json!({})).await?;
    browser.go(link).await?;
    browser.until("Boolean(document.querySelector('.filters')?.checkVisibility())").await?;
    let address = link.split("/login").next().unwrap_or_default();
    let conversation = format!("{address}/chat?session={session}");
    // As somebody who was never here: nothing of it is in the browser.
    browser.call("Network.clearBrowserCache", json!({})).await?;
    browser.sent.clear();
    let (painted, shown) = browser.time(&conversation).await?;
    browser.until("Boolean(document.querySelector('[class^=hl-]'))").await?;
    let bytes: f64 = browser.sent.iter().filter_map(|(script, bytes)| script.then_some(*bytes)).sum();
    let (again, _) = browser.time(&conversation).await?;
    Ok(Round { kib: bytes / 1024.0, painted, shown, again })
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// A headless Chromium with one page.
struct Browser {
    child: Child,
    socket: Socket,
    /// The page's, in the browser's one socket.
    session: Option<Value>,
    last: u64,
    /// Requests by their id: whether it is a script or a style.
    kinds: std::collections::BTreeMap<String, bool>,
    sent: Vec<(bool, f64)>,
    _profile: Folder,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Browser {
    async fn open() -> anyhow::Result<Browser> {
        let profile = Folder::new()?;
        let mut command = Command::new("chromium");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", "about:blank"]);
        command.arg(format!("--user-data-dir={}", profile.0.display())).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("chromium does not start: run `cargo xtask setup`")?;
        let until = Instant::now() + PATIENCE;
        let address = loop {
            let said = fs::read_to_string(profile.0.join("DevToolsActivePort")).unwrap_or_default();
            if let Some((port, path)) = said.trim().split_once('\n') {
                break format!("ws://127.0.0.1:{port}{path}");
            }
            if Instant::now() > until {
                bail!("chromium does not start");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let (socket, _) = tokio_tungstenite::connect_async(address).await?;
        let mut browser = Browser { child, socket, session: None, last: 0, kinds: Default::default(), sent: Vec::new(), _profile: profile };
        let pages = browser.call("Target.getTargets", json!({})).await?;
        let page = pages["targetInfos"].as_array().and_then(|pages| pages.iter().find(|page| page["type"] == "page"));
        let target = page.context("chromium has a page")?["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await?;
        browser.session = Some(attached["sessionId"].clone());
        Ok(browser)
    }

    async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last += 1;
        let mut call = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            call["sessionId"] = session.clone();
        }
        self.socket.send(Message::Text(call.to_string().into())).await?;
        loop {
            let said = tokio::time::timeout(PATIENCE, self.socket.next()).await.with_context(|| format!("no answer to {method}"))?;
            let Message::Text(said) = said.context("the browser is gone")?? else { continue };
            let mut said: Value = serde_json::from_str(&said)?;
            if said["id"] == self.last {
                return Ok(said["result"].take());
            }
            self.hear(&said);
        }
    }

    fn hear(&mut self, said: &Value) {
        let params = &said["params"];
        let id = params["requestId"].as_str().unwrap_or_default();
        match said["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                let kind = params["type"].as_str().unwrap_or_default();
                self.kinds.insert(id.to_owned(), kind == "Script" || kind == "Stylesheet");
            }
            Some("Network.loadingFinished") => {
                let code = self.kinds.get(id).copied().unwrap_or(false);
                self.sent.push((code, params["encodedDataLength"].as_f64().unwrap_or(0.0)));
            }
            _ => {}
        }
    }

    async fn go(&mut self, url: &str) -> anyhow::Result<()> {
        self.call("Page.navigate", json!({ "url": url })).await.map(|_| ())
    }

    async fn evaluate(&mut self, expression: &str) -> anyhow::Result<Value> {
        let asked = json!({ "expression": expression, "returnByValue": true });
        Ok(self.call("Runtime.evaluate", asked).await?["result"]["value"].take())
    }

    async fn until(&mut self, expression: &str) -> anyhow::Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let value = self.evaluate(expression).await?;
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return Ok(value);
            }
            if Instant::now() > until {
                bail!("the page never says {expression}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// When a page first painted and when its conversation stood, in milliseconds since it was gone to.
    async fn time(&mut self, url: &str) -> anyhow::Result<(f64, f64)> {
        self.go("about:blank").await?;
        self.go(url).await?;
        let mark = |name: &str| format!("performance.getEntriesByName('{name}')[0]?.startTime ?? null");
        let shown = self.until(&mark("conversation-shown")).await?;
        let painted = self.until(&mark("first-contentful-paint")).await?;
        Ok((painted.as_f64().context("a time")?, shown.as_f64().context("a time")?))
    }
}
