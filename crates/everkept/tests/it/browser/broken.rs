//! What breaks while an answer comes: the page, the server, the network. Nothing is lost, nothing is there twice.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tokio::net::{TcpListener, TcpStream};

/// What the page says and shows is what the log has, byte for byte.
async fn same_as_the_log(browser: &mut Browser, server: &Server, session: &str) {
    browser.until("document.querySelector('.turn') && !document.querySelector('.turn.open')").await;
    let kept = server.said(session).await;
    let until = Instant::now() + PATIENCE;
    loop {
        let said = browser.said().await;
        let held: Vec<_> = said.iter().map(|(role, text, _)| (role.clone(), text.clone())).collect();
        let shown: Vec<_> = said.iter().map(|(role, _, text)| (role.clone(), text.clone())).collect();
        if held == kept && shown == kept {
            return;
        }
        assert!(Instant::now() < until, "the log has {kept:?}\nthe page holds {held:?}\nand shows {shown:?}");
        pause().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_and_a_second_tab_in_mid_answer_show_everything_once() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        browser.visit(&server.url("/chat")).await;
        browser.say("!slow:60 one two three four five six seven eight nine ten eleven twelve").await;
        browser.shows("reply 1 to: one two").await;
        let session = browser.session().await;
        let first = browser.tab().await;
        browser.size(size).await;
        browser.visit(&server.url(&format!("/chat?session={session}"))).await;
        browser.shows("reply 1 to: one two").await;
        browser.reload().await;
        browser.shows("eleven twelve").await;
        same_as_the_log(&mut browser, &server, &session).await;
        drop(std::mem::replace(&mut browser.page, first));
        same_as_the_log(&mut browser, &server, &session).await;
    }
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_outlives_a_reload() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let session = server.session(json!({ "title": "drafts" })).await;
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    browser.visit(&server.url(&format!("/chat?session={session}"))).await;
    browser.fill("#input", "half a thought").await;
    browser.reload().await;
    browser.until("document.querySelector('#input')?.value === 'half a thought'").await;
    browser.visit(&server.url("/chat")).await;
    browser.until("document.querySelector('#input') && document.querySelector('#input').value === ''").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_in_mid_answer_loses_no_word_and_what_was_written_meanwhile_is_sent_once() {
    let data = tempfile::tempdir().unwrap();
    let mut server = start(data.path());
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    let address: std::net::SocketAddr = server.address.trim_start_matches("http://").parse().unwrap();
    browser.visit(&server.url("/chat")).await;
    browser.say("!long go").await;
    browser.shows("and on and on").await;
    let session = browser.session().await;
    server.kill();
    browser.shows("reconnecting").await;
    browser.say("written without a server").await;
    browser.shows("not sent yet").await;
    let mut command = everkept();
    command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(data.path());
    let server = Server::launch(command, data.path(), |_| data.path().to_owned());
    browser.shows("to: written without a server").await;
    browser.until("!document.querySelector('.unsent') && !document.querySelector('.lost')").await;
    same_as_the_log(&mut browser, &server, &session).await;
    let asked: Vec<_> = server.said(&session).await.into_iter().filter(|(role, _)| role == "user").map(|(_, text)| text).collect();
    assert_eq!(asked, ["!long go", "written without a server"]);
    browser.shows("Continue where it stopped").await;
    browser.no_mistakes();
}

/// Stands between browser and server, and lets nothing through while it is cut.
struct Network {
    address: String,
    cut: Arc<AtomicBool>,
}

impl Network {
    async fn to(server: std::net::SocketAddr, listener: TcpListener) -> Network {
        let address = format!("http://{}", listener.local_addr().unwrap());
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = cut.clone();
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let is_cut = is_cut.clone();
                if is_cut.load(SeqCst) {
                    continue;
                }
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    let broken = async {
                        while !is_cut.load(SeqCst) {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = broken => {}
                    }
                });
            }
        });
        Network { address, cut }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_network_in_mid_answer_loses_no_word_and_doubles_none() {
    let data = tempfile::tempdir().unwrap();
    with_scripted_agent(data.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let public = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::start_with(data.path(), |command| {
        command.args(["--public-url", &public]);
    });
    let network = Network::to(server.address.trim_start_matches("http://").parse().unwrap(), listener).await;
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    for size in SIZES {
        browser.size(size).await;
        browser.visit(&format!("{}/chat", network.address)).await;
        browser.say("!slow:60 one two three four five six seven eight nine ten eleven twelve thirteen fourteen").await;
        browser.shows("to: one two").await;
        let session = browser.session().await;
        network.cut.store(true, SeqCst);
        browser.shows("reconnecting").await;
        browser.say("and this meanwhile").await;
        browser.shows("not sent yet").await;
        network.cut.store(false, SeqCst);
        browser.shows("to: and this meanwhile").await;
        browser.until("!document.querySelector('.unsent')").await;
        same_as_the_log(&mut browser, &server, &session).await;
        assert_eq!(server.said(&session).await.len(), 4, "each was sent once");
    }
    browser.no_mistakes();
}
