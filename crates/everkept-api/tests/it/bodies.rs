//! Bodies of requests: strict, and true to what the client wrote.

use everkept_api::*;
use serde::{Serialize, de::DeserializeOwned};

#[test]
fn an_unknown_key_is_refused_by_name_in_every_body() {
    refuses::<CreateSession>(r#"{"titel":"x"}"#, "unknown field `titel`");
    refuses::<UpdateSession>(r#"{"thread":"x"}"#, "unknown field `thread`");
    refuses::<ForkSession>(r#"{"model":"x"}"#, "unknown field `model`");
    refuses::<RevertSession>(r#"{"to":"x"}"#, "unknown field `to`");
    refuses::<Empty>(r#"{"x":1}"#, "unknown field `x`");
    refuses::<SubmitTurn>(r#"{"input":"x","stream":true}"#, "unknown field `stream`");
    refuses::<SubmitTurn>(r#"{"input":[{"type":"text","text":"x","cache":1}]}"#, "unknown field `cache`");
    refuses::<SubmitTurn>(r#"{"messages":[{"role":"user","content":"x","name":"y"}]}"#, "unknown field `name`");
    refuses::<EditTurn>(r#"{"if_busy":"queue"}"#, "unknown field `if_busy`");
    refuses::<AgainTurn>(r#"{"input":"x"}"#, "unknown field `input`");
    refuses::<RecordMessages>(r#"{"messages":[],"agent":"x"}"#, "unknown field `agent`");
    refuses::<AnswerQuestion>(r#"{"option":"x","why":"y"}"#, "unknown field `why`");
    refuses::<CreateToken>(r#"{"kind":"resource","name":"x","scope":"y"}"#, "unknown field `scope`");
}

#[test]
fn a_wrong_value_says_what_would_be_right() {
    refuses::<SubmitTurn>(r#"{"input":7}"#, "expected a string or a list of parts");
    refuses::<SubmitTurn>(r#"{"input":[{"type":"image"}]}"#, "unknown variant `image`, expected `text` or `file`");
    refuses::<SubmitTurn>(r#"{"input":"x","if_busy":"wait"}"#, "expected one of `queue`, `reject`, `interrupt`");
    refuses::<SubmitTurn>(r#"{"input":[{"type":"file","media_type":"a/b","data":"%"}]}"#, "data is not base64");
    refuses::<ForkSession>(r#"{"at":-1}"#, "expected a turn id or an event number");
    refuses::<RecordMessages>(r#"{"messages":[{"role":"tool","content":"x"}]}"#, "unknown variant `tool`");
}

#[test]
fn null_takes_away_and_absent_leaves() {
    let update: UpdateSession = read(r#"{"title":null,"agent":"demo"}"#);
    assert_eq!((update.title, update.agent, update.model), (Some(None), Some(Some("demo".to_owned())), None));
}

#[test]
fn metadata_passes_as_it_was_written() {
    let metadata = r#"{"b": 1.10, "a":12345678901234567890123, "b":"\u0041"}"#;
    let body: CreateSession = read(&format!(r#"{{"metadata":{metadata}}}"#));
    assert_eq!(body.metadata_json().unwrap().get(), metadata);
}

#[test]
fn content_is_a_text_or_parts() {
    let body: SubmitTurn = read(
        r#"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"text","text":"ho"},
            {"type":"file","name":"a.png","media_type":"image/png","data":"AAEC"}]}],"history":true}"#,
    );
    assert!(body.history);
    let parts: Vec<_> = body.messages.unwrap().into_iter().map(|message| message.content.into_parts()).collect();
    let file = PartIn::File { name: Some("a.png".into()), media_type: "image/png".into(), data: vec![0, 1, 2].into() };
    assert_eq!(parts, [vec![PartIn::Text { text: "hi".into() }], vec![PartIn::Text { text: "ho".into() }, file]]);
}

#[test]
fn a_fork_point_is_a_turn_or_a_number() {
    let at = |body| read::<ForkSession>(body).at;
    assert_eq!(at(r#"{"at":12}"#), Some(ForkPoint::Seq(12)));
    assert_eq!(at(r#"{"at":"trn_1"}"#), Some(ForkPoint::Turn("trn_1".into())));
    assert_eq!(at("{}"), None);
}

#[test]
fn what_the_client_writes_the_server_reads() {
    round_trip(&CreateSession { title: Some("t".into()), ..CreateSession::default() }, r#"{"title":"t"}"#);
    round_trip(&UpdateSession { title: Some(None), archived: Some(true), ..UpdateSession::default() }, r#"{"title":null,"archived":true}"#);
    round_trip(&SubmitTurn { input: Some("hi".into()), ..SubmitTurn::default() }, r#"{"input":"hi","if_busy":"queue"}"#);
    round_trip(&ForkSession { at: Some(ForkPoint::Seq(3)), ..ForkSession::default() }, r#"{"at":3}"#);
    round_trip(&AnswerQuestion { option: "yes".into(), note: None }, r#"{"option":"yes"}"#);
    round_trip(&Empty {}, "{}");
}

fn read<T: DeserializeOwned>(body: &str) -> T {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn refuses<T: DeserializeOwned>(body: &str, because: &str) {
    let error = serde_json::from_str::<T>(body).err().unwrap_or_else(|| panic!("{body} was taken")).to_string();
    assert!(error.contains(because), "{body}: {error}");
}

fn round_trip<T: Serialize + DeserializeOwned>(value: &T, text: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), text);
    assert_eq!(serde_json::to_string(&read::<T>(text)).unwrap(), text);
}
