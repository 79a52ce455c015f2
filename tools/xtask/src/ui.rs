//! What a person sees: errors, and a progress line for work that takes over a second.
//!
//! Colour and the moving line appear only on a terminal; a log gets one plain line per piece of
//! long work. Everything here goes to standard error, so that standard output is the guest's, or
//! the report's.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Something to say in colour.
#[derive(Clone, Copy)]
pub enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
}

fn paint(on: bool, colour: Colour, text: &str) -> String {
    if !on || std::env::var_os("NO_COLOR").is_some() {
        return text.into();
    }
    let code = match colour {
        Colour::Red => "1;31",
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// `text` in `colour` if standard output is a terminal.
pub fn on_stdout(colour: Colour, text: &str) -> String {
    paint(stdout().is_terminal(), colour, text)
}

/// `text` in `colour` if standard error is a terminal.
pub fn on_stderr(colour: Colour, text: &str) -> String {
    paint(stderr().is_terminal(), colour, text)
}

/// Prints a line of the report. Whoever reads it may stop reading (`| head`): then there is nobody
/// left to work for, and this ends as a program without a reader does.
pub fn line(what: std::fmt::Arguments<'_>) {
    if writeln!(stdout(), "{what}").is_err() {
        std::process::exit(128 + 13); // what a shell shows for SIGPIPE
    }
}

/// Prints `error: …`.
pub fn error(what: &dyn std::fmt::Display) {
    eprintln!("{} {what}", on_stderr(Colour::Red, "error:"));
}

/// Prints `note: …`.
pub fn note(what: &str) {
    eprintln!("{} {what}", on_stderr(Colour::Dim, "note:"));
}

/// A progress line: nothing for the first second, then what is being done and for how long.
/// Ends when dropped.
pub struct Progress {
    stop: Option<Sender<()>>,
    line: Option<JoinHandle<()>>,
}

impl Progress {
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let (stop, stopped) = mpsc::channel();
        let line = std::thread::spawn(move || {
            let begin = Instant::now();
            let moving = stderr().is_terminal();
            let mut shown = false;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(Duration::from_secs(1)) {
                if moving {
                    eprint!("\r\x1b[K{what} … {} s", begin.elapsed().as_secs());
                    let _ = stderr().flush();
                } else if !shown {
                    eprintln!("{what} …");
                }
                shown = true;
            }
            if shown && moving {
                eprint!("\r\x1b[K");
                let _ = stderr().flush();
            }
        });
        Self { stop: Some(stop), line: Some(line) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(line) = self.line.take() {
            let _ = line.join();
        }
    }
}
