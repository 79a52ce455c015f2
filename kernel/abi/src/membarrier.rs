//! `membarrier`: the commands of the Linux system call of that name, with its numbers, errors and
//! order of checks.
//!
//! A process is what Linux calls an mm. `command`, `flags` and `cpu` are Linux's three arguments.
//! Checks come in this order: flags, whether the command is known and supported
//! ([`Error::BadArgument`], Linux's `EINVAL`), registration ([`Error::NotRegistered`], Linux's `EPERM`).
//!
//! Where Linux has a quirk:
//! - Registering `SYNC_CORE` or `RSEQ` does not allow plain `PRIVATE_EXPEDITED`, here as there; but
//!   Linux's `GET_REGISTRATIONS` then also reports `REGISTER_PRIVATE_EXPEDITED`. Here it reports
//!   what was registered.
//! - A new process starts without registrations, as after `execve`; there is no `fork`.
//! - `GLOBAL` interrupts the other CPUs; Linux waits until each has passed through its scheduler. No
//!   tick would ever bring a busy CPU there here.
//! - `cpu` is looked at only with [`FLAG_CPU`]; a CPU that does not exist, is off, or runs another
//!   process is success, since nothing is to be done there.
//!
//! [`Error::BadArgument`]: crate::Error::BadArgument
//! [`Error::NotRegistered`]: crate::Error::NotRegistered

crate::numbers! {
    /// The commands.
    Command:
    /// Returns the set of supported commands, without this one.
    Query = 0,
    /// A full barrier on every CPU, by interrupting each.
    Global = 1,
    /// A full barrier on every CPU that runs a process registered for it.
    GlobalExpedited = 2,
    RegisterGlobalExpedited = 4,
    /// A full barrier on every CPU that runs this process.
    PrivateExpedited = 8,
    RegisterPrivateExpedited = 16,
    /// As `PrivateExpedited`, and before any thread of the process executes another instruction,
    /// its core serializes. The caller's too.
    PrivateExpeditedSyncCore = 32,
    RegisterPrivateExpeditedSyncCore = 64,
    /// As `PrivateExpedited`, and restartable sequences under way on those CPUs are restarted.
    PrivateExpeditedRseq = 128,
    RegisterPrivateExpeditedRseq = 256,
    /// Returns the set of `REGISTER_*` commands done.
    GetRegistrations = 512,
}

/// With `PrivateExpeditedRseq`: only the CPU that the third argument names.
pub const FLAG_CPU: u64 = 1;

/// Linux's error number for what a membarrier returned: 22 is `EINVAL`, 1 is `EPERM`, 12 is `ENOMEM`.
pub const fn linux_errno(error: crate::Error) -> u32 {
    match error {
        crate::Error::NotRegistered => 1,
        crate::Error::NoMemory => 12,
        _ => 22,
    }
}
