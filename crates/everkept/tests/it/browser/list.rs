//! The list of sessions: found, gone on with, put away and brought back; live, by keys, and page by page.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn ws_11_a_deleted_session_leaves_the_list_of_every_open_page_and_an_undo_brings_it_back() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        server.session(json!({ "title": "stays" })).await;
        server.session(json!({ "title": "by its pair", "resource": "anna", "thread": "t" })).await;
        let by_hand = server.session(json!({ "title": "by hand" })).await;
        browser.visit(&server.url("/")).await;
        browser.shows("by its pair").await;
        server.delete("/api/threads/anna/t").await;
        browser.shows_no_more("by its pair").await;
        browser.press(&format!(".row[data-session={by_hand}] button")).await;
        browser.until(&format!("!document.querySelector('.row[data-session={by_hand}]')")).await;
        browser.shows("is in the trash").await;
        assert_eq!(server.get("/api/sessions?deleted=true&count=true").await["total"], if size == DESK { 2 } else { 3 });
        browser.press("Undo").await;
        browser.until(&format!("document.querySelector('.row[data-session={by_hand}]')")).await;
        // Nor does the trash keep what one goes to look for in it.
        server.delete(&format!("/api/sessions/{by_hand}")).await;
        browser.visit(&server.url("/?shelf=trash")).await;
        browser.until(&format!("document.querySelector('.row[data-session={by_hand}]')")).await;
        browser.press(&format!(".row[data-session={by_hand}] button")).await;
        browser.until(&format!("!document.querySelector('.row[data-session={by_hand}]')")).await;
        server.get(&format!("/api/sessions/{by_hand}")).await;
    }
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_10_ws_16_every_row_leads_on_and_sessions_are_searched_filtered_and_seen_live() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let roof = server.session(json!({ "title": "roof", "resource": "anna" })).await;
    server.ended(&server.send(&roof, "the gutter leaks").await).await;
    let waits = server.session(json!({ "title": "waits", "resource": "bert", "agent": "scripted" })).await;
    server.send(&waits, "!ask").await;
    server.question().await;
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        browser.visit(&server.url("/")).await;
        let only = |session: &str| {
            format!("document.querySelectorAll('.row').length === 1 && document.querySelector('.row[data-session={session}]')")
        };
        // Continue stands before delete.
        let order =
            "[...document.querySelector('.row').querySelectorAll('.acts a, .acts button')].map((one) => one.textContent.trim()).join()";
        assert_eq!(browser.until(&format!("document.querySelector('.row') && {order}")).await, "Continue,Details,Delete");
        browser.fill("#search", "gutter").await;
        browser.until(&only(&roof)).await;
        browser.fill("#search", "").await;
        browser.fill("[aria-label=State]", "waiting").await;
        browser.until(&only(&waits)).await;
        browser.shows("waiting for you").await;
        browser.reload().await;
        browser.until(&only(&waits)).await;
        browser.fill("[aria-label=State]", "").await;
        browser.fill("[aria-label=Agent]", "scripted").await;
        browser.until(&only(&waits)).await;
        browser.fill("[aria-label=Agent]", "").await;
        browser.fill("[aria-label=Owner]", "bert").await;
        browser.until(&only(&waits)).await;
        browser.fill("[aria-label=Owner]", "anna").await;
        browser
            .until(&format!("document.querySelector('.row[data-session={roof}]') && !document.querySelector('.row[data-session={waits}]')"))
            .await;
        // Live: what begins elsewhere is there, what costs is told.
        let late = server.session(json!({ "title": "begun elsewhere", "resource": "anna" })).await;
        browser.until(&format!("document.querySelector('.row')?.dataset.session === '{late}'")).await;
        server.ended(&server.send(&roof, "and again").await).await;
        browser.until(&format!("document.querySelector('.row')?.dataset.session === '{roof}' && document.querySelector('.row .tokens').innerText.includes('tokens')")).await;
        browser.press(&format!(".row[data-session={roof}] .button")).await;
        browser.until(&format!("location.pathname === '/chat' && location.search === '?session={roof}'")).await;
        browser.shows("reply 1 to: the gutter leaks").await;
        browser.evaluate("history.back()").await;
        browser.until("location.pathname === '/' && document.querySelector('.row')").await;
    }
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_goes_by_keys_and_grows_as_it_is_scrolled() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    for number in 0..130 {
        server.session(json!({ "title": format!("session {number}") })).await;
    }
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    browser.until("document.querySelectorAll('.row').length === 50").await;
    for most in [100, 130] {
        browser.evaluate("document.querySelector('.page').scrollTop = 1e7").await;
        browser.until(&format!("document.querySelectorAll('.row').length >= {most}")).await;
    }
    let titles = browser.evaluate("[...document.querySelectorAll('.row .title')].map((one) => one.textContent)").await;
    let expected: Vec<_> = (0..130).rev().map(|number| format!("session {number}")).collect();
    assert_eq!(titles, json!(expected), "each once, newest first");
    browser.evaluate("document.querySelector('.page').scrollTop = 0; document.activeElement.blur()").await;
    browser.key("/").await;
    browser.until("document.activeElement.id === 'search'").await;
    browser.key("ArrowDown").await;
    browser.key("j").await;
    browser.until("document.activeElement.innerText === 'session 128'").await;
    browser.key("k").await;
    browser.key("Delete").await;
    browser.shows("“session 129” is in the trash").await;
    browser.until("document.querySelector('.row .title').innerText === 'session 128'").await;
    browser.evaluate("document.querySelector('.row .title').focus()").await;
    browser.key("Enter").await;
    browser.until("location.pathname === '/chat' && document.querySelector('.top h1').innerText === 'session 128'").await;
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_phone_no_page_is_wider_than_the_screen_whatever_the_titles() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let title = "A title that goes on and on, ".repeat(8);
    let session = server.session(json!({ "title": title, "resource": "o".repeat(200) })).await;
    server.ended(&server.send(&session, &"unbroken".repeat(200)).await).await;
    server.ended(&server.send(&session, "!tool !think wide").await).await;
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    browser.size(PHONE).await;
    for page in ["/", &format!("/chat?session={session}"), &format!("/sessions/{session}"), "/waiting", "/ops"] {
        browser.visit(&server.url(page)).await;
        browser.until("document.querySelector('#view h1') && document.readyState === 'complete'").await;
        browser.until("document.querySelector('.row, .turn, .facts, .empty, #breakers')").await;
        let wide = "[...document.querySelectorAll('body *')].filter((one) => !one.closest('pre, .table, svg') && (one.matches('button, a, input, select, textarea, article')\
            ? one.checkVisibility() && one.getBoundingClientRect().right > 391\
            : one.scrollWidth > one.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(one).overflowX))).map((one) => one.outerHTML.slice(0, 120))";
        assert_eq!(browser.evaluate(wide).await, json!([]), "{page}");
    }
    browser.no_mistakes();
}
