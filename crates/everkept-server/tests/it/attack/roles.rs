//! Role x route x own, foreign, absent and trashed thing: promise A3.
//!
//! Never a comparison that cannot fail: what is compared for a stranger is also shown to be there for its owner.

use super::house::House;
use super::objects::{Ask, Things, asks, marker};
use crate::line::{Answer, Line};
use everkept_server::route_table;
use everkept_store::Store;
use serde_json::{Value, json};

/// Everybody's credential, and whose things they may see.
struct Roles {
    admin: String,
    cookie_with_header: String,
    cookie: String,
    ann: String,
    bob: String,
    recall_of_ann: String,
    recall_of_bob: String,
    relay: String,
    nobody: Vec<String>,
}

impl Roles {
    async fn of(house: &House) -> Roles {
        let cookie = house.cookie().await;
        let nobody = vec![
            String::new(),
            "authorization: Bearer ek_wrong\r\n".into(),
            house.expired().await,
            house.revoked().await,
            house.of_a_later_kind().await,
            super::house::bearer(&house.code().await),
        ];
        Roles {
            admin: house.admin.clone(),
            cookie_with_header: format!("{cookie}x-everkept: 1\r\n"),
            cookie,
            ann: house.token("resource", "ann").await,
            bob: house.token("resource", "bob").await,
            recall_of_ann: house.token("recall", "ann").await,
            recall_of_bob: house.token("recall", "bob").await,
            relay: house.token("relay", "demo").await,
            nobody,
        }
    }

    /// Those for whom what is ann's is not there.
    fn strangers(&self) -> Vec<&String> {
        [&self.bob, &self.recall_of_bob, &self.relay].into_iter().chain(&self.nobody).collect()
    }
}

/// Every way of asking every route about a thing.
fn all_asks() -> Vec<Ask> {
    route_table().iter().flat_map(|(method, path)| asks(method, path)).collect()
}

/// The answer without the ids and times that are the request's own.
fn like(answer: &Answer) -> Answer {
    let plain = |text: &str| {
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('_') {
            let (before, after) = rest.split_at(at + 1);
            let id = after.len() >= 32 && after.as_bytes()[..32].iter().all(u8::is_ascii_hexdigit);
            plain.push_str(before);
            rest = if id { &after[32..] } else { after };
        }
        plain + rest
    };
    let headers = answer.headers.iter().map(|(name, value)| (name.clone(), plain(value))).collect();
    Answer { status: answer.status, headers, body: plain(&answer.text()).into_bytes() }
}

