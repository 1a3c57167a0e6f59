//! All that was said, as a model is told it with every prompt.
//!
//! Never: what came to nothing. A prompt that failed is forgotten, and what was asked again comes once.

use crate::words;
use bytes::Bytes;
use everkept_agent::{Prompt, PromptPart};
use everkept_core::Role;

#[derive(Debug)]
pub struct Transcript(Vec<Told>);

#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub role: Role,
    pub parts: Vec<Content>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    Text(String),
    File { media_type: String, bytes: Bytes },
}

impl Transcript {
    pub fn begin(system_prompt: Option<&str>) -> Self {
        let mut transcript = Self(Vec::new());
        transcript.add(Role::System, system_prompt.map(|text| Content::Text(text.to_owned())).into_iter().collect());
        transcript
    }

    pub fn messages(&self) -> &[Told] {
        &self.0
    }

    /// Adds the history and the prompt. `takes` says which files the model can be given; the others are told in words.
    pub fn ask(&mut self, prompt: Prompt, takes: fn(&str) -> bool) {
        for message in &prompt.history {
            self.add(message.role, vec![Content::Text(words::of_message(message))]);
        }
        let part = |part| match part {
            PromptPart::Text(text) => Content::Text(text),
            PromptPart::File { media_type, bytes, .. } if takes(&media_type) => Content::File { media_type, bytes },
            PromptPart::File { name, media_type, bytes } => {
                Content::Text(words::of_file(name.as_deref().unwrap_or("file"), &media_type, &bytes))
            }
        };
        self.add(Role::User, prompt.parts.into_iter().map(part).collect());
    }

    pub fn answered(&mut self, text: String) {
        self.add(Role::Assistant, vec![Content::Text(text)]);
    }

    /// Takes the prompt back; the history that came with it stays.
    pub fn forget_prompt(&mut self) {
        self.0.pop();
    }

    /// No API takes a message without content.
    fn add(&mut self, role: Role, mut parts: Vec<Content>) {
        parts.retain(|part| !matches!(part, Content::Text(text) if text.is_empty()));
        if !parts.is_empty() {
            self.0.push(Told { role, parts });
        }
    }
}
