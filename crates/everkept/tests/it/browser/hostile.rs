//! Texts that want to be more than text: promise A6, in a browser that would do what they say.

use super::*;

/// What an attacker writes. `X` is where it says that it ran: a page that nobody is to ask for.
const PAYLOADS: &[&str] = &[
    "<script>fetch('X')</script>",
    "<script src=X></script>",
    "<SCRIPT/SRC=X></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "</script><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "--><script>alert(1)</script><!--",
    "<img src=X onerror=alert(1)>",
    "<img src=x onerror=\"fetch('X')\">",
    "<img srcset=X>",
    "<image href=X>",
    "<picture><source srcset=X><img></picture>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><use href='X#a'/></svg>",
    "<svg><image href=X /></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><foreignObject><iframe src=X></iframe></foreignObject></svg>",
    "<svg><style>@import 'X';</style></svg>",
    "<math href=\"javascript:alert(1)\">click</math>",
    "<math><mtext></form><form><mglyph><style></math><img src=X onerror=alert(1)>",
    "<iframe src=X></iframe>",
    "<iframe srcdoc=\"<script>alert(1)</script>\"></iframe>",
    "<object data=X></object>",
    "<embed src=X>",
    "<link rel=stylesheet href=X>",
    "<link rel=preload as=image href=X>",
    "<base href=X>",
    "<meta http-equiv=refresh content='0;url=X'>",
    "<form action=X><button>go</button></form><script>document.forms[0].submit()</script>",
    "<input autofocus onfocus=alert(1)>",
    "<body onload=alert(1)>",
    "<video src=X autoplay></video>",
    "<audio src=X autoplay></audio>",
    "<video><source onerror=alert(1)></video>",
    "<details open ontoggle=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<a href=\"javascript:alert(1)\">go</a>",
    "<a href=X ping=X>go</a>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title=\"</noscript><img src=X onerror=alert(1)>\">",
    "<style>body{background:url(X)}</style>",
    "<div style=\"background:url(X)\">",
    "<table background=X>",
    "[go](javascript:alert(1))",
    "[go](JaVaScRiPt:alert(1))",
    "[go](java\tscript:alert(1))",
    "[go](&#106;avascript:alert(1))",
    "[go](data:text/html,<script>alert(1)</script>)",
    "[go](vbscript:msgbox(1))",
    "[go](file:///etc/passwd)",
    "[go](blob:X)",
    "[go](//evil.invalid/)",
    "[go](/api/tokens)",
    "[go](HERE/api/tokens)",
    "![pic](X)",
    "![pic](X 'title')",
    "[![pic](X)](X)",
    "![pic](javascript:alert(1))",
    "<https://evil.invalid/\"onmouseover=alert(1)>",
    "```\"><script>alert(1)</script>\ncode\n```",
    "```html\n<script>alert(1)</script>\n```",
    "`<script>alert(1)</script>`",
    "| <script>alert(1)</script> | <img src=X> |\n|---|---|\n| <svg onload=alert(1)> | b |",
    "# <img src=X onerror=alert(1)>",
    "> <script>alert(1)</script>",
    "1. <img src=X onerror=alert(1)>",
    "${alert(1)} {{constructor.constructor('alert(1)')()}}",
    "<!--?lit$0$--><script>alert(1)</script>",
    "'-alert(1)-'",
    "\"><img src=X onerror=alert(1)>",
    "\u{202e}gnp.exe\u{202c}",
    "\u{2066}admin\u{2069}\u{202d}txt.\u{202e}cod",
    "user\u{200b}\u{200d}\u{feff}name",
    "\u{1b}]0;owned\u{7}\u{1b}[2J",
];

/// How each is put.
const WRAPPINGS: &[&str] = &["P", "before P after", "**P** and *P*", "- item\n\n  P\n"];

