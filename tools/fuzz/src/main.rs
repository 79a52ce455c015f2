//! Fuzzes what reads bytes that somebody else wrote, on an ordinary toolchain.
//!
//! Valid inputs are broken in small ways, over and over; the readers must answer each time, and
//! what they accept must keep the promises their callers rely on. There is no coverage feedback:
//! the seeds are rich and the mutations know the formats, which for readers this small reaches
//! every branch, and needs neither a nightly compiler nor a fuzzing engine.
//!
//! A finding is a panic, a broken promise, or an input that takes seconds. It ends the run with
//! status 1 and leaves the input as a file that `--input` runs again.

mod mutate;
mod targets;
mod tree;
mod watch;

use mutate::Mutator;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

const USAGE: &str = "\
usage: fuzz TARGET|all [--seconds N] [--seed N]
       fuzz TARGET --input FILE
  --seconds N   how long to run each target (default 10)
  --seed N      start of the random sequence (default: the time); printed, so that a run can be repeated
  --input FILE  run one input, given as hexadecimal digits (what a finding is reported as)";

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options.run(),
        Err(message) => {
            eprintln!("error: {message}\n{USAGE}");
            for target in TARGETS {
                eprintln!("  {:8} {}", target.name, target.about);
            }
            ExitCode::from(2)
        }
    }
}

struct Options {
    targets: Vec<&'static Target>,
    seconds: u64,
    seed: u64,
    input: Option<String>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = now.map_or(1, |now| now.as_nanos() as u64);
        let mut options = Self { targets: Vec::new(), seconds: 10, seed, input: None };
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let text = words.next().unwrap_or_default();
                text.parse().map_err(|_| format!("{word} wants a number, not `{text}`"))
            };
            match word.as_str() {
                "--seconds" => options.seconds = number()?,
                "--seed" => options.seed = number()?,
                "--input" => options.input = Some(words.next().ok_or("--input wants a file")?),
                "all" => options.targets.extend(TARGETS),
                name => match TARGETS.iter().find(|target| target.name == name) {
                    Some(target) => options.targets.push(target),
                    None => {
                        return Err(format!("`{name}` is neither a target nor an option; the targets are:"));
                    }
                },
            }
        }
        if options.targets.is_empty() {
            return Err("a target is wanted:".into());
        }
        Ok(options)
    }

    fn run(self) -> ExitCode {
        watch::install();
        if let Some(path) = &self.input {
            return self.replay(path);
        }
        for target in &self.targets {
            let seed = self.seed;
            println!("{}: {} s, --seed {seed}", target.name, self.seconds);
            let executed = fuzz(target, Duration::from_secs(self.seconds), seed);
            let rate = executed / self.seconds.max(1);
            println!("{}: no finding in {executed} runs, {rate} per second", target.name);
        }
        ExitCode::SUCCESS
    }

    fn replay(&self, path: &str) -> ExitCode {
        let bytes =
            std::fs::read_to_string(path).map_err(|error| error.to_string()).and_then(|text| unhex(&text));
        match bytes {
            Ok(bytes) => {
                for target in &self.targets {
                    watch::begin(target.name, &bytes);
                    (target.run)(&bytes);
                    println!("{}: no finding", target.name);
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: {path}: {error}");
                ExitCode::from(2)
            }
        }
    }
}

/// Runs `target` on its seeds, then on broken ones for `time`. Gives the number of runs.
fn fuzz(target: &Target, time: Duration, seed: u64) -> u64 {
    let seeds = (target.seeds)();
    for seed in &seeds {
        watch::begin(target.name, seed);
        (target.run)(seed);
    }
    let mut mutator = Mutator::new(seed, target.words);
    let mut executed = seeds.len() as u64;
    let start = Instant::now();
    let mut input = Vec::new();
    while start.elapsed() < time {
        for _ in 0..256 {
            mutator.next(&seeds, &mut input);
            watch::begin(target.name, &input);
            (target.run)(&input);
            executed += 1;
        }
    }
    watch::end();
    executed
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).ok_or_else(|| format!("`{c}` is no hexadecimal digit")))
        .collect::<Result<_, _>>()?;
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect())
}