#[tokio::test]
async fn a3_what_one_may_not_see_looks_as_if_it_did_not_exist() {
    let house = House::start().await;
    let mut line = Line::new(&house.server);
    let roles = Roles::of(&house).await;
    let of_ann = Things { tok: a_token(&mut line, &roles.admin).await, ..Things::of(&house, &mut line, &roles.ann, "ann", "trip").await };
    let of_bob = Things::quiet(&house, &mut line, &roles.bob, "bob").await;
    let quiet_of_ann = Things::quiet(&house, &mut line, &roles.ann, "ann").await;
    // Ann's own that she has thrown away: gone for her, and for bob it was never there.
    let trashed = Things { tok: of_ann.tok.clone(), ..Things::of(&house, &mut line, &roles.ann, "ann", "past").await };
    let gone = line.as_client(&roles.ann, "DELETE", &format!("/api/sessions/{}", trashed.ses), None).await;
    assert_eq!(gone.status, 204);
    let (absent, absent_of_ann) = (Things::absent("zoe"), Things::absent("ann"));
    let before = house.kept().await;
    let (mut compared, mut keys) = (0, Vec::new());
    for ask in all_asks() {
        let mut ask_for = async |credential: &str, things: &Things, own: &Things| {
            let key = format!("refused-{}", keys.len());
            let key = (ask.writes() && ask.target != "/api/tokens").then_some(key);
            keys.extend(key.clone());
            ask.about(&mut line, credential, things, own, key.as_deref()).await
        };
        // It makes a session of the asker's own, whatever it is given.
        let makes = ask.target == "/v1/chat/completions";
        for stranger in roles.strangers() {
            if makes {
                continue;
            }
            let none = ask_for(stranger, &absent, &of_bob).await;
            for things in [&of_ann, &absent_of_ann, &trashed] {
                let one = ask_for(stranger, things, &of_bob).await;
                let said = format!("{ask:?} {stranger:?}: {} {}", one.status, one.text());
                assert_eq!(like(&one), like(&none), "{said}");
                let found = matches!(one.status, 401 | 403 | 404) || ask.lists && one.status == 200;
                assert!(found, "{said}");
                assert!(!one.text().contains(&marker("ann")) && !one.text().contains(&of_ann.ses[4..]), "{said}");
                compared += 1;
            }
        }
        for reader in [&roles.recall_of_ann, &roles.cookie] {
            if ask.writes() {
                let one = ask_for(reader, &of_ann, &of_ann).await;
                assert_eq!(one.status, 403, "{ask:?} {reader:?}: {}", one.text());
                assert_eq!(like(&one), like(&ask_for(reader, &absent, &of_ann).await), "{ask:?}: one who may not write is told of nothing");
            }
        }
        let tokens = ask.target.starts_with("/api/tokens");
        // These are about what is in the trash (a deletion may be heard twice), or make what is not there.
        let other = ask.lists || makes || tokens || ask.target.ends_with("/restore") || ask.target.ends_with("{thread}/turns");
        let other = other || (ask.method, ask.target) == ("DELETE", "/api/sessions/{ses}");
        if !other && !ask.body.contains("{resource}") {
            let one = ask_for(&roles.ann, &trashed, &quiet_of_ann).await;
            let none = ask_for(&roles.ann, &absent_of_ann, &quiet_of_ann).await;
            assert_eq!(like(&one), like(&none), "{ask:?}: what is in the trash is not there");
            assert_eq!(one.status, 404, "{ask:?}: {}", one.text());
        }
        assert_eq!(house.kept().await, before, "{ask:?}: whoever was refused has changed nothing");
    }
    assert!(compared > 1_000, "{compared}");
    for token in house.store.tokens().await.unwrap() {
        for key in &keys {
            let kept = house.store.kept_answer(token.id.to_string(), key.clone(), everkept_core::Timestamp(0)).await.unwrap();
            assert!(kept.is_none(), "a refusal is not kept under its key {key}");
        }
    }
    println!("{compared} answers about foreign things compared with answers about absent ones, {} keys", keys.len());
}

/// Lets go of the agent that waits for an answer: there are only so many.
async fn put_away(line: &mut Line, owner: &str, things: &Things) {
    let answer = line.as_client(owner, "DELETE", &format!("/api/sessions/{}", things.ses), None).await;
    assert!(matches!(answer.status, 204 | 404), "{}", answer.text());
}

