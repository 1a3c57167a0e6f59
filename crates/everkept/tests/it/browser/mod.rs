//! The pages in a real browser: every flow, at a desk and on a phone, whatever breaks, whatever was written.

mod broken;
mod chat;
mod hostile;
mod list;
mod looks;
mod pages;

use crate::bench::*;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Width, height, and whether it is a phone.
type Size = (u32, u32, bool);
const DESK: Size = (1280, 850, false);
const PHONE: Size = (390, 800, true);
const SIZES: [Size; 2] = [DESK, PHONE];

/// A headless Chromium with one page, driven over its own debugging protocol.
struct Browser {
    child: Child,
    page: Socket,
    port: String,
    last: u64,
    /// What the page did by itself, as (method, params).
    heard: Vec<(String, Value)>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    async fn open(profile: &Path) -> Browser {
        let mut command = Command::new("chromium");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--remote-debugging-port=0"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "about:blank"]);
        command.arg(format!("--user-data-dir={}", profile.display())).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("chromium is missing: run `cargo xtask setup`");
        let until = Instant::now() + PATIENCE;
        let port = loop {
            let said = std::fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
            if let Some(port) = said.lines().next().filter(|port| !port.is_empty()) {
                break port.to_owned();
            }
            assert!(Instant::now() < until, "chromium does not start");
            pause().await;
        };
        let page = attach(&port, "GET", "json/list").await;
        let mut browser = Browser { child, page, port, last: 0, heard: Vec::new() };
        browser.listen().await;
        browser.size(DESK).await;
        browser
    }

    /// Lets the page in, and waits until it shows something.
    async fn signed_in(profile: &Path, server: &Server) -> Browser {
        let mut browser = Browser::open(profile).await;
        browser.visit(&server.login).await;
        browser.until("document.querySelector('.filters')").await;
        browser
    }

    /// A second tab; this one goes on in the background until it is taken up again.
    async fn tab(&mut self) -> Socket {
        let fresh = attach(&self.port, "PUT", "json/new?about:blank").await;
        let old = std::mem::replace(&mut self.page, fresh);
        self.listen().await;
        old
    }

    async fn listen(&mut self) {
        // Else it answers dialogs by itself.
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"] {
            self.call(domain, json!({})).await;
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let call = json!({ "id": self.last, "method": method, "params": params }).to_string();
        self.page.send(Message::Text(call.into())).await.unwrap();
        loop {
            let said = tokio::time::timeout(PATIENCE, self.page.next()).await.unwrap_or_else(|_| panic!("no answer to {method}"));
            let Message::Text(said) = said.expect("the browser stays").unwrap() else { continue };
            let mut said: Value = serde_json::from_str(&said).unwrap();
            if said["id"] == self.last {
                return said["result"].take();
            }
            if let Some(heard) = said["method"].as_str() {
                self.heard.push((heard.to_owned(), said["params"].take()));
            }
        }
    }

