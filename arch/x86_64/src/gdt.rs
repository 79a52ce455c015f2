//! Segments and the task-state segment: what little of them long mode still needs.
//!
//! The order of the descriptors is fixed by `syscall` and `sysretq`: kernel code and data next to
//! each other, user data before user code (SDM vol. 3 §5.8.8).

use crate::cpu::Cpu;
use core::arch::asm;
use core::mem::size_of;
use x86::dtables::{DescriptorTablePointer, lgdt};
use x86::segmentation::SegmentSelector;
use x86::task::load_tr;

pub const KERNEL_CODE: u16 = 0x08;
/// What `sysretq` counts from: data is the next descriptor, 64-bit code the one after.
pub const USER_BASE: u16 = 0x18 | 3;
pub const USER_DATA: u16 = 0x20 | 3;
pub const USER_CODE: u16 = 0x28 | 3;
const TASK: u16 = 0x30;

/// 64-bit task-state segment (SDM vol. 3 figure 8-11).
#[repr(C, packed(4))]
pub struct Tss {
    reserved_0: u32,
    /// Where a trap from user mode pushes: the end of the running thread's frame.
    pub rsp0: u64,
    rsp1: u64,
    rsp2: u64,
    reserved_1: u64,
    /// The exception stacks, from index 1 on.
    pub ist: [u64; 7],
    reserved_2: u64,
    reserved_3: u16,
    /// Past the limit: user mode has no I/O permission.
    io_map: u16,
}

impl Tss {
    pub const fn new() -> Self {
        Self {
            reserved_0: 0,
            rsp0: 0,
            rsp1: 0,
            rsp2: 0,
            reserved_1: 0,
            ist: [0; 7],
            reserved_2: 0,
            reserved_3: 0,
            io_map: 0,
        }
    }
}

/// Global descriptor table: null, kernel code, kernel data, (32-bit user code, absent), user data,
/// user code, and the task-state segment in two entries.
#[repr(C, align(16))]
pub struct Gdt([u64; 8]);

impl Gdt {
    /// Empty: [`load`] fills it in, so that it takes no room in the image.
    pub const fn new() -> Self {
        Self([0; 8])
    }
}

/// Base and limit do not count in 64-bit mode; present, type and DPL do (SDM vol. 3 §3.4.5).
const SEGMENTS: [u64; 6] = [
    0,
    0x00af_9b00_0000_ffff, // kernel code
    0x00cf_9300_0000_ffff, // kernel data
    0,
    0x00cf_f300_0000_ffff, // user data
    0x00af_fb00_0000_ffff, // user code
];

/// Loads `cpu`'s own table, segments and task register.
///
/// # Safety
/// On `cpu` itself, once, before its first trap; the caller runs in 64-bit ring 0.
pub unsafe fn load(cpu: &'static Cpu) {
    let tss = cpu.tss.get() as u64;
    let limit = size_of::<Tss>() as u64 - 1;
    // SAFETY: only this CPU uses the table, which is not loaded yet.
    let gdt = unsafe { &mut *cpu.gdt.get() };
    // SAFETY: as above, and a TSS that is not loaded yet.
    unsafe { (*cpu.tss.get()).io_map = size_of::<Tss>() as u16 };
    gdt.0[..SEGMENTS.len()].copy_from_slice(&SEGMENTS);
    gdt.0[6] = limit | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
    gdt.0[7] = tss >> 32;
    // SAFETY: a complete table that lives for ever.
    unsafe { lgdt(&DescriptorTablePointer::new_from_slice(&gdt.0)) };
    // SAFETY: the selectors name the descriptors above. The far return reloads CS alone; the other
    // segments become null, which 64-bit ring 0 allows, SS included. GS's base is set afterwards.
    unsafe {
        asm!(
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {zero:e}",
            "mov es, {zero:e}",
            "mov ss, {zero:e}",
            "mov fs, {zero:e}",
            "mov gs, {zero:e}",
            code = const KERNEL_CODE,
            scratch = out(reg) _,
            zero = in(reg) 0u64,
        );
        load_tr(SegmentSelector::from_raw(TASK));
    }
}
