//! What people see: colours, tables, running answers, and what they type.
//!
//! Never: colour, tables or a question where a program reads, or a control character that somebody else wrote.

mod clean;
mod input;
mod qr;
mod screen;
mod style;
mod table;
mod time;

pub use clean::{clean, one_line, shorten};
pub use input::{Input, Interrupts};
pub use qr::qr_code;
pub use screen::Screen;
pub use style::Style;
pub use table::Table;
pub use time::{ago, clock, took};

use std::io::IsTerminal;

pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

pub fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Columns to write in.
pub fn columns() -> usize {
    crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns).max(20))
}
