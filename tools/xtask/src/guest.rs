//! Runs a guest and says how it ended.
//!
//! Two things must agree before a status is believed: the line the kernel prints, and the code
//! QEMU exits with. QEMU's exit 0 (a reset, a power-off from outside) and 1 (its own errors, a
//! firmware panic) are never a pass.

use crate::error::{Error, Result};
use crate::protocol::{Message, Piece, Splitter};
use crate::qemu::Machine;
use crate::terminal::{Escape, Key};
use arch_contract::machine::{EXIT_ENDED, EXIT_FAILED};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The guest said so, and QEMU's exit code agrees.
    Exited(u8),
    /// The guest gave up: a panic, a kernel fault, unusable boot input. The console says why.
    Failed,
    /// It was still running.
    TimeLimit(Duration),
    /// Ctrl-C, Ctrl-A X, or a signal to this process.
    Interrupted,
    /// QEMU itself refused; its own words.
    DidNotStart(String),
    /// Anything else, as exactly what it is.
    Unexplained(String),
}

/// What is typed at the guest.
pub enum Input {
    /// Nothing.
    None,
    /// What is typed here, with Ctrl-A X to leave.
    Terminal,
    /// This process's standard input as it comes; its end becomes a Ctrl-D.
    Pipe,
    /// For each pair: wait until the first has been printed since the last, then type the second.
    Script(Vec<(String, String)>),
}

/// What is done with a guest's output.
pub enum Output<'a> {
    /// Only kept.
    Keep,
    /// Also given on at once.
    Also(&'a mut dyn Write),
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    pub ending: Ending,
    /// Everything printed, without the protocol lines; cut in the middle if it is very long.
    pub console: String,
    /// How long after the start each of its lines was complete.
    pub line_times: Vec<Duration>,
    /// Return addresses of the last backtrace, innermost first.
    pub frames: Vec<u64>,
    /// What the kernel's event rings held, as it printed them.
    pub trace: Vec<String>,
    /// What QEMU said on its standard error.
    pub warnings: String,
}

/// How much of a guest's output is kept.
const KEEP: usize = 4 << 20;
/// How long QEMU may take to end by itself after the closing line.
const GRACE: Duration = Duration::from_secs(5);
/// How often a running guest is looked at when it prints nothing.
const LOOK: Duration = Duration::from_millis(100);

enum Event {
    Printed(Vec<u8>),
    Typed(Vec<u8>),
    /// The console was closed: QEMU is ending.
    Closed,
}

/// Runs a machine to its end.
///
/// # Errors
/// QEMU is not there. Everything that happens after it was started is an [`Ending`].
pub fn run(
    machine: &Machine,
    input: Input,
    output: Output<'_>,
    limit: Option<Duration>,
    stop: &AtomicBool,
) -> Result<Report> {
    let mut command = Command::new(&machine.qemu);
    command.args(machine.arguments()?);
    run_command(command, input, output, limit, stop)
}

/// The same for a command that behaves like QEMU.
pub fn run_command(
    mut command: Command,
    input: Input,
    output: Output<'_>,
    limit: Option<Duration>,
    stop: &AtomicBool,
) -> Result<Report> {
    let begin = Instant::now();
    // A group of its own, so that Ctrl-C comes here and not to QEMU.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Nothing outlives this tool, however it ends: a guest that nobody watches may run for ever.
    // SAFETY: between fork and exec only one system call is made, and nothing is allocated.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let mut child = Guard(command.spawn().map_err(|error| {
        Error::new(format!("cannot start {}: {error}", command.get_program().display()))
            .hint("Is QEMU installed? `tools/x doctor` says what is missing and how to get it.")
    })?);
    let (send, events) = channel();
    let console = child.0.stdout.take().expect("it is piped");
    let printing = forward(console, send.clone());
    let mut errors = child.0.stderr.take().expect("it is piped");
    let warnings = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.read_to_end(&mut text);
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let mut session = Session::new(begin, child.0.stdin.take(), input, output);
    session.start_typing(&send);
    drop(send);
    let cut = session.follow(&events, begin, limit, stop, &mut child.0);
    let status = match cut {
        Some(_) => child.end(),
        None => child.0.wait().ok(),
    };
    session.keyboard = None;
    // What was printed before the end still counts.
    let _ = printing.join();
    session.drain(&events);
    let warnings = warnings.join().unwrap_or_default();
    let ending = cut.unwrap_or_else(|| explain(&session, status, &warnings));
    Ok(Report {
        ending,
        console: session.console(),
        line_times: session.line_times,
        frames: session.frames,
        trace: session.trace,
        warnings,
    })
}

