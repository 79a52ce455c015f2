//! The rules against something that is no kernel of ours: small images, written down here in machine
//! code, that break a rule or keep it.
//!
//! An oracle that only ever sees one kernel may have learned that kernel. These have no tables, no
//! symbols and no protocol: each sets its machine up, does one thing, and ends it. On x86_64 a program
//! asks for core serialization, and the "kernel" comes back by `sysretq` at once, or after `cpuid`. On
//! ppc64le the PID register is written, with and without what must follow.

use super::report::{Case, Results, Verdict};
use crate::arch::Arch;
use crate::error::{Context, Error, Result};
use crate::guest::{self, Input, Output};
use crate::oracle::{Guest, Oracle, Writes};
use crate::qemu::{self, Machine};
use crate::toolchain::{read, root};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use stream::{Image, UserReturn, check};

/// Such an image ends in no time.
const LIMIT: Duration = Duration::from_secs(60);

/// What an image does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Does {
    Wrong,
    Right,
}

const BOTH: [Does; 2] = [Does::Wrong, Does::Right];

fn name(arch: Arch, does: Does) -> String {
    match does {
        Does::Wrong => format!("{arch}/stream/a-foreign-image-that-breaks-a-rule"),
        Does::Right => format!("{arch}/stream/a-foreign-image-that-keeps-the-rules"),
    }
}

/// The names of those that are wanted.
pub fn names<'a>(arch: Arch, wanted: &'a dyn Fn(&str) -> bool) -> impl Iterator<Item = String> + 'a {
    BOTH.map(|does| name(arch, does)).into_iter().filter(move |name| wanted(name))
}

/// Runs those that are wanted on one machine, so many times.
pub fn run(
    arch: Arch,
    wanted: &dyn Fn(&str) -> bool,
    given: Option<&Path>,
    repeat: u32,
    stop: &AtomicBool,
    results: &mut Results,
) {
    let images = BOTH.into_iter().filter(|&does| wanted(&name(arch, does)));
    for does in images.flat_map(|does| (0..repeat).map(move |_| does)) {
        let begin = Instant::now();
        let verdict = one(arch, does, qemu::program(given, arch), stop);
        let verdict = verdict.unwrap_or_else(|error| Verdict::Failed(error.to_string()));
        results.add(Case { name: name(arch, does), verdict, took: begin.elapsed() }, None);
    }
}

fn one(arch: Arch, does: Does, qemu: PathBuf, stop: &AtomicBool) -> Result<Verdict> {
    let file = root().join(format!("target/foreign-{arch}-{does:?}"));
    let (bytes, image, clause) = match arch {
        Arch::X86_64 => (x86::file(does), x86::image(), "RET-2"),
        Arch::Ppc64le => (ppc::file(does), ppc::image(), "CTX-4"),
    };
    std::fs::write(&file, bytes).context(|| file.display().to_string())?;
    let oracle = Oracle::build(qemu.clone())?;
    let seen = file.with_extension("seen");
    let guest = Guest {
        arch,
        entry: if arch == Arch::X86_64 { x86::BASE } else { ppc::BASE },
        user: x86::USER..x86::USER + 0x1000,
    };
    let mut machine = Machine::new(arch, &file);
    machine.qemu = qemu;
    machine.extra = vec!["-plugin".into(), oracle.watching(&guest, &seen, Writes::Stream).into()];
    guest::run(&machine, Input::None, Output::Keep, Some(LIMIT), stop)?;
    let records = stream::read(&read(&seen)?).context(|| seen.display().to_string())?;
    if records.is_empty() {
        return Err(Error::new("the plugin recorded nothing"));
    }
    let broken: BTreeSet<_> = check(&image, &records).into_iter().map(|broken| broken.rule.clause).collect();
    let expected = if does == Does::Wrong { BTreeSet::from([clause]) } else { BTreeSet::new() };
    Ok(match broken == expected {
        true => Verdict::Passed,
        false => Verdict::Failed(format!("broken are {broken:?}, should be {expected:?}")),
    })
}

