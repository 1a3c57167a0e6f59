//! How a search is read: as words, all of which one title or message must have.
//!
//! Never: anything a searcher writes taken for query syntax.

/// The words of a text, in lower case.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Whether `text` has every word of `search`, the last one as the beginning of a word. No word finds nothing.
pub fn matches(text: &str, search: &str) -> bool {
    let mut wanted: Vec<String> = words(search).collect();
    let Some(last) = wanted.pop() else { return false };
    let held: Vec<String> = words(text).collect();
    held.iter().any(|word| word.starts_with(&last)) && wanted.iter().all(|word| held.contains(word))
}