/// A child that does not outlive this.
struct Guard(Child);

impl Guard {
    /// Ends it now.
    fn end(&mut self) -> Option<ExitStatus> {
        let _ = self.0.kill();
        self.0.wait().ok()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.end();
        }
    }
}

/// Reads a stream in a thread.
fn forward(mut from: impl Read + Send + 'static, to: Sender<Event>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match from.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    if to.send(Event::Printed(buffer[..count].to_vec())).is_err() {
                        return;
                    }
                }
            }
        }
        let _ = to.send(Event::Closed);
    })
}

/// One run, as seen from the console.
struct Session<'a> {
    begin: Instant,
    line_times: Vec<Duration>,
    splitter: Splitter,
    kept: Vec<u8>,
    skipped: usize,
    frames: Vec<u64>,
    trace: Vec<String>,
    verdict: Option<Message>,
    unknown: Vec<String>,
    keyboard: Option<std::process::ChildStdin>,
    input: Input,
    output: Output<'a>,
    escape: Escape,
    left: bool,
    /// Typed before the guest said anything: firmware and a UART's reset would lose it.
    early: Vec<u8>,
    /// Where in `kept` the script looks for its next cue.
    cue_from: usize,
}

impl<'a> Session<'a> {
    fn new(
        begin: Instant,
        keyboard: Option<std::process::ChildStdin>,
        input: Input,
        output: Output<'a>,
    ) -> Self {
        Self {
            begin,
            line_times: Vec::new(),
            splitter: Splitter::default(),
            kept: Vec::new(),
            skipped: 0,
            frames: Vec::new(),
            trace: Vec::new(),
            verdict: None,
            unknown: Vec::new(),
            keyboard,
            input,
            output,
            escape: Escape::default(),
            left: false,
            early: Vec::new(),
            cue_from: 0,
        }
    }

