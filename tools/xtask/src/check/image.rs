//! The gates that read what was linked.

use super::ledger::{self, Ledger};
use super::returns::{self, Table};
use super::{Finding, barriers, calls, vector};
use crate::arch::Arch;
use crate::budgets::Budgets;
use crate::build::Built;
use crate::error::{Context, Result};
use crate::symbols::{Names, short};
use crate::toolchain::{read, root};
use addr2line::Loader;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SectionFlags, elf};
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// Symbols that are only linked if something allocates without being able to fail.
const INFALLIBLE: &[&str] =
    &["handle_alloc_error", "__rust_alloc_error_handler", "__rdl_oom", "raw_vec12handle_error"];
/// How many of many complaints are shown.
const SHOWN: usize = 20;

/// Looks at one thing; gives its complaints.
type Look = fn(&Built) -> Result<Vec<String>>;

/// What clauses say of an image, each under the name of a test.
pub const CLAUSES: &[(&str, Look)] = &[
    ("pte_3_no_segment_is_writable_and_executable", |built| {
        let mut complaints = write_and_execute(&name(&built.kernel), &read(&built.kernel)?)?;
        for program in &built.programs {
            complaints
                .extend(write_and_execute(&format!("program {}", program.name), &read(&program.file)?)?);
        }
        Ok(complaints)
    }),
    ("fpu_3_no_vector_instruction_outside_save_and_restore", |built| {
        let loader = Loader::new(&built.kernel).context(|| name(&built.kernel))?;
        let bytes = read(&built.kernel)?;
        vector_instructions(built.arch, &name(&built.kernel), &bytes, &|at| Place::of(&loader, at))
    }),
    ("ret_1_the_return_instructions_are_those_of_the_table", |built| {
        let loader = Loader::new(&built.kernel).context(|| name(&built.kernel))?;
        let (bytes, table) = (read(&built.kernel)?, Table::read(built.arch)?);
        returns::compare(built.arch, &name(&built.kernel), &bytes, &table, &|at| Place::of(&loader, at))
    }),
    ("ret_4_tlb_2_code_1_the_instructions_are_those_of_the_ledger", |built| {
        let (bytes, ledger, names) =
            (read(&built.kernel)?, Ledger::read(built.arch)?, Names::read(&built.kernel)?);
        let found = ledger::find(built.arch, &ledger, &bytes, &|at| names.frames(at))?;
        Ok(ledger::compare(built.arch, &name(&built.kernel), &ledger, &found, &names))
    }),
    ("bar_3_bar_4_bar_5_bar_6_the_full_barriers_are_those_of_their_table", |built| {
        let (bytes, ledger, names) =
            (read(&built.kernel)?, Ledger::read(built.arch)?, Names::read(&built.kernel)?);
        let found = ledger::find(built.arch, &ledger, &bytes, &|at| names.frames(at))?;
        let (table, barriers) = (barriers::Table::read()?, ledger.barriers(&found));
        Ok(barriers::compare(&name(&built.kernel), &table, &barriers, &|at| names.frames(at)))
    }),
];

/// Everything that must hold of a kernel image and of the programs beside it.
pub fn check(built: &Built) -> Result<Finding> {
    let bytes = read(&built.kernel)?;
    let name = name(&built.kernel);
    let loader = Loader::new(&built.kernel).context(|| name.clone())?;
    let places = |at| Place::of(&loader, at);
    let mut complaints = Vec::new();
    for (_, look) in CLAUSES {
        complaints.extend(look(built)?);
    }
    complaints.extend(infallible_allocation(built.arch, &name, &bytes, &places)?);
    complaints.extend(too_large(built.arch, &name, loaded_bytes(&bytes)?, &Budgets::read()?));
    Ok(complaints.into())
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

pub fn parse(bytes: &[u8]) -> Result<ElfFile64<'_, Endianness>> {
    ElfFile64::parse(bytes).context(|| "the image is no ELF file".into())
}

/// How many bytes of an image are loaded from the file: what it takes up, without zeroes.
pub fn loaded_bytes(bytes: &[u8]) -> Result<u64> {
    let file = parse(bytes)?;
    let endian = file.endian();
    let loads = file.elf_program_headers().iter().filter(|header| header.p_type(endian) == elf::PT_LOAD);
    Ok(loads.map(|header| header.p_filesz(endian)).sum())
}

fn too_large(arch: Arch, name: &str, bytes: u64, budgets: &Budgets) -> Option<String> {
    let limit = budgets.limit(arch, "image")?;
    (bytes > limit).then(|| format!("{name}: {bytes} bytes are loaded, limit {limit} (ci/budgets.toml)"))
}

/// No segment is writable and executable.
fn write_and_execute(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let file = parse(bytes)?;
    let endian = file.endian();
    let both = |flags: elf::ProgramFlags| flags.contains(elf::PF_W) && flags.contains(elf::PF_X);
    Ok(file
        .elf_program_headers()
        .iter()
        .filter(|header| header.p_type(endian) == elf::PT_LOAD && both(header.p_flags(endian)))
        .map(|header| {
            let start = header.p_vaddr(endian);
            format!(
                "{name}: segment {start:#x}..{:#x} is writable and executable",
                start + header.p_memsz(endian)
            )
        })
        .collect())
}

