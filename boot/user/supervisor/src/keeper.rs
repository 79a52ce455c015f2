//! A keeper: the thread that starts a process, waits for its end, and starts it again.

use crate::capabilities::{Capability, start};
use core::time::Duration;
use manifest::{Cpu, Process, When};
use user_rt::alloc::sync::Arc;
use user_rt::alloc::vec::Vec;
use user_rt::ipc::Notification;
use user_rt::sync::Mutex;
use user_rt::{Command, Error, ExitReport, How, Rights, TIMER, println, supervisor};

/// The status of a process that could not be started.
const NOT_STARTED: u8 = 126;

/// What others may know of a process, and do to it.
pub struct Slot {
    name: &'static str,
    state: Mutex<State>,
}

struct State {
    /// It runs, and this ends it.
    running: Option<user_rt::Process>,
    /// It has ended, and will not be started again.
    ended: Option<u8>,
    /// It is not to be started again.
    stop: bool,
}

impl Slot {
    pub const fn new(name: &'static str) -> Self {
        Self { name, state: Mutex::new(State { running: None, ended: None, stop: false }) }
    }

    /// Whether a request is for this one.
    pub fn is_named(&self, words: &[u64]) -> bool {
        supervisor::names(words, self.name)
    }

    /// The status, once it has ended for good.
    pub fn ended(&self) -> Option<u8> {
        self.state.lock().ended
    }

    /// Ends it, if it runs; it may be started again.
    pub fn kill(&self) -> bool {
        self.state.lock().running.as_ref().is_some_and(|process| process.kill().is_ok())
    }

    /// Ends it for good.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stop = true;
        if let Some(process) = &state.running {
            // If it has ended by itself, so much the better.
            let _ = process.kill();
        }
    }
}

/// Who keeps a process running.
pub struct Keeper {
    process: Process<'static>,
    capabilities: Vec<Capability>,
    slot: Arc<Slot>,
    /// Signalled when the process has ended for good.
    ended: Notification,
}

/// Whether the process is to be started again.
#[derive(PartialEq, Eq)]
enum Next {
    Restart,
    Stay,
}

impl Keeper {
    pub fn new(
        process: Process<'static>,
        capabilities: Vec<Capability>,
        slot: Arc<Slot>,
        ended: Notification,
    ) -> Self {
        Self { process, capabilities, slot, ended }
    }

    /// Does it, until the process stays ended.
    pub fn keep(self) {
        let mut restarts = Vec::new();
        let status = loop {
            let (status, next) = match self.once() {
                Ok(report) => (report.status(), self.judge(report, &mut restarts)),
                Err(error) => {
                    println!("supervisor: {}: cannot be started: {error:?}", self.process.name);
                    (NOT_STARTED, Next::Stay)
                }
            };
            if next == Next::Stay {
                break status;
            }
        };
        // From here on whoever needs this process hears that it is gone.
        drop(self.capabilities);
        self.slot.state.lock().ended = Some(status);
        // The supervisor waits for it as long as there is a keeper.
        let _ = self.ended.signal(1);
    }

    /// Starts the process, and waits for its end.
    fn once(&self) -> Result<ExitReport, Error> {
        let what = &self.process;
        let command =
            what.arguments.iter().fold(Command::new(what.program), |command, word| command.arg(word));
        let command = command.memory(what.memory).priority(what.priority.into());
        let command = match what.cpu.map(|Cpu { budget, period }| [budget, period]) {
            Some(span) => {
                let [budget, period] = span.map(|milliseconds| Duration::from_millis(milliseconds.into()));
                command.cpu(budget, period)
            }
            None => command,
        };
        let process = start(&self.capabilities, command)?;
        // What cannot be ended must not run.
        let handle = process.copy(Rights::MANAGE).inspect_err(|_| {
            let _ = process.kill();
        })?;
        {
            let mut state = self.slot.state.lock();
            if state.stop {
                process.kill()?;
            }
            state.running = Some(handle);
        }
        let report = process.wait();
        self.slot.state.lock().running = None;
        report
    }

    /// Says on the console what becomes of a process that has ended so.
    fn judge(&self, report: ExitReport, restarts: &mut Vec<Duration>) -> Next {
        let Process { name, restart, .. } = &self.process;
        let failed = report != ExitReport(0);
        let wanted = match restart.when {
            When::Never => false,
            When::Failure => failed,
            When::Always => true,
        };
        if self.slot.state.lock().stop || !wanted {
            if failed {
                println!("supervisor: {name}: {}", How(report));
            }
            return Next::Stay;
        }
        // Without a clock none is ever old.
        let now = TIMER.now().unwrap_or_default();
        restarts.retain(|at| now.saturating_sub(*at) < Duration::from_millis(restart.within));
        if restarts.len() >= restart.at_most as usize {
            println!("supervisor: {name}: {}; given up after {} restarts", How(report), restarts.len());
            return Next::Stay;
        }
        restarts.push(now);
        println!("supervisor: {name}: {}; restarted ({})", How(report), restarts.len());
        Next::Restart
    }
}
