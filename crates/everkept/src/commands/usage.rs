//! `everkept usage`: what turns cost, in tokens and money, and all of it together.
//!
//! Never: a cost that looks whole and is not.

use crate::{
    args::Usage as Args,
    data::DataDir,
    server::Server,
    terminal::{Table, stdout_is_terminal},
};
use everkept_api::{Usage, UsageReport, UsageSum, client::UsageFilter};
use std::{
    io::{self, Write},
    process::ExitCode,
};

const KEYS: [&str; 5] = ["day", "resource", "agent", "model", "session"];
/// Where a model or an owner that nobody named would stand, and a figure that nobody gave.
const NOTHING: &str = "-";

pub async fn run(data: DataDir, args: Args) -> anyhow::Result<ExitCode> {
    let server = Server::find(data)?;
    let session = match &args.session {
        Some(given) => Some(server.session(given).await?),
        None => None,
    };
    let Args { from, to, resource, agent, model, by, json, .. } = args;
    let keys: Vec<&str> = KEYS.into_iter().filter(|key| by.split(',').any(|word| word == *key)).collect();
    let report = server.client.usage(&UsageFilter { session, resource, agent, model, from, to, by: Some(by) }).await?;
    if json {
        super::print_json(&report.items)?;
    } else {
        print(&report, &keys)?;
    }
    if report.has_more {
        writeln!(io::stderr(), "there is more than is listed; the total has all of it")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &UsageReport, keys: &[&'static str]) -> anyhow::Result<()> {
    let head: Vec<&str> = keys.iter().copied().chain(["turns", "in", "cached", "out", "cost"]).collect();
    let longest = keys.iter().position(|key| *key == "model").unwrap_or(0);
    let mut table = Table::new(&head).yielding(longest);
    for sum in &report.items {
        table.row(|fields| {
            for key in keys {
                fields.text(named(sum, key).unwrap_or(NOTHING));
            }
            for (shown, exact) in figures(sum) {
                fields.both(&shown, &exact);
            }
        });
    }
    if !keys.is_empty() && !report.items.is_empty() {
        table.row(|fields| {
            for at in 0..keys.len() {
                fields.text(if at == 0 { "total" } else { "" });
            }
            for (shown, exact) in figures(&report.total) {
                fields.both(&shown, &exact);
            }
        });
    }
    table.print("no turn has said what it cost")?;
    if stdout_is_terminal() && report.total.turns_without_cost > 0 {
        let UsageSum { turns, turns_without_cost, .. } = &report.total;
        writeln!(
            io::stderr(),
            "+ not all is known of {turns_without_cost} of {turns} turns; [prices] in config.toml can say what their models cost"
        )?;
    }
    if stdout_is_terminal()
        && let Some(date) = &report.total.usage.priced_on
    {
        writeln!(io::stderr(), "~ reckoned in part, from prices as of {date} or earlier")?;
    }
    Ok(())
}

fn named<'a>(sum: &'a UsageSum, key: &str) -> Option<&'a str> {
    let name = match key {
        "day" => &sum.day,
        "resource" => &sum.resource,
        "agent" => &sum.agent,
        "model" => &sum.model,
        _ => &sum.session,
    };
    name.as_deref()
}

/// For people and for programs: turns, what went in, what of it was cached, what came out, money.
fn figures(sum: &UsageSum) -> [(String, String); 5] {
    let Usage { input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd_micros, .. } = &sum.usage;
    let cached = [*cache_read_tokens, *cache_write_tokens].into_iter().flatten().reduce(u64::saturating_add);
    let count = |number: Option<u64>| (number.map_or(NOTHING.into(), short), number.map_or(NOTHING.into(), |number| number.to_string()));
    let cost = cost_usd_micros.map(|micros| {
        let (about, more) = (sum.reckoned_usd_micros.is_some(), sum.turns_without_cost > 0);
        let shown = format!("{}${}{}", if about { "~" } else { "" }, dollars(micros, 4), if more { "+" } else { "" });
        (shown, dollars(micros, 6))
    });
    let cost = cost.unwrap_or_else(|| (if sum.turns_without_cost > 0 { "+".into() } else { NOTHING.into() }, NOTHING.into()));
    [count(Some(sum.turns)), count(*input_tokens), count(cached), count(*output_tokens), cost]
}

/// Rounded to so many digits after the point.
fn dollars(micros: u64, digits: u32) -> String {
    let unit = 10_u64.pow(6 - digits);
    let rounded = micros.saturating_add(unit / 2) / unit;
    let whole = 10_u64.pow(digits);
    format!("{}.{:0width$}", rounded / whole, rounded % whole, width = digits as usize)
}

/// Three digits and what they are of.
fn short(number: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let Some((unit, letter)) = UNITS.into_iter().find(|(unit, _)| number >= *unit) else { return number.to_string() };
    let tenths = number / (unit / 10);
    if tenths < 1_000 { format!("{}.{}{letter}", tenths / 10, tenths % 10) } else { format!("{}{letter}", tenths / 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_for_people_and_whole_for_programs() {
        let usage = Usage {
            input_tokens: Some(12_345),
            cache_read_tokens: Some(1_000_000),
            cache_write_tokens: Some(234_567),
            cost_usd_micros: Some(1_234_567),
            ..Usage::default()
        };
        let mut sum = UsageSum { turns: 7, usage, ..UsageSum::default() };
        let shown = |sum: &UsageSum| figures(sum).map(|(shown, exact)| format!("{shown} {exact}"));
        assert_eq!(shown(&sum), ["7 7", "12.3k 12345", "1.2M 1234567", "- -", "$1.2346 1.234567"]);
        (sum.turns_without_cost, sum.reckoned_usd_micros) = (1, Some(1));
        assert_eq!(shown(&sum)[4], "~$1.2346+ 1.234567");
        sum.usage.cost_usd_micros = None;
        assert_eq!(shown(&sum)[4], "+ -");
        assert_eq!([999, 1_000, 99_999, 123_456, u64::MAX].map(short), ["999", "1.0k", "99.9k", "123k", "18446744073G"]);
    }
}
