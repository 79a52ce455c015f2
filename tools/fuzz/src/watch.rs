//! What happens at a finding: the input is written to a file and the process ends.
//!
//! The workspace is built with `panic = "abort"`, so nothing is caught: a panic hook does it,
//! and a second thread does it for an input that never comes back.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The input that is being run, by target, since when.
struct Current {
    target: &'static str,
    input: Vec<u8>,
    since: Option<Instant>,
}

static CURRENT: Mutex<Current> = Mutex::new(Current { target: "", input: Vec::new(), since: None });

/// A run takes microseconds.
const TOO_LONG: Duration = Duration::from_secs(5);

/// Sets both watches up.
pub fn install() {
    let report_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report_panic(info);
        finding("panicked");
    }));
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let since = CURRENT.lock().ok().and_then(|current| current.since);
            if since.is_some_and(|since| since.elapsed() > TOO_LONG) {
                finding("takes too long");
            }
        }
    });
}

/// Notes that `input` is run from now on.
pub fn begin(target: &'static str, input: &[u8]) {
    if let Ok(mut current) = CURRENT.lock() {
        current.target = target;
        current.input.clear();
        current.input.extend_from_slice(input);
        current.since = Some(Instant::now());
    }
}

/// Notes that nothing is run.
pub fn end() {
    if let Ok(mut current) = CURRENT.lock() {
        current.since = None;
    }
}

fn finding(what: &str) -> ! {
    if let Ok(current) = CURRENT.lock() {
        let path = format!("finding-{}.hex", current.target);
        let hex: String = current.input.iter().map(|byte| format!("{byte:02x}")).collect();
        match std::fs::write(&path, &hex) {
            Ok(()) => eprintln!(
                "FINDING: {} {what} on {} bytes; run again: fuzz {} --input {path}",
                current.target,
                current.input.len(),
                current.target
            ),
            Err(error) => eprintln!("FINDING: {} {what}; {path}: {error}; input:\n{hex}", current.target),
        }
    }
    // Nothing to do about a console that is gone.
    let _ = std::io::stderr().flush();
    std::process::exit(1)
}
