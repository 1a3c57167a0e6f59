//! Builds the fuzzer with coverage, on the compiler that everything else is built with, and runs its targets.
//!
//! Each target goes on from its kept corpus (`fuzz/corpus/TARGET`); what it finds lies in `target/fuzz/found/TARGET`.
//! Never writes into the kept corpus unless told to.

use crate::setup::{root, step};
use anyhow::{Context, bail};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Mutex,
    time::Instant,
};

const SECONDS: u64 = 60;
/// The same tree is tried with the same inputs, as far as they come in the time.
const SEED: u32 = 20_261_120;
/// Targets that run at the same time.
const AT_ONCE: usize = 2;
/// For one input, in seconds; more is a hang.
const TIMEOUT: u32 = 20;
const MAX_LENGTH: u32 = 4_096;
const MAX_MEMORY_MIB: u32 = 3_072;
/// Inputs of a target that are kept with the source.
const MAX_KEPT: usize = 48;
/// Lines of a failed run's output that are shown.
const LAST_WORDS: usize = 60;
/// Coverage that libFuzzer reads: counters on edges, and what is compared with what.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

const USAGE: &str = "usage: cargo xtask fuzz [TARGET..] [--seconds N] [--seed N] [--keep | --again FILE]

  --seconds N    how long each target runs, 60 without
  --seed N       of the inputs that are made; 0 for another one each time
  --keep         then keep, of the corpus and what was found, the few inputs that reach most
  --again FILE   run one input of one target again, and nothing else";

struct Asked {
    targets: Vec<String>,
    seconds: u64,
    seed: u32,
    keep: bool,
    again: Option<PathBuf>,
}

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let mut asked = read(args)?;
    let fuzzer = Fuzzer::new(build()?)?;
    let known = fuzzer.list()?;
    if let Some(stranger) = asked.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target {stranger}; there are {}", known.join(", "));
    }
    if let Some(file) = &asked.again {
        let [target] = asked.targets.as_slice() else { bail!("{USAGE}") };
        return step(fuzzer.command(target).arg(file));
    }
    if asked.targets.is_empty() {
        asked.targets = known;
    }
    run_all(&fuzzer, &asked)?;
    if asked.keep {
        asked.targets.iter().try_for_each(|target| keep(&fuzzer, target))?;
    }
    Ok(())
}

fn read(args: &[String]) -> anyhow::Result<Asked> {
    let mut asked = Asked { targets: Vec::new(), seconds: SECONDS, seed: SEED, keep: false, again: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => asked.seconds = args.next().and_then(|seconds| seconds.parse().ok()).context(USAGE)?,
            "--seed" => asked.seed = args.next().and_then(|seed| seed.parse().ok()).context(USAGE)?,
            "--again" => asked.again = Some(args.next().context(USAGE)?.into()),
            "--keep" => asked.keep = true,
            flag if flag.starts_with('-') => bail!("{USAGE}"),
            target => asked.targets.push(target.to_owned()),
        }
    }
    Ok(asked)
}

fn folder() -> PathBuf {
    root().join("target/fuzz")
}

/// Only code for the machine that runs it is covered: build scripts and macros are not, which a named target tells apart.
fn build() -> anyhow::Result<PathBuf> {
    let host = host()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--manifest-path", "fuzz/Cargo.toml", "--target", &host, "--target-dir"]).arg(folder());
    step(cargo.env("RUSTFLAGS", COVERAGE).current_dir(root())).context("the fuzzer cannot be built")?;
    Ok(folder().join(host).join("debug/everkept-fuzz"))
}

fn host() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("-vV").current_dir(root()).output().context("rustc does not run")?;
    let said = String::from_utf8(said.stdout).context("rustc speaks UTF-8")?;
    said.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).context("rustc names its host")
}

/// The program, and a folder for what it writes, in memory where the system has such a place.
struct Fuzzer {
    program: PathBuf,
    folder: PathBuf,
}

impl Fuzzer {
    fn new(program: PathBuf) -> anyhow::Result<Self> {
        let place = Some(PathBuf::from("/dev/shm")).filter(|place| place.is_dir()).unwrap_or_else(std::env::temp_dir);
        let folder = place.join(format!("everkept-fuzz-of-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { program, folder })
    }

    fn list(&self) -> anyhow::Result<Vec<String>> {
        let listed = self.command("list").output().context("the fuzzer does not run")?;
        Ok(String::from_utf8(listed.stdout)?.lines().map(str::to_owned).collect())
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env("EVERKEPT_FUZZ", target).env("EVERKEPT_FUZZ_FOLDER", &self.folder);
        command.args([format!("-timeout={TIMEOUT}"), format!("-rss_limit_mb={MAX_MEMORY_MIB}")]);
        command
    }
}

impl Drop for Fuzzer {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} is left behind: {error}", self.folder.display());
        }
    }
}

