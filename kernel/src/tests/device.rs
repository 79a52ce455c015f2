//! Devices: what a holder may do with a function, what it gets of it, and the order of things at the end.

use super::Run;
use crate::cpu::Cpu;
use crate::device::function::Hardware;
use crate::kernel::Kernel;
use crate::mm::memory::Memory;
use crate::sync::Guard;
use abi::device::{BarKind, Command, Interrupts, PciInfo};
use abi::{Call, Error, Grant, Handle, HandleInfo, Rights, initial};
use arch_contract::addr::PAGE_SIZE;
use arch_model::device::{Aborted, VECTORS, VENDOR_AT, VENDOR_BYTES};
use arch_model::{Bridge, Config, Event};
use core::cell::Cell;
use std::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

const MACHINE: u64 = initial::MACHINE.0 as u64;
const PROCESS: u64 = initial::PROCESS.0 as u64;
const ALL: u64 = Rights::all().bits() as u64;
const MASTER: u64 = Command::MEMORY.union(Command::BUS_MASTER).bits();

/// By device number in the simulated machine.
const MESSAGES: u64 = 0;
const LINE: u64 = 1;

fn boot() -> Run {
    Run::boot_with(Config { bridge: Bridge::Two, ..Config::default() }, "log=quiet")
}

fn hold(run: &mut Run, index: u64) -> u64 {
    run.result(Call::PciFunction, &[MACHINE, index]).expect("a function")
}

fn close(run: &mut Run, handle: u64) {
    assert_eq!(run.result(Call::HandleClose, &[handle]), Ok(0));
}

fn info(run: &mut Run, function: u64) -> PciInfo {
    let page = run.page();
    let mut info = PciInfo::new_zeroed();
    assert_eq!(run.result(Call::PciInfo, &[function, page]), Ok(0));
    run.peek(page, info.as_mut_bytes());
    info
}

fn length(run: &mut Run, memory: u64) -> u64 {
    let page = run.page();
    let mut info = HandleInfo::new_zeroed();
    assert_eq!(run.result(Call::HandleInfo, &[memory, page]), Ok(0));
    run.peek(page, info.as_mut_bytes());
    info.length
}

fn notification(run: &mut Run) -> u64 {
    run.result(Call::NotificationCreate, &[]).expect("a notification")
}

/// What is signalled, or 0.
fn signalled(run: &mut Run, notification: u64) -> u64 {
    run.take_interrupts();
    run.result(Call::NotificationWait, &[notification, 0]).unwrap_or(0)
}

/// What the machine has is found, and described as it is.
#[test]
fn dev_2_functions_are_found() {
    let mut run = boot();
    let first = hold(&mut run, MESSAGES);
    let told = info(&mut run, first);
    assert_eq!((told.vendor, told.device_id, told.class, told.subsystem), (0x1234, 0x1101, 0xff_0000, 7));
    assert_eq!((told.interrupts, told.vectors), (Interrupts::MsiX as u32, VECTORS.into()));
    let bars: Vec<_> = told.bars.iter().map(|bar| (bar.kind, bar.prefetchable, bar.length)).collect();
    let memory = BarKind::Memory as u32;
    assert_eq!(bars[..3], [(memory, 0, 0x4000), (0, 0, 0), (memory, 1, 64)]);
    assert_eq!(run.result(Call::PciRead, &[first, 0, 4]), Ok(0x1101_1234));
    let second = hold(&mut run, LINE);
    let told = info(&mut run, second);
    assert_eq!((told.device, told.interrupts, told.vectors), (1, Interrupts::Line as u32, 1));
    assert_eq!((told.bars[2].kind, told.bars[2].length), (BarKind::Io as u32, 32));
    assert_eq!(run.result(Call::PciFunction, &[MACHINE, 2]), Err(Error::NotFound));
    assert_eq!(run.result(Call::PciFunction, &[PROCESS, 0]), Err(Error::WrongObject));
}

