//! A running answer on stdout: text as it comes, and on a terminal, dimmed, what led to it.
//!
//! On a pipe only the answer's text is written, once it is known to be the answer, and remarks go to stderr.
//! Never: a question half-hidden by an answer; whatever begins, begins on a line of its own.

use super::{Style, clean, columns, one_line, shorten, stdout_is_terminal};
use everkept_api::{Message, Part, Question, QuestionKind, Role, ToolStatus};
use std::io::{self, Write};

const INDENT: &str = "  ";
const PROMPT: &str = "› ";

pub struct Screen {
    style: Style,
    pretty: bool,
    column_zero: bool,
    /// The part whose text was written last.
    part: Option<String>,
    /// The tool whose line was written last, as long as nothing came after it.
    tool: Option<String>,
    /// On a pipe, what a turn has said that may come to nothing yet.
    held: Option<String>,
}

impl Screen {
    pub fn new() -> Self {
        Self { style: Style::of_stdout(), pretty: stdout_is_terminal(), column_zero: true, part: None, tool: None, held: None }
    }

    /// What comes may turn out to be no answer. A terminal is shown it all the same.
    pub fn hold(&mut self) {
        if !self.pretty && self.held.is_none() {
            self.held = Some(String::new());
        }
    }

    /// What came is all that comes.
    pub fn release(&mut self) -> io::Result<()> {
        match self.held.take() {
            Some(text) => self.write(&text),
            None => Ok(()),
        }
    }

    /// What came is no answer; another attempt begins.
    pub fn another(&mut self, attempt: &str) -> io::Result<()> {
        if let Some(held) = &mut self.held {
            held.clear();
            self.column_zero = true;
        }
        self.part = None;
        self.remark(attempt)
    }

    /// Some text of a part; what a part says may come in many pieces.
    pub fn text(&mut self, part: &str, text: &str) -> io::Result<()> {
        self.begin(part)?;
        let text = if self.pretty { clean(text) } else { text.to_owned() };
        self.write(&text)
    }

    pub fn reasoning(&mut self, part: &str, text: &str) -> io::Result<()> {
        if !self.pretty {
            return Ok(());
        }
        self.begin(part)?;
        // Line by line, so that what is written after a line break is not dimmed by accident.
        for piece in clean(text).split_inclusive('\n') {
            let (line, end) = piece.strip_suffix('\n').map_or((piece, ""), |line| (line, "\n"));
            let painted = self.style.dim(line) + end;
            self.write(&painted)?;
        }
        Ok(())
    }

    /// A tool call as it stands; a call that was the last thing shown is shown anew in its place.
    pub fn tool(&mut self, part: &str, title: &str, status: ToolStatus) -> io::Result<()> {
        if !self.pretty {
            return Ok(());
        }
        let again = self.tool.as_deref() == Some(part);
        self.line_end()?;
        if again {
            self.write("\x1b[1A\r\x1b[2K")?;
        }
        let mark = match status {
            ToolStatus::Pending | ToolStatus::Running => self.style.yellow("◦"),
            ToolStatus::Completed => self.style.green("✓"),
            ToolStatus::Failed => self.style.red("✗"),
        };
        let title = self.style.dim(&shorten(&one_line(title), columns() - 5));
        self.write(&format!("{INDENT}{mark} {title}\n"))?;
        self.part = None;
        self.tool = Some(part.to_owned());
        Ok(())
    }

    /// A message of before.
    pub fn message(&mut self, message: &Message) -> io::Result<()> {
        if message.role == Role::User {
            self.line_end()?;
            let text = clean(&message.text()).replace('\n', "\n  ");
            let line = format!("{}{}\n", self.style.cyan(PROMPT), self.style.bold(&text));
            return self.write(&line);
        }
        message.parts.iter().try_for_each(|part| self.message_part(part))
    }

    pub fn message_part(&mut self, part: &Part) -> io::Result<()> {
        match part {
            Part::Text { id, text } => self.text(id, text),
            Part::Reasoning { id, text } => self.reasoning(id, text),
            Part::Tool(tool) => self.tool(&tool.id, tool.title.as_deref().unwrap_or(&tool.name), tool.status),
            Part::File(file) => self.remark(&format!("file {} ({})", file.name.as_deref().unwrap_or(&file.blob.id), file.media_type)),
        }
    }

    pub fn question(&mut self, question: &Question) -> io::Result<()> {
        self.line_end()?;
        let title = self.style.bold(&one_line(&question.title));
        let mut text = format!("{INDENT}{} {title}\n", self.style.yellow("?"));
        if let (everkept_api::Payload::Json(call), true) = (&question.call, question.kind != QuestionKind::Review) {
            let call = shorten(&one_line(call.get()), columns() - 5);
            text += &format!("{INDENT}  {}\n", self.style.dim(&call));
        }
        for (number, option) in question.options.iter().enumerate() {
            text += &format!("{INDENT}  {} {}\n", self.style.cyan(&(number + 1).to_string()), one_line(&option.label));
        }
        self.write(&text)?;
        self.ask("your answer: ")
    }

    /// Waits to be typed to.
    pub fn prompt(&mut self) -> io::Result<()> {
        if !self.pretty {
            return Ok(());
        }
        self.line_end()?;
        let prompt = self.style.cyan(PROMPT);
        self.ask_with(&prompt)
    }

    pub fn ask(&mut self, what: &str) -> io::Result<()> {
        let what = format!("{INDENT}{what}");
        self.ask_with(&what)
    }

    fn ask_with(&mut self, what: &str) -> io::Result<()> {
        self.write(what)?;
        // What is typed ends with its own line break.
        self.column_zero = true;
        Ok(())
    }

    /// Something about the answer that is not of it.
    pub fn remark(&mut self, text: &str) -> io::Result<()> {
        if !self.pretty {
            return writeln!(io::stderr(), "{}", one_line(text));
        }
        self.line_end()?;
        let line = format!("{INDENT}{}\n", self.style.dim(&one_line(text)));
        self.write(&line)
    }

    /// Something that went wrong.
    pub fn complaint(&mut self, text: &str) -> io::Result<()> {
        self.line_end()?;
        let style = Style::of_stderr();
        let indent = if self.pretty { INDENT } else { "" };
        writeln!(io::stderr(), "{indent}{} {}", style.red("✗"), one_line(text))
    }

    pub fn blank(&mut self) -> io::Result<()> {
        if !self.pretty {
            return Ok(());
        }
        self.line_end()?;
        self.write("\n")
    }

    /// What comes next begins on a line of its own.
    pub fn line_end(&mut self) -> io::Result<()> {
        if self.column_zero { Ok(()) } else { self.write("\n") }
    }

    /// The cursor was moved by the terminal itself: `^C` was echoed, or a line was typed over an answer.
    pub fn disturbed(&mut self) {
        self.column_zero = false;
        self.tool = None;
    }

    pub fn is_pretty(&self) -> bool {
        self.pretty
    }

    /// A new part begins on a line of its own; after text, on a terminal, with room above it.
    fn begin(&mut self, part: &str) -> io::Result<()> {
        if self.part.as_deref() == Some(part) {
            return Ok(());
        }
        self.line_end()?;
        self.part = Some(part.to_owned());
        Ok(())
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.tool = None;
        self.column_zero = text.ends_with('\n');
        if let Some(held) = &mut self.held {
            held.push_str(text);
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}