    async fn size(&mut self, (width, height, phone): Size) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        self.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": phone })).await;
    }

    async fn visit(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
    }

    async fn reload(&mut self) {
        self.call("Page.reload", json!({})).await;
    }

    async fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true });
        self.call("Runtime.evaluate", asked).await["result"]["value"].clone()
    }

    /// Waits until an expression is true of the page, and answers its value.
    async fn until(&mut self, expression: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let value = self.evaluate(&format!("(() => {{ const it = {expression}; return it instanceof Node ? true : it; }})()")).await;
            if !matches!(value, Value::Null | Value::Bool(false)) && value != 0 && value != "" {
                return value;
            }
            if Instant::now() > until {
                let shown = self.evaluate("document.body?.innerText").await;
                panic!("never: {expression}\nthe page shows {shown}\nand did {:#?}", self.mistakes());
            }
            pause().await;
        }
    }

    /// Waits until the page shows a text.
    async fn shows(&mut self, text: &str) {
        self.until(&format!("document.body?.innerText.includes({})", json!(text))).await;
    }

    async fn shows_no_more(&mut self, text: &str) {
        self.until(&format!("document.body && !document.body.innerText.includes({})", json!(text))).await;
    }

    /// Presses the first that is there and can be pressed: a selector, or a text that a button has.
    async fn press(&mut self, what: &str) {
        let what = json!(what);
        let find = format!(
            "(() => {{ let it = null; try {{ it = document.querySelector({what}); }} catch {{}} \
             it ??= [...document.querySelectorAll('button, a.button, a, summary, [role=menuitem]')].find((one) => one.textContent.trim() === {what} && one.checkVisibility()); \
             if (!it || it.disabled) return false; it.click(); return true; }})()"
        );
        self.until(&find).await;
    }

    /// Fills a field as a person would, as far as the page can tell.
    async fn fill(&mut self, selector: &str, text: &str) {
        let fill = format!(
            "(() => {{ const it = document.querySelector({}); if (!it) return false; it.value = {}; \
             it.dispatchEvent(new Event('input', {{ bubbles: true }})); it.dispatchEvent(new Event('change', {{ bubbles: true }})); return true; }})()",
            json!(selector),
            json!(text)
        );
        self.until(&fill).await;
    }

    async fn key(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            "ArrowDown" => 40,
            "Delete" => 46,
            other => u32::from(other.as_bytes()[0].to_ascii_uppercase()),
        };
        let text = if key == "Enter" {
            "\r"
        } else if key.len() == 1 {
            key
        } else {
            ""
        };
        let down = json!({ "type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "text": text });
        self.call("Input.dispatchKeyEvent", down).await;
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code })).await;
    }

    /// Says something in the conversation that is open.
    async fn say(&mut self, text: &str) {
        self.fill("#input", text).await;
        self.press("#send").await;
    }

    /// The session of the page's address.
    async fn session(&mut self) -> String {
        self.until("new URLSearchParams(location.search).get('session')").await.as_str().unwrap().to_owned()
    }

    /// What the conversation's messages say: as the page holds it, and as it shows it.
    async fn said(&mut self) -> Vec<(String, String, String)> {
        let read = "[...document.querySelectorAll('#transcript .message:not(.unsent)')].map((one) => [one.classList[1], \
            [...one.source.parts.values()].filter((part) => part.type === 'text').map((part) => part.text).join(''), \
            [...one.querySelectorAll('.text')].filter((text) => !text.closest('details')).map((text) => text.textContent).join('')])";
        serde_json::from_value(self.evaluate(read).await).unwrap()
    }

    /// What the page should not have done: errors, dialogs, refusals by its own policy.
    fn mistakes(&self) -> Vec<String> {
        let bad = |(method, params): &(String, Value)| match method.as_str() {
            "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
            "Page.javascriptDialogOpening" => Some(format!("a dialog: {params}")),
            // The network's own complaints are the test's to judge: it takes the server away.
            "Log.entryAdded" if params["entry"]["source"] != "network" && params["entry"]["level"] == "error" => {
                Some(params["entry"].to_string())
            }
            _ => None,
        };
        self.heard.iter().filter_map(bad).collect()
    }

    fn no_mistakes(&self) {
        assert_eq!(self.mistakes(), Vec::<String>::new());
    }
}

/// The debugging socket of a page.
async fn attach(port: &str, method: &str, path: &str) -> Socket {
    // Once for the whole process; a client cannot be made without.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let asked = client.request(method.parse().unwrap(), format!("http://127.0.0.1:{port}/{path}")).send().await;
        if let Ok(answer) = asked {
            let answer: Value = answer.json().await.unwrap();
            let pages = answer.as_array().cloned().unwrap_or_else(|| vec![answer]);
            if let Some(page) = pages.iter().find(|page| page["type"] == "page") {
                let (page, _) = tokio_tungstenite::connect_async(page["webSocketDebuggerUrl"].as_str().unwrap()).await.unwrap();
                return page;
            }
        }
        assert!(Instant::now() < until, "chromium opens no page");
        pause().await;
    }
}

/// What the scripted agent says when it is told `!verbatim`.
fn will_say(data: &Path, words: &str) {
    std::fs::write(data.join("scripted/verbatim.json"), words).unwrap();
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// A server with a second agent, that answers too.
fn start(data: &Path) -> Server {
    with_scripted_agent(data);
    let config =
        std::fs::read_to_string(data.join("config.toml")).unwrap().replace("default_agent = \"scripted\"", "default_agent = \"demo\"");
    std::fs::write(data.join("config.toml"), config).unwrap();
    Server::start(data)
}
