//! Ending the machine, and the frame chain.
//!
//! QEMU exits with a status of our choosing through its `testdev` character device, put behind a
//! second virtual terminal: `42q` written there ends it with `42 << 1 | 1`. Without it, RTAS
//! power-off and `ibm,os-term` end the machine as far as they can say.

use crate::cpu::Machine;
use crate::{Ppc64le, console, rtas, spr, stack, tree};
use arch_contract::addr::VirtAddr;
use arch_contract::machine::{EXIT_ENDED, EXIT_FAILED, Power, Verdict};
use core::sync::atomic::{AtomicU32, Ordering};

/// RTAS tokens, kept where a panic finds them. 0: none.
static POWER_OFF: AtomicU32 = AtomicU32::new(0);
static OS_TERM: AtomicU32 = AtomicU32::new(0);

/// Makes the firmware's ways known, once the tree has been read.
pub(crate) fn learn(tokens: &tree::RtasTokens) {
    POWER_OFF.store(tokens.power_off.unwrap_or(0), Ordering::Relaxed);
    OS_TERM.store(tokens.os_term.unwrap_or(0), Ordering::Relaxed);
}

const fn testdev(exit: u8) -> [u8; 3] {
    let value = exit >> 1;
    [b'0' + value / 10, b'0' + value % 10, b'q']
}

impl Power for Ppc64le {
    fn power_off(_machine: Option<&Machine>, verdict: Verdict) -> ! {
        let word = match verdict {
            Verdict::Ended => testdev(EXIT_ENDED),
            Verdict::Failed => testdev(EXIT_FAILED),
        };
        // Refused where there is no such terminal, and then the next way is tried.
        let _ = console::put(tree::VERDICT_UNIT, &word);
        let off = POWER_OFF.load(Ordering::Relaxed);
        if verdict == Verdict::Ended && off != 0 {
            // Both masks: nothing may power it on again.
            let _ = rtas::call::<0>(off, &[u32::MAX, u32::MAX]);
        }
        let term = OS_TERM.load(Ordering::Relaxed);
        if term != 0 {
            let why = c"spandrel";
            let _ = rtas::call::<0>(term, &[why.as_ptr() as u64 as u32]);
        }
        // Interrupts are off, for good.
        loop {
            spr::pause();
        }
    }

    #[inline(never)]
    fn print_registers(out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let mut values = [0u64; 32];
        // SAFETY: stores the registers into the array, whose address is in one of them.
        unsafe {
            core::arch::asm!(
                ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
                "std \\r, 8*\\r(3)",
                ".endr",
                in("r3") values.as_mut_ptr(), options(nostack, preserves_flags)
            );
        }
        for (index, value) in values.iter().enumerate() {
            write!(out, "r{index:<2} {value:016x}{}", if index % 4 == 3 { '\n' } else { ' ' })?;
        }
        let (msr, lr, ctr, pid): (u64, u64, u64, u64);
        // SAFETY: reads registers.
        unsafe {
            core::arch::asm!(
                "mfmsr {}", "mflr {}", "mfctr {}", "mfspr {}, 48",
                out(reg) msr, out(reg) lr, out(reg) ctr, out(reg) pid,
                options(nomem, nostack, preserves_flags)
            );
        }
        writeln!(out, "msr {msr:016x} lr {lr:016x} ctr {ctr:016x} pid {pid:#x}")
    }

    #[inline(never)]
    fn backtrace(visit: &mut dyn FnMut(VirtAddr)) {
        const MOST: usize = 64;
        let mut frame: u64;
        // SAFETY: reads the stack pointer.
        unsafe { core::arch::asm!("mr {}, 1", out(reg) frame, options(nomem, nostack, preserves_flags)) };
        for index in 0..MOST {
            if !stack::holds_frame(frame) {
                return;
            }
            // SAFETY: three doublewords there are mapped kernel stack: the back chain, CR, and the
            // address that the frame's callee returns to (ELF V2 ABI §2.3.5).
            let (next, saved_lr) = unsafe {
                let frame = frame as *const u64;
                (frame.read_volatile(), frame.add(2).read_volatile())
            };
            // The innermost frame's slot belongs to a callee that does not exist yet.
            if index > 0 && saved_lr != 0 {
                visit(VirtAddr(saved_lr | crate::cpu::PHYSICAL_MAP));
            }
            if next == frame {
                return;
            }
            frame = next;
        }
    }
}
