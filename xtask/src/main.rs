//! What the project does to itself: sets up, tests, and plays the other side in its tests.
//!
//! Never: anything the server needs to run.

mod bench;
mod fake_model;
mod fuzz;
mod hostile_agent;
mod mutants;
mod scripted_agent;
mod scripted_claude;
mod scripted_codex;
mod scripted_mcp;
mod setup;
mod test;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  setup             bring what the tests need: Debian packages, the real agents from npm
  test [FILTER..]   set up, then run every check and every test
  fuzz [TARGET..]   fuzz each target from its kept corpus [--seconds N] [--keep | --again FILE]
  mutants [-- ARG]  change the core and the stores in one place at a time, and see that their tests notice
  bench [NAME..]    how fast it is beside its floors [--rounds N] [--json] ...
  fake-model        the model server real agents talk to in tests [--port N] [--log FILE]
  scripted-agent    an ACP agent for tests that does what its prompts say
  scripted-claude   the same in the protocol of Claude Code
  scripted-codex    the same in the protocol of Codex's app server
  hostile-agent     one of these, which does once what its plan says
  scripted-mcp      a server with a tool, for agents to start
  keeper -- CMD     run a command under the keeper";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let task = args.next().unwrap_or_default();
    if task == "keeper" {
        return everkept_drivers::keeper::run(args.collect());
    }
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let result = match task.to_str() {
        Some("setup") => setup::run(),
        Some("test") => test::run(&args),
        Some("bench") => bench::run(&args),
        Some("fuzz") => fuzz::run(&args),
        Some("mutants") => mutants::run(&args),
        Some("fake-model") => fake_model::run(&args),
        Some("scripted-agent") => scripted_agent::run(&args),
        Some("scripted-claude") => scripted_claude::run(&args),
        Some("scripted-codex") => scripted_codex::run(&args),
        Some("hostile-agent") => hostile_agent::run(&args),
        Some("scripted-mcp") => scripted_mcp::run(&args),
        _ => Err(anyhow::anyhow!("{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
