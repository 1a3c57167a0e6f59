//! Finds the running server, and the token to speak to it with.
//!
//! Never: hands the admin token to whoever happens to listen where a server once was; the lock says whether one runs.

use crate::data::DataDir;
use anyhow::{anyhow, bail};
use everkept_api::client::{Client, ClientError};
use std::time::Duration;

/// Between two looks for a server that went away.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Looks before it is given up.
const LOOKS: u32 = 120;

pub struct Server {
    pub client: Client,
    data: DataDir,
}

impl Server {
    pub fn find(data: DataDir) -> anyhow::Result<Self> {
        Ok(Server { client: connect(&data)?, data })
    }

    /// Whether it runs on this machine, so that a path here is a path there.
    pub fn is_here(&self) -> bool {
        std::env::var_os("EVERKEPT_URL").is_none()
    }

    /// Waits until the server can be reached again, perhaps at another address.
    pub async fn found_again(&mut self) -> anyhow::Result<()> {
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK_AGAIN).await;
            let Ok(client) = connect(&self.data) else { continue };
            match client.health().await {
                Ok(_) => {
                    self.client = client;
                    return Ok(());
                }
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("the server has not come back; start it with `everkept serve{}`, nothing is lost", self.data.flag())
    }

    /// The newest session for `last`, else what was given.
    pub async fn session(&self, given: &str) -> Result<String, anyhow::Error> {
        if given != "last" {
            return Ok(given.to_owned());
        }
        let filter = everkept_api::client::SessionsFilter { limit: Some(1), ..Default::default() };
        let newest = self.client.sessions(&filter).await?;
        newest
            .items
            .into_iter()
            .next()
            .map(|session| session.id)
            .ok_or_else(|| anyhow!("there is no session yet; begin one with `everkept chat`"))
    }
}

fn connect(data: &DataDir) -> anyhow::Result<Client> {
    let given = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let token = given("EVERKEPT_TOKEN");
    if let Some(address) = given("EVERKEPT_URL") {
        let Some(token) = token else { bail!("EVERKEPT_URL is set and EVERKEPT_TOKEN is not; set it to a token of that server") };
        return Ok(Client::new(&address, Some(token))?);
    }
    let flag = data.flag();
    if data.holder()?.is_none() {
        bail!("no server runs on {}; start one with `everkept serve{flag}`", data.path().display());
    }
    let Some(server) = data.server_file_contents() else {
        bail!("the server on {} is starting or stopping; try again in a moment", data.path().display())
    };
    if server.address.starts_with("https:") {
        bail!(
            "the server on {} listens with TLS, which this command does not speak; run it behind a proxy, with --public-url",
            data.path().display()
        );
    }
    let token = match token {
        Some(token) => Some(token),
        None => data.read_admin_token()?,
    };
    Ok(Client::new(&server.address, token)?)
}

/// Whether waiting for the server and asking again may help.
pub fn is_gone(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::CutOff { .. } | ClientError::Broken { .. } => true,
        ClientError::Refused { error, .. } => error.code == everkept_api::ErrorCode::Stopping,
        ClientError::InvalidAddress { .. } | ClientError::Stranger { .. } | ClientError::Unreadable { .. } => false,
    }
}
