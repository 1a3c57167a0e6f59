//! A session's WebSocket: any frames, and commands in any words.
//!
//! An odd first byte sends the input as it is behind the opening; an even one sends it as texts, one command in each.
//! The word `SES` stands for the session and `TRN` for a turn of it.
//! Never: two answers to a command or none, a mistake of the server's own, or a frame that no client could read.

use crate::house::{ADMIN, HOST, House, PORT, visit};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// No command of these takes longer; it passes at once when nothing happens.
const PATIENCE: Duration = Duration::from_secs(5);
const MASK: [u8; 4] = [1, 2, 3, 4];

pub fn run(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    visit(
        |_| {},
        |house| {
            let session = house.session();
            if how % 2 == 1 {
                let frames = frames(&talk(house, &session, rest));
                frames.iter().for_each(check);
                return;
            }
            let turn = house.ask("POST", &format!("/api/sessions/{session}/turns"), r#"{"input":"!hang"}"#).json();
            let turn = turn["id"].as_str().expect("a turn has an id");
            let text = String::from_utf8_lossy(rest).replace("SES", &session).replace("TRN", turn);
            let commands: Vec<&str> = text.split('\n').collect();
            let sent: Vec<u8> = commands.iter().flat_map(|command| frame(0x81, command.as_bytes())).collect();
            let frames = frames(&talk(house, &session, &sent));
            frames.iter().for_each(check);
            let answers: Vec<Value> = frames.iter().filter_map(answer).collect();
            assert_eq!(answers.len(), commands.len(), "each command has one answer: {answers:?}");
            for (command, answer) in commands.iter().zip(&answers) {
                if let Some(id) = id(command).filter(|_| answer["error"]["code"] != "invalid_json") {
                    assert_eq!(answer["id"], id, "{command}");
                }
            }
        },
    );
}

/// Everything the server says after the opening, until it has nothing more to say.
fn talk(house: &House, session: &str, bytes: &[u8]) -> Vec<u8> {
    let opening = format!(
        "GET /api/sessions/{session}/socket HTTP/1.1\r\nhost: {HOST}\r\norigin: http://127.0.0.1:{PORT}\r\n\
         authorization: Bearer {ADMIN}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    house.block_on(async {
        let (mut reader, mut writer) = tokio::io::split(house.connect());
        let mut said = Vec::new();
        let writing = async {
            // A server that closes takes no more.
            _ = writer.write_all(opening.as_bytes()).await;
            _ = writer.write_all(bytes).await;
        };
        let reading = async { while let Ok(Ok(1..)) = tokio::time::timeout(PATIENCE, reader.read_buf(&mut said)).await {} };
        tokio::join!(writing, reading);
        let head = said.windows(4).position(|four| four == b"\r\n\r\n").expect("the opening is answered");
        assert!(said.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&said));
        said.split_off(head + 4)
    })
}

fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![head];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

struct Frame {
    opcode: u8,
    payload: Vec<u8>,
}

/// Frames of a server: whole, not masked, without reserved bits.
fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [head, length, rest @ ..] = bytes {
        assert_eq!(head & 0xf0, 0x80, "a whole frame");
        let (length, rest) = match length {
            126 => (u64::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().expect("eight bytes")), &rest[8..]),
            length => (u64::from(*length), rest),
        };
        let (payload, rest) = rest.split_at(usize::try_from(length).expect("a frame fits in memory"));
        frames.push(Frame { opcode: head & 0x0f, payload: payload.to_vec() });
        bytes = rest;
    }
    assert!(bytes.is_empty());
    frames
}

fn check(frame: &Frame) {
    match frame.opcode {
        1 => {
            let said: Value = serde_json::from_slice(&frame.payload).expect("a text is JSON");
            assert_ne!(said["error"]["code"], "internal", "{said}");
        }
        8..=10 => {}
        opcode => panic!("a frame of kind {opcode}"),
    }
}

/// An event has a number; an answer has not.
fn answer(frame: &Frame) -> Option<Value> {
    let said: Value = serde_json::from_slice(&frame.payload).ok().filter(|_| frame.opcode == 1)?;
    said.get("seq").is_none().then_some(said)
}

fn id(command: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(command).ok()?;
    value.get("id").cloned()
}
