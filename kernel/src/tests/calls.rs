//! What calls refuse, and that a refusal changes nothing.

use super::{Run, ends};
use abi::{Call, Error, ProcessInfo, initial};
use arch_contract::machine::Verdict;
use arch_model::profile::Profile;
use arch_model::{Config, Machine};
use zerocopy::{FromZeros, IntoBytes};

const PROCESS: u64 = initial::PROCESS.0 as u64;
const CONSOLE: u64 = initial::CONSOLE.0 as u64;
const ARCHIVE: u64 = initial::ARCHIVE.0 as u64;
const READ_WRITE: u64 = abi::Protection::ReadWrite as u64;

/// Handles: nothing, another kind, a missing right, out of every range.
#[test]
fn handles_are_checked() {
    let mut run = Run::boot(Profile::Minimal);
    for handle in [0, 6, 255, 256, u32::MAX as u64, u64::MAX] {
        assert_eq!(run.result(Call::ClockRead, &[handle]), Err(Error::BadHandle), "{handle}");
    }
    assert_eq!(run.result(Call::ClockRead, &[PROCESS]), Err(Error::WrongObject));
    assert_eq!(run.result(Call::ConsoleWrite, &[PROCESS, 0, 0]), Err(Error::NoRight));
    let weak = run.result(Call::HandleCopy, &[CONSOLE, abi::Rights::READ.bits() as u64]).expect("a copy");
    assert_eq!(run.result(Call::ConsoleWrite, &[weak, 0, 0]), Err(Error::NoRight));
    let again = run.result(Call::HandleCopy, &[weak, u32::MAX as u64]);
    assert_eq!(again, Err(Error::BadArgument), "rights that do not exist");
    let again = run.result(Call::HandleCopy, &[weak, abi::Rights::all().bits() as u64]).expect("a copy");
    assert_eq!(run.result(Call::ConsoleWrite, &[again, 0, 0]), Err(Error::NoRight), "a copy adds no right");
    assert_eq!(run.result(Call::HandleClose, &[weak]), Ok(0));
    assert_eq!(run.result(Call::HandleClose, &[weak]), Err(Error::BadHandle));
}

/// The table fills up to its last slot, and not beyond.
#[test]
fn a_full_table_says_so() {
    let mut run = Run::boot_with(Config { ram: 16 << 20, ..Config::default() }, "log=quiet");
    let mut copies = 0;
    let error = loop {
        match run.result(Call::HandleCopy, &[CONSOLE, 1]) {
            Ok(_) => copies += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error, copies), (Error::TableFull, abi::TABLE_SLOTS / 64 * 63 - 5));
}

/// Numbers without a call.
#[test]
fn bad_call_numbers() {
    let mut run = Run::boot(Profile::Minimal);
    let last = Call::ALL.iter().map(|&call| call as u64).max().expect("there are calls");
    for number in [last + 1, 1 << 32, u64::MAX] {
        run.raw_call(number, &[]);
        assert_eq!(run.returned(), Err(Error::BadCall), "{number}");
    }
}

/// Mapping: bad shapes are refused, large requests are done by a kernel task, and what is unmapped
/// can be had again.
#[test]
fn memory_comes_and_goes() {
    let mut run = Run::boot(Profile::X86Fred);
    for (at, length, protection) in [(0, 0, 2), (0, 4095, 2), (1, 4096, 2), (0, 4096, 0), (0, 4096, 6)] {
        let refused = run.result(Call::MemoryMap, &[PROCESS, at, length, protection]);
        assert_eq!(refused, Err(Error::BadArgument), "{at:#x} {length:#x} {protection}");
    }
    for (at, length) in [(4096, 4096), (0x7fff_ffff_f000, 4096), (u64::MAX - 4095, 4096), (1 << 40, !4095)] {
        let refused = run.result(Call::MemoryMap, &[PROCESS, at, length, READ_WRITE]);
        assert_eq!(refused, Err(Error::BadAddress), "{at:#x} {length:#x}");
    }
    let info = run.page();
    let used = |run: &mut Run| {
        let mut it = ProcessInfo::new_zeroed();
        run.result(Call::ProcessInfo, &[PROCESS, info]).expect("its own");
        run.peek(info, it.as_mut_bytes());
        it.memory
    };
    // The first round makes tables and the list of regions grow.
    let large = 100 * 4096;
    let mut before = 0;
    for round in 0..3 {
        let at = run.result(Call::MemoryMap, &[PROCESS, 0, large, READ_WRITE]).expect("some memory");
        run.poke(at + large - 8, b"the last");
        let overlap = run.result(Call::MemoryMap, &[PROCESS, at + 4096, 4096, READ_WRITE]);
        assert_eq!(overlap, Err(Error::BadAddress));
        assert_eq!(run.result(Call::MemoryUnmap, &[PROCESS, at, large]), Ok(0));
        assert_eq!(run.result(Call::ConsoleWrite, &[CONSOLE, at, 1]), Err(Error::BadAddress));
        if round > 0 {
            assert_eq!(used(&mut run), before, "round {round} leaks");
        }
        before = used(&mut run);
    }
    // More than there is: refused as a whole.
    let refused = run.result(Call::MemoryMap, &[PROCESS, 0, 1 << 30, READ_WRITE]);
    assert_eq!(refused, Err(Error::NoMemory));
    assert_eq!(used(&mut run), before);
}