#[tokio::test(flavor = "multi_thread")]
async fn a6_300_hostile_texts_run_nothing_load_nothing_and_open_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    // Somebody else's server, and ours under a name that only an attacker asks for.
    let asked_for = "http://127.0.0.1:1/ran";
    let texts: Vec<String> = WRAPPINGS
        .iter()
        .flat_map(|wrapping| {
            PAYLOADS.iter().map(|payload| wrapping.replace('P', &payload.replace('X', asked_for).replace("HERE", &server.address)))
        })
        .collect();
    assert!(texts.len() >= 300, "{} texts", texts.len());
    let session = server.session(json!({ "title": texts[0], "resource": PAYLOADS[8], "metadata": { "note": PAYLOADS[0] } })).await;
    for piece in texts.chunks(50) {
        let messages: Vec<_> = piece
            .iter()
            .flat_map(|text| [json!({ "role": "user", "content": text }), json!({ "role": "assistant", "content": text })])
            .collect();
        server.post(&format!("/api/sessions/{session}/messages"), json!({ "messages": messages })).await;
    }
    // Names of everything: titles, tools, files, models, options, plans, outputs.
    let asks = server.session(json!({ "title": PAYLOADS[13], "agent": "scripted" })).await;
    let tool = |number: usize, payload: &str| {
        json!({ "sessionUpdate": "tool_call", "toolCallId": format!("t{number}"), "title": payload, "kind": "execute", "status": "completed",
            "rawInput": { "file_path": payload, "old_string": payload, "new_string": format!("{payload}!"), payload: payload },
            "rawOutput": { "output": payload } })
    };
    let said =
        |payload: &str| json!({ "sessionUpdate": "agent_message_chunk", "content": { "type": "text", "text": format!("{payload}\n\n") } });
    let thought =
        |payload: &str| json!({ "sessionUpdate": "agent_thought_chunk", "content": { "type": "text", "text": format!("{payload}\n\n") } });
    let mut updates: Vec<_> =
        PAYLOADS.iter().enumerate().flat_map(|(number, payload)| [tool(number, payload), said(payload), thought(payload)]).collect();
    updates.push(json!({ "sessionUpdate": "plan", "entries": PAYLOADS.iter().map(|payload| json!({ "content": payload, "priority": "high", "status": payload })).collect::<Vec<_>>() }));
    let options: Vec<_> = PAYLOADS
        .iter()
        .take(12)
        .enumerate()
        .map(|(number, payload)| json!({ "optionId": number.to_string(), "name": payload, "kind": "allow_once" }))
        .collect();
    let turned = PAYLOADS.iter().find(|payload| payload.starts_with('\u{2066}')).unwrap();
    let ask = json!({ "toolCall": { "toolCallId": "q", "title": PAYLOADS[0], "rawInput": { "command": turned, "html": PAYLOADS[8] } }, "options": options });
    let words = json!({ "updates": updates, "ask": ask }).to_string().replace('X', asked_for);
    will_say(data.path(), &words);
    let names = json!({ "input": [{ "type": "text", "text": "!verbatim" }, { "type": "file", "name": "<img src=x onerror=alert(1)>.png", "media_type": "image/svg+xml", "data": "PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+" }] });
    let (status, refused) = server.try_post(&format!("/api/sessions/{asks}/turns"), names).await;
    assert_eq!(status, 202, "{refused}");
    server.question().await;
    let mut browser = Browser::signed_in(&data.path().join("profile"), &server).await;
    let plain = server.session(json!({ "title": "a model's name" })).await;
    server.send(&plain, "!long with a file <b>x</b>").await;
    let pages = [
        ("/".to_owned(), "document.querySelectorAll('.row').length === 3"),
        (format!("/chat?session={session}"), "document.querySelectorAll('.message').length >= 200"),
        (format!("/chat?session={asks}"), "document.querySelectorAll('.tool').length >= 70 && document.querySelector('.question')"),
        ("/waiting".to_owned(), "document.querySelector('.question')"),
        (format!("/sessions/{asks}"), "document.querySelectorAll('.events li').length > 50"),
        ("/ops".to_owned(), "document.querySelector('#waiting .question')"),
    ];
    for size in SIZES {
        browser.size(size).await;
        for (path, ready) in &pages {
            browser.visit(&server.url(path)).await;
            browser.until(ready).await;
            browser.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))").await;
            while browser.evaluate("Boolean(document.querySelector('#older')?.click() ?? document.querySelector('#older'))").await == true {
                pause().await;
            }
            // Nothing an attacker could have made stands in the page, and every link leads where links may.
            let made = "[...document.querySelectorAll('#view script, #view iframe, #view object, #view embed, #view link, #view base, #view meta, #view style, #view form:not(#composer), #view img, #view image, #view use, #view video, #view audio, #view math, #view template, #view marquee, #view foreignObject')].map((one) => one.outerHTML)";
            assert_eq!(browser.evaluate(made).await, json!([]), "{path}");
            let handlers = "[...document.querySelectorAll('#view *:not(#input)')].flatMap((one) => [...one.attributes]).map(({ name }) => name).filter((name) => name.startsWith('on') || name === 'style' || name === 'srcdoc')";
            assert_eq!(browser.evaluate(handlers).await, json!([]), "{path}");
            let links = "[...document.querySelectorAll('#view .text a[href]')].filter((one) => !/^(https?|mailto):/.test(one.href) || one.origin === location.origin || one.target !== '_blank' || !one.rel.includes('noopener')).map((one) => one.outerHTML)";
            assert_eq!(browser.evaluate(links).await, json!([]), "{path}");
        }
    }
    // What is turned round or unseen is written out where names stand.
    browser.visit(&server.url("/waiting")).await;
    browser.until("document.querySelector('.question .command')?.innerText.includes('⟨U+2066⟩')").await;
    for (method, params) in &browser.heard {
        let url = params["request"]["url"].as_str().or(params["url"].as_str()).unwrap_or_default();
        let foreign = !(url.is_empty()
            || url.starts_with(&server.address)
            || url.starts_with(&server.address.replacen("http", "ws", 1))
            || url == "about:blank");
        assert!(!(method.starts_with("Network.") && foreign), "the page asked for {url}");
        assert!(!url.ends_with("/ran"), "a text was obeyed: {url}");
    }
    assert!(browser.heard.iter().any(|(method, _)| method == "Network.requestWillBeSent"), "requests were recorded");
    browser.no_mistakes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a6_an_exported_page_runs_nothing_and_loads_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let session = server.session(json!({ "title": PAYLOADS[0] })).await;
    let messages: Vec<_> =
        PAYLOADS.iter().map(|payload| json!({ "role": "assistant", "content": payload.replace('X', "http://127.0.0.1:1/ran") })).collect();
    server.post(&format!("/api/sessions/{session}/messages"), json!({ "messages": messages })).await;
    let answer = server
        .client
        .get(server.url(&format!("/api/sessions/{session}/export?format=html")))
        .bearer_auth(&server.token)
        .send()
        .await
        .unwrap();
    assert!(answer.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
    let file = data.path().join("export.html");
    std::fs::write(&file, answer.bytes().await.unwrap()).unwrap();
    let mut browser = Browser::open(&data.path().join("profile")).await;
    browser.visit(&format!("file://{}", file.display())).await;
    browser.until(&format!("document.querySelectorAll('article').length === {}", PAYLOADS.len())).await;
    let made = "[...document.querySelectorAll('script, iframe, object, embed, link, base, img, svg, video, audio, form, math')].map((one) => one.outerHTML)";
    assert_eq!(browser.evaluate(made).await, json!([]));
    let asked = browser.heard.iter().filter_map(|(_, params)| params["request"]["url"].as_str());
    assert!(asked.into_iter().all(|url| url.starts_with("file:")), "it asked for something");
    browser.no_mistakes();
}
