//! The gates that read what was linked.

use super::{Finding, vector};
use crate::arch::Arch;
use crate::budgets::Budgets;
use crate::build::Built;
use crate::error::{Context, Error, Result};
use crate::toolchain::{read, root};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SectionFlags, elf};
use std::ops::Range;
use std::path::Path;

/// Symbols that are only linked if something allocates without being able to fail.
const INFALLIBLE: &[&str] =
    &["handle_alloc_error", "__rust_alloc_error_handler", "__rdl_oom", "raw_vec12handle_error"];
/// The save and restore functions lie between these.
const VECTOR_START: &str = "__vector_text_start";
const VECTOR_END: &str = "__vector_text_end";
/// How many of many complaints are shown.
const SHOWN: usize = 20;

/// Everything that must hold of a kernel image and of the programs beside it.
pub fn check(built: &Built) -> Result<Finding> {
    let bytes = read(&built.kernel)?;
    let name = name(&built.kernel);
    let mut complaints = write_and_execute(&name, &bytes)?;
    complaints.extend(infallible_allocation(&name, &bytes)?);
    complaints.extend(vector_instructions(built.arch, &name, &bytes)?);
    complaints.extend(too_large(built.arch, &name, loaded_bytes(&bytes)?, &Budgets::read()?));
    for program in &built.programs {
        complaints.extend(write_and_execute(&format!("program {}", program.name), &read(&program.file)?)?);
    }
    Ok(complaints.into())
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn parse(bytes: &[u8]) -> Result<ElfFile64<'_, Endianness>> {
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

/// Nothing in the image ends the machine for want of memory.
fn infallible_allocation(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let file = parse(bytes)?;
    Ok(file
        .symbols()
        .filter_map(|symbol| symbol.name().ok())
        .filter(|symbol| INFALLIBLE.iter().any(|word| symbol.contains(word)))
        .map(|symbol| format!("{name}: holds {symbol}: something allocates without being able to fail"))
        .collect())
}

/// Vector and floating-point instructions stand between two symbols and nowhere else (`FPU-3`).
fn vector_instructions(arch: Arch, name: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let file = parse(bytes)?;
    let address = |wanted: &str| {
        let found = file.symbols().find(|symbol| symbol.name() == Ok(wanted)).map(|symbol| symbol.address());
        found.ok_or_else(|| {
            Error::new(format!("{name}: no symbol {wanted}; the linker script puts it around .text.vector"))
        })
    };
    let allowed = address(VECTOR_START)?..address(VECTOR_END)?;
    let mut functions: Vec<_> = file
        .symbols()
        .filter(|symbol| symbol.is_definition())
        .map(|symbol| (symbol.address(), symbol.name().unwrap_or("?")))
        .collect();
    functions.sort_unstable();
    let mut complaints = Vec::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        if !sh_flags.contains(elf::SHF_EXECINSTR) {
            continue;
        }
        let code = section.data().context(|| name.into())?;
        for (at, what) in forbidden(arch, code, section.address(), &allowed) {
            let function = functions.partition_point(|&(start, _)| start <= at);
            let function = function.checked_sub(1).map_or("?", |index| functions[index].1);
            complaints.push(format!(
                "{name}: {at:#x}: {what} in {}",
                addr2line::demangle_auto(function.into(), None)
            ));
        }
    }
    if complaints.len() > SHOWN {
        let more = complaints.len() - SHOWN;
        complaints.truncate(SHOWN);
        complaints.push(format!("{name}: and {more} more"));
    }
    Ok(complaints)
}

/// The vector instructions of some code outside the range where they may be.
fn forbidden(arch: Arch, code: &[u8], base: u64, allowed: &Range<u64>) -> Vec<(u64, String)> {
    let mut found = vector::instructions(arch, code, base);
    found.retain(|(at, _)| !allowed.contains(at));
    found
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn vector_code_is_allowed_in_its_place_only() {
        // movaps xmm0, xmm1; ret
        let code = [0x0f, 0x28, 0xc1, 0xc3];
        assert_eq!(forbidden(Arch::X86_64, &code, 0x1000, &(0..0)).len(), 1);
        assert!(forbidden(Arch::X86_64, &code, 0x1000, &(0x1000..0x1004)).is_empty());
    }

    #[test]
    fn an_image_without_the_two_symbols_is_not_passed() {
        assert!(
            vector_instructions(Arch::X86_64, "k", &elf(5, 1))
                .unwrap_err()
                .to_string()
                .contains(VECTOR_START)
        );
    }

    /// This very test program allocates, and so holds what the kernel must not.
    #[test]
    fn an_image_that_can_run_out_of_memory_is_found() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!infallible_allocation("x", &bytes).unwrap().is_empty());
    }
}
