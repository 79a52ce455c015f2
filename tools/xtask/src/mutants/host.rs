//! Killers that are tests of the host. Each test program is built once; the mutant is chosen by the
//! environment, so each mutant is a process.

use super::probe::{Finding, Suite};
use crate::build;
use crate::error::{Context, Error, Result};
use crate::pictures;
use crate::toolchain::{Toolchain, root};
use ::trace::swimlanes::FOLDER;
use arch_contract::mutant::VARIABLE;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a running test is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A test program.
struct Program {
    file: PathBuf,
    /// Where cargo would run it.
    folder: PathBuf,
    /// Its tests, by their whole paths.
    tests: Vec<String>,
}

/// The test programs that are needed.
pub struct Tests(BTreeMap<Suite, Result<Vec<Program>>>);

impl Tests {
    pub fn build(suites: impl IntoIterator<Item = Suite>) -> Self {
        let mut built = BTreeMap::new();
        for suite in suites {
            built.entry(suite).or_insert_with(|| programs(suite));
        }
        Self(built)
    }

    /// Runs one test with this mutant, or none.
    ///
    /// # Errors
    /// There is no such test, or it cannot be started.
    pub fn run(
        &self,
        suite: Suite,
        test: &str,
        mutant: Option<&str>,
        limit: Duration,
        stop: &AtomicBool,
    ) -> Result<Finding> {
        let programs = match self.0.get(&suite) {
            Some(Ok(programs)) => programs,
            Some(Err(error)) => return Err(Error::new(error.to_string())),
            None => return Err(Error::new("its tests were not built")),
        };
        let (program, path) = find(programs, test)?;
        let mut command = Command::new(&program.file);
        command.args(["--exact", path]).current_dir(&program.folder);
        if let Some(id) = mutant {
            command.env(FOLDER, pictures::folder().join(id));
        }
        match mutant {
            Some(id) => command.env(VARIABLE, id),
            None => command.env_remove(VARIABLE),
        };
        follow(command, limit, stop)
    }
}

/// Builds the tests of a suite and lists them.
fn programs(suite: Suite) -> Result<Vec<Program>> {
    let (mut cargo, what) = match suite {
        Suite::Host(package) => {
            let mut cargo = Toolchain::host_cargo("test");
            cargo.args(["-p", package]);
            (cargo, package)
        }
        Suite::Loom => (Toolchain::loom_tests(), "loom"),
        Suite::Schedules => (Toolchain::schedule_tests(), "schedules"),
    };
    cargo.arg("--no-run");
    let artifacts = build::artifacts(cargo, &format!("building the tests of {what}"))?;
    let mut programs = Vec::new();
    for artifact in artifacts.into_iter().filter(|artifact| artifact.profile.test) {
        let Some(file) = artifact.executable else { continue };
        let folder = artifact.manifest_path.parent().map_or_else(root, |folder| folder.as_std_path().into());
        let list = Command::new(&file).args(["--list", "--format=terse"]).current_dir(&folder).output();
        let list = list.context(|| format!("cannot run {file}"))?;
        let tests = String::from_utf8_lossy(&list.stdout)
            .lines()
            .filter_map(|line| Some(line.strip_suffix(": test")?.to_owned()))
            .collect();
        programs.push(Program { file: file.into_std_path_buf(), folder, tests });
    }
    Ok(programs)
}

/// The one test whose path ends in `test`.
fn find<'a>(programs: &'a [Program], test: &str) -> Result<(&'a Program, &'a str)> {
    let is_it = |path: &str| {
        path.strip_suffix(test).is_some_and(|before| before.is_empty() || before.ends_with("::"))
    };
    let mut found = programs.iter().flat_map(|program| {
        program.tests.iter().filter(|path| is_it(path)).map(move |path| (program, path.as_str()))
    });
    match (found.next(), found.next()) {
        (Some(it), None) => Ok(it),
        (None, _) => Err(Error::new("there is no such test")),
        (Some((_, one)), Some((_, other))) => {
            Err(Error::new(format!("{one} and {other} both have this name: say more of its path")))
        }
    }
}

/// Runs a test program to its end, or its limit.
fn follow(mut command: Command, limit: Duration, stop: &AtomicBool) -> Result<Finding> {
    let begin = Instant::now();
    let name = command.get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context(|| format!("cannot run {name}"))?;
    let mut output = child.stdout.take().expect("it is piped");
    let words = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = output.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let status = loop {
        if let Some(status) = child.try_wait().context(|| name.clone())? {
            break Some(status);
        }
        if begin.elapsed() > limit || stop.load(Ordering::Relaxed) {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(LOOK);
    };
    let words = words.join().unwrap_or_default();
    Ok(match status {
        None if stop.load(Ordering::Relaxed) => Finding::Unable("interrupted".into()),
        None => Finding::red("hangs", format!("still running after {} s", limit.as_secs())),
        Some(status) if status.success() => Finding::Green,
        Some(status) if status.signal().is_some() => Finding::red("aborts", status.to_string()),
        Some(_) => Finding::red("fails", why(&words)),
    })
}

/// The first line of what a failed test said of its panic.
fn why(words: &str) -> String {
    let mut lines = words.lines().skip_while(|line| !line.contains("panicked at"));
    lines.nth(1).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(tests: &[&str]) -> Program {
        Program {
            file: PathBuf::new(),
            folder: PathBuf::new(),
            tests: tests.iter().map(|&test| test.into()).collect(),
        }
    }

    #[test]
    fn a_name_must_be_one_test() {
        let programs = [program(&["tests::a", "tests::b"]), program(&["x::b", "ab"])];
        assert_eq!(find(&programs, "a").unwrap().1, "tests::a");
        assert_eq!(find(&programs, "tests::b").unwrap().1, "tests::b");
        assert!(find(&programs, "b").is_err() && find(&programs, "c").is_err());
    }

    #[test]
    fn endings_of_a_test_program() {
        let run = |script: &str, limit| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            follow(command, Duration::from_secs(limit), &AtomicBool::new(false)).unwrap()
        };
        assert_eq!(run("exit 0", 20), Finding::Green);
        let words = "echo \"thread 'a' panicked at b:\"; echo 'it is 1'; exit 101";
        assert_eq!(run(words, 20), Finding::red("fails", "it is 1"));
        assert!(matches!(run("kill -ABRT $$", 20), Finding::Red { how, .. } if how == "aborts"));
        assert!(matches!(run("exec sleep 60", 0), Finding::Red { how, .. } if how == "hangs"));
    }
}
