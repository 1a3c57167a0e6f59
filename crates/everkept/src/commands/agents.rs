//! `everkept agents`: who can be talked to.
//!
//! Never: how an agent is started; its environment may hold secrets.

use crate::{args::Listing, data::DataDir, server::Server, terminal::Table};
use everkept_api::Abilities;
use std::process::ExitCode;

pub async fn run(data: DataDir, listing: Listing) -> anyhow::Result<ExitCode> {
    let agents = Server::find(data)?.client.agents().await?.items;
    if listing.json {
        super::print_json(&agents)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["agent", "default", "model", "where", "can"]);
    for agent in &agents {
        table.row(|fields| {
            let default = if agent.default { "yes" } else { "" };
            let place = match (agent.remote, agent.connected) {
                (false, _) => "here",
                (true, true) => "behind a relay",
                (true, false) => "relay away",
            };
            fields.text(&agent.name).text(default).text(agent.model.as_deref().unwrap_or("its own")).text(place);
            fields.dim(&abilities(agent.abilities));
        });
    }
    table.print("no agent is configured")?;
    Ok(ExitCode::SUCCESS)
}

fn abilities(abilities: Abilities) -> String {
    let Abilities { resume, fork, cancel, ask_permission, set_model, report_usage, remember, transcript } = abilities;
    let all = [
        (resume, "resume"),
        (fork, "fork"),
        (cancel, "cancel"),
        (ask_permission, "ask"),
        (set_model, "model"),
        (report_usage, "usage"),
        (remember, "memory"),
        (transcript, "transcript"),
    ];
    all.into_iter().filter(|(can, _)| *can).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}
