//! The words of a prompt that tell the demo agent what to do, and the rest of the prompt without them.
//!
//! Never: a refusal. A word that is not quite a directive is a word of the prompt.

use std::time::Duration;

/// What a prompt asks for besides an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// `!think`: reasons before it answers.
    pub think: bool,
    /// `!tool`, `!tool:3`: uses a tool so many times.
    pub tools: u32,
    /// `!ask`: asks for permission.
    pub ask: bool,
    /// `!slow:100`: so many milliseconds before each word.
    pub slow: Option<Duration>,
    /// `!long`: goes on until cancelled.
    pub long: bool,
    /// `!big:64`: so many KiB of text after the answer.
    pub big_kib: u32,
    /// `!fail`: fails. `!fail:2`: while its session has seen no more prompts than two.
    pub fail: u32,
    /// `!hang`: says nothing until cancelled.
    pub hang: bool,
    /// `!falter`: fails after a few words. `!falter:2` as `!fail:2`.
    pub falter: u32,
    /// `!crash`: is gone after a few words.
    pub crash: bool,
}

impl Directives {
    /// Takes the directives out of a prompt; what is left is the text to answer, its own white space kept.
    pub fn read(prompt: &str) -> (Self, String) {
        let mut directives = Self::default();
        let text: String =
            prompt.split_inclusive(char::is_whitespace).filter(|piece| directives.take(piece.trim_end()).is_none()).collect();
        (directives, text.trim().to_owned())
    }

    /// None when the word is not a directive.
    fn take(&mut self, word: &str) -> Option<()> {
        let (name, number) = match word.strip_prefix('!')?.split_once(':') {
            Some((name, number)) => (name, Some(number.parse::<u32>().ok()?)),
            None => (word.strip_prefix('!')?, None),
        };
        match (name, number) {
            ("think", None) => self.think = true,
            ("tool", count) => self.tools = self.tools.saturating_add(count.unwrap_or(1)),
            ("ask", None) => self.ask = true,
            ("slow", Some(ms)) => self.slow = Some(Duration::from_millis(ms.into())),
            ("long", None) => self.long = true,
            ("big", Some(kib)) => self.big_kib = kib,
            ("fail", prompts) => self.fail = prompts.unwrap_or(u32::MAX),
            ("hang", None) => self.hang = true,
            ("falter", prompts) => self.falter = prompts.unwrap_or(u32::MAX),
            ("crash", None) => self.crash = true,
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_stand_anywhere_and_leave_the_rest_as_it_was() {
        let (directives, text) = Directives::read("!think fix\n  the  roof !tool:2 !slow:5 please !tool");
        let expected = Directives { think: true, tools: 3, slow: Some(Duration::from_millis(5)), ..Directives::default() };
        assert_eq!((directives, text.as_str()), (expected, "fix\n  the  roof please"));
    }

    #[test]
    fn what_is_not_quite_a_directive_is_a_word() {
        let prompt = "!slow !slow:x !think:1 !big !nope !tool:-1 think!";
        assert_eq!(Directives::read(prompt), (Directives::default(), prompt.to_owned()));
    }
}
