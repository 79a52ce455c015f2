//! COM1, a 16550: polled output, input by interrupt.
//!
//! The FIFO control register is left alone. Switching FIFOs on drops what has already arrived,
//! and a hypervisor holds input back until the guest has taken the last byte, so one byte at a
//! time loses nothing.

use crate::X86_64;
use crate::cpu::Cpu;
use crate::machine::Machine;
use arch_contract::console::Console;
use x86::io::{inb, outb};

/// The ISA interrupt of COM1.
pub const ISA_IRQ: usize = 4;

const BASE: u16 = 0x3f8;
/// Receive and transmit.
const DATA: u16 = BASE;
const INTERRUPT_ENABLE: u16 = BASE + 1;
const LINE_CONTROL: u16 = BASE + 3;
const MODEM_CONTROL: u16 = BASE + 4;
const LINE_STATUS: u16 = BASE + 5;

/// Eight data bits, no parity, one stop bit; the divisor latch closed.
const EIGHT_N_ONE: u8 = 0x03;
/// DTR, RTS, and OUT2, which gates the interrupt on a PC.
const READY: u8 = 0x0b;
const RECEIVE_INTERRUPT: u8 = 0x01;
const DATA_READY: u8 = 0x01;
const TRANSMIT_EMPTY: u8 = 0x20;
/// What an absent device reads as.
const ABSENT: u8 = 0xff;

/// Makes output work. No interrupt yet.
pub fn init() {
    // SAFETY: COM1's registers; nothing else touches them.
    unsafe {
        outb(INTERRUPT_ENABLE, 0);
        outb(LINE_CONTROL, EIGHT_N_ONE);
        outb(MODEM_CONTROL, READY);
    }
}

/// Asks for an interrupt on input. The I/O APIC's entry is open by now: a byte that waited raises
/// the line here, and an edge that finds the entry masked is lost.
pub fn enable_interrupt() {
    // SAFETY: as in `init`.
    unsafe { outb(INTERRUPT_ENABLE, RECEIVE_INTERRUPT) };
}

fn line_status() -> u8 {
    // SAFETY: reading the line status has no effect that output or input depends on.
    unsafe { inb(LINE_STATUS) }
}

impl Console for X86_64 {
    fn write(_: Option<&Machine>, bytes: &[u8]) {
        for &byte in bytes {
            while line_status() & TRANSMIT_EMPTY == 0 {
                core::hint::spin_loop();
            }
            // SAFETY: the transmitter takes a byte.
            unsafe { outb(DATA, byte) };
        }
    }

    fn read(_: &Cpu, into: &mut [u8]) -> usize {
        let mut count = 0;
        for slot in into {
            let status = line_status();
            if status == ABSENT || status & DATA_READY == 0 {
                break;
            }
            // SAFETY: a byte is there; taking it lowers the line, so the next one is an edge.
            *slot = unsafe { inb(DATA) };
            count += 1;
        }
        count
    }
}