/// An ELF file of loadable segments (file contents, where they are loaded), and a note.
fn elf(machine: u16, segments: &[(&[u8], u64)], note: &[u8]) -> Vec<u8> {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    const LOAD: u32 = 1;
    const NOTE: u32 = 4;
    let all: Vec<_> =
        segments.iter().map(|&(bytes, at)| (LOAD, bytes, at)).chain([(NOTE, note, 0)]).collect();
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([2, machine].into_iter().flat_map(u16::to_le_bytes));
    file.extend(1u32.to_le_bytes());
    file.extend([segments[0].1, HEADER as u64, 0].into_iter().flat_map(u64::to_le_bytes));
    file.extend(0u32.to_le_bytes());
    let counts = [HEADER, PROGRAM_HEADER, all.len(), 0, 0, 0];
    file.extend(counts.into_iter().flat_map(|count| (count as u16).to_le_bytes()));
    let mut at_in_file = HEADER + PROGRAM_HEADER * all.len();
    for (kind, bytes, at) in &all {
        let size = bytes.len() as u64;
        file.extend([*kind, 7].into_iter().flat_map(u32::to_le_bytes));
        let fields = [at_in_file as u64, *at, *at, size, size, 4];
        file.extend(fields.into_iter().flat_map(u64::to_le_bytes));
        at_in_file += bytes.len();
    }
    all.iter().for_each(|(_, bytes, _)| file.extend(*bytes));
    file
}

mod x86 {
    use super::*;

    pub const BASE: u64 = 0x10_0000;
    pub const USER: u64 = 0x40_0000;
    /// Where the image is mapped beside its own address.
    const HIGH: u64 = 0xffff_ffff_8000_0000;
    const PAGE: usize = 0x1000;

    /// To 64-bit mode, to the high addresses, and to the program.
    const START: &[u8] = &[
        0xb8, 0x00, 0x10, 0x10, 0x00, // mov eax, 0x101000
        0x0f, 0x22, 0xd8, // mov cr3, eax
        0x0f, 0x20, 0xe0, // mov eax, cr4
        0x83, 0xc8, 0x20, // or eax, PAE
        0x0f, 0x22, 0xe0, // mov cr4, eax
        0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, EFER
        0x0f, 0x32, // rdmsr
        0x0d, 0x01, 0x01, 0x00, 0x00, // or eax, LME | SCE
        0x0f, 0x30, // wrmsr
        0x0f, 0x20, 0xc0, // mov eax, cr0
        0x0d, 0x00, 0x00, 0x00, 0x80, // or eax, PG
        0x0f, 0x22, 0xc0, // mov cr0, eax
        0x0f, 0x01, 0x15, 0x00, 0x40, 0x10, 0x00, // lgdt [0x104000]
        0xea, 0x38, 0x00, 0x10, 0x00, 0x08, 0x00, // jmp 8:0x100038
        // 0x38
        0x48, 0xc7, 0xc0, 0x41, 0x00, 0x10, 0x80, // mov rax, 0xffffffff80100041
        0xff, 0xe0, // jmp rax
        // 0x41
        0xb9, 0x81, 0x00, 0x00, 0xc0, // mov ecx, STAR
        0x31, 0xc0, // xor eax, eax
        0xba, 0x08, 0x00, 0x18, 0x00, // mov edx, 0x180008
        0x0f, 0x30, // wrmsr
        0xb9, 0x82, 0x00, 0x00, 0xc0, // mov ecx, LSTAR
        0xb8, 0x6e, 0x00, 0x10, 0x80, // mov eax, 0x8010006e
        0xba, 0xff, 0xff, 0xff, 0xff, // mov edx, -1
        0x0f, 0x30, // wrmsr
        0xb9, 0x00, 0x00, 0x40, 0x00, // mov ecx, 0x400000
        0x41, 0xbb, 0x02, 0x30, 0x00, 0x00, // mov r11d, IOPL 3
        0x48, 0x0f, 0x07, // sysretq
    ];
    const FIRST_RETURN: u64 = 0x6b;
    /// The system call, at 0x6e: it serializes in between.
    const RIGHT: &[u8] = &[
        0x49, 0x89, 0xc8, // mov r8, rcx
        0x0f, 0xa2, // cpuid
        0x4c, 0x89, 0xc1, // mov rcx, r8
        0x48, 0x0f, 0x07, // sysretq
    ];
    /// The same without serializing.
    const WRONG: &[u8] = &[
        0x49, 0x89, 0xc8, // mov r8, rcx
        0x66, 0x90, // nop
        0x4c, 0x89, 0xc1, // mov rcx, r8
        0x48, 0x0f, 0x07, // sysretq
    ];
    const SECOND_RETURN: u64 = 0x76;
    const PROGRAM: &[u8] = &[
        0x0f, 0x1f, 0x80, 0x3c, 0x00, 0x50, 0x53, // the mark: it asks for core serialization
        0x0f, 0x05, // syscall
        0x0f, 0x1f, 0x80, 0x3d, 0x00, 0x50, 0x53, // the mark: it was told
        0x66, 0xba, 0xf4, 0x00, // mov dx, 0xf4
        0xb0, 0x2a, // mov al, 42
        0xee, // out dx, al
        0xeb, 0xfe, // jmp to itself
    ];

