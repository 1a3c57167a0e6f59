//! The table of errors.

use everkept_api::{Error, ErrorCode};
use everkept_core::{Refusal, TurnId};
use std::collections::BTreeSet;

#[test]
fn every_code_is_unique_and_has_an_error_status() {
    let codes: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), ErrorCode::ALL.len());
    for code in ErrorCode::ALL {
        assert!((400..600).contains(&code.status()), "{code}");
        assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
        assert!(code.status() >= 500 || code.is_side_effect_free(), "{code}: a caller's mistake changes nothing");
    }
}

#[test]
fn the_table_is_what_clients_were_told() {
    let row = |code: &ErrorCode| {
        let again = if code.is_retryable() { " retryable" } else { "" };
        let unsure = if code.is_side_effect_free() { "" } else { " may_have_happened" };
        format!("{} {code}{again}{unsure}", code.status())
    };
    let table: Vec<String> = ErrorCode::ALL.iter().map(row).collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    400 invalid_json
    400 invalid_request
    401 unauthorized
    403 forbidden
    403 origin_refused
    404 not_found
    405 method_not_allowed
    408 request_timeout retryable
    409 busy retryable
    409 session_exists
    409 session_archived
    409 turn_not_queued
    409 turn_ended
    409 turn_open retryable
    409 turn_completed
    409 turn_not_completed
    409 turn_not_dead_lettered
    409 turn_without_request
    409 turn_hidden
    409 history_diverged
    409 question_answered
    409 question_expired
    409 nothing_reverted
    409 nothing_to_revert
    409 agent_connected retryable
    409 thread_taken
    410 cursor_gone
    413 body_too_large
    415 unsupported_media_type
    421 host_refused
    422 invalid_field
    422 unknown_field
    422 idempotency_mismatch
    429 queue_full retryable
    431 headers_too_large
    500 internal may_have_happened
    500 corrupt
    503 storage_failed retryable may_have_happened
    503 stopping retryable
    503 too_many_connections retryable
    507 storage_full retryable
    "#);
}

#[test]
fn a_refusal_names_its_field() {
    let turn = TurnId::derive(uuid(), "turn", 1);
    let errors = [
        Error::from(&Refusal::invalid("title", "must be at most 200 bytes")),
        Error::from(&Refusal::SessionNotFound),
        Error::from(&Refusal::SessionBusy(turn)),
        Error::from(&Refusal::HistoryDiverged { at: 2, held: None }),
        Error::new(ErrorCode::StorageFailed, "storage failed"),
    ];
    let lines: Vec<String> = errors.iter().map(|error| serde_json::to_string(error).unwrap()).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    {"error":{"code":"invalid_field","message":"title must be at most 200 bytes","field":"title","retryable":false}}
    {"error":{"code":"not_found","message":"no such session","retryable":false}}
    {"error":{"code":"busy","message":"turn trn_58549ae97de688cc87020b9c87f46988 is running and if_busy is reject","retryable":true}}
    {"error":{"code":"history_diverged","message":"the conversation sent differs from the one kept at message 2","field":"messages","retryable":false}}
    {"error":{"code":"storage_failed","message":"storage failed","retryable":true,"may_have_happened":true}}
    "#);
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(1)
}
