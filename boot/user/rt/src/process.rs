//! Processes: this one, and those it starts.

use crate::args::MARK;
use crate::call::{call, plain, word};
use crate::object::{Kind, Object};
use abi::{
    ARCHIVE_CHUNK, CONSOLE_CHUNK, Call, DEFAULT_PRIORITY, Ending, Error, ExitReport, Handle, MAX_ARGS,
    ProcessInfo, Rights, SpawnRequest, initial,
};
use alloc::vec::Vec;
use core::time::Duration;

pub use abi::Grant;

/// A process.
#[derive(Debug)]
pub enum ProcessKind {}
impl Kind for ProcessKind {}
/// A handle on one.
pub type Process = Object<ProcessKind>;

/// The boot archive.
#[derive(Debug)]
pub enum ArchiveKind {}
impl Kind for ArchiveKind {}
/// A handle on it.
pub type Archive = Object<ArchiveKind>;

/// This process.
pub static SELF: Process = Process::from_handle(initial::PROCESS);
/// What this program's maker granted it as an archive.
pub static ARCHIVE: Archive = Archive::from_handle(initial::ARCHIVE);

/// Ends this process.
pub fn exit(status: u8) -> ! {
    loop {
        // The kernel has no way to fail this; if it had, asking again is all there is to do.
        let _ = plain(Call::Exit, [status.into()]);
    }
}

/// Lets ready threads of the same priority run first.
pub fn yield_now() {
    // It cannot fail.
    let _ = plain(Call::Yield, []);
}

/// Goes into the kernel and comes back.
#[inline]
pub fn null() {
    // It cannot fail.
    let _ = plain(Call::Null, []);
}

impl Process {
    /// Waits until it has ended. Needs `WAIT`.
    pub fn wait(&self) -> Result<ExitReport, Error> {
        plain(Call::ProcessWait, [word(self.handle())]).map(ExitReport)
    }

    /// Ends it, if it has not ended. Needs `MANAGE`.
    pub fn kill(&self) -> Result<(), Error> {
        plain(Call::ProcessKill, [word(self.handle())]).map(|_| ())
    }

    /// Sets its priority. Needs `MANAGE`. Errors: `BadArgument` above the caller's own.
    pub fn set_priority(&self, priority: u64) -> Result<(), Error> {
        plain(Call::ProcessPriority, [word(self.handle()), priority]).map(|_| ())
    }

    /// How it is doing. Needs `READ`.
    pub fn info(&self) -> Result<ProcessInfo, Error> {
        let mut info = ProcessInfo::default();
        let arguments = [word(self.handle()), &raw mut info as u64, 0, 0, 0, 0];
        // SAFETY: the kernel writes a `ProcessInfo` into `info`, and any bits are one.
        unsafe { call(Call::ProcessInfo, arguments) }?;
        Ok(info)
    }
}

/// How a program ended, in words.
pub struct How(pub ExitReport);

impl core::fmt::Display for How {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let status = self.0.status();
        match self.0.ending() {
            Some(Ending::Exited) if status == 0 => write!(f, "done"),
            Some(Ending::Exited) => write!(f, "status {status}"),
            Some(Ending::Fault) => write!(f, "killed by a fault (status {status})"),
            Some(Ending::Killed) => write!(f, "killed (status {status})"),
            None => write!(f, "ended in a way this program does not know (status {status})"),
        }
    }
}

impl Archive {
    /// The contents of the file with this name. Needs `READ`. Errors: `NotFound`, `NoMemory`.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut buffer = [0; CONSOLE_CHUNK];
        let mut index = 0;
        while self.name(index, &mut buffer)? != name {
            index += 1;
        }
        let mut file = Vec::new();
        loop {
            let read = file.len();
            file.try_reserve(ARCHIVE_CHUNK).map_err(|_| Error::NoMemory)?;
            file.resize(read + ARCHIVE_CHUNK, 0);
            let to = file[read..].as_mut_ptr() as u64;
            let arguments = [word(self.handle()), index as u64, read as u64, to, ARCHIVE_CHUNK as u64, 0];
            // SAFETY: the kernel writes into the last `ARCHIVE_CHUNK` bytes of `file` only.
            let bytes = unsafe { call(Call::ArchiveRead, arguments) }? as usize;
            file.truncate(read + bytes);
            if bytes == 0 {
                return Ok(file);
            }
        }
    }

    /// The name of the `index`-th file. Needs `READ`. Errors: `NotFound` past the last.
    pub fn name<'a>(&self, index: usize, buffer: &'a mut [u8; CONSOLE_CHUNK]) -> Result<&'a str, Error> {
        let arguments =
            [word(self.handle()), index as u64, buffer.as_mut_ptr() as u64, buffer.len() as u64, 0, 0];
        // SAFETY: the kernel writes into `buffer` only, which is borrowed for that.
        let len = unsafe { call(Call::ArchiveEntry, arguments) }? as usize;
        let name = buffer.get(..len).ok_or(Error::NotSupported)?;
        core::str::from_utf8(name).map_err(|_| Error::NotSupported)
    }
}

