//! Touching user memory: through a window on the current memory context, or not at all.
//!
//! A [`Window`] opens SMAP or KUAP and closes it when dropped. It is neither `Send` nor able to
//! outlive the interrupts-off token, so it cannot cross a scheduling decision or an `.await`.
//! Range checks are here, once, for every machine; a fault inside comes back as an error.

use crate::addr::VirtAddr;
use crate::irq::IrqsOff;
use crate::mutant::{self, Mutant};
use core::marker::PhantomData;

/// A user access that did not work: the first address that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserFault {
    pub address: VirtAddr,
}

/// The hooks. Called by [`Window`] only.
pub trait UserAccess: crate::pte::Paging {
    /// Lets this CPU's kernel code touch user pages (`USR-1`). Where a port materializes the
    /// memory context lazily, or owes a flush, it settles that here first.
    fn open_window(cpu: &Self::Cpu);
    /// Forbids it again, and is complete on return.
    fn close_window(cpu: &Self::Cpu);

    /// Copies `len` bytes from user memory. On a fault: stops and says where (`USR-2`).
    ///
    /// # Safety
    /// 1. A window is open, and the loaded context is the one meant.
    /// 2. `from..from + len` lies in the user range. 3. `to` is valid for `len` bytes of writing.
    unsafe fn copy_in(cpu: &Self::Cpu, to: *mut u8, from: VirtAddr, len: usize) -> Result<(), UserFault>;

    /// Copies `len` bytes to user memory.
    ///
    /// # Safety
    /// As [`copy_in`](Self::copy_in), with the roles of the two sides changed.
    unsafe fn copy_out(cpu: &Self::Cpu, to: VirtAddr, from: *const u8, len: usize) -> Result<(), UserFault>;
}

/// An open window on the current user address space.
pub struct Window<'a, A: UserAccess> {
    cpu: &'a A::Cpu,
    _irq: PhantomData<(&'a IrqsOff, *mut ())>,
}

impl<'a, A: UserAccess> Window<'a, A> {
    /// Opens it.
    ///
    /// # Safety
    /// The memory context loaded on `cpu` is that of the thread on whose behalf the kernel reads
    /// or writes, and stays loaded while the window is open.
    pub unsafe fn open(cpu: &'a A::Cpu, _irq: &'a IrqsOff) -> Self {
        A::open_window(cpu);
        Self { cpu, _irq: PhantomData }
    }

    /// Fills `to` from user memory at `from`.
    pub fn read(&self, to: &mut [u8], from: VirtAddr) -> Result<(), UserFault> {
        check_range::<A>(from, to.len())?;
        // SAFETY: 1. this window is open and its maker vouched for the context. 2. checked above.
        // 3. `to` is a live mutable slice.
        caught(unsafe { A::copy_in(self.cpu, to.as_mut_ptr(), from, to.len()) })
    }

    /// Writes `from` to user memory at `to`.
    pub fn write(&self, to: VirtAddr, from: &[u8]) -> Result<(), UserFault> {
        check_range::<A>(to, from.len())?;
        // SAFETY: as in `read`.
        caught(unsafe { A::copy_out(self.cpu, to, from.as_ptr(), from.len()) })
    }
}

/// `USR-2`: how a copy ended.
fn caught(copied: Result<(), UserFault>) -> Result<(), UserFault> {
    if mutant::is(Mutant::FaultInAWindowIgnored) { Ok(()) } else { copied }
}

impl<A: UserAccess> Drop for Window<'_, A> {
    fn drop(&mut self) {
        if !mutant::is(Mutant::WindowLeftOpen) {
            A::close_window(self.cpu);
        }
    }
}

/// `USR-3`: the whole range is user's; lengths that wrap, and anything of the kernel's, are
/// refused before a byte moves. An empty range anywhere below the end is fine.
pub fn check_range<A: UserAccess>(start: VirtAddr, len: usize) -> Result<(), UserFault> {
    if mutant::is(Mutant::RangesNotChecked) {
        return Ok(());
    }
    let end = start.checked_add(len as u64).ok_or(UserFault { address: start })?;
    if end > A::USER_END {
        return Err(UserFault { address: start.max(A::USER_END) });
    }
    Ok(())
}