/// Nothing in the image ends the machine for want of memory: the functions that would are not
/// linked. Who calls them is what a person needs to know, so the callers are named.
fn infallible_allocation(
    arch: Arch,
    name: &str,
    bytes: &[u8],
    places: &dyn Fn(u64) -> Place,
) -> Result<Vec<String>> {
    let file = parse(bytes)?;
    let mut complaints = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.is_definition()) {
        let Ok(mangled) = symbol.name() else { continue };
        if !INFALLIBLE.iter().any(|word| mangled.contains(word)) {
            continue;
        }
        let what = addr2line::demangle_auto(mangled.into(), None);
        let mut callers = Vec::new();
        for (code, base) in code_sections(&file, name)? {
            callers.extend(calls::to(arch, code, base, symbol.address()).into_iter().map(places));
        }
        if callers.is_empty() {
            complaints.push(format!("{name}: holds {what}: something allocates without being able to fail"));
        }
        // They also call one another.
        let is_one = |caller: &Place| {
            caller.symbol.as_ref().is_some_and(|symbol| INFALLIBLE.iter().any(|word| symbol.contains(word)))
        };
        callers.retain(|caller| !is_one(caller));
        complaints.extend(callers.into_iter().map(|caller| format!("{name}: call of {what} in {caller}")));
    }
    Ok(complaints)
}

/// The executable sections: their bytes, and where they are linked.
pub fn code_sections<'a>(file: &ElfFile64<'a, Endianness>, name: &str) -> Result<Vec<(&'a [u8], u64)>> {
    let mut sections = Vec::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        if sh_flags.contains(elf::SHF_EXECINSTR) {
            sections.push((section.data().context(|| name.into())?, section.address()));
        }
    }
    Ok(sections)
}

/// Vector and floating-point instructions come from the save and restore file and from nowhere
/// else (`FPU-3`). Inlining moves them; the line table still knows where they were written.
pub fn vector_instructions(
    arch: Arch,
    name: &str,
    bytes: &[u8],
    places: &dyn Fn(u64) -> Place,
) -> Result<Vec<String>> {
    let file = parse(bytes)?;
    let mut complaints = Vec::new();
    let mut seen = false;
    let apart = apart(&file);
    for (code, base) in code_sections(&file, name)? {
        for (at, what) in vector::instructions(arch, code, base) {
            seen = true;
            let place = places(at);
            if !apart.contains(&at) && !place.saves_or_restores(arch) {
                complaints.push(format!("{name}: {at:#x}: {what} in {place}"));
            }
        }
    }
    if !seen {
        complaints.push(format!("{name}: not even what saves and restores was found: is this check blind?"));
    }
    if complaints.len() > SHOWN {
        let more = complaints.len() - SHOWN;
        complaints.truncate(SHOWN);
        complaints.push(format!("{name}: and {more} more"));
    }
    Ok(complaints)
}

/// Where a linker script puts a section of assembly that saves and restores, which has no line
/// table: between two symbols.
fn apart(file: &ElfFile64<'_, Endianness>) -> Range<u64> {
    let address = |wanted: &str| {
        file.symbols().find(|symbol| symbol.name() == Ok(wanted)).map(|symbol| symbol.address())
    };
    match (address("__vector_text_start"), address("__vector_text_end")) {
        (Some(start), Some(end)) => start..end,
        _ => 0..0,
    }
}

/// Where an instruction was written, as far as the image tells.
#[derive(Default)]
pub struct Place {
    /// Where it stands, and where what that was inlined into stands, innermost first: `file:line`.
    lines: Vec<String>,
    /// The symbol it lies behind; assembly has one and may have no line.
    symbol: Option<String>,
}

impl Place {
    pub fn of(loader: &Loader, at: u64) -> Self {
        let mut lines = Vec::new();
        if let Ok(mut frames) = loader.find_frames(at) {
            while let Ok(Some(frame)) = frames.next() {
                if let Some((file, line)) = frame.location.and_then(|place| Some((place.file?, place.line?)))
                {
                    lines.push(format!("{}:{line}", short(file)));
                }
            }
        }
        let symbol =
            loader.find_symbol(at).map(|name| addr2line::demangle_auto(name.into(), None).into_owned());
        Self { lines, symbol }
    }

    /// Whether it was written in `what`: a function's path or a file's.
    pub fn is_in(&self, what: &str) -> bool {
        let in_file = self.lines.first().is_some_and(|line| line.starts_with(&format!("{what}:")));
        let in_function = self.symbol.as_deref().is_some_and(|symbol| {
            symbol == what
                || symbol.ends_with(&format!("::{what}"))
                || symbol.starts_with(&format!("{what}::<"))
        });
        in_file || in_function
    }

