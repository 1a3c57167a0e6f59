//! `everkept login`: a link for one more browser, and a code that a phone reads it off where phones can reach it.
//!
//! Never: a code drawn where it is not looked at; what is piped gets the link alone.

use crate::{
    args::Listing,
    data::DataDir,
    server::Server,
    terminal::{qr_code, stdout_is_terminal},
};
use std::{
    io::{self, Write},
    process::ExitCode,
};

pub async fn run(data: DataDir, listing: Listing) -> anyhow::Result<ExitCode> {
    let link = Server::find(data)?.client.create_login_link().await?;
    if listing.json {
        super::print_json(&[link])?;
        return Ok(ExitCode::SUCCESS);
    }
    print_link(&link.url)?;
    Ok(ExitCode::SUCCESS)
}

/// The link on a line of its own. Without TLS nothing but this machine reaches us, and a phone's camera is of no use.
pub fn print_link(link: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{link}")?;
    if stdout_is_terminal() && link.starts_with("https://") {
        writeln!(out, "{}", qr_code(link))?;
    }
    out.flush()
}
