//! What the plugin is told: `arch=…,entry=…,user=START-END,out=FILE[,write=counts|stream]`.

use crate::count::Kind;
use std::ops::Range;
use std::path::PathBuf;
use stream::{Arch, Instruction};

/// What it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// At the end, what was counted.
    Counts,
    /// All the while, the records of [`stream`].
    Stream,
}

/// The plugin's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub arch: Arch,
    /// Where the firmware starts the kernel.
    pub entry: u64,
    /// Where user programs are linked.
    pub user: Range<u64>,
    pub out: PathBuf,
    pub write: Write,
}

impl Options {
    /// Reads `name=value` arguments, each of them once.
    pub fn parse<'a>(arguments: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let (mut arch, mut entry, mut user, mut out) = (None, None, None, None);
        let mut write = Write::Counts;
        for argument in arguments {
            let (name, value) =
                argument.split_once('=').ok_or_else(|| format!("`{argument}` is not NAME=VALUE"))?;
            match name {
                "arch" => {
                    arch = Some(match value {
                        "x86_64" => Arch::X86_64,
                        "ppc64le" => Arch::Ppc64le,
                        other => return Err(format!("arch `{other}` is not x86_64 or ppc64le")),
                    });
                }
                "entry" => entry = Some(number(value)?),
                "user" => {
                    let (start, end) =
                        value.split_once('-').ok_or_else(|| format!("user `{value}` is not START-END"))?;
                    user = Some(number(start)?..number(end)?);
                }
                "out" => out = Some(PathBuf::from(value)),
                "write" => {
                    write = match value {
                        "counts" => Write::Counts,
                        "stream" => Write::Stream,
                        other => return Err(format!("write `{other}` is not counts or stream")),
                    };
                }
                _ => return Err(format!("unknown argument `{name}`; known: arch, entry, user, out, write")),
            }
        }
        Ok(Self {
            arch: arch.ok_or("arch= is missing")?,
            entry: entry.ok_or("entry= is missing")?,
            user: user.ok_or("user= is missing")?,
            out: out.ok_or("out= is missing")?,
            write,
        })
    }

    /// Whether user code may lie at an address: in the programs, or above them, where they can map
    /// memory and write code themselves.
    pub fn may_be_user(&self, address: u64) -> bool {
        address >= self.user.start && address < self.arch.kernel_from()
    }

    /// What the instruction at this address, with these bytes, is.
    pub fn classify(&self, address: u64, bytes: &[u8]) -> Kind {
        if address == self.entry {
            Kind::Entry
        } else if address >= self.arch.kernel_from() {
            Kind::Kernel
        } else if !self.user.contains(&address) {
            Kind::Other
        } else if self.arch.instruction(bytes).is_some_and(Instruction::is_call) {
            Kind::LowCall
        } else {
            Kind::Low
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .map_err(|_| format!("`{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(text.split(','))
    }

    #[test]
    fn arguments_are_read() {
        let options = parse("arch=x86_64,entry=0x100000,user=0x400000-0x500000,out=f").unwrap();
        assert_eq!(options.entry, 0x10_0000);
        assert_eq!(options.user, 0x40_0000..0x50_0000);
        assert_eq!(options.write, Write::Counts);
        let options = parse("arch=x86_64,entry=0x100000,user=0x400000-0x500000,out=f,write=stream").unwrap();
        assert_eq!(options.write, Write::Stream);
    }

    #[test]
    fn user_code_lies_in_the_programs_or_above() {
        let options = parse("arch=x86_64,entry=0x100000,user=0x400000-0x500000,out=f").unwrap();
        assert!(!options.may_be_user(0x8000) && !options.may_be_user(0x10_0000));
        assert!(options.may_be_user(0x40_0000) && options.may_be_user(0x2000_0000_0000));
        assert!(!options.may_be_user(0xffff_ffff_8010_0000));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(parse("arch=vax,entry=1,user=1-2,out=f").unwrap_err().contains("vax"));
        assert!(parse("arch=x86_64,user=1-2,out=f").unwrap_err().contains("entry="));
        assert!(parse("colour=red").unwrap_err().contains("colour"));
        assert!(parse("arch=x86_64,entry=x,user=1-2,out=f").unwrap_err().contains("`x`"));
    }

    #[test]
    fn addresses_decide() {
        let options = parse("arch=x86_64,entry=0x100000,user=0x400000-0x500000,out=f").unwrap();
        assert_eq!(options.classify(0x10_0000, &[0x90]), Kind::Entry);
        assert_eq!(options.classify(0x10_0001, &[0x90]), Kind::Other);
        assert_eq!(options.classify(0x40_0000, &[0x90]), Kind::Low);
        assert_eq!(options.classify(0x40_0000, &[0x0f, 0x05]), Kind::LowCall);
        assert_eq!(options.classify(0xffff_ffff_8010_0000, &[0x0f, 0x05]), Kind::Kernel);
    }
}
