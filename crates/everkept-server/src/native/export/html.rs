//! A conversation as one page.
//!
//! Never a script, a form, or anything that is loaded: what was said is text, a link leads only where links may, and the
//! page's own policy forbids the rest.

use super::{Form, one_line, title, who};
use everkept_core::{Message, Part, Payload, Role, Session, ToolPart};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html::push_html};
use std::fmt::Write;

pub(super) const FORM: Form = Form { head, message, foot: "</main>\n</body>\n</html>\n" };

const STYLE: &str = include_str!("style.css");
const SCHEMES: [&str; 3] = ["http://", "https://", "mailto:"];

fn head(session: &Session) -> String {
    let title = escaped(&title(session));
    let facts = [
        session.agent.as_ref().map(ToString::to_string),
        session.model.as_ref().map(ToString::to_string),
        Some(everkept_api::time(session.created_at)),
        Some(session.id.to_string()),
    ];
    let facts: Vec<_> = facts.into_iter().flatten().map(|fact| escaped(&one_line(&fact))).collect();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1 dir=\"auto\">{title}</h1>\n<p class=\"soft\">{}</p>\n",
        facts.join(" · ")
    )
}

fn message(message: &Message) -> String {
    let who = who(message.role);
    let mut page =
        format!("<article class=\"{}\">\n<h2>{who} <time>{}</time></h2>\n", who.to_lowercase(), everkept_api::time(message.created_at));
    for part in &message.parts {
        match part {
            Part::Text { text, .. } if message.role == Role::User => {
                put(&mut page, format_args!("<p class=\"plain\" dir=\"auto\">{}</p>", escaped(text)))
            }
            Part::Text { text, .. } => put(&mut page, format_args!("{}", rendered(text))),
            Part::Reasoning { text, .. } => {
                put(&mut page, format_args!("<details><summary>Thoughts</summary>{}</details>", rendered(text)))
            }
            Part::Tool(tool) => put_tool(&mut page, tool),
            Part::File(file) => {
                let name = one_line(file.name.as_deref().unwrap_or("file"));
                put(
                    &mut page,
                    format_args!("<p class=\"soft\">{} ({}, {} bytes)</p>", escaped(&name), escaped(&file.media_type), file.blob.bytes),
                );
            }
        }
    }
    page.push_str("</article>\n");
    page
}

fn put_tool(page: &mut String, tool: &ToolPart) {
    let title = escaped(&one_line(tool.title.as_deref().unwrap_or(&tool.name)));
    put(
        page,
        format_args!("<details><summary><bdi>{title}</bdi> <small>{}</small></summary>", everkept_api::ToolStatus::from(tool.status)),
    );
    for payload in [&tool.input, &tool.output].into_iter().flatten() {
        match payload {
            Payload::Json(json) => put(page, format_args!("<pre>{}</pre>", escaped(json.get()))),
            Payload::Blob(blob) => put(page, format_args!("<p class=\"soft\">data: {} bytes, {}</p>", blob.bytes, blob.id)),
        }
    }
    page.push_str("</details>\n");
}

/// Markdown whose own markup is text, whose images are links, and whose links lead only where links may.
fn rendered(text: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    // For each link that is open, whether it is one.
    let mut links = Vec::new();
    let events = Parser::new_ext(text, options).filter_map(|event| match event {
        Event::Html(html) | Event::InlineHtml(html) => Some(Event::Text(html)),
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            let good = SCHEMES.iter().any(|scheme| dest_url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
            links.push(good);
            good.then(|| {
                Event::InlineHtml(CowStr::from(format!("<a rel=\"noopener noreferrer nofollow\" href=\"{}\">", escaped(&dest_url))))
            })
        }
        Event::End(TagEnd::Link | TagEnd::Image) => links.pop().unwrap_or(false).then_some(Event::InlineHtml("</a>".into())),
        other => Some(other),
    });
    let mut page = String::from("<div dir=\"auto\">");
    push_html(&mut page, events);
    page.push_str("</div>");
    page
}

fn put(page: &mut String, said: std::fmt::Arguments<'_>) {
    writeln!(page, "{said}").expect("writing to a String cannot fail");
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a6_markup_in_a_text_is_text_and_links_lead_where_links_may() {
        let text = "<script>alert(1)</script>\n\n[a](javascript:alert(1)) [b](https://good.example/?a=b&c) ![c](https://evil.example/x.png)\n\na <img src=x onerror=alert(1)>";
        let page = rendered(text);
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("javascript:"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        assert!(page.contains("href=\"https://evil.example/x.png\">c</a>"), "an image is a link to it: {page}");
        assert_eq!(page.matches("<a ").count(), page.matches("</a>").count(), "{page}");
    }

    #[test]
    fn markdown_is_what_it_says() {
        let page = rendered("# Title\n\n- [x] done\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```rust\nfn main() {}\n```\n");
        for mark in ["<h1>Title</h1>", "checkbox", "<table>", "<code class=\"language-rust\">fn main() {}"] {
            assert!(page.contains(mark), "{mark}: {page}");
        }
    }
}