async fn a_token(line: &mut Line, admin: &str) -> String {
    let made = line.as_client(admin, "POST", "/api/tokens", Some(&json!({ "kind": "recall", "name": "ann" }))).await;
    made.json()["token"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a3_what_is_compared_for_strangers_is_there_for_its_owner() {
    let house = House::start().await;
    let mut line = Line::new(&house.server);
    let roles = Roles::of(&house).await;
    for (at, ask) in all_asks().into_iter().enumerate() {
        let owners = [("ann", &roles.ann), ("all", &roles.admin), ("page", &roles.cookie_with_header)];
        for (role, credential) in owners {
            let tokens = ask.target.starts_with("/api/tokens");
            if tokens && role == "ann" {
                continue;
            }
            let tok = a_token(&mut line, &roles.admin).await;
            let own = Things::of(&house, &mut line, &roles.ann, "ann", &format!("{role}-{at}")).await;
            let own = Things { tok, ..own };
            if ask.target.ends_with("/restore") {
                assert_eq!(line.as_client(credential, "DELETE", &format!("/api/sessions/{}", own.ses), None).await.status, 204);
            }
            let answer = match ask.target {
                // A waiting turn would be waited for.
                "/v1/chat/completions" => {
                    let cancel = line.as_client(credential, "DELETE", &format!("/api/sessions/{}", own.ses), None).await;
                    assert_eq!(cancel.status, 204);
                    ask.about(&mut line, credential, &own, &own, None).await
                }
                _ => ask.about(&mut line, credential, &own, &own, None).await,
            };
            assert_eq!(answer.status, ask.own, "{role}: {ask:?}: {}", answer.text());
            put_away(&mut line, &roles.ann, &own).await;
        }
        if !ask.writes() {
            let own = Things::of(&house, &mut line, &roles.ann, "ann", &format!("read-{at}")).await;
            let (read, reread) = (
                ask.about(&mut line, &roles.ann, &own, &own, None).await,
                ask.about(&mut line, &roles.recall_of_ann, &own, &own, None).await,
            );
            assert_eq!(read, reread, "{ask:?}: a reader sees what the owner sees");
            let by_cookie = ask.about(&mut line, &roles.cookie, &own, &own, None).await;
            assert_eq!(by_cookie.status, ask.own, "{ask:?}");
            put_away(&mut line, &roles.ann, &own).await;
        }
    }
}

#[tokio::test]
async fn a3_no_list_has_what_is_anothers_and_no_count_counts_it() {
    let house = House::start().await;
    let mut line = Line::new(&house.server);
    let roles = Roles::of(&house).await;
    let of_ann = Things::of(&house, &mut line, &roles.ann, "ann", "trip").await;
    let lists: Vec<_> = all_asks().into_iter().filter(|ask| ask.lists && !ask.target.contains("{own_ses}")).collect();
    assert!(lists.len() > 10, "{}", lists.len());
    for ask in &lists {
        for credential in [&roles.bob, &roles.recall_of_bob] {
            let answer = ask.about(&mut line, credential, &of_ann, &of_ann, None).await;
            let list = answer.json();
            assert_eq!((answer.status, &list["items"], &list["has_more"]), (200, &json!([]), &json!(false)), "{ask:?}");
            if ask.target.contains("count=true") {
                assert_eq!(list["total"], 0, "{ask:?}");
            }
        }
        assert_eq!(ask.about(&mut line, &roles.relay, &of_ann, &of_ann, None).await.status, 404, "{ask:?}");
        let own = ask.about(&mut line, &roles.ann, &of_ann, &of_ann, None).await.json();
        if !ask.target.contains("deleted=true") {
            assert_ne!(own["items"], json!([]), "{ask:?}");
        }
    }
    for credential in [&roles.ann, &roles.bob, &roles.recall_of_ann, &roles.cookie] {
        let tokens = line.as_client(credential, "GET", "/api/tokens", None).await;
        assert_eq!(tokens.status, if *credential == roles.cookie { 200 } else { 403 });
        let made = line.as_client(credential, "POST", "/api/tokens", Some(&json!({ "kind": "resource", "name": "x" }))).await;
        assert_eq!(made.status, 403);
    }
}

#[tokio::test]
async fn a3_the_feed_and_a_chat_by_a_foreign_name_stay_with_their_owner() {
    let house = House::start().await;
    let mut line = Line::new(&house.server);
    let roles = Roles::of(&house).await;
    let of_ann = Things::of(&house, &mut line, &roles.ann, "ann", "trip").await;
    let before: Value = line.as_client(&roles.ann, "GET", &format!("/api/sessions/{}/summary", of_ann.ses), None).await.json();
    let chat = json!({ "model": "demo", "messages": [{ "role": "user", "content": "hello" }] });
    for (headers, status) in [
        (format!("x-session-id: {}\r\n", of_ann.ses), 200),
        (format!("x-session-id: {}\r\n", Things::absent("x").ses), 200),
        ("x-everkept-thread: trip\r\n".into(), 200),
        ("x-everkept-resource: ann\r\nx-everkept-thread: trip\r\n".into(), 404),
        ("x-everkept-resource: zoe\r\nx-everkept-thread: trip\r\n".into(), 404),
        ("x-everkept-resource: ann\r\n".into(), 403),
        ("x-everkept-resource: zoe\r\n".into(), 403),
    ] {
        let answer = line.as_client(&format!("{}{headers}", roles.bob), "POST", "/v1/chat/completions", Some(&chat)).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        assert!(!answer.text().contains(&marker("ann")), "{headers:?}");
        assert_ne!(answer.header("x-session-id"), Some(of_ann.ses.as_str()), "{headers:?}: a session of bob's own");
    }
    let after: Value = line.as_client(&roles.ann, "GET", &format!("/api/sessions/{}/summary", of_ann.ses), None).await.json();
    assert_eq!(after, before);
}
