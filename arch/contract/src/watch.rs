//! Marks for whoever watches the executed instructions from outside.
//!
//! Some promises are about the order of an instruction and a store to a certain word, and a watcher
//! sees instructions, not what a word is for. So kernels built for testing execute a mark there: an
//! instruction without effect that no compiler writes (`tools/stream` has the list). It is made by the
//! kernel, but claims nothing that could hide a missing instruction.

use crate::Base;

/// Where the kernel stands, in instructions.
pub trait Watch: Base {
    /// Executes the mark that says: the next store says whose user code may run on this CPU. Memory
    /// accesses stay on their side of it. Called in kernels built for testing, before that store;
    /// relied on by the watcher of `BAR-4`, `BAR-5` and `CTX-3`.
    fn enters_mm(cpu: &Self::Cpu);

    /// The same, where the store says that none may.
    fn leaves_mm(cpu: &Self::Cpu);
}
