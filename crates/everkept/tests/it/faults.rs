//! Bad input, bad disks, bad directories: a clear error, nothing lost, nothing half-written.

use crate::bench::*;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

async fn raw(server: &Server, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request = server.client.post(server.url(path)).bearer_auth(&server.token).header("content-type", "application/json");
    let answer = request.body(body).send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_clear_error_and_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let session = server.session(json!({ "title": "kept" })).await;
    let turns = format!("/api/sessions/{session}/turns");
    let head = server.events(&session).await;
    let deep = format!("{{\"input\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_metadata = format!("{{\"metadata\": {{\"a\": {}1{}}}}}", "[".repeat(5_000), "]".repeat(5_000));
    let nested_metadata = format!("{{\"metadata\": {{\"a\": {}1{}}}}}", "[".repeat(70), "]".repeat(70));
    let session_path = "/api/sessions".to_owned();
    let cases: Vec<(&str, String, u16, &str, Option<&str>)> = vec![
        (&turns, r#"{"inputs": "x"}"#.into(), 422, "unknown_field", Some("inputs")),
        (&turns, r#"{"input": 7}"#.into(), 422, "invalid_field", Some("input")),
        (&turns, r#"{"input": ""}"#.into(), 422, "invalid_field", Some("input")),
        (&turns, r#"{"input": "x", "if_busy": "maybe"}"#.into(), 422, "invalid_field", Some("if_busy")),
        (&turns, r#"{"input": "x", "agent": "nobody"}"#.into(), 422, "invalid_field", Some("agent")),
        (&turns, r#"{"input": "x", "agent": "a\u0000b"}"#.into(), 422, "invalid_field", Some("agent")),
        (&turns, r#"{"input": "x", "model": ""}"#.into(), 422, "invalid_field", Some("model")),
        (&turns, r#"{"input": "x""#.into(), 400, "invalid_json", None),
        (&turns, r#"{"input": "\ud800"}"#.into(), 400, "invalid_json", None),
        (&turns, deep, 400, "invalid_json", None),
        (&session_path, deep_metadata, 400, "invalid_json", None),
        (&session_path, nested_metadata, 422, "invalid_field", Some("metadata")),
        ("/api/sessions/ses_00000000000000000000000000000000/turns", r#"{"input": "x"}"#.into(), 404, "not_found", None),
        ("/api/sessions/nonsense/turns", r#"{"input": "x"}"#.into(), 404, "not_found", None),
        ("/api/turns/trn_00000000000000000000000000000000/retry", "{}".into(), 404, "not_found", None),
        ("/api/nowhere", "{}".into(), 404, "not_found", None),
    ];
    for (path, body, status, code, field) in cases {
        let shown = body.chars().take(60).collect::<String>();
        let (found, error) = raw(&server, path, body).await;
        assert_eq!((found, error["error"]["code"].as_str()), (status, Some(code)), "{path} {shown}: {error}");
        assert_eq!(error["error"]["field"].as_str(), field, "{path} {shown}: {error}");
    }
    let mut not_utf8 = br#"{"input": "#.to_vec();
    not_utf8.extend_from_slice(b"\"\xff\"}");
    let (status, error) = raw(&server, &turns, not_utf8).await;
    assert_eq!((status, error["error"]["code"].as_str()), (400, Some("invalid_json")), "{error}");
    assert_eq!(server.events(&session).await, head, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifty_megabyte_prompt_is_refused_and_a_thirty_megabyte_one_is_kept_whole() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let session = server.session(json!({})).await;
    let path = format!("/api/sessions/{session}/turns");
    let huge = json!({ "input": "x".repeat(50 << 20) }).to_string();
    let request = server.client.post(server.url(&path)).bearer_auth(&server.token).header("content-type", "application/json");
    match request.body(huge).send().await {
        Ok(answer) => assert_eq!(answer.status().as_u16(), 413),
        // The refusal may overtake the body it refuses.
        Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
    }
    let text = format!("!fail {}", "y".repeat(30 << 20));
    let record = json!({ "messages": [{ "role": "user", "content": text }] });
    server.post(&format!("/api/sessions/{session}/messages"), record).await;
    let said = server.said(&session).await;
    assert_eq!(said.len(), 1);
    assert!(said[0].1 == text, "30 MB read back as they were sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_is_refused_by_naming_who_uses_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let second = everkept().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&server.child.id().to_string()), "{said}");
    server.session(json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_newer_database_is_refused_untouched() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    server.session(json!({})).await;
    let stopped = everkept().args(["stop", "--data"]).arg(data.path()).output().unwrap();
    assert!(stopped.status.success());
    server.child.wait().unwrap();
    let file = data.path().join("everkept.db");
    let mut bytes = std::fs::read(&file).unwrap();
    // The schema's version stands at byte 60 of the file's header.
    bytes[60..64].copy_from_slice(&9_999u32.to_be_bytes());
    std::fs::write(&file, &bytes).unwrap();
    let newer = everkept().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path()).output().unwrap();
    assert_eq!(newer.status.code(), Some(1));
    let said = String::from_utf8_lossy(&newer.stderr).into_owned();
    assert!(said.contains("newer") && said.contains("9999"), "{said}");
    assert!(std::fs::read(&file).unwrap() == bytes, "the file is as it was");
}

/// Runs the server with its data directory on a file system of `size`, in a mount namespace of its own.
fn on_small_disk(data: &std::path::Path, options: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o {options} everkept \"$0\" && exec \"$@\"");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).arg(data);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_a_full_disk_is_a_read_only_server_until_there_is_space_again() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // The namespace's own view is reached through the server's root; a filler keeps most of the space until it is removed.
    let mut command = on_small_disk(&data, "size=24m");
    command.arg("sh").arg("-c").arg("head -c 12000000 /dev/zero > \"$0/filler\" && exec \"$@\"").arg(&data);
    serve(command.arg(env!("CARGO_BIN_EXE_everkept")), &data);
    let inside = |pid: u32| std::path::PathBuf::from(format!("/proc/{pid}/root{}", data.display()));
    let server = Server::launch(command, outer.path(), inside);
    let inside = inside(server.child.id());
    let session = server.session(json!({})).await;
    let path = format!("/api/sessions/{session}/messages");
    let mut acknowledged = 0;
    let refused = loop {
        let body = json!({ "messages": [{ "role": "user", "content": format!("{acknowledged} {}", "x".repeat(200_000)) }] });
        let (status, answer) = server.try_post(&path, body).await;
        match status {
            200..300 => acknowledged += 1,
            _ => break (status, answer),
        }
        assert!(acknowledged < 1_000, "the disk never fills");
    };
    assert_eq!((refused.0, refused.1["error"]["code"].as_str()), (507, Some("storage_full")), "{}", refused.1);
    assert_eq!(refused.1["error"]["may_have_happened"], false);
    let page = server.get(&format!("/api/sessions/{session}/messages?limit=1000")).await;
    assert_eq!(page["items"].as_array().unwrap().len(), acknowledged, "reads go on, and nothing is half there");
    std::fs::remove_file(inside.join("filler")).unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, answer) = server.try_post(&path, json!({ "messages": [{ "role": "user", "content": "after" }] })).await;
        if (200..300).contains(&status) {
            break;
        }
        assert_eq!(status, 507, "{answer}");
        assert!(Instant::now() < until, "writing never resumes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = server.said(&session).await;
    assert_eq!((said.len(), said.last().unwrap().1.as_str()), (acknowledged + 1, "after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_data_directory_is_a_clear_error() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut command = on_small_disk(&data, "ro");
    let output =
        command.arg(env!("CARGO_BIN_EXE_everkept")).args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.to_lowercase().contains("read-only") || said.contains("cannot be written"), "{said}");
    assert!(said.contains(&data.display().to_string()), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_after_a_storage_error_nothing_is_acknowledged_until_a_new_start_and_nothing_acknowledged_is_lost() {
    let data = tempfile::tempdir().unwrap();
    // A file that may not grow makes a write fail with EFBIG, which is not a full disk.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 6000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_everkept")]);
    serve(&mut command, data.path());
    let mut server = Server::launch(command, data.path(), |_| data.path().to_owned());
    let session = server.session(json!({})).await;
    let path = format!("/api/sessions/{session}/messages");
    let mut acknowledged = 0;
    let refused = loop {
        let body = json!({ "messages": [{ "role": "user", "content": format!("{acknowledged} {}", "x".repeat(100_000)) }] });
        let (status, answer) = server.try_post(&path, body).await;
        match status {
            200..300 => acknowledged += 1,
            _ => break (status, answer),
        }
        assert!(acknowledged < 1_000, "the file never reaches its limit");
    };
    assert_eq!((refused.0, refused.1["error"]["code"].as_str()), (503, Some("storage_failed")), "{}", refused.1);
    for path in [format!("/api/sessions/{session}"), format!("/api/sessions/{session}/events"), "/api/sessions".into()] {
        let answer = server.client.get(server.url(&path)).bearer_auth(&server.token).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 503, "{path}");
    }
    let (status, _) = server.try_post("/api/sessions", json!({})).await;
    assert_eq!(status, 503, "nothing is acknowledged any more");
    server.kill();
    let server = Server::start(data.path());
    let said = server.said(&session).await;
    assert!(said.len() == acknowledged || said.len() == acknowledged + 1, "{} of {acknowledged}", said.len());
    let numbers: Vec<usize> = said.iter().map(|(_, text)| text.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..said.len()).collect::<Vec<_>>());
}
