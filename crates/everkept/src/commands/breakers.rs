//! `everkept breakers`: which agents and models have failed, and whether turns are sent there.
//!
//! Never: a breaker that is closed or opened by hand.

use crate::{args::Listing, data::DataDir, server::Server, terminal::Table};
use std::process::ExitCode;

pub async fn run(data: DataDir, listing: Listing) -> anyhow::Result<ExitCode> {
    let breakers = Server::find(data)?.client.breakers().await?.items;
    if listing.json {
        super::print_json(&breakers)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["agent", "model", "state", "failures", "open until"]);
    for breaker in &breakers {
        table.row(|fields| {
            fields.text(&breaker.agent).text(breaker.model.as_deref().unwrap_or("-")).text(breaker.state.as_str());
            fields.text(&breaker.failures.to_string()).dim(breaker.open_until.as_deref().unwrap_or("-"));
        });
    }
    table.print("nothing has failed yet")?;
    Ok(ExitCode::SUCCESS)
}