/// Each memory BAR is aligned to its size, inside the window, and alone in its pages; what is given out of
/// it are whole pages.
#[test]
fn dev_2_registers_have_pages_of_their_own() {
    let mut run = boot();
    let (first, second) = (hold(&mut run, MESSAGES), hold(&mut run, LINE));
    let mut taken = Vec::new();
    for (function, register, length) in [(first, 0x10, 0x4000u64), (first, 0x18, 64), (second, 0x10, 256)] {
        let at = run.result(Call::PciRead, &[function, register, 4]).expect("a register") & !0xf;
        assert!(at.is_multiple_of(length.max(PAGE_SIZE)), "{at:#x} for {length:#x} bytes");
        assert!((0x8000_0000..0x8001_0000).contains(&at), "{at:#x} is outside the window");
        taken.push((at, at + length.next_multiple_of(PAGE_SIZE)));
    }
    for (index, one) in taken.iter().enumerate() {
        assert!(taken[..index].iter().all(|other| one.1 <= other.0 || other.1 <= one.0), "{taken:x?}");
    }
    let memory = run.result(Call::PciBar, &[second, 0]).expect("its registers");
    assert_eq!(length(&mut run, memory), PAGE_SIZE);
    let mapped = run.result(Call::MemoryAttach, &[PROCESS, memory, 0, 0, PAGE_SIZE, 2]);
    assert!(mapped.is_ok(), "{mapped:?}");
    for (bar, error) in [(1, Error::BadArgument), (2, Error::BadArgument), (6, Error::BadArgument)] {
        assert_eq!(run.result(Call::PciBar, &[second, bar]), Err(error));
    }
}

/// A holder reads everything and writes what is in a vendor-specific capability; the page with the table
/// of messages is not among what it can map.
#[test]
fn dev_1_what_is_the_kernels_is_refused() {
    let mut run = boot();
    let first = hold(&mut run, MESSAGES);
    let body = u64::from(VENDOR_AT) + 4..u64::from(VENDOR_AT + VENDOR_BYTES);
    for offset in (0..256).step_by(4) {
        let before = run.result(Call::PciRead, &[first, offset, 4]).expect("anything");
        let written = run.result(Call::PciWrite, &[first, offset, 4, 0xffff_ffff]);
        let after = run.result(Call::PciRead, &[first, offset, 4]);
        if body.contains(&offset) {
            assert_eq!((written, after), (Ok(0), Ok(0xffff_ffff)), "{offset:#x}");
        } else {
            assert_eq!((written, after), (Err(Error::NoRight), Ok(before)), "{offset:#x}");
        }
    }
    for (offset, width) in [(1, 2), (2, 4), (0, 3), (4096, 4), (u64::MAX, 1)] {
        assert_eq!(run.result(Call::PciRead, &[first, offset, width]), Err(Error::BadArgument));
    }
    let read = run.result(Call::HandleCopy, &[first, Rights::READ.bits().into(), 0]).expect("a copy");
    assert_eq!(run.result(Call::PciWrite, &[read, body.start, 4, 0]), Err(Error::NoRight));
    assert_eq!(run.result(Call::PciCommand, &[read, MASTER]), Err(Error::NoRight));
    assert_eq!(run.result(Call::PciCommand, &[first, 1]), Err(Error::BadArgument), "I/O ports");
    let memory = run.result(Call::PciBar, &[first, 0]).expect("its registers");
    assert_eq!(length(&mut run, memory), arch_model::device::TABLE_AT);
}

