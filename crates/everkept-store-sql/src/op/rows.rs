//! Everything kept beside the events of one session, for a replay to be compared with.
//!
//! Never what was inherited: that belongs to the parent.

use super::{
    Stop, parse,
    places::{read_message, read_turn},
    questions,
    segments::OPEN,
    sessions, usage,
};
use crate::tx::Tx;
use everkept_core::{Record, SessionId};

pub async fn rows<T: Tx>(tx: &mut T, session: SessionId) -> Result<Vec<Record>, Stop> {
    let own = [(&session).into()];
    let mut records: Vec<Record> = sessions::session(tx, session).await?.map(Record::Session).into_iter().collect();
    for row in tx.rows("SELECT log, place, record FROM turn WHERE log = $1 ORDER BY place", &own).await? {
        records.push(Record::Turn(read_turn(row, session)?));
    }
    records.extend(usage::of_log(tx, session).await?.into_iter().map(Record::Usage));
    for row in tx.rows("SELECT log, place, id, turn, role, last_seq FROM message WHERE log = $1 ORDER BY place", &own).await? {
        records.push(Record::Message(read_message(row, session, OPEN)?));
    }
    for row in tx.rows("SELECT session, place, record FROM question WHERE session = $1 ORDER BY place", &own).await? {
        records.push(Record::Question(questions::read(row)?));
    }
    let owed = tx.rows("SELECT effects FROM owed WHERE session = $1", &own).await?.pop();
    records.push(Record::Owed(owed.map_or(Ok(Vec::new()), |mut row| parse(&row.blob(0)?, session, 0))?));
    Ok(records)
}
