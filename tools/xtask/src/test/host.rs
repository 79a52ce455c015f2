//! The tests that run here: unit tests of the generic kernel over the simulated machine, of the
//! archive readers, of these tools; the protocols of CPUs against loom's atomics; and the whole
//! kernel under random schedules. Built once by cargo, then each test program is run and its lines
//! read, so that every test is a case.

use super::report::{Case, Results, Verdict};
use crate::build;
use crate::error::{Context, Result};
use crate::pictures;
use crate::toolchain::{Toolchain, root};
use crate::ui::Progress;
use ::trace::swimlanes::FOLDER;
use arch_contract::mutant::VARIABLE;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Runs them, with a promise of the kernel broken or none.
pub fn run(
    wanted: &dyn Fn(&str) -> bool,
    mutant: Option<&str>,
    stop: &AtomicBool,
    results: &mut Results,
) -> Result<()> {
    built(Toolchain::host_cargo("test"), "the host tests", wanted, mutant, stop, results)?;
    built(Toolchain::loom_tests(), "the loom tests", wanted, mutant, stop, results)?;
    // Of the kernel's tests, those that schedules make others of.
    let wanted = |id: &str| id.contains("::schedules::") && wanted(id);
    built(Toolchain::schedule_tests(), "the tests under schedules", &wanted, mutant, stop, results)
}

/// Builds the tests of `cargo` and runs them.
fn built(
    mut cargo: Command,
    what: &str,
    wanted: &dyn Fn(&str) -> bool,
    mutant: Option<&str>,
    stop: &AtomicBool,
    results: &mut Results,
) -> Result<()> {
    cargo.arg("--no-run");
    let artifacts = match build::artifacts(cargo, &format!("building {what}")) {
        Ok(artifacts) => artifacts,
        Err(error) => {
            results.add(Case::failed(format!("host/build {what}"), error.to_string()), None);
            return Ok(());
        }
    };
    for artifact in artifacts.into_iter().filter(|artifact| artifact.profile.test) {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(program) = artifact.executable else { continue };
        let folder = artifact.manifest_path.parent().map_or_else(root, |folder| folder.as_std_path().into());
        program_cases(program.as_std_path(), &artifact.target.name, &folder, wanted, mutant, results)?;
    }
    Ok(())
}

/// Runs one test program; each of its tests is a case.
fn program_cases(
    program: &Path,
    name: &str,
    folder: &Path,
    wanted: &dyn Fn(&str) -> bool,
    mutant: Option<&str>,
    results: &mut Results,
) -> Result<()> {
    let list = Command::new(program).args(["--list", "--format=terse"]).current_dir(folder).output();
    let list = list.context(|| format!("cannot run {}", program.display()))?;
    let all: Vec<String> = String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter_map(|line| Some(line.strip_suffix(": test")?.to_owned()))
        .collect();
    let chosen: Vec<&String> = all.iter().filter(|test| wanted(&case_name(name, test))).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(program);
    if chosen.len() < all.len() {
        command.arg("--exact").args(&chosen);
    }
    let begin = Instant::now();
    let _progress = Progress::start(format!("testing {name}"));
    let mut child = command
        .current_dir(folder)
        .env(FOLDER, pictures::folder())
        .envs(mutant.map(|id| (VARIABLE, id)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| format!("cannot run {}", program.display()))?;
    let mut errors = child.stderr.take().expect("it is piped");
    let words = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let Ok(line) = line else { break };
        text.push_str(&line);
        text.push('\n');
    }
    let status = child.wait().context(|| program.display().to_string())?;
    let words = words.join().unwrap_or_default();
    let took = begin.elapsed() / chosen.len() as u32;
    for test in &chosen {
        let verdict = match outcome(&text, test) {
            Some("ok") => Verdict::Passed,
            Some(skipped) if skipped.starts_with("ignored") => Verdict::Skipped("marked as ignored".into()),
            Some("FAILED") => Verdict::Failed(words_of(&text, test).to_owned()),
            // An abort takes the tests behind it along: what was not seen to pass did not.
            _ if status.success() => Verdict::Failed("its line is missing".into()),
            _ => Verdict::Failed(format!("the test program ended with {status}\n{words}{}", tail(&text))),
        };
        results.add(Case { name: case_name(name, test), verdict, took }, None);
    }
    Ok(())
}

fn case_name(program: &str, test: &str) -> String {
    format!("host/{program}/{test}")
}

/// What a test program printed about a test: `ok`, `FAILED`, `ignored…`.
fn outcome<'a>(text: &'a str, test: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix("test ")?.strip_prefix(test)?;
        // `test a - should panic ... ok`
        let rest = rest.strip_prefix(" - should panic").unwrap_or(rest);
        rest.strip_prefix(" ... ")
    })
}

/// The block of output that belongs to a failed test.
fn words_of<'a>(text: &'a str, test: &str) -> &'a str {
    let Some((_, rest)) = text.split_once(&format!("---- {test} stdout ----\n")) else { return "failed" };
    rest.split("\n\n").next().unwrap_or(rest).trim_end()
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "running 3 tests\ntest a::b ... ok\ntest a::bc ... FAILED\ntest p - should panic ... ok\n\nfailures:\n\n---- a::bc stdout ----\nexpected 1\n\nfailures:\n    a::bc\n";

    #[test]
    fn lines_are_read_exactly() {
        assert_eq!(outcome(TEXT, "a::b"), Some("ok"));
        assert_eq!(outcome(TEXT, "a::bc"), Some("FAILED"));
        assert_eq!(outcome(TEXT, "p"), Some("ok"));
        assert_eq!(outcome(TEXT, "a"), None);
        assert_eq!(words_of(TEXT, "a::bc"), "expected 1");
    }
}