/// A process to start: a program by name, its arguments, and what it is granted.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    name: &'a str,
    args: Vec<u8>,
    too_long: bool,
    grants: Vec<Grant>,
    memory: u64,
    priority: u64,
    /// Nanoseconds in each period.
    cpu: [u64; 2],
}

impl<'a> Command<'a> {
    /// Starts `name` with no arguments, granted nothing.
    pub fn new(name: &'a str) -> Self {
        let command = Self {
            name,
            args: Vec::new(),
            too_long: false,
            grants: Vec::new(),
            memory: u64::MAX,
            priority: DEFAULT_PRIORITY,
            cpu: [0; 2],
        };
        command.arg(name)
    }

    /// Adds an argument. One with a zero byte, or more than the ABI takes, makes
    /// [`start`](Self::start) fail.
    pub fn arg(mut self, arg: &str) -> Self {
        let room = MAX_ARGS - self.args.len();
        if arg.contains('\0') || arg.len() >= room || self.args.try_reserve(arg.len() + 1).is_err() {
            self.too_long = true;
            return self;
        }
        self.args.extend_from_slice(arg.as_bytes());
        self.args.push(0);
        self
    }

    /// Grants the next slot: a handle of this program with at most `rights`, or
    /// [`Handle::NONE`].
    pub fn grant(mut self, handle: Handle, rights: Rights) -> Self {
        self.grants.push(Grant { handle, rights: rights.bits() });
        self
    }

    /// Grants the next slot, which the program finds by [`Args::given`](crate::Args::given).
    pub fn grant_named(self, name: &str, handle: Handle, rights: Rights) -> Self {
        let slot = initial::CONSOLE.0 + self.grants.len() as u32;
        self.arg(&alloc::format!("{MARK}{name}={slot}")).grant(handle, rights)
    }

    /// Grants what an ordinary program is given: console, timer and archive, and a look at the
    /// machine.
    pub fn grant_usual(self) -> Self {
        self.grant_with_machine(Rights::READ)
    }

    /// As [`grant_usual`](Self::grant_usual), with these rights to the machine.
    pub fn grant_with_machine(self, machine: Rights) -> Self {
        self.grant(initial::CONSOLE, Rights::all())
            .grant(initial::TIMER, Rights::all())
            .grant(initial::ARCHIVE, Rights::all())
            .grant(initial::MACHINE, machine)
    }

    /// Limits the memory charged to it, in bytes.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Gives it a priority, 0–255.
    pub fn priority(mut self, priority: u64) -> Self {
        self.priority = priority;
        self
    }

    /// Limits the CPU time of its threads together to `budget` in each `period`.
    pub fn cpu(mut self, budget: Duration, period: Duration) -> Self {
        self.cpu = [budget, period].map(|span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        self
    }

    /// Starts it from `archive`, which needs `EXECUTE`. Errors: `NotFound`, `BadProgram`,
    /// `NoMemory`, `BadArgument`, `BadHandle`, `TableFull`.
    pub fn start(&self, archive: &Archive) -> Result<Process, Error> {
        if self.too_long {
            return Err(Error::BadArgument);
        }
        let request = SpawnRequest {
            name: self.name.as_ptr() as u64,
            name_len: self.name.len() as u64,
            args: self.args.as_ptr() as u64,
            args_len: self.args.len() as u64,
            grants: self.grants.as_ptr() as u64,
            grants_len: self.grants.len() as u64,
            memory: self.memory,
            priority: self.priority,
            cpu_budget: self.cpu[0],
            cpu_period: self.cpu[1],
        };
        let arguments = [word(archive.handle()), &raw const request as u64, 0, 0, 0, 0];
        // SAFETY: the kernel only reads the request and what it points to, all of it alive.
        let handle = unsafe { call(Call::Spawn, arguments) }?;
        Ok(Process::from_handle(Handle(handle as u32)))
    }
}
