//! `everkept token`: credentials that reach less than everything.
//!
//! Never: a secret anywhere but on stdout, once.

use crate::{
    args::{CreateToken, Token},
    data::DataDir,
    server::Server,
    terminal::{Style, Table, ago, stdout_is_terminal},
};
use everkept_api::TokenKind;
use std::{
    io::{self, Write},
    process::ExitCode,
};

pub async fn run(data: DataDir, command: Token) -> anyhow::Result<ExitCode> {
    let server = Server::find(data)?;
    match command {
        Token::Create(token) => create(&server, token).await?,
        Token::List(listing) => {
            let tokens = server.client.tokens().await?.items;
            if listing.json {
                super::print_json(&tokens)?;
                return Ok(ExitCode::SUCCESS);
            }
            let now = jiff::Timestamp::now();
            let mut table = Table::new(&["id", "kind", "name", "created", "ends"]);
            for token in &tokens {
                table.row(|fields| {
                    fields.text(&token.id).text(token.kind.as_str()).text(token.name.as_deref().unwrap_or("-"));
                    fields.both(&ago(&token.created_at, now), &token.created_at);
                    let ends = match (&token.revoked_at, &token.expires_at) {
                        (Some(at), _) => format!("revoked {at}"),
                        (None, Some(at)) => at.clone(),
                        (None, None) => "when revoked".to_owned(),
                    };
                    fields.dim(&ends);
                });
            }
            table.print("there is no token")?;
        }
        Token::Revoke { token } => {
            server.client.revoke_token(&token).await?;
            writeln!(io::stdout(), "{token}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(server: &Server, token: CreateToken) -> anyhow::Result<()> {
    let bound = [(TokenKind::Resource, token.resource), (TokenKind::Relay, token.relay), (TokenKind::Recall, token.recall)];
    let Some((kind, name)) = bound.into_iter().find_map(|(kind, name)| name.map(|name| (kind, name))) else {
        anyhow::bail!("a token is bound to something; name it with --resource, --relay or --recall");
    };
    let expires_in_ms = token.expires.map(|lives| u64::try_from(lives.as_millis()).unwrap_or(u64::MAX));
    let created = server.client.create_token(&everkept_api::CreateToken { kind, name, expires_in_ms }).await?;
    if token.listing.json {
        let mut value = serde_json::to_value(&created.token)?;
        value["secret"] = created.secret.into();
        return super::print_json(&[value]);
    }
    writeln!(io::stdout(), "{}", created.secret)?;
    if stdout_is_terminal() {
        let note = format!("this secret is shown once; `everkept token revoke {}` ends it", created.token.id);
        writeln!(io::stderr(), "{}", Style::of_stderr().dim(&note))?;
    }
    Ok(())
}
