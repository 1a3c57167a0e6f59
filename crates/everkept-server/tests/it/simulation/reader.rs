//! A reader that comes back after every break with the number it has, until it has everything.
//!
//! Never takes an event that is not the next one.

use super::house::{House, Reading};
use super::wire;
use crate::dice::Dice;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A stream that says nothing for so long may be dead.
const SILENCE: Duration = Duration::from_secs(2);

/// Reads from the beginning, or from a snapshot on.
pub async fn read_along(house: Arc<House>, session: String, mut dice: Dice) {
    let mut reading = Reading { session: session.clone(), after: 0, events: Vec::new() };
    if dice.one_in(2) {
        reading.after = snapshot(&house, &session, &mut dice).await;
    }
    let mut cursor = reading.after;
    while !is_done(&house, &session, cursor) {
        let crashes = house.crashes.load(std::sync::atomic::Ordering::SeqCst);
        let Some(mut stream) = wire::follow(&session, cursor).await else {
            sleep(dice.millis(20, 300)).await;
            continue;
        };
        if cursor > 0 && crashes > 0 {
            house.mark("a reader went on after a crash");
        }
        while !is_done(&house, &session, cursor) {
            match timeout(SILENCE, stream.next()).await {
                Ok(Some((seq, bytes))) => {
                    assert_eq!(seq, cursor + 1, "a reader of {session} is shown every event once and in order");
                    house.saw(format!("read {session} {seq}"));
                    cursor = seq;
                    reading.events.push(bytes);
                }
                Ok(None) | Err(_) => break,
            }
            if dice.one_in(200) {
                break;
            }
            if dice.one_in(80) {
                sleep(dice.millis(100, 3_500)).await;
            }
        }
    }
    house.told().readings.push(reading);
}

async fn snapshot(house: &House, session: &str, dice: &mut Dice) -> u64 {
    loop {
        match wire::send("GET", &format!("/api/sessions/{session}/snapshot"), None, "").await {
            Some(answer) if answer.is_good() => {
                let cursor = answer.json()["cursor"].as_u64().unwrap();
                house.saw(format!("snapshot {session} {cursor}"));
                return cursor;
            }
            Some(_) | None => sleep(dice.millis(20, 300)).await,
        }
    }
}

fn is_done(house: &House, session: &str, cursor: u64) -> bool {
    house.told().heads.as_ref().is_some_and(|heads| heads[session] <= cursor)
}
