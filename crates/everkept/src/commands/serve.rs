//! `everkept serve`: takes the data directory, opens what is in it, starts what runs on it, and ends in good order.
//!
//! Never: an address told before it is listened on, or a token told before it is on disk.

use crate::{
    args::Serve,
    commands::login::print_link,
    config::Config,
    data::{DataDir, ServerFile},
    descriptors,
    terminal::{Style, stdout_is_terminal},
    wiring::Agents,
};
use anyhow::{Context, anyhow, bail};
use everkept_core::{Effect, TextDigest, Timestamp, TokenId, TurnId, digest_of};
use everkept_drivers::Holds;
use everkept_engine::{Engine, Parts, Settings, Stop, TokioRuntime};
use everkept_server::{ServerConfig, TlsFiles, login_link, new_secret, serve};
use everkept_store::{Problem, Store, StoreFault, Token};
use everkept_store_sql::{Mode, SqliteStore};
use std::{
    collections::BTreeSet,
    io::{self, IsTerminal, Write},
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Where a server listens that is told nothing.
pub const LISTEN: &str = "127.0.0.1:7717";
const READERS: usize = 4;
/// How long agents outlive a server that says nothing else.
const HOLD: Duration = Duration::from_secs(30);
const BODY_LIMIT_MIB: u16 = 32;
const ADMIN: &str = "admin";
/// Links and the cookies they become; both open all that the admin's token opens.
const BROWSER: [&str; 2] = ["login", "cookie"];

pub async fn run(data: DataDir, args: Serve) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    log_to_stderr();
    data.create()?;
    let lock = data.lock()?;
    let connections = descriptors::connections()?;
    let config = Config::load(&data.config())?;
    let hold = config.keeper.hold_ms.map_or(HOLD, Duration::from_millis);
    let holds = Holds::new(data.keepers(), hold).with_context(|| format!("cannot make {}", data.keepers().display()))?;
    let holds = Arc::new(holds);
    let place = Place::of(&args, &config)?;
    let agents = Agents::of(&config, &data, Some(holds.clone()))?;
    let listener = place.listen()?;
    let address = place.address(&listener)?;

    let store = SqliteStore::open(data.path(), Mode::Threads { readers: READERS }).map_err(|fault| cannot_open(&data, fault))?;
    let store: Arc<dyn Store> = Arc::new(store);
    agents.check_default(&data, &store.tokens().await?)?;
    let runtime = TokioRuntime::runtime();
    let now = runtime.clock.wall();
    let mut secret = data.admin_token(new_secret)?;
    if is_revoked(&*store, digest_of(&secret)).await? {
        secret = data.renew_admin_token(new_secret)?;
    }
    keep_admin_token(&*store, digest_of(&secret), now).await?;
    let parts = Parts {
        store: store.clone(),
        agents: agents.entries,
        default_agent: agents.default,
        runtime,
        settings: Settings {
            limits: config.limits,
            keep_trash: config.trash.keep_days.map(days),
            prices: crate::config::beside_known(config.prices.clone()),
            ..Settings::new(data.directories())
        },
    };
    let engine = Engine::start(parts).await?;
    let running = running(&*store).await?;
    tokio::spawn(async move { holds.settle(&running).await });

    let body_limit = usize::from(config.server.body_limit_mib.unwrap_or(BODY_LIMIT_MIB)) * 1024 * 1024;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let server = ServerConfig {
        engine: engine.clone(),
        listener,
        public_url: place.public_url.clone(),
        tls: place.tls,
        body_limit,
        connections,
        shutdown: stopped,
    };
    let mut server = tokio::spawn(serve(server));
    let link = login_link(&engine, place.public_url.as_deref().unwrap_or(&address)).await?;
    let pid = i32::try_from(std::process::id())?;
    data.write_server_file(&ServerFile { address: address.clone(), pid })?;
    announce(&address, &link)?;

    let (how, ended_by_itself) = tokio::select! {
        how = signals.next() => (how, None),
        ended = &mut server => (Stop::Settle, Some(ended)),
    };
    data.remove_server_file();
    // Nobody may be left to hear it.
    _ = stop.send(true);
    let ended = async {
        engine.stop(how).await;
        match ended_by_itself {
            Some(ended) => ended,
            None => server.await,
        }
    };
    let ended = tokio::select! {
        ended = ended => ended,
        _ = signals.next() => bail!("told to end twice; turns that ran are settled by the next start"),
    };
    // The kernel lets go of it when the process is gone, and with it the last task that has the store.
    std::mem::forget(lock);
    ended.context("the server broke down")?.context("the server ended")?;
    Ok(ExitCode::SUCCESS)
}

