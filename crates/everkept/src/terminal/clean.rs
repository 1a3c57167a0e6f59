//! Text of agents and clients, made safe to show.
//!
//! Never: an escape sequence, or a character that turns the direction of what follows it.

/// Without control characters except line breaks and tabs.
pub fn clean(text: &str) -> String {
    text.chars().filter(|letter| matches!(letter, '\n' | '\t') || !is_hostile(*letter)).collect()
}

/// The same on one line.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|letter| !is_hostile(*letter)));
    }
    line
}

/// At most `columns` wide, with a mark where something is left out.
pub fn shorten(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    for letter in text.chars() {
        short.push(letter);
        if width(&short) >= columns {
            short.pop();
            break;
        }
    }
    short.truncate(short.trim_end().len());
    short + "…"
}

/// How many columns a line takes.
pub fn width(text: &str) -> usize {
    text.chars().map(|letter| if is_wide(letter) { 2 } else { usize::from(!is_joined(letter)) }).sum()
}

fn is_hostile(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Takes no column of its own.
fn is_joined(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// East Asian and emoji, roughly: a column too many only shortens a line sooner.
fn is_wide(letter: char) -> bool {
    matches!(letter, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{1f300}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(clean("a\x1b[2Jb\r\nc\u{9b}31m\td\u{202e}e"), "a[2Jb\nc31m\tde");
        assert_eq!(one_line(" a\n\n b\x07\tc "), "a b c");
    }

    #[test]
    fn a_line_is_shortened_by_columns() {
        assert_eq!(shorten("hello", 5), "hello");
        assert_eq!(shorten("hello world", 7), "hello…");
        assert_eq!(shorten("日本語", 4), "日…");
        assert_eq!(width("e\u{301}日"), 3);
    }
}