    /// Starts reading standard input if it is for the guest. The thread ends with this process:
    /// a read of a terminal cannot be called off.
    fn start_typing(&self, to: &Sender<Event>) {
        let at_end: &[u8] = match self.input {
            Input::None | Input::Script(_) => return,
            Input::Terminal => b"",
            Input::Pipe => b"\x04",
        };
        let to = to.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 256];
            loop {
                match std::io::stdin().read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        if to.send(Event::Typed(buffer[..count].to_vec())).is_err() {
                            return;
                        }
                    }
                }
            }
            let _ = to.send(Event::Typed(at_end.to_vec()));
        });
    }

    /// Follows the run; returns how it was cut short, or nothing if it ended by itself.
    fn follow(
        &mut self,
        events: &Receiver<Event>,
        begin: Instant,
        limit: Option<Duration>,
        stop: &AtomicBool,
        child: &mut Child,
    ) -> Option<Ending> {
        let mut deadline = limit.map(|limit| begin + limit);
        let mut closing = false;
        loop {
            if stop.load(Ordering::Relaxed) || self.left {
                return Some(Ending::Interrupted);
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Some(match (closing, limit) {
                    (false, Some(limit)) => Ending::TimeLimit(limit),
                    _ => {
                        Ending::Unexplained("the guest printed its closing line, but QEMU did not end".into())
                    }
                });
            }
            let wait = deadline.map_or(LOOK, |deadline| LOOK.min(deadline - now));
            match events.recv_timeout(wait) {
                Ok(Event::Printed(bytes)) => self.printed(&bytes),
                Ok(Event::Typed(bytes)) => self.typed(&bytes),
                Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => return None,
                // A stuck reader must not hide that QEMU has ended.
                Err(RecvTimeoutError::Timeout) => {
                    if let Ok(Some(_)) = child.try_wait() {
                        return None;
                    }
                }
            }
            if self.verdict.is_some() && !closing {
                closing = true;
                deadline = Some(Instant::now() + GRACE);
            }
        }
    }

    /// Takes what is still in the channel.
    fn drain(&mut self, events: &Receiver<Event>) {
        while let Ok(event) = events.try_recv() {
            if let Event::Printed(bytes) = event {
                self.printed(&bytes);
            }
        }
        let rest = self.splitter.finish();
        self.pieces(rest);
    }

    fn printed(&mut self, bytes: &[u8]) {
        let pieces = self.splitter.feed(bytes);
        self.pieces(pieces);
        if !self.early.is_empty() && !self.kept.is_empty() {
            let early = std::mem::take(&mut self.early);
            self.type_in(&early);
        }
        self.follow_script();
    }

    fn pieces(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Output(bytes) => {
                    if let Output::Also(to) = &mut self.output {
                        let _ = to.write_all(&bytes).and_then(|()| to.flush());
                    }
                    let room = KEEP.saturating_sub(self.kept.len());
                    self.skipped += bytes.len().saturating_sub(room);
                    let bytes = &bytes[..bytes.len().min(room)];
                    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
                    self.line_times.extend(std::iter::repeat_n(self.begin.elapsed(), lines));
                    self.kept.extend_from_slice(bytes);
                }
                Piece::Message(Message::Frame(address)) => self.frames.push(address),
                Piece::Message(Message::Trace(records)) => self.trace.push(records),
                Piece::Message(Message::Unknown(line)) => self.unknown.push(line),
                Piece::Message(verdict) => self.verdict = Some(verdict),
            }
        }
    }

    fn typed(&mut self, bytes: &[u8]) {
        let bytes = match self.input {
            Input::Terminal => match self.escape.feed(bytes) {
                Key::Guest(bytes) => bytes,
                Key::Leave => {
                    self.left = true;
                    return;
                }
            },
            _ => bytes.to_vec(),
        };
        if self.kept.is_empty() {
            self.early.extend(bytes);
        } else {
            self.type_in(&bytes);
        }
    }

    fn type_in(&mut self, bytes: &[u8]) {
        if let Some(keyboard) = &mut self.keyboard {
            // A guest that ended reads no more; how it ended is told elsewhere.
            let _ = keyboard.write_all(bytes).and_then(|()| keyboard.flush());
        }
    }

    fn follow_script(&mut self) {
        loop {
            let Input::Script(steps) = &mut self.input else { return };
            let Some((cue, _)) = steps.first() else { return };
            let Some(at) = find(&self.kept[self.cue_from..], cue.as_bytes()) else { return };
            self.cue_from += at + cue.len();
            let (_, answer) = steps.remove(0);
            self.type_in(answer.as_bytes());
        }
    }

    fn console(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).replace("\r\n", "\n");
        if self.skipped > 0 {
            text.push_str(&format!("\n[{} more bytes]\n", self.skipped));
        }
        text
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len().max(1)).position(|window| window == needle)
}

/// Puts the closing line and QEMU's exit together.
fn explain(session: &Session<'_>, status: Option<ExitStatus>, warnings: &str) -> Ending {
    let Some(status) = status else { return Ending::Unexplained("QEMU's exit status is unknown".into()) };
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let line = match &session.verdict {
        None => "without a closing line of the guest",
        Some(Message::Failed) => "after the guest said that it failed",
        Some(_) => "after the guest's closing line",
    };
    match (&session.verdict, code) {
        (Some(Message::Exit(status)), Some(EXIT_ENDED)) => Ending::Exited(*status),
        (Some(Message::Failed), _) | (_, Some(EXIT_FAILED)) => Ending::Failed,
        (None, Some(code)) if code != 0 && code != EXIT_ENDED && session.kept.is_empty() => {
            let words = if warnings.is_empty() { "it said nothing" } else { warnings };
            Ending::DidNotStart(format!("exit status {code}: {words}"))
        }
        (_, Some(0)) => Ending::Unexplained(format!("QEMU exited with 0 (a reset or a power-off) {line}")),
        (_, Some(code)) => Ending::Unexplained(format!("QEMU exited with {code} {line}")),
        (_, None) => {
            let signal =
                status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
            Ending::Unexplained(format!("QEMU was ended by {signal} {line}"))
        }
    }
}

/// Set by SIGINT, SIGTERM and SIGHUP from the first call on; given to every run.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|error| Error::new(format!("cannot watch signals: {error}")))?;
    }
    Ok(flag)
}

#[cfg(test)]
mod tests;
