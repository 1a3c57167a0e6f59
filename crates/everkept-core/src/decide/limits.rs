//! What fits an event: limits on what people send, each named with its field, and a last look at what agents say.
//!
//! Never lets through what a store would have to refuse, and never refuses the end of a turn for its wording.

use crate::{Body, Event, Json, MAX_EVENT_BYTES, NewPart, Refusal, TurnError, json_len};

/// The most bytes of a title.
pub const MAX_TITLE_BYTES: usize = 1_000;
/// The most bytes of a session's metadata, as JSON.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// How deep a session's metadata may nest: what every reader of JSON takes.
pub const MAX_METADATA_DEPTH: usize = 64;
/// The most bytes of a directory, as JSON.
pub const MAX_DIRECTORY_BYTES: usize = 8 * 1024;
/// The most bytes of a note beside an answer.
pub const MAX_NOTE_BYTES: usize = 8 * 1024;
/// The most parts of a message.
pub const MAX_PARTS: usize = 100;
/// The most bytes of a file's name.
pub const MAX_FILE_NAME_BYTES: usize = 255;
/// The most bytes of a file's media type.
pub const MAX_MEDIA_TYPE_BYTES: usize = 127;
/// The most options of a question.
pub const MAX_OPTIONS: usize = 64;
/// The most bytes of an option's id, as JSON: its answer has to fit an event as well.
pub const MAX_OPTION_ID_BYTES: usize = 2 * 1024;
/// The most bytes of a question's title, as JSON: a rule's answer carries it again.
pub const MAX_QUESTION_TITLE_BYTES: usize = 8 * 1024;
/// How long the word for an end and its error's code may be, and how long its message.
const MAX_REASON_BYTES: usize = 1_024;
const MAX_ERROR_BYTES: usize = 4_096;
/// What an event's `data` may have; the rest is for what stands around it.
const DATA_BYTES: usize = MAX_EVENT_BYTES - 1_024;
/// What a part takes besides its text and names.
const PART_BYTES: usize = 256;

pub(crate) fn check_title(title: Option<&str>) -> Result<(), Refusal> {
    at_most("title", title.unwrap_or_default().len(), MAX_TITLE_BYTES, "bytes")
}

pub(crate) fn check_directory(directory: &str) -> Result<(), Refusal> {
    at_most("directory", json_len(directory), MAX_DIRECTORY_BYTES, "bytes of JSON")
}

pub(super) fn check_metadata(metadata: Option<&Json>) -> Result<(), Refusal> {
    let Some(metadata) = metadata else { return Ok(()) };
    at_most("metadata", metadata.get().len(), MAX_METADATA_BYTES, "bytes of JSON")?;
    at_most("metadata", metadata.depth(), MAX_METADATA_DEPTH, "levels deep")?;
    if !metadata.get().starts_with('{') {
        return Err(Refusal::invalid("metadata", "must be an object"));
    }
    Ok(())
}

pub(super) fn check_note(note: Option<&str>) -> Result<(), Refusal> {
    at_most("note", note.unwrap_or_default().len(), MAX_NOTE_BYTES, "bytes")
}

/// A message that somebody says now has something in it.
pub(super) fn check_not_empty(parts: &[NewPart]) -> Result<(), Refusal> {
    let says_something = parts.iter().any(|part| match part {
        NewPart::Text(text) => !text.is_empty(),
        NewPart::File { .. } => true,
    });
    if says_something { Ok(()) } else { Err(Refusal::invalid("input", "must not be empty")) }
}

/// No more parts than fit the event of their message. Their texts may be of any length.
pub(super) fn check_parts(parts: &[NewPart]) -> Result<(), Refusal> {
    at_most("input", parts.len(), MAX_PARTS, "parts")?;
    for part in parts {
        match part {
            NewPart::Text(_) => {}
            NewPart::File { name, media_type, .. } => {
                at_most("name", name.as_deref().unwrap_or_default().len(), MAX_FILE_NAME_BYTES, "bytes")?;
                at_most("media_type", media_type.len(), MAX_MEDIA_TYPE_BYTES, "bytes")?;
            }
        }
    }
    at_most("name", frame(parts), DATA_BYTES, "bytes of JSON with all others of the message")
}

