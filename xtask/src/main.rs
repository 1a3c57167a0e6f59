//! What the project does to itself: the agents and the model its tests talk to.
//!
//! Never: anything the server needs to run.

mod fake_model;
mod scripted_agent;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let task = args.next().unwrap_or_default();
    if task == "keeper" {
        return everkept_drivers::keeper::run(args.skip_while(|arg| arg == "--").collect());
    }
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let result = match task.to_str() {
        Some("fake-model") => fake_model::run(&args),
        Some("scripted-agent") => scripted_agent::run(&args),
        _ => Err(anyhow::anyhow!("usage: cargo xtask (fake-model | scripted-agent | keeper) ...")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
