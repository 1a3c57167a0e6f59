//! The other pages: a session's details, operations; and a long conversation.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn on_11_ag_13_a_sessions_page_leads_on_and_shows_its_history_by_context() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let session = server.session(json!({ "title": "with a past", "agent": "demo" })).await;
    let first = server.send(&session, "one").await;
    server.ended(&first).await;
    server.post(&format!("/api/sessions/{session}/clear"), json!({})).await;
    server.ended(&server.send(&session, "!tool two").await).await;
    let fork = server.post(&format!("/api/sessions/{session}/fork"), json!({ "at": first, "title": "its fork" })).await;
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        browser.visit(&server.url(&format!("/sessions/{session}"))).await;
        browser.until("document.querySelectorAll('.events li').length > 10").await;
        let contexts = "[...document.querySelectorAll('h3.context')].map((one) => one.textContent).join()";
        assert_eq!(browser.evaluate(contexts).await, "Context 0,Context 1");
        // Every event there is, in order, is the log's.
        let seqs = browser.evaluate("[...document.querySelectorAll('.events .seq')].map((one) => Number(one.textContent))").await;
        let kept: Vec<_> = server.events(&session).await.iter().map(|event| event["seq"].clone()).collect();
        assert_eq!(seqs, json!(kept));
        browser.fill("[aria-label=Kind]", "turn.ended").await;
        browser.until("document.querySelectorAll('.events li').length === 2").await;
        browser.fill("[aria-label=Turn]", &first).await;
        browser.until("document.querySelectorAll('.events li').length === 1").await;
        browser.press(".check input").await;
        let raw = browser.until("document.querySelector('.raw')?.innerText").await;
        let raw: Value = serde_json::from_str(raw.as_str().unwrap()).unwrap();
        assert!(server.events(&session).await.contains(&raw), "the raw view is the log's JSON");
        // Agent sessions, one for each context; turns in time; the family; the files.
        let pinned = server.get(&format!("/api/sessions/{session}")).await["agent_sessions"].clone();
        for own in pinned.as_array().unwrap() {
            browser.shows(own["first"].as_str().unwrap()).await;
        }
        assert_eq!(browser.evaluate("document.querySelectorAll('#timing tbody tr svg').length").await, 2);
        let answer =
            "[...document.querySelectorAll('#messages tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent.trim()))[1]";
        let answer: Vec<String> = serde_json::from_value(browser.evaluate(answer).await).unwrap();
        assert_eq!((answer[1].as_str(), answer[2].as_str(), answer[8].as_str()), ("assistant", "demo", "1"), "{answer:?}");
        assert!(answer[9].starts_with("reply 1 to: one") && !answer[5].is_empty() && !answer[6].is_empty(), "{answer:?}");
        browser.until("document.querySelector('#family .tree .tree a')?.innerText === 'its fork'").await;
        for format in ["jsonl", "markdown", "html"] {
            let read = format!(
                "fetch(document.querySelector('.exports a[href*={format}]').href).then(async (answer) => answer.status + ' ' + (await answer.text()).length)"
            );
            let answer = browser.evaluate(&read).await;
            assert!(answer.as_str().unwrap().starts_with("200 "), "{format}: {answer}");
        }
        browser.press("Continue conversation").await;
        browser.until(&format!("location.search === '?session={session}'")).await;
        browser.shows("reply 1 to: one").await;
        browser.visit(&server.url(&format!("/sessions/{}", fork["id"].as_str().unwrap()))).await;
        browser.until("document.querySelector('#family .tree > li > a')?.innerText === 'with a past'").await;
    }
    browser.no_mistakes();
}

