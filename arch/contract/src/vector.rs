//! Vector and floating-point state: each thread its own, saved before anyone else can run.
//!
//! The kernel itself uses no vector register. The units are off in user mode until the thread's
//! first such instruction traps ([`Trap::VectorUnitOff`](crate::trap::Trap::VectorUnitOff));
//! then the kernel charges the thread for an area and turns them on. From then on the state is
//! loaded when the thread is chosen and saved before it is queued, so that any CPU may pull it.

use crate::irq::IrqsOff;
use core::{alloc::Layout, ptr::NonNull};

/// Words of the units' registers that any machine has, at most.
pub const MAX_VECTOR_WORDS: usize = 132;

/// The registers of the units, in the order of the machine's structure in `abi::registers`; words beyond
/// [`Vector::WORDS`] mean nothing.
pub type VectorWords = [u64; MAX_VECTOR_WORDS];

/// The hooks.
pub trait Vector: crate::trap::Traps {
    /// Size and alignment of an area on this machine.
    fn area_layout(machine: &Self::Machine) -> Layout;

    /// Makes `area` the state of a thread that has never used the units.
    ///
    /// # Safety
    /// `area` is valid for writing [`area_layout`](Self::area_layout).
    unsafe fn init_area(machine: &Self::Machine, area: NonNull<u8>);

    /// Loads `area` into the units and lets `frame` use them (`FPU-1`).
    ///
    /// # Safety
    /// 1. `area` was initialized, and is the area of the thread whose frame `frame` is.
    /// 2. Whatever the units held before belongs to nobody or was saved.
    unsafe fn load(cpu: &Self::Cpu, frame: &mut Self::Frame, area: NonNull<u8>, irq: &IrqsOff);

    /// Stores the units into `area` and turns them off: nothing of this thread is reachable by
    /// the next (`FPU-2`).
    ///
    /// # Safety
    /// The units hold the state of the thread whose frame and area these are.
    unsafe fn save(cpu: &Self::Cpu, frame: &mut Self::Frame, area: NonNull<u8>, irq: &IrqsOff);

    /// Words of the units' registers.
    const WORDS: usize;

    /// The registers that `area` holds.
    ///
    /// # Safety
    /// `area` is that of a thread whose state was saved since it last had the units, or that never had them
    /// since [`init_area`](Self::init_area).
    unsafe fn words(machine: &Self::Machine, area: NonNull<u8>) -> VectorWords;

    /// Stores them in `area`. Any value of any word is fine: what could not be loaded is left out (`IPC-11`).
    ///
    /// # Safety
    /// As [`words`](Self::words).
    unsafe fn set_words(machine: &Self::Machine, area: NonNull<u8>, words: &VectorWords);

    /// Turns the units off without saving: their thread is gone.
    fn discard(cpu: &Self::Cpu, irq: &IrqsOff);
}
