//! Every page for everybody: no serious fault of accessibility, in both themes and sizes.
//!
//! `EVERKEPT_SHOTS=docs/pages` keeps a picture of each.

use super::*;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::path::PathBuf;

const ANSWER: &str = "Here is **what** to do, in order:\n\n1. Look at the `gutter`\n2. Mend the tiles\n\n```rust\nfn main() {\n    let tiles: u32 = 42; // red ones\n    println!(\"{tiles}\");\n}\n```\n\n\
| tile | cost |\n|---|---|\n| red | 3 |\n| grey | 4 |\n\nThe [guide](https://example.com/guide) has more.\n";

/// A server with something on every page.
async fn furnished(data: &Path) -> (Server, String, String) {
    let server = start(data);
    for (number, title) in ["Plan the garden", "Why is the build slow?", "Translate the letter", "Sort the photographs"].iter().enumerate()
    {
        let owner = if number.is_multiple_of(2) { "anna" } else { "bert" };
        let session = server.session(json!({ "title": title, "resource": owner })).await;
        server.ended(&server.send(&session, &format!("{title}, please")).await).await;
    }
    let roof = server.session(json!({ "title": "Roof repairs", "resource": "anna", "agent": "demo" })).await;
    server.ended(&server.send(&roof, "!think !tool:2 what does the roof need?").await).await;
    let messages = json!([{ "role": "user", "content": "And in detail?" }, { "role": "assistant", "content": ANSWER }]);
    server.post(&format!("/api/sessions/{roof}/messages"), json!({ "messages": messages })).await;
    server.ended(&server.send(&roof, "!fail order the tiles").await).await;
    let turn = server.send(&roof, "thank you").await;
    server.ended(&turn).await;
    server.post(&format!("/api/sessions/{roof}/fork"), json!({ "at": turn, "title": "Roof repairs, cheaper" })).await;
    let deploy = server.session(json!({ "title": "Deploy the shop", "agent": "scripted" })).await;
    let call = json!({ "toolCallId": "edit", "title": "Edit prices.toml", "rawInput": { "file_path": "prices.toml", "old_string": "[tiles]\nred = 3\ngrey = 4", "new_string": "[tiles]\nred = 3.5\ngrey = 4" } });
    let options = json!([{ "optionId": "once", "name": "Allow once", "kind": "allow_once" }, { "optionId": "always", "name": "Always allow", "kind": "allow_always" }, { "optionId": "no", "name": "Reject", "kind": "reject_once" }]);
    let words = json!({ "updates": [{ "sessionUpdate": "tool_call", "toolCallId": "edit", "title": "Edit prices.toml", "kind": "edit", "status": "pending", "rawInput": call["rawInput"] }], "ask": { "toolCall": call, "options": options } });
    will_say(data, &words.to_string());
    server.send(&deploy, "Red tiles cost more from Monday on. Change it. !verbatim").await;
    server.question().await;
    (server, roof, deploy)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_has_a_serious_fault_of_accessibility() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let axe = std::fs::read_to_string(root.join("tests/pages/node_modules/axe-core/axe.min.js"))
        .expect("axe-core is missing: run `cargo xtask setup`");
    let shots = std::env::var_os("EVERKEPT_SHOTS").map(|folder| root.join(PathBuf::from(folder)));
    let data = tempfile::tempdir().unwrap();
    let (server, roof, deploy) = furnished(data.path()).await;
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    let pages = [
        ("list", "/".to_owned(), "document.querySelectorAll('.row').length > 5"),
        ("new", "/chat".to_owned(), "document.querySelector('.hello')"),
        (
            "chat",
            format!("/chat?session={roof}"),
            "document.querySelectorAll('.turn').length === 3 && document.querySelector('[class^=hl-]')",
        ),
        ("question", format!("/chat?session={deploy}"), "document.querySelector('.question .diff')"),
        ("waiting", "/waiting".to_owned(), "document.querySelector('.question')"),
        ("session", format!("/sessions/{roof}"), "document.querySelector('.events li') && document.querySelector('#family .tree')"),
        ("ops", "/ops".to_owned(), "document.querySelector('#usage .figures') && document.querySelector('#waiting .question')"),
        ("login", "/login".to_owned(), "document.querySelector('#status')"),
    ];
    let mut faults = Vec::new();
    for theme in ["light", "dark"] {
        browser.call("Emulation.setEmulatedMedia", json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] })).await;
        for (name, size) in [("wide", DESK), ("phone", PHONE)] {
            browser.size(size).await;
            for (page, path, ready) in &pages {
                browser.visit(&server.url(path)).await;
                browser.until(&format!("location.pathname === '{}' && {ready}", path.split('?').next().unwrap())).await;
                // What is folded is looked at as well.
                browser.evaluate("document.querySelectorAll('.message details').forEach((one) => (one.open = true))").await;
                browser.evaluate(&axe).await;
                let run = "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')\
                    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(' | ').slice(0, 400)}`))";
                let found = browser.evaluate(run).await;
                assert!(found.is_array(), "axe ran on {page}: {found}");
                faults.extend(found.as_array().unwrap().iter().map(|fault| format!("{page}, {theme}, {name}: {fault}")));
                if let Some(folder) = &shots {
                    browser.evaluate("document.querySelectorAll('.message details').forEach((one) => (one.open = false))").await;
                    let shot = browser.call("Page.captureScreenshot", json!({ "format": "png" })).await;
                    std::fs::create_dir_all(folder).unwrap();
                    let picture = BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
                    std::fs::write(folder.join(format!("{page}-{name}-{theme}.png")), picture).unwrap();
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_can_be_installed_and_say_so_when_the_server_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let mut server = start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    let manifest = browser.call("Page.getAppManifest", json!({})).await;
    assert_eq!(
        (&manifest["errors"], manifest["url"].as_str().unwrap().ends_with("/manifest.webmanifest")),
        (&json!([]), true),
        "{manifest}"
    );
    let faults = browser.call("Page.getInstallabilityErrors", json!({})).await;
    assert_eq!(faults["installabilityErrors"], json!([]));
    browser.until("navigator.serviceWorker.controller").await;
    server.kill();
    browser.reload().await;
    browser.shows("The server does not answer. What was said is kept").await;
}
