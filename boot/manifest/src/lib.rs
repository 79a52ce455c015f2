//! Which processes there are, and what each may do: the manifest, as the supervisor reads it.
//!
//! A person writes TOML ([`written`]); the build checks it and packs the result, so that whoever
//! starts processes from it has neither a parser nor names to look up, and nothing to report but
//! what only the running machine can refuse. Objects and processes are named by their index.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "written")]
extern crate std;

#[cfg(feature = "written")]
mod roles;
#[cfg(feature = "written")]
pub mod written;

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a packed manifest's name in the boot archive ends with.
pub const SUFFIX: &str = ".manifest";

/// Objects with a lower index are the usual ones: a process finds them in the slots that
/// [`abi::initial`] names. The others it finds by their names.
pub const USUAL: usize = 4;

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest<'a> {
    /// The process whose end is the end of all; without it, the end of the last one is.
    pub until: Option<u32>,
    #[serde(borrow)]
    pub objects: Vec<Object<'a>>,
    /// In the order in which they are started.
    #[serde(borrow)]
    pub processes: Vec<Process<'a>>,
}

/// What processes share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Object<'a> {
    pub name: &'a str,
    pub kind: ObjectKind,
}

/// The kinds of objects that can be shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ObjectKind {
    /// Those the supervisor was given itself.
    Console,
    Timer,
    Archive,
    Machine,
    /// The endpoint that the supervisor serves.
    Supervisor,
    /// Those it makes: they outlive the processes that use them.
    Endpoint,
    Notification,
    /// Of so many bytes.
    Memory(u64),
    /// The first PCI function that is one of these. Found anew whenever its driver is started: it is reset
    /// when the driver has ended, since nobody else holds it.
    Function(Which),
}

/// Which PCI function.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Which {
    Id {
        vendor: u16,
        device: u16,
    },
    /// Base class and subclass.
    Class(u16),
}

/// A process to be started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Process<'a> {
    pub name: &'a str,
    /// In the archive.
    pub program: &'a str,
    #[serde(borrow)]
    pub arguments: Vec<&'a str>,
    pub priority: u8,
    /// Bytes it may have charged; `u64::MAX` for no limit of its own.
    pub memory: u64,
    /// How much of a CPU its threads may use together.
    pub cpu: Option<Cpu>,
    pub restart: Restart,
    #[serde(borrow)]
    pub uses: Vec<Use<'a>>,
}

/// A budget of CPU time: so much in each period, both in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    pub budget: u32,
    pub period: u32,
}

/// A capability of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Use<'a> {
    /// What the program calls it.
    pub name: &'a str,
    /// The index of the object.
    pub object: u32,
    /// [`Rights`](abi::Rights) bits.
    pub rights: u32,
    /// What a server is told of who calls; 0 for nothing.
    pub badge: u64,
}

/// Whether a process that has ended is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Restart {
    pub when: When,
    /// At most so often in a row: when the limit is reached, the process stays ended.
    pub at_most: u32,
    /// Milliseconds after which an earlier restart no longer counts.
    pub within: u64,
}

/// After which ends a process is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    Never,
    /// Anything but an exit with status 0.
    Failure,
    Always,
}

impl<'a> Manifest<'a> {
    /// Reads what was packed. The error says only that it was not.
    pub fn unpack(bytes: &'a [u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// For the archive.
    #[cfg(feature = "written")]
    pub fn pack(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a vector takes anything")
    }
}
