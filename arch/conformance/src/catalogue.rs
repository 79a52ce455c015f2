//! Where the reference's scenarios and mutants went.
//!
//! The suite grew from a list of fifty scenarios (T-01 to T-50) and forty-four mutants (m1 to m44)
//! that speaks of a kernel with a stack per thread, with `fork` and with `exec`. This one has none
//! of those, but the same duties. Each row says what became of one of them; `tools/x check` sees to
//! it that none is missing and that every name in `held_by` exists.

/// How a scenario or a mutant of the list is said here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// As it stands there.
    AsItIs,
    /// By what does the same here.
    Translated(&'static str),
    /// It cannot be said of this kernel, for this reason; `held_by` names what holds the same law.
    NotExpressible(&'static str),
}

/// One scenario or mutant.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// `T-01` or `m1`.
    pub from: &'static str,
    pub flow: Flow,
    /// Conformance cases, host tests by their function's name, gates of `tools/x check`, and mutants
    /// of `arch_contract::mutants` by their id.
    pub held_by: &'static [&'static str],
}

macro_rules! rows {
    ($($from:literal $flow:expr => $($by:literal)*;)*) => {
        /// All of them.
        pub const ALL: &[Row] = &[$(Row { from: $from, flow: $flow, held_by: &[$($by),*] }),*];
    };
}

use Flow::{AsItIs, Translated};

rows! {
    "T-02" AsItIs => "bar_2_errors_are_those_of_linux";
    "T-05" Translated("fork and exec are one step here, the start of a process, which begins unregistered") => "bar_2_a_new_process_starts_unregistered";
    "m1" AsItIs => "m1";
}