    pub fn file(does: Does) -> Vec<u8> {
        let mut memory = vec![0; 5 * PAGE];
        let call = if does == Does::Right { RIGHT } else { WRONG };
        let code = [START, call].concat();
        memory[..code.len()].copy_from_slice(&code);
        let mut put = |page: usize, index: usize, entry: u64| {
            let at = page * PAGE + 8 * index;
            memory[at..at + 8].copy_from_slice(&entry.to_le_bytes());
        };
        // Present, writable, user; large. The first gigabyte, at its own address and at the top.
        put(1, 0, 0x10_2007);
        put(1, 511, 0x10_3007);
        put(2, 0, 0x87);
        put(3, 510, 0x87);
        // The descriptor table's limit and address, and behind it the table: 64-bit code, data.
        put(4, 0, 0x10_4010 << 16 | 0x17);
        put(4, 3, 0x00af_9a00_0000_ffff);
        put(4, 4, 0x00cf_9200_0000_ffff);
        // PVH: who (4 bytes), the 32-bit entry (4), its type (18).
        let mut note: Vec<u8> = [4u32, 4, 18].into_iter().flat_map(u32::to_le_bytes).collect();
        note.extend(b"Xen\0");
        note.extend((BASE as u32).to_le_bytes());
        elf(62, &[(&memory, BASE), (PROGRAM, USER)], &note)
    }

    pub fn image() -> Image {
        let returns = [FIRST_RETURN, SECOND_RETURN].map(|at| (HIGH + BASE + at, UserReturn::ToAnyThread));
        Image {
            arch: stream::Arch::X86_64,
            returns: BTreeMap::from(returns),
            barriers: BTreeSet::new(),
            enables_interrupts: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        }
    }
}

/// Big-endian and untranslated, as the firmware starts it; the top bits of addresses do not count.
mod ppc {
    use super::*;

    pub const BASE: u64 = 0x40_0000;

    /// To 64-bit mode, and to the kernel's addresses.
    const START: [u32; 14] = [
        0x7c60_00a6, // mfmsr 3
        0x3880_0001, // li 4, 1
        0x7884_f806, // sldi 4, 4, 63
        0x7c63_2378, // or 3, 3, 4
        0x7c60_0164, // mtmsrd 3
        0x4c00_012c, // isync
        0x3ca0_c000, // lis 5, 0xc000
        0x78a5_07c6, // sldi 5, 5, 32
        0x64a5_0040, // oris 5, 5, 0x40
        0x60a5_0030, // ori 5, 5, 0x30
        0x7ca9_03a6, // mtctr 5
        0x4e80_0420, // bctr
        // 0x30
        0x38c0_0000, // li 6, 0
        0x7c40_04ac, // ptesync
    ];
    const RIGHT: [u32; 3] = [
        0x7cd0_0ba6, // mtspr 48, 6
        0x4c00_012c, // isync
        0x7c40_04ac, // ptesync
    ];
    const WRONG: [u32; 3] = [
        0x7cd0_0ba6, // mtspr 48, 6
        0x6000_0000, // nop
        0x7c40_04ac, // ptesync
    ];
    /// "42q" to the terminal that ends the machine.
    const END: [u32; 8] = [
        0x3860_0058, // li 3, H_PUT_TERM_CHAR
        0x3c80_3000, // lis 4, 0x3000
        0x38a0_0003, // li 5, 3
        0x3cc0_3432, // lis 6, "42"
        0x60c6_7100, // ori 6, 6, "q"
        0x78c6_07c6, // sldi 6, 6, 32
        0x4400_0022, // sc 1
        0x4800_0000, // b to itself
    ];

    pub fn file(does: Does) -> Vec<u8> {
        let middle = if does == Does::Right { RIGHT } else { WRONG };
        let words = START.into_iter().chain(middle).chain(END);
        let code: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
        elf(21, &[(&code, 0)], &[])
    }

    pub fn image() -> Image {
        Image {
            arch: stream::Arch::Ppc64le,
            returns: BTreeMap::new(),
            barriers: BTreeSet::new(),
            enables_interrupts: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        }
    }
}
