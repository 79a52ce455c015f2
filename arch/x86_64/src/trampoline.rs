//! How another CPU gets from INIT to Rust.
//!
//! A start-up interrupt names a page below 1 MiB, where the CPU begins in real mode (SDM vol. 3
//! §9.4). There lies a copy of a few instructions: to protected mode, to long mode, to the high half.
//! They need an address that is the same with paging on and off, which the kernel's own tables do
//! not have. So a CPU comes by tables of its own, made over from those the boot CPU came by: the
//! kernel's half, and that one page, to read and to execute. It leaves them at once, and nothing
//! else uses them; no address is ever writable and executable (`PTE-3`).
//!
//! Any number of CPUs may come at the same time. Each finds its value by its APIC id; there is
//! nothing they share that one of them would have to be done with first.

use crate::X86_64;
use crate::boot;
use crate::cpu::{BLOCK, COUNT, FIRST_OTHER, offset};
use crate::entry::TABLES;
use crate::paging::{self, IMAGE_OFFSET};
use crate::pte::Bits;
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::PhysRange;
use arch_contract::upcalls::Upcalls;
use core::arch::naked_asm;
use core::ptr::NonNull;

/// Where the copy lies: in the low memory that is never handed out, above the interrupt table and
/// the data of a BIOS.
const PAGE: u64 = 0x8000;
/// Bytes of it.
const LEN: usize = 128;

/// The page.
pub const RANGE: PhysRange = PhysRange { start: PhysAddr(PAGE), len: PAGE_SIZE };
/// What a start-up interrupt calls it.
pub const VECTOR: u8 = (PAGE / PAGE_SIZE) as u8;

/// Puts the code and the tables in place.
///
/// # Safety
/// Once, on the boot CPU, under the kernel's tables, before another CPU starts; [`RANGE`] is RAM.
pub unsafe fn prepare<U: Upcalls<X86_64>>() {
    let code = paging::phys(PhysAddr(real_mode::<U> as *const () as u64));
    // SAFETY: the code is part of the image and as long as its `.org` says; the page is kept out of
    // the free memory for this. Both are in the physical map.
    unsafe { paging::phys(RANGE.start).copy_from_nonoverlapping(code, LEN) };

    // SAFETY: this CPU, the only one, has left them for good.
    let tables = unsafe { &mut *TABLES.0.get() };
    let at: [PhysAddr; 4] = core::array::from_fn(|index| paging::phys_of_image(&raw const tables[index]));
    let [root, first, second, last, ..] = tables;
    for table in [&mut *root, first, second, last] {
        table.fill(0);
    }
    // SAFETY: a zeroed root that nothing uses yet, and the kernel's half is complete.
    unsafe { paging::share_kernel_half(NonNull::from(&mut *root).cast()) };
    // The page is in the first MiB: at every level but the last its index is 0.
    let read = (Bits::PRESENT | Bits::ACCESSED).bits();
    root[0] = at[1].0 | read;
    first[0] = at[2].0 | read;
    second[0] = at[3].0 | read;
    last[(PAGE / PAGE_SIZE) as usize] = PAGE | read;
}

/// What is copied: from real mode to [`high_half`]. No stack, no memory but its own.
///
/// # Safety
/// Entered by a start-up interrupt, in its copy.
#[unsafe(naked)]
#[unsafe(link_section = ".boot.text")]
unsafe extern "C" fn real_mode<U: Upcalls<X86_64>>() -> ! {
    naked_asm!(
        "2:",
        ".code16",
        "cli",
        // Offsets count from the page.
        "movw %cs, %ax",
        "movw %ax, %ds",
        "lgdtl (6f - 2b)",
        "movl %cr0, %eax",
        "orl $1, %eax",
        "movl %eax, %cr0",
        "ljmpl $8, $({page} + 3f - 2b)",
        ".code32",
        "3:",
        // CR4.PAE, the root, EFER.LME, then CR0.PG: SDM vol. 3 §10.8.5. EFER.NXE, since entries of
        // the kernel's half have the bit.
        "movl $0x20, %eax",
        "movl %eax, %cr4",
        "movl $({tables} + {down}), %eax",
        "movl %eax, %cr3",
        "movl $0xc0000080, %ecx",
        "rdmsr",
        "orl $0x900, %eax",
        "wrmsr",
        "movl %cr0, %eax",
        "orl $0x80010000, %eax",
        "movl %eax, %cr0",
        "ljmpl $16, $({page} + 4f - 2b)",
        ".code64",
        "4:",
        "movabsq ${high_half}, %rax",
        "jmpq *%rax",
        ".balign 8",
        // Null, 32-bit code, 64-bit code.
        "5:",
        ".quad 0, 0x00cf9b000000ffff, 0x00af9b000000ffff",
        "6:",
        ".word 23",
        ".long {page} + 5b - 2b",
        ".org 2b + {len}",
        page = const PAGE,
        tables = sym TABLES,
        // Subtracting the offset of the image, as an addition that wraps.
        down = const IMAGE_OFFSET.wrapping_neg(),
        high_half = sym high_half::<U>,
        len = const LEN,
        options(att_syntax),
    )
}

/// Finds this CPU's value and goes on in Rust, on its kernel stack. A CPU that has none halts: it was
/// never asked.
///
/// # Safety
/// Jumped to by [`real_mode`].
#[unsafe(naked)]
unsafe extern "C" fn high_half<U: Upcalls<X86_64>>() -> ! {
    naked_asm!(
        // The APIC id: CPUID.0BH:EDX where that leaf has something to say, else CPUID.01H:EBX[31:24]
        // (SDM vol. 3 §9.4.5).
        "xor eax, eax",
        "cpuid",
        "cmp eax, 0x0b",
        "jb 2f",
        "mov eax, 0x0b",
        "xor ecx, ecx",
        "cpuid",
        "test ebx, ebx",
        "jnz 3f",
        "2:",
        "mov eax, 1",
        "cpuid",
        "mov edx, ebx",
        "shr edx, 24",
        "3:",
        "mov rdi, {first}",
        "mov rcx, qword ptr [rip + {count}]",
        "4:",
        "dec rcx",
        "jz 5f",
        "cmp dword ptr [rdi + {apic_id}], edx",
        "je 6f",
        "add rdi, {block}",
        "jmp 4b",
        "5:",
        "hlt",
        "jmp 5b",
        "6:",
        "mov rsp, [rdi + {stack_top}]",
        "xor ebp, ebp",
        "push 0", // a return address of 0 ends every backtrace
        "jmp {rust}",
        first = const FIRST_OTHER,
        count = sym COUNT,
        apic_id = const offset::APIC_ID,
        block = const BLOCK,
        stack_top = const offset::STACK_TOP,
        rust = sym boot::start_other::<U>,
    )
}
