//! Restartable sequences: which program counters are moved, and that the area outlives its page.

use super::Run;
use super::many::{boot, start};
use abi::membarrier::{Command, FLAG_CPU};
use abi::rseq::Area;
use abi::{Call, Error, ProcessInfo, initial};
use arch_model::profile::Profile;
use std::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

const PROCESS: u64 = initial::PROCESS.0 as u64;
/// A system call in the model moves the program counter by so much.
const CALL_BYTES: u64 = 4;

/// init with a registered area at the start of a page of its own, and a child to switch to.
fn registered() -> (Run, u64) {
    let mut run = Run::boot(Profile::Minimal);
    let scratch = run.page();
    run.spawn(scratch, u64::MAX).expect("a child");
    let page = run.page();
    assert_eq!(run.result(Call::RseqRegister, &[page]), Ok(0));
    (run, page)
}

fn area(run: &Run, at: u64) -> Area {
    let mut area = Area::default();
    run.peek(at, area.as_mut_bytes());
    area
}

/// The current thread is in the middle of the sequence that `area` names, at `pc`, when the CPU goes
/// to another and comes back. Where it goes on.
fn preempted_at(run: &mut Run, page: u64, area: Area, pc: u64) -> u64 {
    run.poke(page, area.as_bytes());
    let thread = run.user();
    // SAFETY: nothing runs; these are the registers of the current thread.
    unsafe { run.frame().as_mut() }.pc = pc.wrapping_sub(CALL_BYTES);
    run.yield_to_other();
    while run.user() != thread {
        run.call(Call::Yield, &[]);
    }
    run.registers().pc
}

/// Who registers an area finds the CPU in it that it runs on, when the call returns.
#[test]
fn an_area_names_the_cpu_from_the_start() {
    let (mut run, _) = boot(2);
    start(&mut run);
    run.on(1).take_interrupts();
    let page = run.page();
    assert_eq!(run.result(Call::RseqRegister, &[page]), Ok(0));
    assert_eq!(area(&run, page).cpu, 1);
}

#[test]
fn only_what_stands_in_the_sequence_is_restarted() {
    let (mut run, page) = registered();
    const ABORT: u64 = 0x7_0000;
    // Start, length, program counter, whether it starts over.
    let cases = [
        (0x6_0000, 8, 0x5_fffc, false),
        (0x6_0000, 8, 0x6_0000, true),
        (0x6_0000, 8, 0x6_0004, true),
        (0x6_0000, 8, 0x6_0007, true),
        (0x6_0000, 8, 0x6_0008, false),
        (0x6_0000, 0, 0x6_0000, false),
        (0, 0x10_0000, 0x6_0000, false),
        (0x6_0000, u64::MAX, 0x6_0000, true),
        (0x6_0000, u64::MAX, 0x5_fffc, true),
        (0x6_0000, u64::MAX, 0x5_ffff, false),
        // A range that goes around the end of the addresses.
        (u64::MAX - 3, 8, 0x6_0000, false),
        (0x8000_0000_0000_0000, 0x8000_0000_0006_0000, 0x5_fffc, true),
    ];
    let mut restarts = 0;
    for (start, length, pc, starts_over) in cases {
        let given = Area { cpu: 7, restarts, start, length, abort: ABORT };
        let goes_on = preempted_at(&mut run, page, given, pc);
        let left = area(&run, page);
        restarts += u32::from(starts_over);
        let wanted = if starts_over { (ABORT, 0) } else { (pc, start) };
        assert_eq!((goes_on, left.start), wanted, "{start:#x} + {length:#x}, at {pc:#x}");
        assert_eq!((left.cpu, left.restarts), (0, restarts));
        assert_eq!((left.length, left.abort), (length, ABORT));
    }
}

