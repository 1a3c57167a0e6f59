//! A list, as a table on a terminal and as tab-separated lines on a pipe.
//!
//! Never: a tab or a line break inside a field.

use super::{columns, one_line, stdout_is_terminal};
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Row, presets};
use std::io::{self, Write};

pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Field>>,
    pretty: bool,
    /// The column that is cut short where there is no room.
    yields: usize,
}

/// One field: short for people, exact for programs.
struct Field {
    shown: String,
    exact: String,
    look: Look,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Plain,
    Dim,
    Lively,
    Urgent,
}

/// Builds one row.
pub struct Fields<'a>(&'a mut Vec<Field>);

impl Fields<'_> {
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.add(text, text, Look::Plain)
    }

    pub fn dim(&mut self, text: &str) -> &mut Self {
        self.add(text, text, Look::Dim)
    }

    /// People read `shown`, programs `exact`.
    pub fn both(&mut self, shown: &str, exact: &str) -> &mut Self {
        self.add(shown, exact, Look::Dim)
    }

    /// A state, coloured by what it asks of the reader.
    pub fn state(&mut self, state: &str) -> &mut Self {
        let look = match state {
            "running" => Look::Lively,
            "waiting" => Look::Urgent,
            _ => Look::Dim,
        };
        self.add(state, state, look)
    }

    fn add(&mut self, shown: &str, exact: &str, look: Look) -> &mut Self {
        self.0.push(Field { shown: one_line(shown), exact: one_line(exact), look });
        self
    }
}

impl Table {
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new(), pretty: stdout_is_terminal(), yields: 0 }
    }

    /// Another column than the first gives way.
    pub fn yielding(self, column: usize) -> Self {
        Self { yields: column, ..self }
    }

    pub fn row(&mut self, fill: impl FnOnce(&mut Fields<'_>)) {
        let mut row = Vec::new();
        fill(&mut Fields(&mut row));
        self.rows.push(row);
    }

    /// `empty` is said to a person when there is nothing to list.
    pub fn print(self, empty: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match (self.pretty, self.rows.is_empty()) {
            (true, true) => writeln!(io::stderr(), "{empty}"),
            (true, false) => writeln!(out, "{}", self.pretty()),
            (false, _) => {
                for row in self.rows {
                    let fields: Vec<String> = row.into_iter().map(|field| field.exact).collect();
                    writeln!(out, "{}", fields.join("\t"))?;
                }
                Ok(())
            }
        }
    }

    fn pretty(self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(columns()).unwrap_or(u16::MAX));
        table.set_header(self.head.iter().map(|head| Cell::new(head.to_uppercase()).add_attribute(Attribute::Dim)));
        for row in self.rows {
            let mut line = Row::from(row.into_iter().map(cell));
            line.max_height(1);
            table.add_row(line);
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            // One column gives way; an id that is cut short is of no use.
            if at != self.yields {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }
}

fn cell(field: Field) -> Cell {
    let cell = Cell::new(field.shown);
    match field.look {
        Look::Plain => cell,
        Look::Dim => cell.add_attribute(Attribute::Dim),
        Look::Lively => cell.fg(Color::Green),
        Look::Urgent => cell.fg(Color::Yellow).add_attribute(Attribute::Bold),
    }
}