fn announce(address: &str, link: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {address}")?;
    drop(out);
    print_link(link)?;
    let mut out = io::stdout().lock();
    if stdout_is_terminal() {
        let style = Style::of_stdout();
        writeln!(out, "{}", style.dim("the link lets one browser in, once, within 15 minutes; here: everkept chat"))?;
    }
    out.flush()
}

pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("EVERKEPT_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    // A log that is set up already is one too.
    _ = log.try_init();
}

/// The turns that some agent was given and that have no end.
async fn running(store: &dyn Store) -> anyhow::Result<BTreeSet<TurnId>> {
    let owed = store.owed().await?;
    let turn = |effect| if let Effect::AwaitTurn { turn } = effect { Some(turn) } else { None };
    Ok(owed.into_iter().flat_map(|(_, effects)| effects).filter_map(turn).collect())
}

/// A token that somebody revoked opens nothing for ever, and a server without a good one could only be talked to by link.
async fn is_revoked(store: &dyn Store, secret_hash: TextDigest) -> anyhow::Result<bool> {
    Ok(store.token(secret_hash).await?.is_some_and(|token| token.revoked_at.is_some()))
}

/// Only the digest is kept. A token that stood in the file before opens nothing any more, nor do the browsers that were
/// let in under it.
async fn keep_admin_token(store: &dyn Store, secret_hash: TextDigest, now: Timestamp) -> anyhow::Result<()> {
    let is_new = store.token(secret_hash).await?.is_none();
    for token in store.tokens().await? {
        let is_old = token.kind == ADMIN && token.secret_hash != secret_hash;
        let is_browser = is_new && BROWSER.contains(&&*token.kind);
        if token.revoked_at.is_none() && (is_old || is_browser) {
            store.revoke_token(token.id, now).await?;
        }
    }
    if is_new {
        let id = TokenId(uuid::Uuid::now_v7());
        let token = Token { id, secret_hash, kind: ADMIN.to_owned(), name: None, created_at: now, expires_at: None, revoked_at: None };
        store.put_token(token).await?;
    }
    Ok(())
}

fn cannot_open(data: &DataDir, fault: StoreFault) -> anyhow::Error {
    let next = match &fault.problem {
        Problem::Newer { .. } => "start the newer version again, or choose another directory with --data",
        Problem::Locked => "end the program that has it open",
        Problem::ReadOnly(_) => "make it writable, or choose another directory with --data",
        Problem::Full => "make room",
        Problem::Corrupt { .. } | Problem::Failed(_) | Problem::Unopenable(_) => "see `everkept doctor`, or restore a backup",
    };
    anyhow!("{}: {}; {next}", data.database().display(), fault.problem)
}

/// Where to listen and under which name.
struct Place {
    listen: String,
    public_url: Option<String>,
    tls: Option<TlsFiles>,
}

impl Place {
    fn of(args: &Serve, config: &Config) -> anyhow::Result<Self> {
        let listen = args.listen.clone().or_else(|| config.server.listen.clone()).unwrap_or_else(|| LISTEN.to_owned());
        let public_url = args.public_url.clone().or_else(|| config.server.public_url.clone());
        let tls = args.tls_cert.clone().zip(args.tls_key.clone()).map(|(cert, key)| TlsFiles { cert, key });
        let place = Place { listen, public_url, tls };
        let is_https = place.public_url.as_ref().is_some_and(|url| url.starts_with("https://"));
        if !place.addresses()?.iter().all(|address| address.ip().is_loopback()) && place.tls.is_none() && !is_https {
            bail!(
                "{} can be reached from other machines; give --tls-cert and --tls-key, or --public-url https://... when a proxy stands before it",
                place.listen
            );
        }
        Ok(place)
    }

    fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let addresses = self.listen.to_socket_addrs();
        let addresses = addresses.with_context(|| format!("{} is not an address to listen on; it looks like {LISTEN}", self.listen))?;
        Ok(addresses.collect())
    }

    fn listen(&self) -> anyhow::Result<TcpListener> {
        TcpListener::bind(&*self.addresses()?).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                anyhow!("{} is taken by another program; choose another address with --listen, as --listen 127.0.0.1:0", self.listen)
            }
            _ => anyhow!("cannot listen on {}: {error}; choose another address with --listen", self.listen),
        })
    }

    /// What programs on this machine reach it by.
    fn address(&self, listener: &TcpListener) -> io::Result<String> {
        let mut address = listener.local_addr()?;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{address}"))
    }
}

/// What ends a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// A server that is to be replaced is told to terminate; whoever wants an end of everything interrupts.
    async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::HandOver,
            _ = self.interrupt.recv() => Stop::Settle,
        }
    }
}

fn days(days: std::num::NonZeroU16) -> Duration {
    Duration::from_secs(u64::from(days.get()) * 24 * 3_600)
}