/// `TRAP-6`: where a restart goes on is the user's business, whatever it is.
#[test]
fn trap_6_a_restart_goes_anywhere() {
    let (mut run, page) = registered();
    for abort in [0, 1, 0x6_0000, 1 << 47, 0x8000_0000_0000_0000, u64::MAX] {
        let given = Area { start: 0x6_0000, length: 8, abort, ..Area::default() };
        assert_eq!(preempted_at(&mut run, page, given, 0x6_0004), abort);
    }
}

/// A call that is made again is made again from where the sequence starts over.
#[test]
fn a_call_in_a_sequence_that_waits_starts_over() {
    let (mut run, page) = registered();
    let given = Area { start: 0x6_0000, length: 16, abort: 0x7_0000, ..Area::default() };
    run.poke(page, given.as_bytes());
    let thread = run.user();
    // SAFETY: nothing runs; these are the registers of the current thread.
    unsafe { run.frame().as_mut() }.pc = 0x6_0004;
    run.call(Call::SleepUntil, &[initial::TIMER.0.into(), 1000]);
    assert_ne!(run.user(), thread);
    run.machine.advance(1000);
    while run.user() != thread {
        run.interrupt(arch_contract::irq::Interrupt::Timer);
        run.call(Call::Yield, &[]);
    }
    assert_eq!(run.registers().pc, 0x7_0000);
}

/// `BAR-2`: the command restarts the caller's own sequence too, if its CPU is named; nothing else
/// does, short of leaving the CPU.
#[test]
fn bar_2_a_membarrier_restarts_what_is_current() {
    let (mut run, page) = registered();
    let register = Command::RegisterPrivateExpeditedRseq as u64;
    assert_eq!(run.result(Call::Membarrier, &[register]), Ok(0));
    let given = Area { start: 0x6_0000, length: 16, abort: 0x7_0000, ..Area::default() };
    let command = Command::PrivateExpeditedRseq as u64;
    for (arguments, starts_over) in
        [([command, FLAG_CPU, 0], true), ([command, FLAG_CPU, 1], false), ([0, 0, 0], false)]
    {
        run.poke(page, given.as_bytes());
        // SAFETY: nothing runs; these are the registers of the current thread.
        unsafe { run.frame().as_mut() }.pc = 0x6_0004;
        assert!(run.result(Call::Membarrier, &arguments).is_ok());
        let wanted = if starts_over { 0x7_0000 } else { 0x6_0008 };
        assert_eq!(run.registers().pc, wanted, "{arguments:?}");
    }
}

#[test]
fn registration_says_what_is_wrong() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    assert_eq!(run.result(Call::RseqRegister, &[0]), Ok(0), "there is none, and none is left");
    for misaligned in [page + 1, page + 16, u64::MAX] {
        assert_eq!(run.result(Call::RseqRegister, &[misaligned]), Err(Error::BadArgument));
    }
    let read_only = [PROCESS, 0, 4096, abi::Protection::Read as u64];
    let read_only = run.result(Call::MemoryMap, &read_only).expect("one page");
    for bad in [page + 4096, read_only, 32, 1 << 63, 0u64.wrapping_sub(32)] {
        assert_eq!(run.result(Call::RseqRegister, &[bad]), Err(Error::BadAddress), "{bad:#x}");
    }
    let last = page + 4096 - 32;
    assert_eq!(run.result(Call::RseqRegister, &[last]), Ok(0));
    assert_eq!(run.result(Call::RseqRegister, &[page]), Err(Error::BadArgument), "one is there");
    assert_eq!(run.result(Call::RseqRegister, &[0]), Ok(0));
    assert_eq!(run.result(Call::RseqRegister, &[page]), Ok(0));
}

/// Bytes charged to init.
fn charged(run: &mut Run, scratch: u64) -> u64 {
    let mut info = ProcessInfo::new_zeroed();
    assert_eq!(run.result(Call::ProcessInfo, &[PROCESS, scratch]), Ok(0));
    run.peek(scratch, info.as_mut_bytes());
    info.memory
}

