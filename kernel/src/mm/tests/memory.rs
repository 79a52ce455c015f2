//! Taking over the machine's memory: `mem=`, and too little of it.

use crate::mm::NoMemory;
use crate::mm::memory::Memory;
use arch_contract::addr::PAGE_SIZE;
use arch_model::{Config, Machine};

const RAM: u64 = 8 << 20;

/// What there is to give out with this limit, beside an archive of 1 MiB.
fn total(limit: Option<u64>) -> Result<u64, NoMemory> {
    let (machine, _) = Machine::new(Config { ram: RAM, ..Config::default() });
    let info = machine.boot_info("", Some(&[0; 1 << 20]));
    Memory::boot(machine, &info, limit).map(Memory::total_bytes)
}

/// `BOOT-2`: the archive is not given out, and the rest is, but for a byte per frame.
#[test]
fn boot_2_all_that_is_free() {
    let free = RAM - (1 << 20);
    let bytes = (free / PAGE_SIZE).next_multiple_of(PAGE_SIZE);
    assert_eq!(total(None), Ok(free - bytes));
}

/// A limit makes the machine as good as one with that much RAM: what is in use counts.
#[test]
fn a_limit_counts_what_is_in_use() {
    assert_eq!(total(Some(RAM)), total(None));
    assert_eq!(total(Some(64 << 20)), total(None));
    assert_eq!(total(Some(4 << 20)), Ok((3 << 20) - PAGE_SIZE));
}

#[test]
fn too_little_is_an_error() {
    for limit in [0, 1, PAGE_SIZE, 1 << 20, (1 << 20) + PAGE_SIZE, (1 << 20) + 5 * PAGE_SIZE] {
        assert_eq!(total(Some(limit)), Err(NoMemory), "{limit:#x}");
    }
}
