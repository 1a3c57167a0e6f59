//! Pages of what stands at places of a session's log: from the beginning on, or from the end back.
//!
//! Never an order of its own: the oldest of a page comes first, whichever way it was asked for.

use crate::{
    extract::{Cursor, bounded},
    failed::Failed,
};
use everkept_api::List;
use everkept_core::SessionId;
use everkept_engine::{Page, PlaceQuery};
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Places {
    /// Forward from here.
    cursor: Option<String>,
    /// Backward from here: the `next_cursor` of a page asked for with `last` or `before`.
    before: Option<String>,
    /// So many of the newest.
    last: Option<u32>,
    /// 1 to 1000; 50 when it is not given.
    limit: Option<u32>,
}

impl Places {
    pub fn query(&self, session: SessionId) -> Result<PlaceQuery, Failed> {
        if self.last.is_some() && (self.limit.is_some() || self.cursor.is_some() || self.before.is_some()) {
            return Err(Failed::field("last", "goes alone"));
        }
        if self.cursor.is_some() && self.before.is_some() {
            return Err(Failed::field("before", "cannot come with cursor"));
        }
        Ok(PlaceQuery {
            session,
            after: self.cursor.as_deref().map(|text| place("cursor", text)).transpose()?,
            before: self.before.as_deref().map(|text| place("before", text)).transpose()?,
            backward: self.backward(),
            limit: if self.last.is_some() { bounded("last", self.last)? } else { bounded("limit", self.limit)? },
        })
    }

    pub fn list<T, W>(&self, page: Page<T>, place: impl Fn(&T) -> u64, wire: impl FnMut(T) -> W) -> List<W> {
        let edge = if self.backward() { page.items.first() } else { page.items.last() };
        List {
            next_cursor: edge.filter(|_| page.has_more).map(|item| Cursor::write(&place(item))),
            has_more: page.has_more,
            total: None,
            items: page.items.into_iter().map(wire).collect(),
        }
    }

    fn backward(&self) -> bool {
        self.last.is_some() || self.before.is_some()
    }
}

fn place(field: &str, text: &str) -> Result<u64, Failed> {
    Cursor::read::<u64>(field, text).and_then(|place| {
        let known = i64::try_from(place).is_ok();
        if known { Ok(place) } else { Err(Failed::field(field, "is not a cursor of this list")) }
    })
}
