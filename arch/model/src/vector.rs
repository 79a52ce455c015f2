//! Vector registers: a few words per CPU, poisoned whenever nobody owns them.

use crate::{Cpu, Frame, Machine, Model};
use arch_contract::irq::IrqsOff;
use arch_contract::vector::{MAX_VECTOR_WORDS, Vector, VectorWords};
use core::alloc::Layout;
use core::ptr::NonNull;

/// Registers of 64 bits.
pub const VECTOR_WORDS: usize = 16;
/// Bytes of an area.
pub const AREA_BYTES: usize = 8 * VECTOR_WORDS;

type Words = [u64; VECTOR_WORDS];

impl Cpu {
    /// The registers of whoever has the units on; `None` while they are off. For tests that play
    /// the user.
    pub fn vectors(&self) -> Option<Words> {
        self.vectors.get()
    }

    /// Sets the registers.
    ///
    /// # Panics
    /// If the units are off: a real machine would trap.
    pub fn set_vectors(&self, words: Words) {
        self.vectors.with(|held| *held.as_mut().expect("the vector units are off") = words);
    }
}

impl Vector for Model {
    fn area_layout(_machine: &Machine) -> Layout {
        Layout::new::<Words>().align_to(64).expect("a power of two")
    }

    unsafe fn init_area(_machine: &Machine, area: NonNull<u8>) {
        // SAFETY: the caller's obligation: the area is valid for writing its layout.
        unsafe { area.cast::<Words>().write([0; VECTOR_WORDS]) };
    }

    unsafe fn load(cpu: &Cpu, frame: &mut Frame, area: NonNull<u8>, _irq: &IrqsOff) {
        assert_eq!(cpu.vectors.get(), None, "FPU-2: the units still hold another's state");
        // SAFETY: the caller's obligation: an initialized area.
        let words = unsafe { area.cast::<Words>().read() };
        cpu.vectors.set(Some(words));
        frame.vectors_on = true;
    }

    unsafe fn save(cpu: &Cpu, frame: &mut Frame, area: NonNull<u8>, _irq: &IrqsOff) {
        let words = cpu.vectors.take().expect("FPU-1: nothing is loaded");
        // SAFETY: the caller's obligation: the thread's own area.
        unsafe { area.cast::<Words>().write(words) };
        frame.vectors_on = false;
    }

    const WORDS: usize = VECTOR_WORDS;

    unsafe fn words(_machine: &Machine, area: NonNull<u8>) -> VectorWords {
        let mut words = [0; MAX_VECTOR_WORDS];
        // SAFETY: the caller's obligation: an initialized area.
        words[..VECTOR_WORDS].copy_from_slice(&unsafe { area.cast::<Words>().read() });
        words
    }

    unsafe fn set_words(_machine: &Machine, area: NonNull<u8>, words: &VectorWords) {
        let mut stored: Words = [0; VECTOR_WORDS];
        stored.copy_from_slice(&words[..VECTOR_WORDS]);
        // SAFETY: the caller's obligation: an initialized area.
        unsafe { area.cast::<Words>().write(stored) };
    }

    fn discard(cpu: &Cpu, _irq: &IrqsOff) {
        cpu.vectors.set(None);
    }
}
