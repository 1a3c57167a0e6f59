//! The command line, as clap reads it.
//!
//! Never: a default that depends on the machine; those are found out where they are used.

use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// A durable session server for AI agents.
#[derive(Debug, Parser)]
#[command(name = "everkept", version, after_help = "Without a command it serves, as `everkept serve` does.")]
pub struct Args {
    /// The data directory [default: $XDG_DATA_HOME/everkept or ~/.local/share/everkept]
    #[arg(long, global = true, env = "EVERKEPT_DATA", value_name = "DIR", hide_env_values = true)]
    pub data: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(Serve),
    /// Talk to an agent in the terminal
    Chat(Chat),
    /// Give an agent one message and print its answer
    Send(Send),
    /// List, show and change sessions
    #[command(subcommand)]
    Sessions(Sessions),
    /// Print a session's events as they happen
    Tail(Tail),
    /// List the turns that were given up, try one again, or put one away
    DeadLetters(DeadLetters),
    /// List the agents the server knows
    Agents(Listing),
    /// List the agents and models that have failed, and whether turns are sent there
    Breakers(Listing),
    /// Add up what turns cost
    Usage(Usage),
    /// Make a link that lets one more browser in, once, within 15 minutes
    Login(Listing),
    /// Make, list and revoke access tokens
    #[command(subcommand)]
    Token(Token),
    /// Run an agent of this machine for a server on another one
    Relay(Relay),
    /// Read everything that is kept and check that it adds up
    Verify(Verify),
    /// Copy the database to a file, also while the server runs
    Backup {
        /// The file to make; it must not exist
        file: PathBuf,
    },
    /// End the server
    Stop,
    /// Look for what could keep a server from working here
    Doctor,
    /// Print completions for a shell
    Completions { shell: Shell },
    /// Run an agent and leave nothing of it behind
    #[command(hide = true)]
    Keeper {
        /// `[--hold FOLDER MS BYTES] -- COMMAND`, as the server that starts it writes it
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Serve {
    /// Where to listen [default: 127.0.0.1:7717]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// The address people reach the server by, when it stands behind a proxy
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// A certificate chain, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct Chat {
    /// The session to go on with: an id, or `last`; a new one without
    #[arg(long, short)]
    pub session: Option<String>,
    #[command(flatten)]
    pub new: NewSession,
}

#[derive(Debug, ClapArgs)]
pub struct Send {
    /// The session to go on with: an id, or `last`; a new one without
    #[arg(long, short, conflicts_with_all = ["thread", "resource"])]
    pub session: Option<String>,
    /// Your own name for the conversation; it is made on first use
    #[arg(long, requires = "resource")]
    pub thread: Option<String>,
    /// Who the conversation belongs to
    #[arg(long)]
    pub resource: Option<String>,
    #[command(flatten)]
    pub new: NewSession,
    /// Print the turn's id and leave, without waiting for the answer
    #[arg(long)]
    pub no_wait: bool,
    /// What to say; `-` reads it from stdin
    #[arg(required = true)]
    pub text: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub struct Usage {
    /// Only turns that began on this day or later, UTC
    #[arg(long, value_name = "DAY")]
    pub from: Option<String>,
    /// Only turns that began before this day
    #[arg(long, value_name = "DAY")]
    pub to: Option<String>,
    /// Only one session's: an id, or `last`
    #[arg(long, short)]
    pub session: Option<String>,
    /// Only one owner's
    #[arg(long)]
    pub resource: Option<String>,
    /// Only one agent's
    #[arg(long, short)]
    pub agent: Option<String>,
    /// Only one model's
    #[arg(long, short)]
    pub model: Option<String>,
    /// What is told apart: some of day, resource, agent, model, session
    #[arg(long, value_name = "LIST", default_value = "day,agent,model")]
    pub by: String,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct NewSession {
    /// The agent that answers
    #[arg(long, short)]
    pub agent: Option<String>,
    /// The model, as `provider/model`
    #[arg(long, short)]
    pub model: Option<String>,
    /// Where the agent works [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Listing {
    /// One JSON value per line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// List sessions, newest activity first
    List(ListSessions),
    /// Show one session and the end of its conversation
    Show {
        /// An id, or `last`
        session: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// Go on from a point of a session in a new one
    Fork {
        session: String,
        /// After which turn or event number [default: as late as can be]
        #[arg(long)]
        at: Option<String>,
        #[arg(long)]
        title: Option<String>,
        #[arg(long)]
        agent: Option<String>,
    },
    /// Give a session a title
    Rename { session: String, title: String },
    /// Send sessions to the trash
    Delete {
        #[arg(required = true)]
        sessions: Vec<String>,
    },
    /// Bring a session back from the trash
    Restore { session: String },
}

#[derive(Debug, ClapArgs)]
pub struct ListSessions {
    #[arg(long)]
    pub agent: Option<String>,
    #[arg(long, value_parser = ["idle", "running", "waiting"])]
    pub state: Option<String>,
    #[arg(long)]
    pub resource: Option<String>,
    #[arg(long)]
    pub thread: Option<String>,
    /// Words that the title or the messages have
    #[arg(long, short = 'q', value_name = "WORDS")]
    pub search: Option<String>,
    /// Only archived ones
    #[arg(long)]
    pub archived: bool,
    /// What `sessions restore` can bring back
    #[arg(long)]
    pub trash: bool,
    /// The most to list
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Debug, ClapArgs)]
pub struct Tail {
    /// An id, or `last`
    pub session: String,
    /// Begin after this event
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub after: u64,
    /// End with the newest event instead of waiting for more
    #[arg(long)]
    pub no_follow: bool,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DeadLetters {
    #[command(flatten)]
    pub listing: Listing,
    #[command(subcommand)]
    pub command: Option<DeadLetter>,
}

#[derive(Debug, Subcommand)]
pub enum DeadLetter {
    /// Try one again, as it was or with another message
    Retry {
        turn: String,
        /// What to say instead
        #[arg(long, value_name = "TEXT")]
        input: Option<String>,
    },
    /// Put some away; their turns stay as they ended
    Drop {
        #[arg(required = true)]
        turns: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print its secret, this once
    Create(CreateToken),
    /// List tokens, without their secrets
    List(Listing),
    /// End a token, at once
    Revoke { token: String },
}

#[derive(Debug, ClapArgs)]
#[group(id = "reach", required = true, multiple = false, args = ["resource", "relay", "recall"])]
pub struct CreateToken {
    /// Reach the sessions of this owner
    #[arg(long, value_name = "NAME")]
    pub resource: Option<String>,
    /// Run this agent from another machine
    #[arg(long, value_name = "AGENT")]
    pub relay: Option<String>,
    /// Read the sessions of this owner
    #[arg(long, value_name = "NAME")]
    pub recall: Option<String>,
    /// How long it lasts, as 90s, 15m, 12h or 30d [default: until revoked]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub expires: Option<Duration>,
    #[command(flatten)]
    pub listing: Listing,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "The token is read from the file, or from EVERKEPT_TOKEN.")]
pub struct Relay {
    /// The server, as https://keep.example or http://127.0.0.1:7717
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// The agent, as config.toml here and the token name it
    #[arg(long, value_name = "NAME")]
    pub agent: String,
    /// A file with the token, which `everkept token create --relay` printed
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates to trust instead of the system's, as PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct Verify {
    /// A backup to check instead of the data directory
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub listing: Listing,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is not a duration; write 90s, 15m, 12h or 30d");
    let unit = match text.chars().last().ok_or_else(wrong)? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = count.checked_mul(unit).filter(|seconds| (1..=u64::from(u32::MAX)).contains(seconds)).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "5", "d", "0s", "-1h", "1.5h", "9999999999d", "5ü"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
