//! The command line as a script and as a person meets it.

use crate::bench::*;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Output, Stdio};

fn run(server: &Server, args: &[&str]) -> Output {
    everkept().args(args).arg("--data").arg(&server.data).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_sends_lists_forks_renames_deletes_and_restores() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    assert_eq!(text(&run(&server, &["send", "hello there"])).trim(), "reply 1 to: hello there");
    let listed: Vec<Value> =
        text(&run(&server, &["sessions", "list", "--json"])).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 1);
    let session = listed[0]["id"].as_str().unwrap();
    assert_eq!(text(&run(&server, &["send", "--session", session, "again"])).trim(), "reply 2 to: again");
    let plain = text(&run(&server, &["sessions", "list"]));
    assert!(plain.contains('\t') && !plain.contains('\u{1b}'), "piped output is plain: {plain:?}");
    text(&run(&server, &["sessions", "rename", session, "A better name"]));
    assert!(text(&run(&server, &["sessions", "show", session])).contains("A better name"));
    text(&run(&server, &["sessions", "fork", session]));
    text(&run(&server, &["sessions", "delete", session]));
    assert_eq!(text(&run(&server, &["sessions", "list", "--json"])).lines().count(), 1);
    let trash: Value = serde_json::from_str(text(&run(&server, &["sessions", "list", "--trash", "--json"])).trim()).unwrap();
    assert_eq!(trash["id"], session);
    text(&run(&server, &["sessions", "restore", session]));
    assert_eq!(text(&run(&server, &["sessions", "list", "--json"])).lines().count(), 2);
    assert!(text(&run(&server, &["agents"])).contains("demo"));
    assert!(text(&run(&server, &["completions", "bash"])).contains("everkept"));
    text(&run(&server, &["doctor"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_link_is_made_lets_one_browser_in_and_no_second() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let link = text(&run(&server, &["login"]));
    assert_eq!(link.lines().count(), 1, "piped it is the link alone: {link}");
    let listed: Value = serde_json::from_str(text(&run(&server, &["login", "--json"])).trim()).unwrap();
    for link in [link.trim(), listed["url"].as_str().unwrap()] {
        let (page, code) = link.split_once("#code=").unwrap();
        assert_eq!(page, server.url("/login"));
        for status in [204, 401] {
            let answer = server.client.post(page).json(&json!({ "code": code })).send().await.unwrap();
            assert_eq!(answer.status(), status);
        }
    }
    let owner = server.post("/api/tokens", json!({ "kind": "resource", "name": "anna" })).await;
    let refused =
        everkept().arg("login").env("EVERKEPT_URL", &server.address).env("EVERKEPT_TOKEN", owner["secret"].as_str().unwrap()).output();
    assert!(!refused.unwrap().status.success(), "only the admin lets browsers in");
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_takes_one_prompt_per_line_from_a_pipe() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut chat = everkept();
    chat.args(["chat", "--data"]).arg(&server.data).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut chat = chat.spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let said = text(&chat.wait_with_output().unwrap());
    assert!(said.contains("reply 1 to: one") && said.contains("reply 2 to: two"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_03_re_02_who_waits_on_the_command_line_gets_the_answer_of_the_last_attempt_alone() {
    let data = tempfile::tempdir().unwrap();
    let config = "[agents.shaky]\nprotocol = \"demo\"\nretry_prompts = 1\nfallback = [{ agent = \"demo\", model = \"demo/other\" }]\n";
    std::fs::write(data.path().join("config.toml"), config).unwrap();
    let server = Server::start(data.path());
    let send = |words: &str| run(&server, &["send", "--agent", "shaky", words]);
    assert_eq!(text(&send("!falter:1 hello")), "reply 2 to: hello\n", "what the first attempt said is no part of it");
    let stood_in = send("!fail:2 hello");
    let remarks = String::from_utf8_lossy(&stood_in.stderr).into_owned();
    assert!(remarks.contains("attempt 3: demo with demo/other"), "{remarks}");
    assert!(!stood_in.status.success(), "the one that stands in fails too, and nobody is left");
    let mut chat = everkept();
    chat.args(["chat", "--agent", "shaky", "--data"]).arg(&server.data);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"!falter:1 one\ntwo\n").unwrap();
    assert_eq!(text(&chat.wait_with_output().unwrap()), "reply 2 to: one\nreply 3 to: two\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_reaches_only_what_is_its_own() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let theirs = server.session(json!({ "resource": "bob", "title": "bob's" })).await;
    let made: Value = serde_json::from_str(&text(&run(&server, &["token", "create", "--resource", "ann", "--json"]))).unwrap();
    let secret = made["secret"].as_str().unwrap();
    let get = |path: String| server.client.get(server.url(&path)).bearer_auth(secret).send();
    let foreign = get(format!("/api/sessions/{theirs}")).await.unwrap();
    let absent = get("/api/sessions/ses_00000000000000000000000000000000".into()).await.unwrap();
    assert_eq!((foreign.status(), foreign.text().await.unwrap()), (absent.status(), absent.text().await.unwrap()));
    let listed: Value = get("/api/sessions".into()).await.unwrap().json().await.unwrap();
    assert_eq!(listed["items"], json!([]));
    text(&run(&server, &["token", "revoke", made["id"].as_str().unwrap()]));
    assert_eq!(get("/api/sessions".into()).await.unwrap().status().as_u16(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_and_backup_agree_with_the_server() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    text(&run(&server, &["send", "!tool !think keep this"]));
    let copy = data.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let file = copy.join("everkept.db");
    text(&run(&server, &["backup", file.to_str().unwrap()]));
    text(&run(&server, &["send", "after the copy"]));
    server.kill();
    for folder in [data.path(), &copy] {
        let verified = everkept().args(["verify", "--data"]).arg(folder).output().unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
    let restored = Server::start(&copy);
    let sessions = restored.get("/api/sessions").await;
    let session = sessions["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1);
    assert_eq!(restored.said(&session).await[1].1, "reply 1 to: keep this");
}

#[test]
fn without_a_server_a_client_says_how_to_start_one() {
    let data = tempfile::tempdir().unwrap();
    let output = everkept().args(["sessions", "list", "--data"]).arg(data.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("everkept serve") || said.contains("`everkept`"), "{said}");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("config.toml"), "default_agent = \"demo\"\n[agents.x]\nprotocol = \"acp\"\ncomand = [\"x\"]\n")
        .unwrap();
    let output = everkept().args(["serve", "--data"]).arg(data.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("config.toml") && said.contains("comand") && said.contains('4'), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_a_revoked_admin_token_is_replaced_by_the_next_start_and_ends_the_browsers_it_let_in() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    let code = server.login.split_once("#code=").unwrap().1;
    let login = server.client.post(server.url("/login")).json(&json!({ "code": code })).send().await.unwrap();
    let cookie = login.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let by_cookie = async |server: &Server| {
        server.client.get(server.url("/api/sessions")).header("cookie", &cookie).send().await.unwrap().status().as_u16()
    };
    assert_eq!(by_cookie(&server).await, 200);
    server.kill();
    let mut server = Server::start(data.path());
    assert_eq!(by_cookie(&server).await, 200, "a start alone ends nothing");
    let tokens = server.get("/api/tokens").await;
    let admin = tokens["items"].as_array().unwrap().iter().find(|token| token["kind"] == "admin").unwrap();
    text(&run(&server, &["token", "revoke", admin["id"].as_str().unwrap()]));
    let old = server.token.clone();
    server.kill();
    let server = Server::start(data.path());
    assert_ne!(server.token, old);
    server.get("/api/sessions").await;
    assert_eq!(by_cookie(&server).await, 401);
}
