//! A conversation as Markdown.
//!
//! Never a message's fence or heading taken for the file's own: what is quoted is fenced longer.

use super::{Form, one_line, steers_nothing, title, who};
use everkept_core::{Message, Part, Payload, ToolPart};
use std::fmt::Write;

pub(super) const FORM: Form = Form { head: |session| format!("# {}\n\n", title(session)), message, foot: "" };

fn message(message: &Message) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("## {} · {}\n", who(message.role), everkept_api::time(message.created_at)));
    for part in &message.parts {
        match part {
            Part::Text { text: said, .. } => line(&mut text, format_args!("{}\n", steers_nothing(said))),
            Part::Reasoning { text: said, .. } => {
                let quoted: Vec<_> = steers_nothing(said).lines().map(|line| format!("> {line}")).collect();
                line(&mut text, format_args!("{}\n", quoted.join("\n")));
            }
            Part::Tool(tool) => write_tool(&mut text, tool),
            Part::File(file) => {
                let name = file.name.as_deref().unwrap_or("file");
                line(&mut text, format_args!("- file: {} ({}, {} bytes)\n", one_line(name), one_line(&file.media_type), file.blob.bytes));
            }
        }
    }
    text
}

fn write_tool(text: &mut String, tool: &ToolPart) {
    let title = tool.title.as_deref().unwrap_or(&tool.name);
    line(text, format_args!("### Tool · {} ({})\n", one_line(title), everkept_api::ToolStatus::from(tool.status)));
    for payload in [&tool.input, &tool.output].into_iter().flatten() {
        match payload {
            Payload::Json(json) => {
                let fence = fence(json.get());
                line(text, format_args!("{fence}json\n{}\n{fence}\n", json.get()));
            }
            Payload::Blob(blob) => line(text, format_args!("- data: {} bytes, /api/blobs/{}\n", blob.bytes, blob.id)),
        }
    }
}

fn line(text: &mut String, said: std::fmt::Arguments<'_>) {
    writeln!(text, "{said}").expect("writing to a String cannot fail");
}

/// Longer than any run of backticks inside.
fn fence(code: &str) -> String {
    let longest = code.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_fence_is_longer_than_what_it_holds() {
        assert_eq!(super::fence("{}"), "```");
        assert_eq!(super::fence("a ``` b ````"), "`````");
    }
}