    fn saves_or_restores(&self, arch: Arch) -> bool {
        let file = format!("arch/{arch}/src/vector.rs:");
        let module = format!("arch_{arch}::vector::");
        self.lines.first().is_some_and(|line| line.starts_with(&file))
            || self.symbol.as_deref().is_some_and(|symbol| symbol.contains(&module))
    }
}

#[cfg(test)]
impl Place {
    pub(super) fn at_symbol(symbol: &str) -> Self {
        Self { lines: Vec::new(), symbol: Some(symbol.into()) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol.as_deref().unwrap_or("?"))?;
        // The first line that is ours says more than a library's.
        let ours = self.lines.iter().find(|line| line.starts_with("kernel/") || line.starts_with("arch/"));
        match ours.or(self.lines.first()) {
            Some(line) => write!(f, " ({line})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An ELF file of one segment with these flags and this size in the file.
    fn elf(flags: u32, file_size: u64) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(2u16.to_le_bytes());
        bytes.extend(62u16.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend([0u64, 64, 0].into_iter().flat_map(u64::to_le_bytes));
        bytes.extend(0u32.to_le_bytes());
        bytes.extend([64u16, 56, 1, 64, 0, 0].into_iter().flat_map(u16::to_le_bytes));
        bytes.extend([1u32, flags].into_iter().flat_map(u32::to_le_bytes));
        bytes
            .extend([0u64, 0x1000, 0x1000, file_size, 0x2000, 0x1000].into_iter().flat_map(u64::to_le_bytes));
        bytes
    }

    #[test]
    fn a_segment_that_is_both_is_found() {
        let complaints = write_and_execute("k", &elf(7, 1)).unwrap();
        assert_eq!(complaints, ["k: segment 0x1000..0x3000 is writable and executable"]);
        assert!(write_and_execute("k", &elf(5, 1)).unwrap().is_empty());
        assert!(write_and_execute("k", &elf(6, 1)).unwrap().is_empty());
    }

    #[test]
    fn size_is_what_is_loaded_and_has_a_limit() {
        assert_eq!(loaded_bytes(&elf(5, 786_433)).unwrap(), 786_433);
        let budgets = Budgets::read().unwrap();
        assert!(too_large(Arch::X86_64, "k", 786_433, &budgets).is_some());
        assert!(too_large(Arch::X86_64, "k", 786_432, &budgets).is_none());
    }

    /// An ELF file of one executable section with this code.
    pub fn with_code(code: &[u8]) -> Vec<u8> {
        let mut bytes = elf(5, 1);
        let code_at = bytes.len() as u64;
        bytes.extend(code);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let sections_at = bytes.len() as u64;
        bytes[40..48].copy_from_slice(&sections_at.to_le_bytes());
        bytes[60..62].copy_from_slice(&3u16.to_le_bytes());
        bytes[62..64].copy_from_slice(&2u16.to_le_bytes());
        bytes.extend([0; 64]);
        // The second header: SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, at 0x1000.
        bytes.extend([0u32, 1].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(
            [6u64, 0x1000, code_at, code.len() as u64, 0, 1, 0].into_iter().flat_map(u64::to_le_bytes),
        );
        // The third: SHT_STRTAB, one zero byte.
        bytes.extend([0u32, 3].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend([0u64, 0, sections_at, 1, 0, 1, 0].into_iter().flat_map(u64::to_le_bytes));
        bytes
    }

    #[test]
    fn vector_code_is_allowed_in_its_file_only() {
        // nop; movaps xmm0, xmm1; ret
        let image = with_code(&[0x90, 0x0f, 0x28, 0xc1, 0xc3]);
        let in_file = |file: &str| Place { lines: vec![format!("{file}:3")], symbol: None };
        let check =
            |places: &dyn Fn(u64) -> Place| vector_instructions(Arch::X86_64, "k", &image, places).unwrap();
        assert_eq!(
            check(&|_| in_file("kernel/src/sched.rs")),
            ["k: 0x1001: movaps in ? (kernel/src/sched.rs:3)"]
        );
        assert_eq!(check(&|_| in_file("arch/ppc64le/src/vector.rs")).len(), 1);
        assert_eq!(check(&|_| Place::default()).len(), 1);
        assert!(check(&|_| in_file("arch/x86_64/src/vector.rs")).is_empty());
        let nothing =
            vector_instructions(Arch::X86_64, "k", &with_code(&[0x90, 0xc3]), &|_| Place::default());
        assert!(nothing.unwrap()[0].contains("blind"));
        let symbol = Place { symbol: Some("arch_x86_64::vector::save".into()), ..Place::default() };
        assert!(symbol.saves_or_restores(Arch::X86_64));
    }

    /// This very test program allocates, and so holds what the kernel must not.
    #[test]
    fn an_image_that_can_run_out_of_memory_is_found() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let places = |_| Place::default();
        assert!(!infallible_allocation(Arch::X86_64, "x", &bytes, &places).unwrap().is_empty());
    }
}
