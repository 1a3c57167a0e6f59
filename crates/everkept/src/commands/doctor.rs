//! `everkept doctor`: what could keep a server from working here, and what to do about it.
//!
//! Never: a change to anything, beyond a file that is made and taken away again.

use crate::{
    config::{AgentKind, Config},
    data::DataDir,
    server::Server,
    terminal::{Style, ago},
    wiring::{find_program, installed},
};
use std::{
    fs, io,
    io::Write,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// Below this much free space it is time to make room.
const LITTLE_SPACE_MIB: u64 = 256;
/// What a file's time may lie in the future before the clock is not believed.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

enum Found {
    Good(String),
    /// Works, but somebody should know.
    Note(String),
    Bad(String),
}

pub async fn run(data: DataDir) -> anyhow::Result<ExitCode> {
    let config = Config::load(&data.config());
    let mut findings = vec![
        ("version", Found::Good(format!("everkept {}, SQLite {}", env!("CARGO_PKG_VERSION"), everkept_store_sql::version()))),
        ("data", directory(&data)),
        ("space", space(&data)),
        ("token", token(&data)),
        ("clock", clock(&data)),
    ];
    match &config {
        Ok(_) if data.config().exists() => findings.push(("config", Found::Good(data.config().display().to_string()))),
        Ok(_) => findings.push(("config", Found::Good(format!("none; it would be {}", data.config().display())))),
        Err(error) => findings.push(("config", Found::Bad(super::explain(error)))),
    }
    let config = config.unwrap_or_default();
    findings.push(("server", server(&data, &config).await));
    findings.extend(agents(&config).into_iter().map(|found| ("agent", found)));
    let is_bad = findings.iter().any(|(_, found)| matches!(found, Found::Bad(_)));
    print(&findings)?;
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(findings: &[(&str, Found)]) -> io::Result<()> {
    let style = Style::of_stdout();
    let mut out = io::stdout().lock();
    for (what, found) in findings {
        let (mark, text) = match found {
            Found::Good(text) => (style.green("✓"), text),
            Found::Note(text) => (style.yellow("!"), text),
            Found::Bad(text) => (style.red("✗"), text),
        };
        writeln!(out, "{mark} {} {text}", style.dim(&format!("{what:<8}")))?;
    }
    Ok(())
}

fn directory(data: &DataDir) -> Found {
    let path = data.path().display();
    let metadata = match fs::metadata(data.path()) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Good(format!("{path} will be made by the first start")),
        Err(error) => return Found::Bad(format!("{path}: {error}; choose another with --data")),
    };
    let probe = data.path().join(format!(".doctor-{}", std::process::id()));
    if let Err(error) = fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)) {
        return Found::Bad(format!("{path} cannot be written: {error}; make it writable or choose another with --data"));
    }
    match metadata.mode() & 0o777 {
        mode if mode & 0o077 == 0 => Found::Good(path.to_string()),
        mode => Found::Note(format!("{path} is open to other users (mode {mode:o}); the next start closes it")),
    }
}

fn space(data: &DataDir) -> Found {
    let existing = data.path().ancestors().find(|path| path.is_dir()).unwrap_or(data.path());
    match nix::sys::statvfs::statvfs(existing) {
        Ok(stat) => {
            let mib = stat.blocks_available().saturating_mul(stat.fragment_size()) / (1024 * 1024);
            if mib < LITTLE_SPACE_MIB {
                Found::Note(format!("{mib} MiB are free; make room"))
            } else {
                Found::Good(format!("{mib} MiB are free"))
            }
        }
        Err(error) => Found::Note(format!("cannot be told: {error}")),
    }
}

fn token(data: &DataDir) -> Found {
    let path = data.admin_token_file();
    match (data.read_admin_token(), fs::metadata(&path)) {
        (Ok(None), _) => Found::Good("none yet; the first start makes it".to_owned()),
        (Ok(Some(_)), Ok(metadata)) if metadata.mode() & 0o077 != 0 => {
            Found::Bad(format!("{} can be read by other users; chmod 600 it, or delete it to have a new one made", path.display()))
        }
        (Ok(Some(_)), _) => Found::Good(path.display().to_string()),
        (Err(error), _) => Found::Bad(super::explain(&error)),
    }
}

