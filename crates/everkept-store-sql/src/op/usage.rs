//! What turns cost: a row for each model of a turn, and their sums.
//!
//! Never a row for what was inherited: a turn is counted in the log it was queued in and nowhere else.

use super::Stop;
use crate::tx::{Arg, Row, Tx, int, unexpected};
use everkept_core::{AgentName, ModelName, Resource, SessionId, Timestamp, TurnId, Usage, UsageRecord};
use everkept_store::{DAY_MICROS, Page, UsageQuery, UsageSum};

const FIGURES: [&str; 6] = ["input", "output", "reasoning", "cache_read", "cache_write", "cost"];

/// The rows of an earlier report of the same turn give way.
pub async fn put<T: Tx>(tx: &mut T, log: SessionId, usage: &UsageRecord) -> Result<(), Stop> {
    let place = int(usage.queued_seq);
    tx.exec("DELETE FROM usage WHERE log = $1 AND place = $2", &[(&log).into(), place]).await?;
    let sql = "INSERT INTO usage (log, place, model, turn, agent, at, input, output, reasoning, cache_read, cache_write, cost, priced_on)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    for (model, part) in &usage.parts {
        let [input, output, reasoning, cache_read, cache_write, cost] = part.figures().map(|figure| figure.map(int).into());
        let args = [
            (&log).into(),
            place,
            model.as_ref().map_or("", |model| model.as_str()).into(),
            (&usage.turn).into(),
            usage.agent.as_str().into(),
            usage.at.into(),
            input,
            output,
            reasoning,
            cache_read,
            cache_write,
            cost,
            part.priced_on.as_deref().into(),
        ];
        tx.exec(sql, &args).await?;
    }
    Ok(())
}

pub async fn of_log<T: Tx>(tx: &mut T, log: SessionId) -> Result<Vec<UsageRecord>, Stop> {
    let sql = "SELECT place, model, turn, agent, at, priced_on, input, output, reasoning, cache_read, cache_write, cost FROM usage
        WHERE log = $1 ORDER BY place, model";
    let mut records: Vec<UsageRecord> = Vec::new();
    for mut row in tx.rows(sql, &[(&log).into()]).await? {
        let queued_seq = row.number(0)?;
        let model = Some(row.text(1)?).filter(|model| !model.is_empty()).map(ModelName::new);
        let model = model.transpose().map_err(|_| Stop::Corrupt(log, queued_seq))?;
        let part = (model, Usage { priced_on: row.optional_text(5)?, ..figures(&row, 6)? });
        if let Some(record) = records.last_mut().filter(|record| record.queued_seq == queued_seq) {
            record.parts.push(part);
            continue;
        }
        let turn = TurnId(uuid::Uuid::from_bytes(row.fixed(2)?));
        let agent = AgentName::new(row.text(3)?).map_err(|_| Stop::Corrupt(log, queued_seq))?;
        records.push(UsageRecord { turn, queued_seq, agent, at: Timestamp(row.int(4)?), parts: vec![part] });
    }
    Ok(records)
}

pub async fn sums<T: Tx>(tx: &mut T, query: &UsageQuery) -> Result<Page<UsageSum>, Stop> {
    let by = query.by;
    // Rounded down, before 1970 too.
    let days = format!("(usage.at - (usage.at % {DAY_MICROS} + {DAY_MICROS}) % {DAY_MICROS}) / {DAY_MICROS}");
    let keys = [
        (by.day, days.as_str(), " DESC"),
        (by.resource, "session.resource", ""),
        (by.agent, "usage.agent", ""),
        (by.model, "usage.model", ""),
        (by.session, "usage.log", ""),
    ];
    let asked = || keys.iter().filter(|(asked, ..)| *asked);
    let columns = keys.map(|(asked, column, _)| if asked { column } else { "NULL" }).join(", ");
    let groups = asked().map(|(_, column, _)| *column).collect::<Vec<_>>().join(", ");
    let order = asked().map(|(_, column, order)| format!("{column}{order}")).collect::<Vec<_>>().join(", ");
    let mut args: Vec<Arg<'_>> = Vec::new();
    let conditions = [
        ("usage.log =", query.session.as_ref().map(Arg::from)),
        ("session.resource =", query.resource.as_ref().map(|resource| resource.as_str().into())),
        ("usage.agent =", query.agent.as_ref().map(|agent| agent.as_str().into())),
        ("usage.model =", query.model.as_ref().map(|model| model.as_str().into())),
        ("usage.at >=", query.from.map(Arg::from)),
        ("usage.at <", query.to.map(Arg::from)),
    ];
    let mut filter = String::new();
    for (condition, arg) in conditions {
        if let Some(arg) = arg {
            args.push(arg);
            filter += &format!(" AND {condition} ${}", args.len());
        }
    }
    args.push(int(u64::from(query.limit) + 1));
    let sum = FIGURES.map(|figure| format!("SUM(usage.{figure})")).join(", ");
    let group = if groups.is_empty() { "HAVING COUNT(*) > 0".to_owned() } else { format!("GROUP BY {groups} ORDER BY {order}") };
    let sql = format!(
        "SELECT {columns}, COUNT(DISTINCT usage.turn), COUNT(DISTINCT CASE WHEN usage.cost IS NULL THEN usage.turn END),
            SUM(CASE WHEN usage.priced_on IS NOT NULL THEN usage.cost END), MAX(usage.priced_on), {sum}
        FROM usage JOIN session ON session.id = usage.log WHERE 1{filter} {group} LIMIT ${}",
        args.len()
    );
    let mut rows = tx.rows(&sql, &args).await?;
    let has_more = rows.len() > query.limit as usize;
    rows.truncate(query.limit as usize);
    Ok(Page { items: rows.into_iter().map(read_sum).collect::<Result<_, _>>()?, has_more })
}

fn read_sum(mut row: Row) -> Result<UsageSum, Stop> {
    let name = |at: usize| move |_| unexpected(at);
    Ok(UsageSum {
        day: row.optional_int(0)?,
        resource: row.optional_text(1)?.map(Resource::new).transpose().map_err(name(1))?,
        agent: row.optional_text(2)?.map(AgentName::new).transpose().map_err(name(2))?,
        model: row.optional_text(3)?.filter(|model| !model.is_empty()).map(ModelName::new).transpose().map_err(name(3))?,
        session: row.optional_fixed(4)?.map(crate::tx::session_id),
        turns: row.number(5)?,
        turns_without_cost: row.number(6)?,
        reckoned_usd_micros: optional_number(&row, 7)?,
        usage: Usage { priced_on: row.optional_text(8)?, ..figures(&row, 9)? },
    })
}

fn figures(row: &Row, from: usize) -> Result<Usage, Stop> {
    let mut figures = [None; 6];
    for (at, figure) in figures.iter_mut().enumerate() {
        *figure = optional_number(row, from + at)?;
    }
    Ok(Usage::from_figures(figures))
}

fn optional_number(row: &Row, at: usize) -> Result<Option<u64>, Stop> {
    row.optional_int(at)?.map(|number| u64::try_from(number).map_err(|_| unexpected(at))).transpose()
}
