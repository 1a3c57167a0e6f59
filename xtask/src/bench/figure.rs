//! What was measured, beside its floor and what is asked for.
//!
//! Never a verdict that stops a run: a figure that falls short is printed as one.

use std::io::IsTerminal;
use std::time::Duration;

/// One measured thing.
pub struct Figure {
    pub what: String,
    pub unit: &'static str,
    pub ours: f64,
    pub floor: Option<f64>,
    pub asked: Option<Asked>,
}

/// What the issue asks for.
pub struct Asked {
    of: Of,
    must: f64,
    target: f64,
}

enum Of {
    /// At most so much.
    Ours,
    /// At least such a part of the floor.
    PartOfFloor,
    /// At most so many times the floor.
    TimesFloor,
}

impl Figure {
    pub fn new(what: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Figure { what: what.into(), unit, ours, floor: None, asked: None }
    }

    pub fn floor(self, floor: f64) -> Self {
        Figure { floor: Some(floor), ..self }
    }

    pub fn at_most(self, must: f64, target: f64) -> Self {
        Figure { asked: Some(Asked { of: Of::Ours, must, target }), ..self }
    }

    pub fn part_of_floor(self, must: f64, target: f64) -> Self {
        Figure { asked: Some(Asked { of: Of::PartOfFloor, must, target }), ..self }
    }

    pub fn times_floor(self, must: f64, target: f64) -> Self {
        Figure { asked: Some(Asked { of: Of::TimesFloor, must, target }), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        self.floor.filter(|floor| *floor > 0.0).map(|floor| self.ours / floor)
    }

    fn verdict(&self) -> &'static str {
        let Some(asked) = self.asked.as_ref().filter(|_| self.ours.is_finite()) else { return "" };
        let ratio = self.ratio().unwrap_or_default();
        let meets = |limit: f64| match asked.of {
            Of::Ours => self.ours <= limit,
            Of::PartOfFloor => ratio >= limit,
            Of::TimesFloor => ratio <= limit,
        };
        match (meets(asked.target), meets(asked.must)) {
            (true, _) => "target",
            (false, true) => "must",
            (false, false) => "short",
        }
    }

    fn limits(&self) -> (String, String) {
        let Some(asked) = &self.asked else { return Default::default() };
        let write = |limit: f64| match asked.of {
            Of::Ours => format!("<= {}", short(limit)),
            Of::PartOfFloor => format!(">= {}", short(limit)),
            Of::TimesFloor => format!("<= {}x", short(limit)),
        };
        (write(asked.must), write(asked.target))
    }
}

/// The middle one; of an even number the upper.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints figures as they come.
pub struct Table {
    json: bool,
    colour: bool,
}

impl Table {
    pub fn new(json: bool) -> Self {
        if !json {
            println!("{:<7} {:<44} {:>10} {:<6} {:>10} {:>8} {:>10} {:>10}", "row", "what", "ours", "", "floor", "ratio", "must", "target");
        }
        Table { json, colour: std::io::stdout().is_terminal() }
    }

    pub fn add(&mut self, row: &str, figure: &Figure) {
        let (must, target) = figure.limits();
        let verdict = figure.verdict();
        if self.json {
            let line = serde_json::json!({
                "row": row, "what": figure.what, "unit": figure.unit, "ours": figure.ours, "floor": figure.floor,
                "ratio": figure.ratio(), "must": must, "target": target, "meets": verdict,
            });
            println!("{line}");
            return;
        }
        let floor = figure.floor.map(short).unwrap_or_default();
        let ratio = figure.ratio().map(short).unwrap_or_default();
        let verdict = match (self.colour, verdict) {
            (true, "short") => "\x1b[31mshort\x1b[0m",
            (true, "must") => "\x1b[33mmust\x1b[0m",
            (true, "target") => "\x1b[32mtarget\x1b[0m",
            (_, verdict) => verdict,
        };
        let (what, ours, unit) = (&figure.what, short(figure.ours), figure.unit);
        println!("{row:<7} {what:<44} {ours:>10} {unit:<6} {floor:>10} {ratio:>8} {must:>10} {target:>10}  {verdict}");
    }

    pub fn end(&self, took: Duration) {
        if !self.json {
            println!("ratio = ours / floor, both measured by turns in this run of {} s; the last column says what is met", took.as_secs());
        }
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "unknown".into(),
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => format!("{value:.4}"),
    }
}
