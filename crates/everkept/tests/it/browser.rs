//! The first page in a real browser: the login link opens it, the sessions and their transcript are there, live.

use crate::bench::*;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// A headless Chromium with one page, driven over its own debugging protocol.
struct Browser {
    child: Child,
    page: Socket,
    last: u64,
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
        let pause = || tokio::time::sleep(Duration::from_millis(50));
        let port = loop {
            let said = std::fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
            if let Some(port) = said.lines().next().filter(|port| !port.is_empty()) {
                break port.to_owned();
            }
            assert!(Instant::now() < until, "chromium does not start");
            pause().await;
        };
        // Once for the whole process; a client cannot be made without.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let address = loop {
            let pages = client.get(format!("http://127.0.0.1:{port}/json/list")).send().await;
            if let Ok(pages) = pages {
                let pages: Value = pages.json().await.unwrap();
                let page = pages.as_array().unwrap().iter().find(|page| page["type"] == "page");
                if let Some(page) = page {
                    break page["webSocketDebuggerUrl"].as_str().unwrap().to_owned();
                }
            }
            assert!(Instant::now() < until, "chromium opens no page");
            pause().await;
        };
        let (page, _) = tokio_tungstenite::connect_async(address).await.unwrap();
        let mut browser = Browser { child, page, last: 0 };
        // Else it answers dialogs by itself.
        browser.call("Page.enable", json!({})).await;
        browser
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let call = json!({ "id": self.last, "method": method, "params": params }).to_string();
        self.page.send(Message::Text(call.into())).await.unwrap();
        loop {
            let said = tokio::time::timeout(PATIENCE, self.page.next()).await.unwrap_or_else(|_| panic!("no answer to {method}"));
            let Message::Text(said) = said.expect("the browser stays").unwrap() else { continue };
            let said: Value = serde_json::from_str(&said).unwrap();
            if said["id"] == self.last {
                return said["result"].clone();
            }
        }
    }

    async fn visit(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
    }

    async fn evaluate(&mut self, expression: &str) -> Value {
        self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true })).await["result"]["value"].clone()
    }

    /// Waits until the page shows a text.
    async fn shows(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.evaluate("document.body ? document.body.innerText : ''").await;
            let shown = shown.as_str().unwrap_or_default().to_owned();
            if shown.contains(text) {
                return shown;
            }
            assert!(Instant::now() < until, "the page never shows {text:?} but {shown:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a text is gone from the page.
    async fn shows_no_more(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.evaluate("document.body ? document.body.innerText : ''").await;
            match shown.as_str() {
                Some(shown) if !shown.contains(text) => return shown.to_owned(),
                shown => assert!(Instant::now() < until, "the page still shows {text:?}: {shown:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Says yes to the dialog the page opens.
    async fn accept_dialog(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.call("Page.handleJavaScriptDialog", json!({ "accept": true })).await.is_null() {
            assert!(Instant::now() < until, "the page opens no dialog");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_09_on_n4_the_login_link_opens_the_page_once_and_it_shows_sessions_and_answers_live() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let session = server.session(json!({ "title": "Roof <b>repairs</b>" })).await;
    server.ended(&server.send(&session, "fix the <i>roof</i>").await).await;
    assert!(server.login.contains("/login#code="), "{}", server.login);
    let mut browser = Browser::open(&data.path().join("profile")).await;
    browser.visit(&server.login).await;
    browser.shows("Roof <b>repairs</b>").await;
    browser.visit(&server.url(&format!("/?session={session}"))).await;
    browser.shows("reply 1 to: fix the <i>roof</i>").await;
    assert_eq!(browser.evaluate("document.querySelectorAll('b, i').length").await, 0, "text is text");
    server.ended(&server.send(&session, "and the gutter").await).await;
    browser.shows("reply 2 to: and the gutter").await;
    let mut stranger = Browser::open(&data.path().join("stranger")).await;
    stranger.visit(&server.login).await;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let shown = stranger.evaluate("document.body ? document.body.innerText : ''").await;
        assert!(!shown.as_str().unwrap_or_default().contains("Roof"), "the link works once");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_11_a_deleted_session_leaves_the_list_of_every_open_page() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.session(json!({ "title": "stays" })).await;
    server.session(json!({ "title": "by its pair", "resource": "anna", "thread": "t" })).await;
    let by_hand = server.session(json!({ "title": "by hand" })).await;
    let mut browser = Browser::open(&data.path().join("profile")).await;
    browser.visit(&server.login).await;
    browser.shows("by its pair").await;
    server.delete("/api/threads/anna/t").await;
    browser.shows_no_more("by its pair").await;
    browser.visit(&server.url(&format!("/?session={by_hand}"))).await;
    browser.shows("by hand").await;
    // The list has its title before the page has the session.
    browser.shows("Delete").await;
    // The click opens a dialog, which holds the page until it is answered.
    browser.evaluate("setTimeout(() => document.getElementById('remove').click())").await;
    browser.accept_dialog().await;
    let shown = browser.shows_no_more("by hand").await;
    assert!(shown.contains("stays"), "{shown:?}");
    assert_eq!(server.get("/api/sessions?deleted=true&count=true").await["total"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_phone_the_list_is_no_wider_than_the_screen_whatever_the_titles() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.session(json!({ "title": "A title that goes on and on, ".repeat(8) })).await;
    let mut browser = Browser::open(&data.path().join("profile")).await;
    let phone = json!({ "width": 390, "height": 780, "deviceScaleFactor": 1, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", phone).await;
    browser.visit(&server.login).await;
    browser.shows("A title that goes on").await;
    let edge = browser.evaluate("Math.ceil(document.getElementById('new').getBoundingClientRect().right)").await;
    assert!((1..=390).contains(&edge.as_i64().unwrap()), "the button for a new session ends at {edge} of 390");
}
