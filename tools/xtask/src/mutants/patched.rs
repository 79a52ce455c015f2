//! Images in which one instruction was replaced by nothing.
//!
//! The ledger of a port (`arch/<arch>/instructions.toml`) lists the instructions that the contracts
//! speak of. For each of them this makes an image in which it does nothing, wherever its function was
//! inlined, from the linked kernel and without a build; and sees that it is noticed: by the rules for
//! executed instructions where the ledger names a case, and else by the comparison of ledger and image.
//!
//! And for what an image must not hold, one in which such an instruction was planted.

use super::probe::Finding;
use crate::arch::Arch;
use crate::build::Built;
use crate::check::image::{Place, parse, vector_instructions};
use crate::check::ledger::{self, Found, Ledger};
use crate::error::{Context, Error, Result};
use crate::executed::{self, Verdict};
use crate::guest::Ending;
use crate::oracle::Oracle;
use crate::qemu::Machine;
use crate::sites::Site;
use crate::symbols::{Frame, Names};
use crate::test::conformance;
use crate::toolchain::{read, root};
use addr2line::Loader;
use object::elf;
use object::read::elf::ProgramHeader;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use stream::Instruction;

/// An image with one instruction less.
#[derive(Clone, Debug)]
pub struct Patch {
    pub arch: Arch,
    /// The function, as the ledger has it, and its row there.
    at: String,
    row: usize,
    /// Which instruction of its sequence, from 0.
    step: usize,
    instruction: Instruction,
    /// The case that notices; none: the comparison does.
    pub stream: Option<String>,
}

impl fmt::Display for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arch, at, step, instruction, .. } = self;
        write!(f, "{arch}/without/{at}/{} {}", step + 1, instruction.name())
    }
}

/// All patches of a machine's kernel.
///
/// # Errors
/// Its ledger cannot be read.
pub fn all(arch: Arch) -> Result<Vec<Patch>> {
    let mut patches = Vec::new();
    for (row, about) in Ledger::read(arch)?.rows.into_iter().enumerate() {
        for (step, instruction) in about.instructions().enumerate() {
            let (at, stream) = (about.at.clone(), about.stream.clone());
            patches.push(Patch { arch, at, row, step, instruction, stream });
        }
    }
    Ok(patches)
}

/// The name of the image with an instruction that `FPU-3` forbids.
pub fn planted(arch: Arch) -> String {
    format!("{arch}/with/a vector instruction")
}

/// A linked kernel and its ledger.
pub struct Image {
    built: Built,
    bytes: Vec<u8>,
    ledger: Ledger,
    found: Found,
    names: Names,
    /// The functions of each address, which a patch does not change.
    frames: RefCell<HashMap<u64, Vec<Frame>>>,
}

impl Image {
    /// # Errors
    /// It or its ledger cannot be read.
    pub fn read(built: Built) -> Result<Self> {
        let names = Names::read(&built.kernel)?;
        let frames = RefCell::default();
        let (ledger, bytes) = (Ledger::read(built.arch)?, read(&built.kernel)?);
        let found = ledger::find(built.arch, &ledger, &bytes, &|at| frames_of(&names, &frames, at))?;
        Ok(Self { built, bytes, ledger, found, names, frames })
    }

    /// Everywhere the instruction of a patch stands; the same instruction of other steps too, where
    /// the sequence is not as the ledger has it, because of mutants that sleep in it.
    fn sites(&self, patch: &Patch) -> impl Iterator<Item = &Site> {
        let (row, all) = (&self.ledger.rows[patch.row], &self.found.of_rows[patch.row]);
        let length = row.complaint(all).is_none().then_some(row.sequence.len()).filter(|&length| length > 0);
        let (step, instruction) = (patch.step, patch.instruction);
        all.values().flat_map(move |sites| {
            let all = sites.iter().enumerate().filter(move |(place, site)| {
                site.instruction == instruction && length.is_none_or(|length| place % length == step)
            });
            all.map(|(_, site)| site)
        })
    }

    /// The image with the instruction of a patch replaced.
    fn without(&self, patch: &Patch) -> Result<Vec<u8>> {
        let mut bytes = self.bytes.clone();
        for site in self.sites(patch) {
            erase(self.built.arch, &mut bytes, site)?;
        }
        Ok(bytes)
    }