/// Memory that a function reaches: zeroes, at addresses that only its holder learns, who holds the memory
/// too; and no other function reaches it.
#[test]
fn dev_4_bus_addresses() {
    let mut run = boot();
    let (first, second) = (hold(&mut run, MESSAGES), hold(&mut run, LINE));
    let memory = run.result(Call::DmaCreate, &[first, 2 * PAGE_SIZE]).expect("memory");
    let bus = run.result(Call::DmaAddress, &[first, memory, 0x1008]).expect("an address");
    assert_eq!(run.result(Call::DmaAddress, &[second, memory, 0]), Err(Error::WrongObject));
    assert_eq!(run.result(Call::DmaAddress, &[first, memory, 2 * PAGE_SIZE]), Err(Error::BadArgument));
    let plain = run.result(Call::MemoryCreate, &[PAGE_SIZE]).expect("memory");
    assert_eq!(run.result(Call::DmaAddress, &[first, plain, 0]), Err(Error::WrongObject));
    let at = attach(&mut run, memory, 2 * PAGE_SIZE);
    let mut byte = [7];
    run.peek(at + 0x1008, &mut byte);
    assert_eq!(byte, [0]);
    assert_eq!(run.machine.device_write_to(0, bus, 42), Err(Aborted::NotMaster));
    assert_eq!(run.result(Call::PciCommand, &[first, MASTER]), Ok(0));
    assert_eq!(run.machine.device_write_to(0, bus, 42), Ok(()));
    run.peek(at + 0x1008, &mut byte);
    assert_eq!(byte, [42]);
    assert_eq!(run.result(Call::PciCommand, &[second, MASTER]), Ok(0));
    assert_eq!(run.machine.device_write_to(1, bus, 43), Err(Aborted::Unreachable));
}

/// All of it is cleared, whoever had the frames before, and in however many slices.
#[test]
fn dev_4_nothing_of_an_earlier_owner() {
    const PAGES: u64 = 256;
    let mut run = boot();
    let first = hold(&mut run, MESSAGES);
    let memory = run.result(Call::DmaCreate, &[first, PAGES * PAGE_SIZE]).expect("memory");
    let bus = run.result(Call::DmaAddress, &[first, memory, 0]).expect("an address");
    assert_eq!(run.result(Call::PciCommand, &[first, MASTER]), Ok(0));
    for page in 0..PAGES {
        assert_eq!(run.machine.device_write_to(0, bus + page * PAGE_SIZE, 7), Ok(()));
    }
    close(&mut run, memory);
    close(&mut run, first);
    let first = hold(&mut run, MESSAGES);
    let memory = run.result(Call::DmaCreate, &[first, PAGES * PAGE_SIZE]).expect("memory");
    assert_eq!(run.result(Call::DmaAddress, &[first, memory, 0]), Ok(bus), "the same frames");
    let at = attach(&mut run, memory, PAGES * PAGE_SIZE);
    for page in 0..PAGES {
        let mut bytes = [7; 8];
        run.peek(at + page * PAGE_SIZE, &mut bytes);
        assert_eq!(bytes, [0; 8], "page {page}");
    }
}

/// Memory that outlives its function's holder is at no bus address any more.
#[test]
fn dev_4_no_address_after_the_end() {
    let mut run = boot();
    let first = hold(&mut run, MESSAGES);
    let memory = run.result(Call::DmaCreate, &[first, PAGE_SIZE]).expect("memory");
    assert!(run.result(Call::DmaAddress, &[first, memory, 0]).is_ok());
    close(&mut run, first);
    let again = hold(&mut run, MESSAGES);
    assert_eq!(run.result(Call::DmaAddress, &[again, memory, 0]), Err(Error::WrongObject));
}

/// Where `memory` was mapped.
fn attach(run: &mut Run, memory: u64, length: u64) -> u64 {
    let attachment = run.result(Call::MemoryAttach, &[PROCESS, memory, 0, 0, length, 2]).expect("a mapping");
    let page = run.page();
    let mut info = HandleInfo::new_zeroed();
    assert_eq!(run.result(Call::HandleInfo, &[attachment, page]), Ok(0));
    run.peek(page, info.as_mut_bytes());
    info.address
}