/// Whether the parts fit one event with their texts.
pub(super) fn fit_one_event(parts: &[NewPart]) -> bool {
    let text = |part: &NewPart| match part {
        NewPart::Text(text) => json_len(text),
        NewPart::File { .. } => 0,
    };
    frame(parts) + parts.iter().map(text).sum::<usize>() <= DATA_BYTES
}

/// What the parts take without their texts.
fn frame(parts: &[NewPart]) -> usize {
    let one = |part: &NewPart| match part {
        NewPart::Text(_) => PART_BYTES,
        NewPart::File { name, media_type, .. } => PART_BYTES + name.as_deref().map_or(0, json_len) + json_len(media_type),
    };
    parts.iter().map(one).sum()
}

/// What an agent said has been brought to size before it comes here; what has not is refused by its field.
pub(super) fn check_heard(events: &[Event]) -> Result<(), Refusal> {
    for event in events {
        let field = match &event.body {
            Body::MessageAdded(_) => "message",
            Body::ToolStarted(_) | Body::ToolUpdated(_) | Body::ToolCompleted(_) => "tool",
            Body::PlanUpdated(_) => "plan",
            Body::SessionUpdated(_) => "file_changes",
            Body::AgentRaw(_) => "raw",
            Body::QuestionAsked(data) => {
                at_most("options", data.options.len(), MAX_OPTIONS, "options")?;
                let longest = data.options.iter().map(|option| json_len(&option.id)).max().unwrap_or(0);
                at_most("options", longest, MAX_OPTION_ID_BYTES, "bytes of JSON in an id")?;
                at_most("title", json_len(&data.title), MAX_QUESTION_TITLE_BYTES, "bytes of JSON")?;
                "question"
            }
            // Cut to size where they are made, or of a few bytes only.
            Body::PartDelta(_)
            | Body::PartCompleted(_)
            | Body::QuestionAnswered(_)
            | Body::QuestionExpired(_)
            | Body::UsageReported(_)
            | Body::MessageUsed(_)
            | Body::TurnWaiting(_)
            | Body::AgentSessionPinned(_)
            | Body::AgentSessionSucceeded(_)
            | Body::AgentSessionKept(_)
            | Body::AgentSessionPutBack(_)
            | Body::SessionCreated(_)
            | Body::SessionForked(_)
            | Body::SessionReverted(_)
            | Body::SessionArchived(_)
            | Body::SessionDeleted(_)
            | Body::SessionRestored(_)
            | Body::ContextCleared(_)
            | Body::TurnQueued(_)
            | Body::TurnEdited(_)
            | Body::TurnDelayed(_)
            | Body::TurnStarted(_)
            | Body::TurnCancelling(_)
            | Body::TurnRetried(_)
            | Body::TurnEnded(_)
            | Body::TurnDismissed(_)
            | Body::RuleRemoved(_) => continue,
        };
        at_most(field, event.body.data().len(), DATA_BYTES, "bytes of JSON")?;
    }
    Ok(())
}

pub(super) fn short_reason(reason: String) -> String {
    cut(reason, MAX_REASON_BYTES)
}

pub(super) fn short_error(error: TurnError) -> TurnError {
    TurnError { code: cut(error.code, MAX_REASON_BYTES), message: cut(error.message, MAX_ERROR_BYTES), ..error }
}

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate((0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
        text.push('…');
    }
    text
}

fn at_most(field: &'static str, count: usize, most: usize, of: &str) -> Result<(), Refusal> {
    if count > most { Err(Refusal::invalid(field, format!("must be at most {most} {of}"))) } else { Ok(()) }
}