/// Programs: names that are not there, arguments that are not arguments.
#[test]
fn spawn_checks_what_it_is_told() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    let good = run.spawn(page, u64::MAX).expect("a child");
    assert_eq!(run.result(Call::ProcessKill, &[good]), Ok(0));
    let mut expect = |at: u64, value: u64, error: Error| {
        let mut old = [0; 8];
        run.peek(page + at, &mut old);
        run.poke(page + at, &value.to_le_bytes());
        run.call(Call::Spawn, &[ARCHIVE, page]);
        assert_eq!(run.returned(), Err(error), "field at {at} = {value:#x}");
        run.poke(page + at, &old);
    };
    expect(0, 8, Error::BadAddress);
    expect(8, 4, Error::NotFound);
    expect(8, abi::MAX_NAME as u64 + 1, Error::BadArgument);
    expect(8, u64::MAX, Error::BadArgument);
    expect(16, 8, Error::BadAddress);
    expect(24, 0, Error::BadArgument);
    expect(24, 5, Error::BadArgument);
    expect(24, abi::MAX_ARGS as u64 + 1, Error::BadArgument);
    expect(32, 8, Error::BadAddress);
    expect(40, abi::MAX_GRANTS as u64 + 1, Error::BadArgument);
    expect(48, 1000, Error::NoMemory);
    expect(56, abi::DEFAULT_PRIORITY + 1, Error::BadArgument);
}

/// `BOOT-5`: what cannot be booted is refused with a message that says why, and the run fails.
#[test]
fn boot_5_bad_input_is_refused() {
    fn refused(command_line: &'static str, archive: Option<&'static [u8]>, ram: u64, says: &str) {
        let (machine, cpus) = Machine::new(Config { ram, ..Config::default() });
        let cpu = std::panic::AssertUnwindSafe(cpus[0]);
        let verdict = ends(move || {
            use arch_contract::upcalls::Upcalls;
            let info = machine.boot_info(command_line, archive);
            let _ = crate::Upcall::boot(info, machine, *{ cpu });
        });
        let said = machine.output();
        assert_eq!(verdict, Verdict::Failed);
        assert!(said.contains(says) && said.contains("@spandrel failed"), "{said}");
    }
    refused("", None, 4 << 20, "no boot archive");
    refused("frobnicate=1", None, 4 << 20, "frobnicate");
    refused("", Some(b"not an archive"), 4 << 20, "initrd: not a cpio archive");
    let files = [("init", super::program())];
    let files: std::vec::Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (*n, b.as_slice())).collect();
    let archive = boot_image::pack::pack_as(&files, boot_image::pack::Contents::Raw).expect("small");
    let archive: &'static [u8] = archive.leak();
    refused("init=missing", Some(archive), 4 << 20, "no program `missing`");
    refused("", Some(archive), 96 << 10, "too little memory");
    refused("mem=1 init=init", Some(&archive[..600]), 4 << 20, "truncated");
}

/// A file of the archive is read in pieces, up to its end and no further.
#[test]
fn usr_2_a_file_of_the_archive_is_read_in_pieces() {
    let mut run = Run::boot(Profile::Minimal);
    let (file, page) = (super::program(), run.page());
    let mut read = std::vec::Vec::new();
    loop {
        let args = [ARCHIVE, 1, read.len() as u64, page, u64::MAX];
        let bytes = run.result(Call::ArchiveRead, &args).expect("a piece") as usize;
        if bytes == 0 {
            break;
        }
        let mut piece = [0; abi::ARCHIVE_CHUNK];
        run.peek(page, &mut piece[..bytes]);
        read.extend_from_slice(&piece[..bytes]);
    }
    assert!(read == file, "{} bytes of {}", read.len(), file.len());
    assert_eq!(run.result(Call::ArchiveRead, &[ARCHIVE, 1, 0, page, 3]), Ok(3));
    assert_eq!(run.result(Call::ArchiveRead, &[ARCHIVE, 1, u64::MAX, page, 3]), Ok(0));
    assert_eq!(run.result(Call::ArchiveRead, &[ARCHIVE, 2, 0, page, 3]), Err(Error::NotFound));
    assert_eq!(run.result(Call::ArchiveRead, &[PROCESS, 0, 0, page, 3]), Err(Error::WrongObject));
    assert_eq!(run.result(Call::ArchiveRead, &[ARCHIVE, 0, 0, 8, 3]), Err(Error::BadAddress));
}

/// `BOOT-1`: every CPU of the list is started, and is there once it has had its turn.
#[test]
fn boot_1_every_cpu_of_the_list_is_started() {
    const CPUS: u32 = 5;
    let mut run = Run::boot_many(Profile::Minimal, CPUS);
    for number in 1..CPUS as usize {
        run.on(number).come_up();
    }
    assert_eq!(run.on(0).result(Call::Cpus, &[initial::MACHINE.0.into()]), Ok((1 << CPUS) - 1));
}

/// `TRAP-4`: a fault of the kernel says what it was and ends the run as failed.
#[test]
fn trap_4_a_kernel_fault_says_why_and_ends_the_run() {
    use arch_contract::upcalls::Upcalls;
    let run = Run::boot(Profile::Minimal);
    let cpu = std::panic::AssertUnwindSafe(run.arch);
    let verdict = ends(move || {
        crate::Upcall::kernel_fault(Some(*{ cpu }), &|out| out.write_str("the cause, and registers\n"))
    });
    let said = run.machine.output();
    assert_eq!(verdict, Verdict::Failed);
    for words in ["fault in the kernel", "the cause, and registers", "backtrace", "@spandrel failed"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