/// The kernel goes on writing to a frame that is unmapped, and nobody else gets it: not until the
/// registration ends. Then all of it is back.
#[test]
fn the_area_outlives_its_page() {
    let mut run = Run::boot(Profile::Minimal);
    let scratch = run.page();
    run.spawn(scratch, u64::MAX).expect("a child");
    let page = run.page();
    // A page and its region.
    let (before, other) = (charged(&mut run, scratch), run.page());
    let one = charged(&mut run, scratch) - before;
    assert_eq!(run.result(Call::MemoryUnmap, &[PROCESS, other, 4096]), Ok(0));
    assert_eq!(charged(&mut run, scratch), before);
    let memory = run.cpu().kernel.memory;
    let free = memory.free_bytes();

    assert_eq!(run.result(Call::RseqRegister, &[page]), Ok(0));
    assert_eq!(run.result(Call::MemoryUnmap, &[PROCESS, page, 4096]), Ok(0));
    let pin = charged(&mut run, scratch) + one - 4096 - before;
    assert!(pin < 100, "the page is still charged, and {pin} bytes for the pin");
    assert_eq!(memory.free_bytes(), free, "still taken");
    let others: Vec<u64> = (0..20).map(|_| run.page()).collect();
    let thread = run.user();
    run.yield_to_other();
    while run.user() != thread {
        run.call(Call::Yield, &[]);
    }
    for &other in &others {
        assert_eq!(area(&run, other).as_bytes(), Area::default().as_bytes());
        assert_eq!(run.result(Call::MemoryUnmap, &[PROCESS, other, 4096]), Ok(0));
    }
    assert_eq!(run.result(Call::RseqRegister, &[0]), Ok(0));
    assert_eq!(charged(&mut run, scratch), before - one);
    assert_eq!(memory.free_bytes(), free + 4096);
}

/// A process that ends with a registration, its page mapped or not, leaves nothing behind.
#[test]
fn an_end_with_a_registration_gives_everything_back() {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let scratch = run.page();
    let mut left = None;
    for unmap in [false, true, false, true] {
        let child = run.spawn(scratch, u64::MAX).expect("a child");
        run.yield_to_other();
        let page = run.page();
        assert_eq!(run.result(Call::RseqRegister, &[page]), Ok(0));
        if unmap {
            assert_eq!(run.result(Call::MemoryUnmap, &[PROCESS, page, 4096]), Ok(0));
        }
        run.call(Call::Exit, &[0]);
        while run.user() != init {
            run.call(Call::Yield, &[]);
        }
        assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
        run.machine.advance(1_000_000_000);
        for _ in 0..100 {
            run.interrupt(arch_contract::irq::Interrupt::Timer);
        }
        let free = run.cpu().kernel.memory.free_bytes();
        assert_eq!(*left.get_or_insert(free), free, "unmapped: {unmap}");
    }
}

/// `CODE-2`: what is published must be there, and not too much at once.
#[test]
fn code_2_publishing_checks_its_range() {
    let mut run = Run::boot(Profile::Minimal);
    let map = [PROCESS, 0, 2 * 4096, abi::Protection::ReadExecute as u64];
    let code = run.result(Call::MemoryMap, &map).expect("two pages");
    run.hooks();
    for (at, length, wanted) in [
        (code, 8192, Ok(0)),
        (code + 4090, 12, Ok(0)),
        (code, 0, Ok(0)),
        (code + 4096, 4097, Err(Error::BadAddress)),
        (0, 1, Err(Error::BadAddress)),
        (u64::MAX, 2, Err(Error::BadAddress)),
        (1 << 63, 8, Err(Error::BadAddress)),
        (code, abi::MAX_PUBLISH + 1, Err(Error::BadArgument)),
    ] {
        assert_eq!(run.result(Call::CodePublish, &[at, length]), wanted, "{at:#x} + {length}");
    }
}
