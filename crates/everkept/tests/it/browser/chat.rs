//! A conversation: begun, gone on with, repeated, forked, taken back, locked, asked about.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn on_12_a_message_without_a_session_begins_one_and_its_answer_streams() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        browser.visit(&server.url("/chat")).await;
        browser.say("!slow:40 first words of a new one").await;
        let session = browser.session().await;
        browser.until("document.querySelector('.turn[data-state=running]')").await;
        browser.shows("reply 1 to: first words of a new one").await;
        browser.until("document.querySelector('.turn[data-state=completed]')").await;
        assert_eq!(server.get(&format!("/api/sessions/{session}")).await["title"], "!slow:40 first words of a new one");
        browser.say("and more").await;
        browser.shows("reply 2 to: and more").await;
        assert_eq!(server.said(&session).await.len(), 4, "each was sent once");
    }
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_09_on_n4_a_session_opens_by_its_id_with_title_messages_agent_and_without_system_messages() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let session = server.session(json!({ "title": "Roof <b>repairs</b>", "agent": "demo", "model": "demo/words" })).await;
    let messages = json!([{ "role": "system", "content": "be brief" }, { "role": "user", "content": "earlier" }, { "role": "assistant", "content": "said" }]);
    server.post(&format!("/api/sessions/{session}/messages"), json!({ "messages": messages })).await;
    server.ended(&server.send(&session, "fix the <i>roof</i>").await).await;
    let mut browser = Browser::open(&data.path().join("profile")).await;
    browser.visit(&server.login).await;
    browser.shows("Roof <b>repairs</b>").await;
    for size in SIZES {
        browser.size(size).await;
        // The address of the first page still leads there.
        browser.visit(&server.url(&format!("/?session={session}"))).await;
        browser.shows("reply 2 to: fix the <i>roof</i>").await;
        browser.shows("Roof <b>repairs</b>").await;
        browser.until("document.querySelector('#picker')?.innerText.includes('Locked: demo / demo/words')").await;
        assert_eq!(browser.evaluate("document.querySelectorAll('#transcript b, #transcript i').length").await, 0, "text is text");
        let said = browser.said().await;
        let roles: Vec<_> = said.iter().map(|(role, ..)| role.as_str()).collect();
        assert_eq!(roles, ["user", "assistant", "user", "assistant"], "no system message: {said:?}");
    }
    let mut stranger = Browser::open(&data.path().join("stranger")).await;
    stranger.visit(&server.login).await;
    stranger.shows("used already").await;
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_while_busy_waits_is_edited_and_dropped_and_a_stop_ends_what_runs() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        browser.visit(&server.url("/chat")).await;
        browser.say("!long go on").await;
        browser.shows("and on and on").await;
        for text in ["first in line", "second in line", "third in line"] {
            browser.say(text).await;
            browser.until(&format!("document.querySelector('.queue')?.innerText.includes({})", json!(text))).await;
        }
        let second = "(() => { const drop = [...document.querySelectorAll('.queue button')].filter((one) => one.innerText === 'Drop')[1]; drop?.click(); return Boolean(drop); })()";
        browser.until(second).await;
        browser.until("!document.querySelector('.queue').innerText.includes('second in line')").await;
        browser.press("Edit").await;
        browser.fill(".queue textarea", "first, but edited").await;
        browser.press("Save").await;
        browser.until("document.querySelector('.queue')?.innerText.includes('first, but edited')").await;
        browser.press("#stop").await;
        browser.until("document.querySelector('.turn[data-state=cancelled]')").await;
        browser.shows("to: third in line").await;
        let session = browser.session().await;
        let said: Vec<_> = browser.said().await.into_iter().filter(|(role, ..)| role == "user").map(|(_, text, _)| text).collect();
        assert_eq!(said, ["!long go on", "first, but edited", "third in line"]);
        assert_eq!(server.said(&session).await.len(), 6, "three requests and their answers");
        // What was asked while another one ran is edited after the end of that one.
        browser.until("!document.querySelector('.turn.open')").await;
        browser.press("[data-act=edit]").await;
        browser.press("Cancel").await;
        browser.evaluate("[...document.querySelectorAll('[data-act=edit]')].at(-1).click()").await;
        browser.fill(".rewrite textarea", "third, but edited").await;
        browser.press("Send in a fork").await;
        browser.until(&format!("!location.search.includes({})", json!(session))).await;
        browser.shows("to: third, but edited").await;
        browser.shows_no_more("third in line").await;
    }
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_redo_continue_fork_edit_and_revert_are_at_hand() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        browser.visit(&server.url("/chat")).await;
        browser.say("one").await;
        browser.shows("reply 1 to: one").await;
        browser.press("[data-act=redo]").await;
        browser.shows("reply 2 to: one").await;
        browser.shows_no_more("reply 1 to: one").await;
        browser.say("!fail two").await;
        browser.until("document.querySelector('.turn[data-state=failed] [data-act=retry]')").await;
        browser.press(".turn[data-state=failed] [data-act=retry]").await;
        let session = browser.session().await;
        let attempts = format!("/api/sessions/{session}/turns");
        let until = Instant::now() + PATIENCE;
        while server.get(&attempts).await["items"].as_array().unwrap().iter().filter(|turn| turn["state"] == "failed").count() < 2 {
            assert!(Instant::now() < until, "no second attempt");
            pause().await;
        }
        browser.until("document.querySelectorAll('.turn[data-state=failed]').length === 1 && document.querySelector('.turn[data-state=failed] [data-act=continue]')").await;
        browser.press(".turn[data-state=failed] [data-act=continue]").await;
        let until = Instant::now() + PATIENCE;
        while server.get(&attempts).await["items"].as_array().unwrap().iter().all(|turn| turn["continues"].is_null()) {
            assert!(Instant::now() < until, "nothing continues");
            pause().await;
        }
        browser.until("!document.querySelector('.turn.open')").await;
        // Taken back, and brought back.
        browser.say("to be taken back").await;
        browser
            .until("[...document.querySelectorAll('.message.assistant')].some((one) => one.innerText.includes('to: to be taken back'))")
            .await;
        browser.until("!document.querySelector('.turn.open')").await;
        browser.evaluate("[...document.querySelectorAll('[data-act=revert]')].at(-1).click()").await;
        browser.until("![...document.querySelectorAll('.message')].some((one) => one.innerText.includes('to be taken back'))").await;
        browser.press("Bring it back").await;
        browser.until("[...document.querySelectorAll('.message.user')].some((one) => one.innerText.includes('to be taken back'))").await;
        // A fork after the first turn has its words and no later ones.
        browser.press("[data-act=fork]").await;
        browser.until(&format!("!location.search.includes({})", json!(session))).await;
        browser.shows("reply 2 to: one").await;
        browser.shows_no_more("to be taken back").await;
        let fork = browser.session().await;
        // An edited message goes on in a fork right before it, also one that was redone.
        browser.visit(&server.url("/chat")).await;
        for text in ["early words", "late words"] {
            browser.say(text).await;
            browser
                .until(&format!("[...document.querySelectorAll('.message.assistant')].some((one) => one.innerText.includes('to: {text}'))"))
                .await;
            browser.until("!document.querySelector('.turn.open')").await;
        }
        browser.evaluate("[...document.querySelectorAll('[data-act=redo]')].at(-1).click()").await;
        browser.shows("reply 3 to: late words").await;
        browser.until("!document.querySelector('.turn.open')").await;
        let redone = browser.session().await;
        browser.evaluate("[...document.querySelectorAll('[data-act=edit]')].at(-1).click()").await;
        browser.fill(".rewrite textarea", "later words").await;
        browser.press("Send in a fork").await;
        browser.until(&format!("!location.search.includes({})", json!(redone))).await;
        browser.shows("to: later words").await;
        let edited = browser.session().await;
        let asked: Vec<_> = server.said(&edited).await.into_iter().filter(|(role, _)| role == "user").map(|(_, text)| text).collect();
        assert_eq!(asked, ["early words", "later words"]);
        browser.visit(&server.url(&format!("/chat?session={fork}"))).await;
        browser.shows("reply 2 to: one").await;
        // Before the first there is nothing.
        browser.press("[data-act=edit]").await;
        browser.fill(".rewrite textarea", "one, but otherwise").await;
        browser.press("Send in a fork").await;
        browser.until(&format!("!location.search.includes({})", json!(fork))).await;
        browser.shows("to: one, but otherwise").await;
        let edited = browser.session().await;
        assert_eq!(server.said(&edited).await.len(), 2);
        assert_eq!(server.get(&format!("/api/sessions/{edited}")).await["parent"]["session"], *fork, "it is its fork");
    }
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_01_to_07_agent_and_model_are_looked_at_first_and_locked_by_one_change() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        let session = server.session(json!({ "title": "locked" })).await;
        let path = format!("/api/sessions/{session}");
        let head = |events: Vec<Value>| events.last().map(|event| event["seq"].as_u64().unwrap());
        browser.visit(&server.url(&format!("/chat?session={session}"))).await;
        browser.until("document.querySelector('#picker')?.innerText === 'demo'").await;
        // A look changes nothing, and the others are dimmed.
        let before = head(server.events(&session).await);
        browser.press("#picker").await;
        browser.press("#picker-panel input[value=scripted]").await;
        browser.until("document.querySelector('.choice:not(.dim) bdi')?.innerText === 'scripted' && document.querySelectorAll('.choice.dim').length === 1").await;
        assert_eq!(head(server.events(&session).await), before, "nothing was written for a look");
        browser.press("Cancel").await;
        browser.until("!document.querySelector('#picker-panel') && document.querySelector('#picker').innerText === 'demo'").await;
        // A lock is one change, told when the server has it.
        browser.press("#picker").await;
        browser.press("#picker-panel input[value=scripted]").await;
        browser.fill("#picker-panel .field input", "scripted/two").await;
        browser.press("Lock").await;
        browser.until("document.querySelector('#picker').innerText === 'Locked: scripted / scripted/two'").await;
        let locked = server.get(&path).await;
        assert_eq!((&locked["agent"], &locked["model"]), (&json!("scripted"), &json!("scripted/two")));
        let changes = server.events(&session).await.into_iter().filter(|event| event["kind"] == "session.updated").count();
        assert_eq!(changes, 1);
        // Again the same: confirmed, and no other lock.
        browser.press("#picker").await;
        browser.press("Lock").await;
        browser.shows("Locked: scripted / scripted/two").await;
        // While an answer streams it is for the next turn; what runs keeps what it was sent with.
        browser.say("!long go").await;
        browser.until("document.querySelector('#picker').innerText.startsWith('Locked for next turn: ')").await;
        browser.press("#picker").await;
        browser.press("#picker-panel input[value=demo]").await;
        browser.press("Lock").await;
        browser.until("document.querySelector('#picker').innerText.startsWith('Locked for next turn: demo')").await;
        browser.until("document.querySelector('.turn.open .how')?.innerText.startsWith('scripted · scripted/two')").await;
        browser.press("#stop").await;
        browser.until("document.querySelector('#picker').innerText.startsWith('Locked: demo')").await;
        // What the server refuses leaves the lock as it was, and the look.
        browser.press("#picker").await;
        browser.press("#picker-panel input[value=scripted]").await;
        browser.fill("#picker-panel .field input", &"x".repeat(1000)).await;
        browser.press("Lock").await;
        browser.until("document.querySelector('#picker-panel .bad')?.innerText.startsWith('Not locked')").await;
        browser.until("document.querySelector('#picker').innerText.startsWith('Locked: demo')").await;
    }
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_07_an_agent_that_is_gone_is_named_and_another_stands_in() {
    let data = tempfile::tempdir().unwrap();
    let mut server = start(data.path());
    let session = server.session(json!({ "title": "orphan", "agent": "scripted" })).await;
    server.kill();
    std::fs::remove_file(data.path().join("config.toml")).unwrap();
    let server = Server::start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    browser.visit(&server.url(&format!("/chat?session={session}"))).await;
    browser.press("#picker").await;
    browser.shows("The locked agent scripted is not configured any more: demo stands in.").await;
    browser.press("Cancel").await;
    browser.say("who is there?").await;
    browser.shows("reply 1 to: who is there?").await;
    browser.shows("stands in: the locked agent is not configured").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_a_question_is_answered_once_from_any_page_and_told_on_all() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        browser.visit(&server.url("/chat")).await;
        browser.say("!ask may I deploy").await;
        browser.until("document.querySelector('.question .options')").await;
        browser.shows("The exact call").await;
        browser.until("document.querySelector('.badge')?.innerText === '1'").await;
        let conversation = browser.tab().await;
        browser.size(size).await;
        browser.visit(&server.url("/waiting")).await;
        browser.press("Allow once").await;
        browser.shows("Nothing waits for you.").await;
        let inbox = std::mem::replace(&mut browser.page, conversation);
        browser.until("!document.querySelector('.question')").await;
        browser.shows("to: may I deploy").await;
        browser.until("document.querySelector('.turn[data-state=completed]')").await;
        drop(inbox);
    }
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_tells_what_waits_when_nobody_looks() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut browser = Browser::open(&data.path().join("profile")).await;
    browser.call("Browser.grantPermissions", json!({ "permissions": ["notifications"], "origin": server.address })).await;
    browser.visit(&server.login).await;
    browser
        .until("document.querySelector('.filters') && navigator.serviceWorker.controller && Notification.permission === 'granted'")
        .await;
    // A headless page is always looked at; it is told that it is not.
    browser.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })").await;
    let notices = "navigator.serviceWorker.ready.then((worker) => worker.getNotifications()).then((list) => list.map(({ tag, body, data }) => [tag, body, data.path]))";
    let until = Instant::now() + PATIENCE;
    // What waits already when the page looks for the first time is no news, and nothing tells when that is.
    loop {
        let session = server.session(json!({ "title": "asks" })).await;
        server.turn_when(&server.send(&session, "!ask may I").await, |turn| turn["state"] == "waiting").await;
        let open = server.get(&format!("/api/questions?session={session}")).await["items"][0].clone();
        let notice = json!([open["id"], format!("Permission: {}", open["title"].as_str().unwrap()), format!("/chat?session={session}")]);
        let soon = Instant::now() + Duration::from_secs(5);
        let mut shown = Value::Null;
        while Instant::now() < soon && !shown.as_array().is_some_and(|shown| shown.contains(&notice)) {
            pause().await;
            shown = browser.evaluate(notices).await;
        }
        if shown.as_array().is_some_and(|shown| shown.contains(&notice)) {
            break;
        }
        assert!(Instant::now() < until, "the notices are {shown}, without {notice}");
    }
    browser.no_mistakes();
}
