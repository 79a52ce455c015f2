//! What the unit tests share: a simulated machine with its memory and a kernel CPU.

use super::memory::Memory;
use crate::cpu::Cpu;
use crate::cpuset::CpuId;
use crate::kernel;
use arch_contract::irq::IrqsOff;
use arch_model::{Config, Machine};
use boot_image::archive::Archive;
use boot_image::command_line::{Log, Tracing};
use std::vec::Vec;

/// An archive with nothing in it: a lone trailer, in the form `newc` (cpio(5)).
const EMPTY_ARCHIVE: &[u8] = b"070701\
    00000000000000000000000000000000000000010000000000000000\
    000000000000000000000000000000000000000B00000000TRAILER!!!\0\0\0\0";

/// A machine with memory.
pub(crate) fn memory(ram: u64) -> (&'static Machine, &'static Memory) {
    let (machine, _) = Machine::new(Config { ram, ..Config::default() });
    let memory = Memory::boot(machine, &machine.boot_info("", None), None).expect("enough RAM");
    (machine, memory)
}

/// A machine with memory, a kernel and its CPU; no process.
pub(crate) fn kernel_cpu(config: Config) -> &'static Cpu {
    let (machine, cpus) = Machine::new(config);
    let memory = Memory::boot(machine, &machine.boot_info("", None), None).expect("enough RAM");
    let archive = Archive::new(EMPTY_ARCHIVE).unwrap_or_else(|error| panic!("{error}"));
    kernel::place(memory, machine, archive, (Log::Quiet, Tracing::Off), cpus[0]).expect("enough RAM")
}

/// As [`kernel_cpu`], with all CPUs of the machine on.
pub(crate) fn kernel_cpus(config: Config) -> Vec<&'static Cpu> {
    let first = kernel_cpu(config);
    let count = first.machine().cpus().len();
    kernel::place_others(first.kernel, count).expect("enough RAM");
    let cpus: Vec<_> = (0..count as u64).filter_map(CpuId::new).collect();
    let cpus: Vec<_> = cpus.into_iter().filter_map(|number| first.kernel.any_cpu(number)).collect();
    cpus.iter().for_each(|cpu| first.kernel.set_online(cpu));
    cpus
}

/// A token: in the model, interrupts come in windows only.
pub(crate) fn irqs_off() -> IrqsOff {
    // SAFETY: a model CPU takes interrupts in windows only, and each test has a machine of its own
    // and uses one token at a time.
    unsafe { IrqsOff::assume() }
}
