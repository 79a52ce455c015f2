//! What is fuzzed: for each reader, valid inputs, words of its format, and the promises that
//! anything it accepts must keep.

use crate::tree;
use boot_image::archive::Archive;
use boot_image::command_line::{Quoted, parse};
use boot_image::pack::{Contents, Machine, pack_as};
use boot_image::program::Program;

/// One reader.
pub struct Target {
    pub name: &'static str,
    pub about: &'static str,
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub words: &'static [&'static [u8]],
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "cpio",
        about: "the boot archive reader",
        seeds: archives,
        words: &[
            b"070701",
            b"070702",
            b"TRAILER!!!\0",
            b"./",
            b"000081ed",
            b"000041ed",
            b"00000000",
            b"ffffffff",
            b"\0\0\0\0",
        ],
        run: archive,
    },
    Target {
        name: "elf",
        about: "the program checker",
        seeds: programs,
        words: &[
            b"\x7fELF\x02\x01\x01",
            &[1, 0, 0, 0, 5, 0, 0, 0],
            &[1, 0, 0, 0, 6, 0, 0, 0],
            &[1, 0, 0, 0, 7, 0, 0, 0],
        ],
        run: program,
    },
    Target {
        name: "cmdline",
        about: "the kernel's command line",
        seeds: command_lines,
        words: &[
            b"init=",
            b"mem=",
            b"log=",
            b"quiet",
            b"normal",
            b"verbose",
            b"provoke=",
            b"panic",
            b" -- ",
            b"'",
            b"\"",
            b"\\",
            b"'\\''",
            b" ",
            "ä".as_bytes(),
        ],
        run: command_line,
    },
    Target {
        name: "tree",
        about: "the device-tree hand-over of ppc64le: our checks, then the fdt crate",
        seeds: tree::seeds,
        words: tree::WORDS,
        run: tree::run,
    },
];

fn archives() -> Vec<Vec<u8>> {
    let pack = |files: &[(&str, &[u8])]| pack_as(files, Contents::Raw).expect("the files are in order");
    vec![
        pack(&[]),
        pack(&[("init", b"first file"), ("bin/second", b"another"), ("empty", b"")]),
        pack(&[("a", &[0; 300]), ("b", &[b'0'; 130]), ("c", b"070701")]),
        pack(&[(&"x".repeat(64), b"long name"), ("ä", b"text")]),
    ]
}

fn archive(bytes: &[u8]) {
    match Archive::new(bytes) {
        Ok(archive) => {
            assert_eq!(archive.entries().count(), archive.len(), "all entries are there");
            for (index, entry) in archive.entries().enumerate() {
                assert!(!entry.name.is_empty() && entry.name.len() <= abi::MAX_NAME, "a usable name");
                assert!(!entry.name.contains('\0'), "a name that means the same wherever it is shown");
                assert_eq!(archive.name(index), Some(entry.name), "found by index");
                assert_eq!(archive.find(entry.name), Some(entry.file), "found by name, so names differ");
            }
            assert_eq!(archive.name(archive.len()), None);
        }
        Err(error) => assert!(error.offset <= bytes.len() && !error.to_string().is_empty(), "it says where"),
    }
}

/// A file with a header for each of three segments, for either machine.
fn programs() -> Vec<Vec<u8>> {
    let build = |machine: u16, flags: u32| {
        let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        out.extend([2u16, machine].iter().flat_map(|half| half.to_le_bytes()));
        out.extend(1u32.to_le_bytes());
        out.extend([0x41_1010u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
        out.extend(flags.to_le_bytes());
        out.extend([64u16, 56, 3, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
        for (flags, offset, at, file, mem) in [
            (4u32, 0u64, 0x41_0000u64, 0x200u64, 0x200u64),
            (5, 0x1000, 0x41_1000, 0x80, 0x80),
            (6, 0x1080, 0x41_2080, 0x10, 0x3000),
        ] {
            out.extend([1, flags].iter().flat_map(|word| word.to_le_bytes()));
            out.extend([offset, at, at, file, mem, 0x1000].iter().flat_map(|word| word.to_le_bytes()));
        }
        out.resize(0x10a0, 0x5a);
        out
    };
    vec![build(62, 0), build(21, 2)]
}

fn program(bytes: &[u8]) {
    for machine in [Machine::X86_64, Machine::Ppc64le] {
        let target = machine.target();
        match Program::parse(bytes, &target) {
            Ok(program) => {
                let mut end = target.user.start;
                let mut entered = false;
                for segment in program.segments() {
                    let pages = segment.pages();
                    assert!(end <= pages.start && pages.start < pages.end && pages.end <= target.user.end);
                    assert!(segment.file.len() as u64 <= segment.mem_len);
                    assert!(segment.at >= pages.start && segment.at + segment.mem_len <= pages.end);
                    let executable = segment.protection == arch_contract::pte::Protection::ReadExecute;
                    entered |= executable && (segment.at..pages.end).contains(&program.entry());
                    end = pages.end;
                }
                assert!(entered, "the entry point is code");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fn command_lines() -> Vec<Vec<u8>> {
    [
        "",
        "log=quiet mem=64 init=hello",
        "mem=256 -- exit 7",
        r"log=normal -- args 'two words' back\ slash '' 'it'\''s' last",
        "-- -- -- init=x",
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec()
}

fn command_line(bytes: &[u8]) {
    let line = String::from_utf8_lossy(bytes);
    match parse(&line) {
        Ok(options) => {
            assert!(options.mem != Some(0) && !options.init.is_empty());
            let mut block = vec![0; line.len()];
            let len = options.arg_block(&mut block).expect("a buffer as long as the line suffices");
            let text = std::str::from_utf8(&block[..len]).expect("arguments are text");
            let arguments: Vec<&str> = text.split_terminator('\0').collect();
            // Quoted again, they must come out the same.
            let again =
                arguments.iter().fold(String::from("--"), |line, arg| format!("{line} {}", Quoted(arg)));
            let mut block_again = vec![0; again.len()];
            // Quoting may make them longer than a command line can be.
            if let Ok(options) = parse(&again) {
                let len_again = options.arg_block(&mut block_again).expect("as above");
                assert_eq!(block[..len], block_again[..len_again], "quoting is lossless");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
