//! The I/O APIC, for the one device interrupt the kernel takes itself: the console's. The two
//! legacy controllers are moved out of the exceptions' way and masked.

use crate::acpi::{Polarity, Route, Trigger};
use crate::apic::vector;
use core::ptr::NonNull;
use volatile::VolatilePtr;
use x86::io::outb;

/// An I/O APIC (82093AA datasheet §3): an index register and a data window.
#[derive(Clone, Copy, Debug)]
pub struct IoApic {
    registers: NonNull<u8>,
    gsi_base: u32,
}

// SAFETY: used at boot by one CPU; the address alone is kept.
unsafe impl Sync for IoApic {}
// SAFETY: as above.
unsafe impl Send for IoApic {}

const INDEX: usize = 0x00;
const WINDOW: usize = 0x10;
const VERSION: u8 = 1;
const REDIRECTION: u8 = 0x10;
const MASKED: u32 = 1 << 16;
const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;

/// The controller has no such input, or the destination does not fit its 8 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CannotRoute;

impl IoApic {
    /// # Safety
    /// `registers` is the controller's page, mapped uncached for good, and nobody else uses it.
    pub unsafe fn new(registers: NonNull<u8>, gsi_base: u32) -> Self {
        Self { registers, gsi_base }
    }

    fn at(&self, offset: usize) -> VolatilePtr<'static, u32> {
        // SAFETY: by `new`'s obligation, and both offsets lie in the page, aligned.
        unsafe { VolatilePtr::new(self.registers.add(offset).cast()) }
    }

    fn read(&self, index: u8) -> u32 {
        self.at(INDEX).write(index.into());
        self.at(WINDOW).read()
    }

    fn write(&self, index: u8, value: u32) {
        self.at(INDEX).write(index.into());
        self.at(WINDOW).write(value);
    }

    /// The inputs it has.
    fn inputs(&self) -> u32 {
        (self.read(VERSION) >> 16 & 0xff) + 1
    }

    /// Masks every input.
    pub fn mask_all(&self) {
        for input in 0..self.inputs().min(120) as u8 {
            self.write(REDIRECTION + 2 * input, MASKED);
        }
    }

    /// Sends `route` to `vector` of the CPU with APIC id `target`.
    pub fn route(&self, route: Route, vector: u8, target: u32) -> Result<(), CannotRoute> {
        let input = route.gsi.checked_sub(self.gsi_base).filter(|&input| input < self.inputs().min(120));
        let (Some(input), Ok(target)) = (input, u8::try_from(target)) else { return Err(CannotRoute) };
        let mut low = u32::from(vector);
        if route.polarity == Polarity::ActiveLow {
            low |= ACTIVE_LOW;
        }
        if route.trigger == Trigger::Level {
            low |= LEVEL;
        }
        let index = REDIRECTION + 2 * input as u8;
        self.write(index + 1, u32::from(target) << 24);
        self.write(index, low);
        Ok(())
    }
}

/// Moves both 8259s to vectors of their own, where a spurious interrupt hurts nobody, and masks
/// them.
pub fn silence_legacy() {
    const FIRST: u16 = 0x20;
    const SECOND: u16 = 0xa0;
    // SAFETY: the controllers' ports; the sequence is ICW1 to ICW4, then the mask (8259A datasheet).
    unsafe {
        for (port, base, cascade) in [(FIRST, vector::LEGACY, 4), (SECOND, vector::LEGACY + 8, 2)] {
            outb(port, 0x11);
            outb(port + 1, base);
            outb(port + 1, cascade);
            outb(port + 1, 0x01);
            outb(port + 1, 0xff);
        }
    }
}