/// A clock that runs behind what was written before makes times that make no sense.
fn clock(data: &DataDir) -> Found {
    let now = SystemTime::now();
    let shown = jiff::Timestamp::now().to_string();
    let newest = [data.database(), data.admin_token_file()].iter().filter_map(|path| path.metadata().ok()?.modified().ok()).max();
    match newest.and_then(|newest| newest.duration_since(now).ok()).filter(|ahead| *ahead > CLOCK_SLACK) {
        Some(ahead) => Found::Bad(format!("{shown} is {} s before the data was last written; set the clock", ahead.as_secs())),
        None => Found::Good(shown),
    }
}

async fn server(data: &DataDir, config: &Config) -> Found {
    match data.holder() {
        Ok(None) => return port(config),
        Ok(Some(_)) => {}
        Err(error) => return Found::Bad(super::explain(&error)),
    }
    let server = match Server::find(data.clone()) {
        Ok(server) => server,
        Err(error) => return Found::Note(super::explain(&error)),
    };
    let newest = everkept_api::client::SessionsFilter { limit: Some(1), ..Default::default() };
    match (server.client.health().await, server.client.sessions(&newest).await) {
        (Ok(health), Ok(sessions)) => {
            let last = sessions.items.first().map(|session| ago(&session.updated_at, jiff::Timestamp::now()));
            let last = last.map(|last| format!(", last activity {last}")).unwrap_or_default();
            Found::Good(format!("{} answers ({}, version {}){last}", server.client.address(), health.status, health.version))
        }
        (Err(error), _) | (_, Err(error)) => Found::Bad(format!("{} is not well: {error}", server.client.address())),
    }
}

fn port(config: &Config) -> Found {
    let listen = config.server.listen.as_deref().unwrap_or(super::serve::LISTEN);
    match TcpListener::bind(listen) {
        Ok(_) => Found::Good(format!("none runs; {listen} is free for one")),
        Err(error) => Found::Bad(format!("none runs, and {listen} cannot be listened on: {error}; choose another with --listen")),
    }
}

fn agents(config: &Config) -> Vec<Found> {
    let mut found = vec![Found::Good("demo, built in".to_owned())];
    for (name, agent) in &config.agents {
        found.push(match &agent.kind {
            AgentKind::Demo => Found::Good(format!("{name}, the demo agent")),
            AgentKind::Program { command, .. } => match command.first().and_then(|program| find_program(program)) {
                Some(path) => Found::Good(format!("{name}, {}", path.display())),
                None => Found::Bad(format!("{name}: its command {:?} is not there; install it or correct config.toml", command.join(" "))),
            },
            AgentKind::Model { base_url, api_key_env, .. } => match api_key_env {
                Some(variable) if std::env::var_os(variable).is_none_or(|key| key.is_empty()) => {
                    Found::Bad(format!("{name}: {variable} is not set; it is to hold the key for {base_url}"))
                }
                Some(_) | None => Found::Good(format!("{name}, a model at {base_url}")),
            },
        });
    }
    for (known, path) in installed() {
        if !config.agents.keys().any(|name| name.as_str() == known.name) {
            found.push(Found::Good(format!("{}, found at {}", known.name, path.display())));
        }
    }
    // An adapter is not missed where the program itself is there.
    let there: Vec<_> = installed().into_iter().map(|(known, _)| known.name).collect();
    let missing = everkept_drivers::known().iter().filter(|known| !there.contains(&known.name));
    let missing: Vec<_> = missing.map(|known| known.command[0]).collect();
    if !missing.is_empty() {
        found.push(Found::Good(format!("not installed: {}", missing.join(", "))));
    }
    found
}