std::thread_local! {
    /// The memory of the machine that is watched, and how much of it was free when the watch began.
    static WATCHED: Cell<Option<(&'static Memory, u64)>> = const { Cell::new(None) };
}

/// When the last handle goes: no bus mastering, then a reset, then the frames, though every handle on
/// the memory was closed before. A new holder finds the function as it was at boot.
#[test]
fn dev_3_the_order_at_the_end() {
    let mut run = boot();
    let kernel = run.cpu().kernel;
    let before = kernel.root.used();
    let first = hold(&mut run, MESSAGES);
    let copy = run.result(Call::HandleCopy, &[first, ALL, 0]).expect("a copy");
    let address = run.result(Call::PciRead, &[first, 0x10, 4]);
    let memory = run.result(Call::DmaCreate, &[first, 4 * PAGE_SIZE]).expect("memory");
    let bus = run.result(Call::DmaAddress, &[first, memory, 0]).expect("an address");
    assert_eq!(run.result(Call::PciCommand, &[first, MASTER]), Ok(0));
    close(&mut run, memory);
    close(&mut run, first);
    assert_eq!(run.machine.device_write_to(0, bus, 1), Ok(()), "it is held, by the copy");
    assert!(kernel.root.used() >= before + 4 * PAGE_SIZE, "and so are its frames");

    WATCHED.set(Some((kernel.memory, kernel.memory.free_bytes())));
    run.machine.watch_hooks(|event| {
        if let (Event::ConfigWrite { .. }, Some((memory, free))) = (event, WATCHED.get()) {
            assert_eq!(memory.free_bytes(), free, "frames went before {event:?}");
        }
    });
    close(&mut run, copy);
    WATCHED.set(None);
    assert_eq!(run.machine.resets(0), 1);
    assert_eq!(run.machine.device_write_to(0, bus, 1), Err(Aborted::NotMaster));
    assert!(kernel.root.used() <= before, "{} bytes are left charged", kernel.root.used() - before);
    let again = hold(&mut run, MESSAGES);
    assert_eq!(run.result(Call::PciRead, &[again, 0x10, 4]), address, "a reset clears base addresses");
    assert_eq!(run.result(Call::PciCommand, &[again, MASTER]), Ok(0), "it was off");
    assert_eq!(run.machine.device_write_to(0, bus, 1), Err(Aborted::Unreachable));
}

/// Frames that the machine refuses to take out of the function's reach are nobody's from then on.
#[test]
fn dev_3_frames_that_stay_in_reach() {
    let mut run = boot();
    let kernel = run.cpu().kernel;
    let (used, free) = (kernel.root.used(), kernel.memory.free_bytes());
    let held = hold(&mut run, MESSAGES);
    let memory = run.result(Call::DmaCreate, &[held, 4 * PAGE_SIZE]).expect("memory");
    run.machine.keep_reachable();
    close(&mut run, memory);
    close(&mut run, held);
    assert!(kernel.memory.free_bytes() <= free - 4 * PAGE_SIZE, "another may get them");
    assert!(kernel.root.used() >= used + 4 * PAGE_SIZE, "they are paid for");
}

/// What is left of one holder keeps the next from holding the function, and reaches nothing.
#[test]
fn dev_3_what_is_left_of_a_holder() {
    let mut run = boot();
    let first = hold(&mut run, MESSAGES);
    let registers = run.result(Call::PciBar, &[first, 0]).expect("its registers");
    let interrupt = run.result(Call::PciInterrupt, &[first, 0]).expect("an interrupt");
    let bits = notification(&mut run);
    assert_eq!(run.result(Call::InterruptBind, &[interrupt, bits, 1]), Ok(0));
    close(&mut run, first);
    assert_eq!(run.result(Call::InterruptAcknowledge, &[interrupt]), Err(Error::Gone));
    assert_eq!(run.result(Call::InterruptBind, &[interrupt, bits, 1]), Err(Error::Gone));
    assert_eq!(run.result(Call::PciFunction, &[MACHINE, MESSAGES]), Err(Error::Busy));
    close(&mut run, registers);
    assert_eq!(run.result(Call::PciFunction, &[MACHINE, MESSAGES]), Err(Error::Busy));
    close(&mut run, interrupt);
    let again = hold(&mut run, MESSAGES);
    // And the other way round: a revocation of the machine's handle takes all of it.
    let registers = run.result(Call::PciBar, &[again, 2]).expect("its registers");
    assert_eq!(run.result(Call::HandleRevoke, &[MACHINE]), Ok(0));
    assert_eq!(run.result(Call::PciRead, &[again, 0, 4]), Err(Error::BadHandle));
    assert_eq!(
        run.result(Call::MemoryAttach, &[PROCESS, registers, 0, 0, PAGE_SIZE, 2]),
        Err(Error::BadHandle)
    );
    assert_eq!(run.machine.resets(0), 2);
}

/// A holder that is killed is one whose handles go.
#[test]
fn dev_3_a_holder_that_is_killed() {
    let mut run = boot();
    let init = run.user();
    let page = run.page();
    let first = hold(&mut run, MESSAGES);
    let grants = [initial::CONSOLE, Handle(first as u32)].map(|handle| Grant { handle, rights: 0x3f });
    let child = run.spawn_with(page, u64::MAX, &grants).expect("a child");
    close(&mut run, first);
    let driver = run.yield_to_other();
    let theirs = initial::TIMER.0.into();
    let memory = run.result(Call::DmaCreate, &[theirs, PAGE_SIZE]).expect("memory");
    let bus = run.result(Call::DmaAddress, &[theirs, memory, 0]).expect("an address");
    assert_eq!(run.result(Call::PciCommand, &[theirs, MASTER]), Ok(0));
    assert_eq!(run.machine.device_write_to(0, bus, 1), Ok(()));
    assert_ne!(driver, init);
    run.yield_to_other();
    assert_eq!(run.result(Call::ProcessKill, &[child]), Ok(0));
    run.call(Call::Quiesce, &[MACHINE]);
    assert_eq!((run.user(), run.returned()), (init, Ok(0)));
    assert_eq!(run.machine.device_write_to(0, bus, 1), Err(Aborted::NotMaster));
    assert_eq!(run.machine.resets(0), 1);
    hold(&mut run, MESSAGES);
}

/// Messages: one signal for each acknowledgement, whatever the function sends; nothing is lost, and each
/// vector is masked by itself.
#[test]
fn dev_5_one_interrupt_for_each_acknowledgement() {
    let mut run = boot();
    let first = hold(&mut run, MESSAGES);
    assert_eq!(run.result(Call::PciCommand, &[first, MASTER]), Ok(0));
    let bits = notification(&mut run);
    let interrupts = [0, 1].map(|vector| {
        let interrupt = run.result(Call::PciInterrupt, &[first, vector]).expect("an interrupt");
        assert_eq!(run.result(Call::InterruptBind, &[interrupt, bits, 1 << vector]), Ok(0));
        interrupt
    });
    assert_eq!(run.result(Call::PciInterrupt, &[first, VECTORS.into()]), Err(Error::BadArgument));
    assert_eq!(signalled(&mut run, bits), 0);
    run.machine.send_message(0);
    assert_eq!(signalled(&mut run, bits), 1);
    for _ in 0..2 {
        run.machine.send_message(0);
        assert_eq!(signalled(&mut run, bits), 0, "before it was acknowledged");
    }
    assert_eq!(run.machine.messages_sent(), 1, "it was not masked");
    run.machine.send_message(1);
    assert_eq!(signalled(&mut run, bits), 2, "the other is not masked");
    assert_eq!(run.result(Call::InterruptAcknowledge, &[interrupts[0]]), Ok(0));
    assert_eq!(signalled(&mut run, bits), 1, "what came meanwhile");
    assert_eq!(run.result(Call::InterruptAcknowledge, &[interrupts[0]]), Ok(0));
    assert_eq!(run.result(Call::InterruptAcknowledge, &[interrupts[0]]), Ok(0));
    assert_eq!(signalled(&mut run, bits), 0);
    // A binding that ends masks, with nothing to acknowledge; the next begins acknowledged.
    let sent = run.machine.messages_sent();
    assert_eq!(run.result(Call::InterruptBind, &[interrupts[0], 0]), Ok(0));
    run.machine.send_message(0);
    assert_eq!(run.machine.messages_sent(), sent, "it was not masked");
    assert_eq!(run.result(Call::InterruptBind, &[interrupts[1], 0]), Ok(0));
    run.machine.send_message(1);
    assert_eq!(signalled(&mut run, bits), 0);
    assert_eq!(run.result(Call::InterruptBind, &[interrupts[1], bits, 4]), Ok(0));
    assert_eq!(signalled(&mut run, bits), 4, "what came meanwhile");
    assert_eq!(run.result(Call::InterruptBind, &[interrupts[1], bits, 0]), Err(Error::BadArgument));
}

/// An interrupt that is bound to nothing is masked, though firmware took the mask away as it gave the messages.
#[test]
fn dev_5_nothing_comes_before_it_is_bound() {
    let mut run = boot();
    let first = hold(&mut run, MESSAGES);
    assert_eq!(run.result(Call::PciCommand, &[first, MASTER]), Ok(0));
    let bits = notification(&mut run);
    let interrupt = run.result(Call::PciInterrupt, &[first, 0]).expect("an interrupt");
    for vector in 0..VECTORS {
        run.machine.send_message(vector);
    }
    assert_eq!(run.machine.messages_sent(), 0);
    assert_eq!(run.result(Call::InterruptBind, &[interrupt, bits, 1]), Ok(0));
    assert_eq!(signalled(&mut run, bits), 1, "what came meanwhile");
}

std::thread_local! {
    /// A function that is locked until a CPU has waited for it.
    static LOCKED: Cell<Option<Guard<'static, Hardware>>> = const { Cell::new(None) };
}

/// The last name of an interrupt goes with its binding, not before: else whoever names and binds it in between
/// loses the new binding.
#[test]
fn dev_5_the_last_name_goes_with_the_binding() {
    let mut run = boot();
    let first = hold(&mut run, MESSAGES);
    let bits = notification(&mut run);
    let interrupt = run.result(Call::PciInterrupt, &[first, 0]).expect("an interrupt");
    assert_eq!(run.result(Call::InterruptBind, &[interrupt, bits, 1]), Ok(0));
    let names = |kernel: &Kernel| kernel.devices.functions[0].interrupts[0].names();
    run.machine.watch(|cpu, event| {
        if event == Event::Relax
            && let Some(locked) = LOCKED.take()
        {
            // SAFETY: the CPU waits in the kernel.
            let kernel = unsafe { Cpu::of(cpu) }.kernel;
            assert_eq!(kernel.devices.functions[0].interrupts[0].names(), 1);
            drop(locked);
        }
    });
    let kernel = run.cpu().kernel;
    LOCKED.set(kernel.devices.functions[0].held(run.cpu()).ok());
    close(&mut run, interrupt);
    assert!(LOCKED.take().is_none(), "nobody waited");
    assert_eq!(names(kernel), 0);
}

/// A line: the same, and it stays masked until its level was dealt with.
#[test]
fn dev_5_a_line() {
    let mut run = boot();
    let second = hold(&mut run, LINE);
    let bits = notification(&mut run);
    let interrupt = run.result(Call::PciInterrupt, &[second, 0]).expect("an interrupt");
    run.machine.raise_line(true);
    assert_eq!(signalled(&mut run, bits), 0);
    assert_eq!(run.result(Call::InterruptBind, &[interrupt, bits, 1]), Ok(0));
    assert_eq!(signalled(&mut run, bits), 1);
    assert_eq!(signalled(&mut run, bits), 0);
    assert_eq!(run.result(Call::InterruptAcknowledge, &[interrupt]), Ok(0));
    assert_eq!(signalled(&mut run, bits), 1, "it is still asserted");
    run.machine.raise_line(false);
    assert_eq!(run.result(Call::InterruptAcknowledge, &[interrupt]), Ok(0));
    assert_eq!(signalled(&mut run, bits), 0);
    // A driver that leaves when it is its turn leaves nothing to acknowledge.
    run.machine.raise_line(true);
    assert_eq!(signalled(&mut run, bits), 1);
    assert_eq!(run.result(Call::InterruptBind, &[interrupt, 0]), Ok(0));
    assert_eq!(run.result(Call::InterruptBind, &[interrupt, bits, 1]), Ok(0));
    assert_eq!(signalled(&mut run, bits), 1, "the next driver hears of it");
    run.machine.raise_line(false);
    close(&mut run, second);
    run.machine.raise_line(true);
    assert_eq!(signalled(&mut run, bits), 0, "the function is nobody's");
}

/// Whoever waits for an interrupt whose function is gone, and that nobody else can signal, waits no more.
#[test]
fn dev_3_nobody_waits_for_a_function_that_is_gone() {
    let mut run = boot();
    let first = hold(&mut run, MESSAGES);
    let bits = notification(&mut run);
    let interrupt = run.result(Call::PciInterrupt, &[first, 0]).expect("an interrupt");
    assert_eq!(run.result(Call::InterruptBind, &[interrupt, bits, 1]), Ok(0));
    let only_reads = run.result(Call::HandleCopy, &[bits, Rights::READ.bits().into(), 0]).expect("a copy");
    close(&mut run, bits);
    assert_eq!(run.result(Call::NotificationWait, &[only_reads, 0]), Err(Error::TimedOut));
    close(&mut run, first);
    assert_eq!(run.result(Call::NotificationWait, &[only_reads, 0]), Err(Error::Gone));
}

/// A driver's first steps, with an allocation refused here or there. Says whether anything failed.
fn begin_to_drive(run: &mut Run) -> bool {
    let mut refused = false;
    let mut made = Vec::new();
    let Some(function) = allowed(run, Call::PciFunction, &[MACHINE, MESSAGES]) else { return true };
    for (call, args) in [
        (Call::PciBar, [function, 0]),
        (Call::PciInterrupt, [function, 0]),
        (Call::DmaCreate, [function, 4 * PAGE_SIZE]),
    ] {
        match allowed(run, call, &args) {
            Some(handle) => made.push(handle),
            None => refused = true,
        }
    }
    for handle in made.into_iter().chain([function]) {
        close(run, handle);
    }
    refused
}

/// The value, or `None` for `NoMemory`.
fn allowed(run: &mut Run, call: Call, args: &[u64]) -> Option<u64> {
    match run.result(call, args) {
        Ok(value) => Some(value),
        Err(Error::NoMemory) => None,
        Err(error) => panic!("{call:?}: {error:?}"),
    }
}

/// Whichever allocation is refused, all of it comes back, and the function can be held again.
#[test]
fn dev_3_every_allocation_may_fail() {
    let mut run = boot();
    assert!(!begin_to_drive(&mut run));
    let kernel = run.cpu().kernel;
    let used = kernel.root.used();
    let mut refusals = 0;
    for n in 1.. {
        kernel.memory.refusal.refuse(n);
        refusals += u32::from(begin_to_drive(&mut run));
        let came = kernel.memory.refusal.came();
        kernel.memory.refusal.refuse(0);
        assert_eq!(kernel.root.used(), used, "failing allocation {n} leaks");
        if !came {
            break;
        }
    }
    assert!(refusals >= 3, "only {refusals} allocations could fail");
    assert!(!begin_to_drive(&mut run));
}
