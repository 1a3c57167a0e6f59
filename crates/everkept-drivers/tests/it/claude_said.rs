//! A transcript of Claude Code: the bytes it wrote, and what they mean in the words all drivers share.

use crate::transcript::{CLAUDE, Transcript, told};
use everkept_agent::{OpenSession, Order, Prompt, PromptPart};
use everkept_core::{AgentSessionId, OptionKind, Said, TurnId};

#[tokio::test]
async fn what_claude_code_said_is_understood() {
    let recorded = include_bytes!("../fixtures/claude-code-2.1.328.jsonl");
    let transcript = Transcript::of(recorded, &CLAUDE);
    let session = AgentSessionId::new("01a1fa00-0000-7000-8000-000000000000").unwrap();
    let mut talk = transcript.open(OpenSession::Resume(session)).await;
    let mut bytes = Vec::new();
    let prompts: [(&str, Option<OptionKind>, &[&str]); 4] = [
        (
            "say hello THINK",
            None,
            &[
                "reasoning msg_2: thinking about: say hello THINK",
                "text msg_2: reply 1 to: say hello THINK",
                "used msg_2: 3 in, 6 out",
                "usage 3 in, 6 out",
                r#"Completed { reason: "end_turn" }"#,
            ],
        ),
        (
            "use it TOOL",
            Some(OptionKind::AllowOnce),
            &[
                "tool call_2 Bash Pending",
                r#"tool call_2 Running "echo tool-ran >> tool.log" in {"command":"echo tool-ran >> tool.log"}"#,
                r#"asked 4df1d592-c68a-47c7-8419-5a36a329fa6c "Bash: echo tool-ran >> tool.log" allow/AllowOnce always/AllowAlways deny/RejectOnce"#,
                "used msg_4: 6 in, 6 out",
                r#"tool call_2 Completed out {"content":"(Bash completed with no output)","tool_use_result":{"stdout":"","stderr":"","interrupted":false,"isImage":false,"noOutputExpected":false}}"#,
                "text msg_6: reply 2 to: use it TOOL",
                "used msg_6: 6 in, 6 out",
                "usage 12 in, 12 out",
                r#"Completed { reason: "end_turn" }"#,
            ],
        ),
        (
            "again TOOL",
            Some(OptionKind::RejectOnce),
            &[
                "tool call_3 Bash Pending",
                r#"tool call_3 Running "echo tool-ran >> tool.log" in {"command":"echo tool-ran >> tool.log"}"#,
                r#"asked 98ba4a84-b253-4479-8feb-4ab125da1e49 "Bash: echo tool-ran >> tool.log" allow/AllowOnce always/AllowAlways deny/RejectOnce"#,
                "used msg_8: 8 in, 5 out",
                r#"tool call_3 Failed out {"content":"The user does not allow this.","tool_use_result":"Error: The user does not allow this."}"#,
                "text msg_10: reply 3 to: again TOOL",
                "used msg_10: 8 in, 5 out",
                "usage 16 in, 10 out",
                r#"Completed { reason: "end_turn" }"#,
            ],
        ),
        (
            "now FAIL",
            None,
            &["usage 0 in, 0 out", r#"Failed { code: "invalid_request_error", message: "API Error: 400 failed, as it was asked to" }"#],
        ),
    ];
    for (number, (text, kind, expected)) in (1..).zip(prompts) {
        // The ids that the recorded prompts had: what is said names them.
        let turn = TurnId(format!("01a1fa00-0000-7000-8000-{number:012}").parse().unwrap());
        talk.order(Order::Prompt(Prompt { turn, parts: vec![PromptPart::Text(text.into())], history: Vec::new() })).await;
        let mut heard = talk.hear_until(|said| matches!(said, Said::Asked(_))).await;
        if let (Some(Said::Asked(asked)), Some(kind)) = (heard.said.last(), kind) {
            let option = asked.options.iter().find(|option| option.kind == kind).map(|option| option.id.clone());
            talk.order(Order::Answer { request: asked.request.clone(), option }).await;
            heard.and(talk.hear_out().await);
        }
        bytes.extend(heard.bytes());
        assert_eq!(told(&heard), expected, "{text}");
    }
    let rest = recorded.strip_prefix(bytes.as_slice()).expect("every byte is handed over as it came");
    // It came after the last turn had ended.
    let receipt = std::str::from_utf8(rest).unwrap();
    assert!(receipt.starts_with(r#"{"type":"command_lifecycle""#) && receipt.lines().count() == 1, "{receipt}");
}