fn run_all(fuzzer: &Fuzzer, asked: &Asked) -> anyhow::Result<()> {
    let waiting = Mutex::new(asked.targets.iter().collect::<VecDeque<_>>());
    let failed = Mutex::new(Vec::new());
    let next = || waiting.lock().expect("nothing panics while it holds the queue").pop_front();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(target) = next() {
                    if let Err(error) = run_one(fuzzer, target, asked) {
                        eprintln!("{target}: {error:#}");
                        failed.lock().expect("nothing panics while it holds the list").push(target.clone());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nothing panicked while it held the list");
    if !failed.is_empty() {
        bail!("fuzzing failed: {}", failed.join(", "));
    }
    Ok(())
}

fn run_one(fuzzer: &Fuzzer, target: &str, asked: &Asked) -> anyhow::Result<()> {
    let found = folder().join("found").join(target);
    let crashes = folder().join("crashes").join(target);
    if found.exists() {
        fs::remove_dir_all(&found)?;
    }
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&crashes)?;
    let log = folder().join(format!("{target}.log"));
    let output = fs::File::create(&log)?;
    let mut command = fuzzer.command(target);
    command.args([format!("-max_total_time={}", asked.seconds), format!("-seed={}", asked.seed)]);
    command.args([format!("-max_len={MAX_LENGTH}"), "-print_final_stats=1".into()]);
    command.arg(format!("-artifact_prefix={}/", crashes.display()));
    let words = root().join("fuzz/words").join(target);
    if words.is_file() {
        command.arg(format!("-dict={}", words.display()));
    }
    let kept = corpus(target);
    fs::create_dir_all(&kept)?;
    let started = Instant::now();
    let status = command.arg(&found).arg(&kept).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).status()?;
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let runs = after_last(&said, "stat::number_of_executed_units:").unwrap_or("0").to_owned();
    let coverage = after_last(&said, " cov:").unwrap_or("0");
    let new = fs::read_dir(&found)?.count();
    let took = started.elapsed().as_secs();
    println!("{target}: {runs} inputs in {took} s, coverage {coverage}, {new} new (kept: {})", fs::read_dir(&kept)?.count());
    if status.success() {
        return Ok(());
    }
    let lines: Vec<&str> = said.lines().collect();
    eprintln!("{}", lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n"));
    let input = after_last(&said, "Test unit written to").unwrap_or("(none was written)");
    bail!("{status}; the input: {input}; again: cargo xtask fuzz {target} --again {input}")
}

/// The word that follows the last `label`.
fn after_last<'a>(said: &'a str, label: &str) -> Option<&'a str> {
    said.rsplit_once(label)?.1.split_whitespace().next()
}

fn corpus(target: &str) -> PathBuf {
    root().join("fuzz/corpus").join(target)
}

/// Of the kept and the found inputs, the few that together reach most.
fn keep(fuzzer: &Fuzzer, target: &str) -> anyhow::Result<()> {
    let kept = corpus(target);
    let merged = folder().join("merged").join(target);
    if merged.exists() {
        fs::remove_dir_all(&merged)?;
    }
    fs::create_dir_all(&merged)?;
    let control = merged.join("control");
    let mut merge = fuzzer.command(target);
    merge.args(["-merge=1", "-set_cover_merge=1", "-use_counters=0"]).arg(format!("-merge_control_file={}", control.display()));
    merge.args([&merged, &kept]).arg(folder().join("found").join(target));
    let said = merge.stdin(Stdio::null()).output().context("the fuzzer does not run")?;
    if !said.status.success() {
        bail!("{target} cannot be merged: {}", String::from_utf8_lossy(&said.stderr));
    }
    let chosen: Vec<(PathBuf, Vec<u8>)> =
        choose(&fs::read_to_string(control)?).into_iter().map(|file| Ok((file.clone(), fs::read(file)?))).collect::<anyhow::Result<_>>()?;
    fs::remove_dir_all(&kept)?;
    fs::create_dir(&kept)?;
    for (file, input) in &chosen {
        fs::write(kept.join(file.file_name().context("an input has a name")?), input)?;
    }
    println!("{target}: {} inputs are kept", chosen.len());
    Ok(())
}

/// The input that reaches most, then always the one that adds most, out of libFuzzer's notes on a merge: how many files,
/// how many of them were there, their names, and a line `FT number feature..` for each.
fn choose(notes: &str) -> Vec<PathBuf> {
    let count: usize = notes.lines().next().and_then(|count| count.parse().ok()).unwrap_or(0);
    let files: Vec<&str> = notes.lines().skip(2).take(count).collect();
    let mut reach = BTreeMap::new();
    for line in notes.lines().filter_map(|line| line.strip_prefix("FT ")) {
        let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<usize>().ok());
        if let Some(file) = numbers.next().and_then(|number| files.get(number)) {
            reach.insert(PathBuf::from(file), numbers.collect::<BTreeSet<_>>());
        }
    }
    let mut chosen = Vec::new();
    let mut reached = BTreeSet::new();
    while chosen.len() < MAX_KEPT {
        let added = |features: &BTreeSet<usize>| features.difference(&reached).count();
        let Some((file, most)) = reach.iter().map(|(file, features)| (file.clone(), added(features))).max_by_key(|(_, most)| *most) else {
            break;
        };
        if most == 0 {
            break;
        }
        reached.extend(reach.remove(&file).unwrap_or_default());
        chosen.push(file);
    }
    chosen
}
