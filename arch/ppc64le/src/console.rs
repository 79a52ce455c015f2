//! The hypervisor's virtual terminal (PAPR §16.7): up to 16 bytes a call, packed big-endian in two
//! registers. Works from the first instruction, in any translation mode.

use crate::Ppc64le;
use crate::cpu::{Cpu, Machine};
use crate::hcall::{self, Call, Status};
use arch_contract::console::Console;
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes in a call.
const CHUNK: usize = 16;
/// Unit address of QEMU's first terminal, before the tree has been read.
const FIRST_TERMINAL: u32 = 0x7100_0000;

/// The terminal to write to. A static, for it must work before there is a `Machine`.
static UNIT: AtomicU32 = AtomicU32::new(FIRST_TERMINAL);

/// Directs all output to the terminal at `unit`.
pub(crate) fn select(unit: u32) {
    UNIT.store(unit, Ordering::Relaxed);
}

/// Sends up to [`CHUNK`] bytes to a terminal, again and again while it is busy.
pub(crate) fn put(unit: u32, bytes: &[u8]) -> Status {
    let mut packed = [0; CHUNK];
    let len = bytes.len().min(CHUNK);
    packed[..len].copy_from_slice(&bytes[..len]);
    let packed = u128::from_be_bytes(packed);
    let arguments = [unit.into(), len as u64, (packed >> 64) as u64, packed as u64];
    loop {
        // SAFETY: sends bytes held in registers; no memory is touched.
        let (status, _) = unsafe { hcall::call(Call::PutTermChar, arguments) };
        if status != Status::BUSY {
            return status;
        }
    }
}

impl Console for Ppc64le {
    fn write(_machine: Option<&Machine>, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK) {
            // There is nowhere to report a console that does not work.
            let _ = put(UNIT.load(Ordering::Relaxed), chunk);
        }
    }

    fn read(cpu: &Cpu, into: &mut [u8]) -> usize {
        let machine = cpu.machine;
        let load = |index: usize| machine.typed[index].load(Ordering::Relaxed);
        let mut count = machine.typed_count.load(Ordering::Relaxed);
        let mut typed = u128::from(load(0)) << 64 | u128::from(load(1));
        if count == 0 {
            let unit = UNIT.load(Ordering::Relaxed);
            // SAFETY: takes bytes into registers; no memory is touched.
            let (status, [len, high, low, _]) = unsafe { hcall::call(Call::GetTermChar, [unit.into()]) };
            if status != Status::SUCCESS {
                return 0;
            }
            count = (len as usize).min(CHUNK);
            typed = u128::from(high) << 64 | u128::from(low);
        }
        // What does not fit is kept for the next call, first byte in the top bits.
        let taken = count.min(into.len());
        into[..taken].copy_from_slice(&typed.to_be_bytes()[..taken]);
        typed = typed.checked_shl(8 * taken as u32).unwrap_or(0);
        machine.typed[0].store((typed >> 64) as u64, Ordering::Relaxed);
        machine.typed[1].store(typed as u64, Ordering::Relaxed);
        machine.typed_count.store(count - taken, Ordering::Relaxed);
        taken
    }
}
