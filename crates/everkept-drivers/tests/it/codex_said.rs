//! Transcripts of Codex: the bytes it wrote, and what they mean in the words all drivers share.

use crate::{
    support::{Heard, Talk, fresh_turn, try_open},
    transcript::{CODEX, Transcript, WAIT, told},
};
use everkept_agent::{AgentFaultKind, Done, OpenSession, Order, Prompt, PromptPart};
use everkept_core::{AgentRaw, AgentSessionId, OptionKind, Said};

const INTRODUCTION: &str = r#"{"id":1,"result":{"userAgent":"codex"}}"#;
const OPENED: &str = r#"{"id":2,"result":{"thread":{"id":"t"},"model":"m"}}"#;
const NAMED: &str = r#"{"id":3,"result":{}}"#;
const TAKEN: &str = r#"{"id":4,"result":{"turn":{"id":"n","status":"inProgress"}}}"#;
const DONE: &str = r#"{"method":"turn/completed","params":{"threadId":"t","turn":{"id":"n","status":"completed"}}}"#;

#[tokio::test]
async fn what_codex_said_is_understood() {
    let recorded = include_bytes!("../fixtures/codex-0.169.0.jsonl");
    let transcript = Transcript::of(recorded, &CODEX);
    let mut talk = transcript.open(OpenSession::New).await;
    assert_eq!(talk.session().as_str(), "01a1fa4e-1d14-7900-b8ab-558e5b1f029a");
    let mut bytes = Vec::new();
    let mut hear = async |talk: &mut Talk, prompt: &str, kind: Option<OptionKind>| {
        let mut heard = talk.prompt_until_asked(prompt).await;
        if let Some(kind) = kind {
            let Some(Said::Asked(asked)) = heard.said.last() else { panic!("{:?}", heard.said) };
            let option = asked.options.iter().find(|option| option.kind == kind).map(|option| option.id.clone());
            talk.order(Order::Answer { request: asked.request.clone(), option }).await;
            heard.and(talk.hear_out().await);
        }
        bytes.extend(heard.bytes());
        // A model that Codex has never heard of is warned of each time.
        told(&heard).into_iter().filter(|told| !told.contains("Model metadata for `fake` not found")).collect::<Vec<_>>()
    };
    assert_eq!(
        hear(&mut talk, "say hello THINK", None).await,
        [
            "reasoning : thinking about: say hello THINK",
            "text item_fake: reply 1 to: say hello THINK",
            "used : 3 in, 6 out",
            "usage 3 in, 6 out",
            r#"Completed { reason: "completed" }"#,
        ]
    );
    assert_eq!(
        hear(&mut talk, "use it TOOL", Some(OptionKind::AllowOnce)).await,
        [
            r#"tool call_2 commandExecution Running "/bin/bash -lc 'echo tool-ran >> tool.log'" {"command":"/bin/bash -lc 'echo tool-ran >> tool.log'","cwd":"/home/someone/work"}"#,
            r#"asked 0 "/bin/bash -lc 'echo tool-ran >> tool.log'" accept/AllowOnce acceptWithExecpolicyAmendment-1/AllowAlways decline/RejectOnce cancel/RejectOnce"#,
            r#"tool call_2 Completed "/bin/bash -lc 'echo tool-ran >> tool.log'" in {"command":"/bin/bash -lc 'echo tool-ran >> tool.log'","cwd":"/home/someone/work"} out {"exitCode":0}"#,
            "used : 6 in, 6 out",
            "usage 6 in, 6 out",
            "text item_fake: reply 2 to: use it TOOL",
            "used : 6 in, 6 out",
            "usage 12 in, 12 out",
            r#"Completed { reason: "completed" }"#,
        ]
    );
    assert_eq!(
        hear(&mut talk, "write it EDIT", Some(OptionKind::AllowOnce)).await,
        [
            r#"tool call_3 fileChange Running "/home/someone/work/patched.txt" {"changes":[{"path":"/home/someone/work/patched.txt","kind":{"type":"add"},"diff":"patched\n"}]}"#,
            r#"asked 1 "/home/someone/work/patched.txt" accept/AllowOnce acceptForSession/AllowAlways decline/RejectOnce"#,
            r#"tool call_3 Completed "/home/someone/work/patched.txt" in {"changes":[{"path":"/home/someone/work/patched.txt","kind":{"type":"add"},"diff":"patched\n"}]}"#,
            "used : 9 in, 6 out",
            "usage 9 in, 6 out",
            "text item_fake: reply 3 to: write it EDIT",
            "used : 9 in, 6 out",
            "usage 18 in, 12 out",
            r#"Completed { reason: "completed" }"#,
        ]
    );
    assert_eq!(
        hear(&mut talk, "again TOOL", Some(OptionKind::RejectOnce)).await,
        [
            r#"tool call_4 commandExecution Running "/bin/bash -lc 'echo tool-ran >> tool.log'" {"command":"/bin/bash -lc 'echo tool-ran >> tool.log'","cwd":"/home/someone/work"}"#,
            r#"asked 2 "/bin/bash -lc 'echo tool-ran >> tool.log'" accept/AllowOnce acceptWithExecpolicyAmendment-1/AllowAlways decline/RejectOnce cancel/RejectOnce"#,
            r#"tool call_4 Failed "/bin/bash -lc 'echo tool-ran >> tool.log'" in {"command":"/bin/bash -lc 'echo tool-ran >> tool.log'","cwd":"/home/someone/work"}"#,
            "used : 11 in, 5 out",
            "usage 11 in, 5 out",
            "text item_fake: reply 4 to: again TOOL",
            "used : 11 in, 5 out",
            "usage 22 in, 10 out",
            r#"Completed { reason: "completed" }"#,
        ]
    );
    let failed = hear(&mut talk, "now FAIL", None).await;
    assert_eq!(failed.len(), 2, "what went wrong, as it came, and the end: {failed:?}");
    assert!(
        failed[1].starts_with(r#"Failed { code: "other", message: "#) && failed[1].contains("failed, as it was asked to"),
        "{failed:?}"
    );
    assert!(bytes == recorded, "every byte is handed over as it came");
}

#[tokio::test]
async fn every_kind_of_item_is_told() {
    let heard = answer(&[
        &told_of("turn/plan/updated", r#""plan":[{"step":"one","status":"completed"},{"step":"two","status":"inProgress"}]"#),
        &item(
            "started",
            r#""type":"mcpToolCall","id":"m","server":"files","tool":"read","arguments":{"z":1e400,"a":"\ud800"},"status":"inProgress""#,
        ),
        &item(
            "completed",
            r#""type":"mcpToolCall","id":"m","server":"files","tool":"read","arguments":{},"status":"failed","error":{"message":"no"}"#,
        ),
        &item("completed", r#""type":"webSearch","id":"w","query":"what","results":[1]"#),
        &item("started", r#""type":"contextCompaction","id":"c""#),
        &item("completed", r#""type":"contextCompaction","id":"c""#),
        &item("completed", r#""type":"reasoning","id":"r","summary":["one","two"],"content":[]"#),
        &item("completed", r#""type":"agentMessage","id":"a","text":"in one piece""#),
        &item("completed", r#""type":"agentMessage","id":"b","text":"""#),
        &told_of("item/agentMessage/delta", r#""itemId":"d","delta":"in ""#),
        &told_of("item/agentMessage/delta", r#""itemId":"d","delta":"two""#),
        &item("completed", r#""type":"agentMessage","id":"d","text":"in two""#),
        &told_of("thread/status/changed", r#""status":{"type":"idle"}"#),
        r#"{"method":"item/agentMessage/delta","params":{"threadId":"other","itemId":"x","delta":"a helper's"}}"#,
        DONE,
    ])
    .await;
    assert_eq!(
        told(&heard),
        [
            r#"plan [{"content":"one","status":"completed"},{"content":"two","status":"in_progress"}]"#,
            r#"tool m files.read Running {"z":1e400,"a":"\ud800"}"#,
            r#"tool m Failed in {} out {"message":"no"}"#,
            r#"tool w Completed "what" in {"query":"what"} out [1]"#,
            "Compacting(true)",
            "Compacting(false)",
            "reasoning : one\n\ntwo",
            "text a: in one piece",
            "text d: in two",
            r#"Completed { reason: "completed" }"#,
        ]
    );
}

#[tokio::test]
async fn what_codex_says_beyond_that_is_kept() {
    let unheard = item("started", r#""type":"somethingNew","id":"x""#);
    let lines = [&told_of("brand/new", r#""x":1"#), &told_of("warning", r#""message":"mind""#), "not json", "  [1,  2]  ", "", DONE];
    let heard = answer(&[&[unheard.as_str()], &lines[..]].concat()).await;
    let text = |said: &Said| match said {
        Said::Raw(AgentRaw::Json(json)) => json.get().to_owned(),
        Said::Raw(AgentRaw::Text(text)) => format!("text {text}"),
        said => panic!("{said:?}"),
    };
    let kept: Vec<_> = heard.said.iter().map(text).collect();
    assert_eq!(kept, [r#"{"type":"somethingNew","id":"x"}"#, lines[0], lines[1], "text not json", "[1,  2]"]);
}

#[tokio::test]
async fn a_turn_of_a_resumed_thread_counts_its_own_tokens() {
    let used = |turn: &str, total: u32, last: u32| {
        told_of(
            "thread/tokenUsage/updated",
            &format!(
                r#""turnId":"{turn}","tokenUsage":{{"total":{{"inputTokens":{total},"outputTokens":{total}}},"last":{{"inputTokens":{last},"outputTokens":1}}}}"#
            ),
        )
    };
    let heard = answer(&[&used("before", 90, 90), &used("n", 100, 10), &used("n", 100, 10), &used("n", 130, 30), DONE]).await;
    assert_eq!(
        told(&heard),
        [
            "used : 10 in, 1 out",
            "usage 10 in, 1 out",
            "usage 10 in, 1 out",
            "used : 30 in, 30 out",
            "usage 40 in, 31 out",
            r#"Completed { reason: "completed" }"#
        ],
        "what is said twice was used once"
    );
}

#[tokio::test]
async fn codex_asks_for_a_choice_for_permissions_for_hosts_and_for_mcp_servers() {
    let ask = |id: &str, method: &str, params: &str| {
        format!(r#"{{"id":{id},"method":"{method}","params":{{"threadId":"t","itemId":"i",{params}}}}}"#)
    };
    let choice = r#""isBlocking":true,"questions":[{"id":"q","header":"h","question":"Which?","options":[{"label":"This","description":""},{"label":"That","description":""}]}]"#;
    let hosts = r#""command":"curl","availableDecisions":["accept",{"applyNetworkPolicyAmendment":{"network_policy_amendment":{"action":"allow","host":"a.example"}}},{"applyNetworkPolicyAmendment":{"network_policy_amendment":{"action":"deny","host":"a.example"}}}]"#;
    let form = |fields: &str| {
        format!(
            r#""serverName":"s","mode":"form","message":"May files.write?","requestedSchema":{{"type":"object","properties":{fields}}}"#
        )
    };
    let transcript = transcript(&[
        TAKEN,
        &ask("0", "item/tool/requestUserInput", choice),
        &ask("1", "item/permissions/requestApproval", r#""reason":"to write there","permissions":{"network":{"enabled":true}}"#),
        &ask("2", "item/commandExecution/requestApproval", hosts),
        &ask("3", "mcpServer/elicitation/request", &form("{}")),
        &ask("4", "item/tool/requestUserInput", r#""questions":[]"#),
        &ask("5", "mcpServer/elicitation/request", &form(r#"{"name":{"type":"string"}}"#)),
        DONE,
    ]);
    let mut talk = transcript.open(OpenSession::New).await;
    let mut asked = Vec::new();
    for answer in ["That", "session", "applyNetworkPolicyAmendment-2", "accept"] {
        let heard = if asked.is_empty() { talk.prompt_until_asked("go").await } else { talk.hear_until_asked().await };
        let Some(Said::Asked(question)) = heard.said.last() else { panic!("{:?}", heard.said) };
        asked.extend(told(&heard).into_iter().filter(|told| !told.is_empty()));
        talk.order(Order::Answer { request: question.request.clone(), option: Some(answer.into()) }).await;
    }
    assert_eq!(
        asked,
        [
            r#"asked 0 "Which?" This/Other That/Other"#,
            r#"asked 1 "to write there" turn/AllowOnce session/AllowAlways none/RejectOnce"#,
            r#"asked 2 "curl" accept/AllowOnce applyNetworkPolicyAmendment-1/AllowAlways applyNetworkPolicyAmendment-2/RejectAlways decline/RejectOnce"#,
            r#"asked 3 "May files.write?" accept/AllowOnce decline/RejectOnce"#,
        ]
    );
    let heard = talk.hear_out().await;
    assert!(matches!(heard.said[..], [Said::Raw(_), Said::Raw(_)]), "nobody can be asked nothing, or for words: {:?}", heard.said);
    let sent = transcript.sent();
    assert_eq!(
        sent[sent.len() - 6..],
        [
            r#"{"id":0,"result":{"answers":{"q":{"answers":["That"]}}}}"#,
            r#"{"id":1,"result":{"permissions":{"network":{"enabled":true}},"scope":"session"}}"#,
            r#"{"id":2,"result":{"decision":{"applyNetworkPolicyAmendment":{"network_policy_amendment":{"action":"deny","host":"a.example"}}}}}"#,
            r#"{"id":3,"result":{"action":"accept","content":{}}}"#,
            r#"{"id":4,"error":{"code":-32601,"message":"item/tool/requestUserInput is not served here"}}"#,
            r#"{"id":5,"error":{"code":-32601,"message":"mcpServer/elicitation/request is not served here"}}"#,
        ]
    );
}

#[tokio::test]
async fn codex_may_take_its_question_back() {
    let ask = r#"{"id":"q","method":"item/fileChange/requestApproval","params":{"threadId":"t","itemId":"i"}}"#;
    let resolved = |request: &str| told_of("serverRequest/resolved", &format!(r#""requestId":{request}"#));
    let heard = answer(&[ask, &resolved("7"), &resolved(r#""q""#), DONE]).await;
    let asked = r#"asked "q" "permission" accept/AllowOnce acceptForSession/AllowAlways decline/RejectOnce"#;
    assert_eq!(told(&heard), [asked, r#"withdrew "q""#, r#"Completed { reason: "completed" }"#]);
}

#[tokio::test]
async fn a_question_ends_with_its_prompt_and_is_answered_no() {
    let ask = r#"{"id":"q","method":"item/fileChange/requestApproval","params":{"threadId":"t","itemId":"i"}}"#;
    let no = r#"{"id":"q","result":{"decision":"decline"}}"#;
    let second = [TAKEN, DONE].map(|line| line.replace('4', "5"));
    let ended = transcript(&[TAKEN, ask, DONE, WAIT, &second[0], &second[1]]);
    let mut talk = ended.open(OpenSession::New).await;
    talk.prompt("go").await;
    talk.prompt("go on").await;
    let sent = ended.sent();
    assert_eq!(sent[sent.len() - 2], no, "before the next prompt");

    let failed = DONE.replace(r#""completed"}"#, r#""failed","error":null}"#);
    let cancelled = transcript(&[TAKEN, ask, WAIT, WAIT, &failed]);
    let mut talk = cancelled.open(OpenSession::New).await;
    talk.prompt_until_asked("go").await;
    talk.order(Order::Cancel).await;
    assert_eq!(*talk.hear_out().await.done(), Done::Cancelled, "whatever came of it after that");
    let sent = cancelled.sent();
    assert_eq!(sent[sent.len() - 2..], [r#"{"id":5,"method":"turn/interrupt","params":{"threadId":"t","turnId":"n"}}"#, no]);
}

#[tokio::test]
async fn a_prompt_that_codex_does_not_take_has_failed_and_may_come_again() {
    let refused = r#"{"id":4,"error":{"code":-32600,"message":"thread not found: t"}}"#;
    let transcript = transcript(&[refused, &TAKEN.replace('4', "5"), DONE]);
    let mut talk = transcript.open(OpenSession::New).await;
    let failed = Done::Failed { code: "-32600".into(), message: "thread not found: t".into() };
    let prompt = Prompt { turn: fresh_turn(), parts: vec![PromptPart::Text("go".into())], history: Vec::new() };
    for done in [failed, Done::Completed { reason: "completed".into() }] {
        talk.order(Order::Prompt(prompt.clone())).await;
        assert_eq!(*talk.hear_out().await.done(), done);
    }
}

#[tokio::test]
async fn a_failed_turn_says_why_in_codex_words() {
    let failed = |error: &str| DONE.replace(r#""completed"}"#, &format!(r#""failed","error":{error}}}"#));
    let cases = [
        (r#"{"message":"busy","codexErrorInfo":"serverOverloaded"}"#, "serverOverloaded", "busy"),
        (
            r#"{"message":"cut","codexErrorInfo":{"responseStreamDisconnected":{}},"additionalDetails":"by peer"}"#,
            "responseStreamDisconnected",
            "cut: by peer",
        ),
        ("null", "unknown", "no message"),
    ];
    for (error, code, message) in cases {
        let heard = answer(&[&failed(error)]).await;
        assert_eq!(*heard.done(), Done::Failed { code: code.into(), message: message.into() });
    }
    let interrupted = DONE.replace("completed\"}", "interrupted\"}");
    assert_eq!(*answer(&[&interrupted]).await.done(), Done::Cancelled);
}

#[tokio::test]
async fn threads_that_are_not_what_was_asked_for_are_faults() {
    let refused = |message: &str| format!(r#"{{"id":2,"error":{{"code":-32600,"message":"{message}"}}}}"#);
    let id = |text: &str| AgentSessionId::new(text).unwrap();
    let resume = || OpenSession::Resume(id("t"));
    let other = OPENED.replace(r#""t""#, r#""other""#);
    let cases: &[(&[&str], OpenSession, AgentFaultKind, bool)] = &[
        (&[r#"{"id":1,"error":{"code":-32600,"message":"Not initialized"}}"#], OpenSession::New, AgentFaultKind::Refused, false),
        (&[INTRODUCTION, &refused("no rollout found for thread id t")], resume(), AgentFaultKind::UnknownSession, false),
        (&[INTRODUCTION, &refused("invalid session id: t")], OpenSession::Fork(id("t")), AgentFaultKind::UnknownSession, false),
        (&[INTRODUCTION, &refused("thread t already has an active writer")], resume(), AgentFaultKind::Refused, true),
        (&[INTRODUCTION, &refused("cannot write")], OpenSession::New, AgentFaultKind::Refused, false),
        (&[INTRODUCTION, &other], resume(), AgentFaultKind::UnknownSession, false),
        (&[INTRODUCTION, OPENED], OpenSession::Fork(id("t")), AgentFaultKind::Protocol, false),
        (&[INTRODUCTION, r#"{"id":2,"result":{}}"#], OpenSession::New, AgentFaultKind::Protocol, false),
        (&[INTRODUCTION, OPENED, r#"{"id":3,"error":{"code":-32600,"message":"no"}}"#], OpenSession::New, AgentFaultKind::Refused, false),
        (&[INTRODUCTION, OPENED, r#"{"id":3,"error":{"code":-32600,"message":"no"}}"#], resume(), AgentFaultKind::Refused, false),
    ];
    for (lines, session, kind, retryable) in cases {
        let transcript = Transcript::lines(&CODEX, lines);
        let fault = try_open(&*transcript.agent(), transcript.folder.path(), session.clone()).await.unwrap_err();
        assert_eq!((fault.kind, fault.retryable, fault.may_have_happened), (*kind, *retryable, false), "{lines:?}: {fault}");
    }
}

fn transcript(lines: &[&str]) -> Transcript {
    Transcript::lines(&CODEX, &[&[INTRODUCTION, OPENED, NAMED], lines].concat())
}

/// What a first prompt is answered with, once it is taken.
async fn answer(lines: &[&str]) -> Heard {
    transcript(&[&[TAKEN], lines].concat()).open(OpenSession::New).await.prompt("go").await
}

fn told_of(method: &str, params: &str) -> String {
    format!(r#"{{"method":"{method}","params":{{"threadId":"t",{params}}}}}"#)
}

fn item(what: &str, fields: &str) -> String {
    told_of(&format!("item/{what}"), &format!(r#""turnId":"n","item":{{{fields}}}"#))
}
