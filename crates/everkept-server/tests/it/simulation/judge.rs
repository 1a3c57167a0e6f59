//! After the faults: waits until nothing is open, asks everything that was answered once more, and says where logs end.
//!
//! Never judges by what the server holds in memory: it asks over the network like everybody else.

use super::house::House;
use super::wire;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const LOOK: Duration = Duration::from_millis(200);
/// How often to look before whatever still runs is cancelled.
const LOOKS: u32 = 20;

pub async fn judge(house: Arc<House>) -> turmoil::Result {
    while !house.is_healed() || house.told().busy_clients > 0 {
        sleep(LOOK).await;
    }
    let sessions: Vec<String> = house.told().sessions.keys().cloned().collect();
    for session in &sessions {
        settle(session).await;
    }
    let kept = house.told().kept.clone();
    for kept in kept {
        let same = wire::send(kept.method, &kept.path, Some(&kept.key), &kept.body).await.expect("a healed network answers");
        assert_eq!((same.status, same.replayed, same.body), (kept.status, true, kept.answer), "{} {}", kept.key, kept.path);
    }
    let mut heads = BTreeMap::new();
    for session in sessions {
        settle(&session).await;
        let answer = get(&format!("/api/sessions/{session}/snapshot")).await;
        heads.insert(session, answer["cursor"].as_u64().unwrap());
    }
    house.told().heads = Some(heads);
    Ok(())
}

/// Until no turn and no question of the session is open, twice in a row.
async fn settle(session: &str) {
    let (mut quiet, mut looks) = (0, 0);
    while quiet < 2 {
        let turns = get(&format!("/api/sessions/{session}/turns?limit=1000")).await;
        let open: Vec<_> = turns["items"].as_array().unwrap().iter().filter(|turn| turn["ended_at"].is_null()).collect();
        let questions = get(&format!("/api/questions?session={session}")).await;
        quiet = if open.is_empty() && questions["items"].as_array().unwrap().is_empty() { quiet + 1 } else { 0 };
        looks += 1;
        if looks % LOOKS == 0 {
            for turn in open {
                _ = wire::send("POST", &format!("/api/turns/{}/cancel", turn["id"].as_str().unwrap()), None, "{}").await;
            }
        }
        assert!(looks < 20 * LOOKS, "{session} does not come to rest: {turns} {questions}");
        sleep(LOOK).await;
    }
}

async fn get(path: &str) -> serde_json::Value {
    loop {
        match wire::send("GET", path, None, "").await {
            Some(answer) if answer.is_good() => return answer.json(),
            Some(answer) => panic!("{path}: {answer:?}"),
            None => sleep(LOOK).await,
        }
    }
}