    /// Compares the image without the instruction of a patch with its ledger.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn compare_without(&self, patch: &Patch) -> Result<Finding> {
        let arch = self.built.arch;
        let complaints = |found: &Found| {
            ledger::compare(arch, "the image", &self.ledger, found, &self.names).into_iter().next()
        };
        if let Some(complaint) = complaints(&self.found) {
            return Ok(Finding::Unable(complaint));
        }
        let frames = |at| frames_of(&self.names, &self.frames, at);
        let found = ledger::find(arch, &self.ledger, &self.without(patch)?, &frames)?;
        Ok(match complaints(&found) {
            Some(complaint) => Finding::red("differs from its ledger", complaint),
            None => Finding::Green,
        })
    }

    /// Plants a vector instruction where the first one of the ledger stands that is long enough and
    /// not in what saves and restores, and looks for it as `FPU-3` does.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn look_for_planted(&self) -> Result<Finding> {
        let loader = Loader::new(&self.built.kernel).context(|| self.built.kernel.display().to_string())?;
        let places = |at| Place::of(&loader, at);
        let look = |bytes: &[u8]| vector_instructions(self.built.arch, "the image", bytes, &places);
        if let Some(complaint) = look(&self.bytes)?.into_iter().next() {
            return Ok(Finding::Unable(complaint));
        }
        let vector: &[u8] = match self.built.arch {
            // fnop
            Arch::X86_64 => &[0xd9, 0xd0],
            // fmr 0, 0
            Arch::Ppc64le => &0xfc00_0090u32.to_le_bytes(),
        };
        for site in self.found.of_rows.iter().flat_map(|all| all.values()).flatten() {
            let Some(at) = offset(&self.bytes, site.at).filter(|_| site.bytes >= vector.len()) else {
                continue;
            };
            let mut bytes = self.bytes.clone();
            bytes[at..at + vector.len()].copy_from_slice(vector);
            if let Some(complaint) = look(&bytes)?.into_iter().next() {
                return Ok(Finding::red("is found", complaint));
            }
        }
        Ok(Finding::Green)
    }

    /// Boots the image without the instruction of a patch, or whole, runs `case` and judges what was
    /// executed.
    ///
    /// # Errors
    /// The image cannot be written, or QEMU not be started.
    pub fn watch_without(
        &self,
        patch: Option<&Patch>,
        case: &str,
        oracle: &Oracle,
        limit: Duration,
        stop: &AtomicBool,
    ) -> Result<Finding> {
        let bytes = patch.map_or_else(|| Ok(self.bytes.clone()), |patch| self.without(patch))?;
        let name = patch.map_or_else(|| format!("whole-{case}"), Patch::to_string);
        let name = name.replace(['/', ' ', '.', ':', '*'], "-");
        let kernel = root().join(format!("target/{name}"));
        std::fs::write(&kernel, bytes).context(|| kernel.display().to_string())?;
        let machine = Machine {
            qemu: oracle.qemu().into(),
            cpus: conformance::CPUS,
            initrd: Some(self.built.initrd.clone()),
            init_arguments: ["conformance", "each", case].map(Into::into).into(),
            ..Machine::new(self.built.arch, &kernel)
        };
        let watched =
            executed::watch(oracle, &self.built, machine, &kernel.with_extension("seen"), limit, stop);
        let _ = std::fs::remove_file(&kernel);
        let (report, verdict) = watched?;
        Ok(match verdict {
            Some(Verdict::Broken { clauses, why }) => {
                Finding::red(format!("breaks {}", clauses.first().copied().unwrap_or_default()), why)
            }
            Some(Verdict::Kept(_)) if report.ending == Ending::Exited(0) => Finding::Green,
            // It is noticed, if in a rougher way.
            _ => Finding::red("ends otherwise", format!("{:?}", report.ending)),
        })
    }
}

fn frames_of(names: &Names, known: &RefCell<HashMap<u64, Vec<Frame>>>, at: u64) -> Vec<Frame> {
    known.borrow_mut().entry(at).or_insert_with(|| names.frames(at)).clone()
}

/// Replaces an instruction of an ELF file by ones that do nothing.
fn erase(arch: Arch, bytes: &mut [u8], site: &Site) -> Result<()> {
    let at =
        offset(bytes, site.at).ok_or_else(|| Error::new(format!("{:#x} is not in the image", site.at)))?;
    let place = bytes.get_mut(at..at + site.bytes).ok_or_else(|| Error::new("the image is cut short"))?;
    match arch {
        // nop
        Arch::X86_64 => place.fill(0x90),
        // ori 0, 0, 0
        Arch::Ppc64le => place.copy_from_slice(&0x6000_0000u32.to_le_bytes()),
    }
    Ok(())
}

/// Where in the file a linked address is.
fn offset(bytes: &[u8], at: u64) -> Option<usize> {
    let file = parse(bytes).ok()?;
    let endian = file.endian();
    file.elf_program_headers().iter().filter(|header| header.p_type(endian) == elf::PT_LOAD).find_map(
        |header| {
            let inside = at.checked_sub(header.p_vaddr(endian))?;
            (inside < header.p_filesz(endian)).then_some((header.p_offset(endian) + inside) as usize)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::image::tests::with_code;

    #[test]
    fn every_instruction_of_the_ledgers_has_a_patch_of_its_own_name() {
        for arch in Arch::ALL {
            let names: Vec<String> = all(arch).unwrap().iter().map(Patch::to_string).collect();
            let different: std::collections::BTreeSet<_> = names.iter().collect();
            assert!(names.len() > 30 && different.len() == names.len());
        }
    }

    #[test]
    fn an_instruction_is_replaced_where_it_is_loaded() {
        // The one segment of this file is one byte at 0x1000, from the start of the file on.
        let mut image = with_code(&[0xcf]);
        let site = |at| Site { at, bytes: 1, instruction: Instruction::Iretd };
        assert_eq!(offset(&image, 0x1000), Some(0));
        assert_eq!(offset(&image, 0x1001), None);
        erase(Arch::X86_64, &mut image, &site(0x1000)).unwrap();
        assert_eq!(image[0], 0x90);
        assert!(erase(Arch::X86_64, &mut image, &site(0x5000)).is_err());
    }
}