/// The turn of the session that was given up, other than `known` unless that is it.
async fn dead_letter(server: &Server, session: &str, known: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let letters = server.get(&format!("/api/dead-letters?session={session}")).await;
        let listed: Vec<_> =
            letters["items"].as_array().unwrap().iter().map(|letter| letter["turn"]["id"].as_str().unwrap().to_owned()).collect();
        let ended = server.get(&format!("/api/turns/{known}")).await;
        if let Some(fresh) = listed.iter().find(|id| *id != known || ended["state"] == "dead_lettered") {
            return fresh.clone();
        }
        assert!(Instant::now() < until, "nothing was given up: {ended}");
        pause().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_show_what_runs_waits_was_given_up_and_what_it_cost_with_their_actions() {
    let data = tempfile::tempdir().unwrap();
    with_scripted_agent(data.path());
    let config = std::fs::read_to_string(data.path().join("config.toml")).unwrap();
    let config = config.replace("default_agent = \"scripted\"", "default_agent = \"demo\"")
        + "retry_prompts = 1\n\n[agents.absent]\nprotocol = \"acp\"\ncommand = [\"/does/not/exist\"]\n";
    std::fs::write(data.path().join("config.toml"), config).unwrap();
    let server = Server::start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        let running = server.session(json!({ "title": "runs" })).await;
        server.ended(&server.send(&running, "what this costs").await).await;
        let turn = server.send(&running, "!long go").await;
        let asks = server.session(json!({ "title": "asks" })).await;
        server.send(&asks, "!ask").await;
        let given_up = server.session(json!({ "title": "given up", "agent": "scripted" })).await;
        let letter = server.send(&given_up, "!fail are you there").await;
        let letter = dead_letter(&server, &given_up, &letter).await;
        let absent = server.session(json!({ "title": "nobody there", "agent": "absent" })).await;
        server.ended(&server.send(&absent, "hello").await).await;
        browser.visit(&server.url("/ops")).await;
        browser.until("document.querySelector('#running tbody')?.innerText.includes('runs')").await;
        browser.until(&format!("document.querySelector('.letter[data-turn={letter}]')?.innerText.includes('are you there')")).await;
        browser.until("document.querySelector('#waiting .question')").await;
        browser.until("document.querySelector('#breakers tbody')?.innerText.includes('absent')").await;
        browser.fill("[aria-label='What is plotted']", "tokens").await;
        browser.until("document.querySelector('#usage rect')").await;
        // Its actions: stop, answer, edit and take up, put away.
        browser.press("#running tbody button").await;
        assert_eq!(server.ended(&turn).await["state"], "cancelled");
        browser.press("#waiting .question [data-option=reject_once]").await;
        browser.until("!document.querySelector('#waiting .question')").await;
        browser.press("Edit").await;
        browser.fill(".letter textarea", "!fail are you there now").await;
        browser.press("Send edited").await;
        browser.shows("Taken up again.").await;
        let second = dead_letter(&server, &given_up, &letter).await;
        browser.until(&format!("document.querySelector('.letter[data-turn={second}]')?.innerText.includes('are you there now')")).await;
        browser.press("Drop").await;
        browser.until("!document.querySelector('.letter')").await;
    }
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_of_10_000_messages_opens_at_its_end_and_scrolls_to_its_beginning() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let session = server.session(json!({ "title": "long" })).await;
    for piece in 0..20 {
        let message = |number: usize| json!({ "role": if number.is_multiple_of(2) { "user" } else { "assistant" }, "content": format!("message *number* {number}") });
        let messages: Vec<_> = (piece * 500..(piece + 1) * 500).map(message).collect();
        server.post(&format!("/api/sessions/{session}/messages"), json!({ "messages": messages })).await;
    }
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        browser.visit(&server.url(&format!("/chat?session={session}"))).await;
        browser.shows("message number 9999").await;
        let shown = browser.evaluate("performance.getEntriesByName('conversation-shown')[0].startTime").await;
        let painted = browser.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0").await;
        println!("10,000 messages, {size:?}: first paint after {painted} ms, the conversation after {shown} ms");
        for _ in 0..10 {
            let before = browser.evaluate("document.querySelectorAll('.message').length").await;
            browser.evaluate("document.querySelector('#transcript').scrollTop = 0").await;
            browser.until(&format!("document.querySelectorAll('.message').length > {before}")).await;
        }
        let numbers = "[...document.querySelectorAll('.message')].map((one) => Number(one.innerText.match(/number\\W+(\\d+)/)[1]))";
        let numbers: Vec<u64> = serde_json::from_value(browser.evaluate(numbers).await).unwrap();
        assert!(numbers.len() >= 2_000, "{} messages", numbers.len());
        let first = numbers[0];
        assert!(numbers.iter().enumerate().all(|(place, number)| *number == first + place as u64), "each once and in order");
    }
    browser.no_mistakes();
}
