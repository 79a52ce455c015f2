//! The first instructions: from PVH's 32-bit protected mode to Rust in the high half.
//!
//! PVH enters at a physical address with paging off, flat segments and the start info's address
//! in `ebx` (Xen, `docs/misc/pvh.pandoc`). The code makes tables that map the first 4 GiB at the
//! start of the physical map, as identity, and (1 GiB of it) where the image is linked; then it
//! enters long mode. Identity is left behind when the real tables are loaded.

use crate::X86_64;
use crate::boot;
use crate::cpu::{BOOT, STACK_TOP};
use crate::machine::{DEBUG_EXIT, FAILED_CODE};
use crate::paging::{IMAGE_OFFSET, PHYSICAL_MAP};
use arch_contract::upcalls::Upcalls;
use core::arch::naked_asm;
use core::cell::UnsafeCell;

/// The entry code's tables: a root, two tables of 1 GiB entries, and 4 GiB of 2 MiB pages. Other CPUs
/// come by the same memory, made over: see [`crate::trampoline`].
#[repr(C, align(4096))]
pub struct BootTables(pub UnsafeCell<[[u64; 512]; 7]>);

// SAFETY: written by the entry code, before anything else runs, and by the boot CPU before another
// starts; only walked afterwards.
unsafe impl Sync for BootTables {}

pub static TABLES: BootTables = BootTables(UnsafeCell::new([[0; 512]; 7]));

/// Present, writable, accessed, dirty; and as a 2 MiB page.
const TABLE: u32 = 0x23;
const LARGE: u32 = 0xe3;

/// Where PVH enters. Never returns.
///
/// # Safety
/// Entered by a PVH loader only, in 32-bit protected mode.
#[unsafe(naked)]
#[unsafe(link_section = ".boot.text")]
pub unsafe extern "C" fn pvh_start<U: Upcalls<X86_64>>() -> ! {
    naked_asm!(
        ".code32",
        "cli",
        "cld",
        // Is there long mode at all? `cpuid` overwrites ebx, where the start info is.
        "movl %ebx, %esi",
        "movl $0x80000000, %eax",
        "cpuid",
        "cmpl $0x80000001, %eax",
        "jb 7f",
        "movl $0x80000001, %eax",
        "cpuid",
        "btl $29, %edx",
        "jnc 7f",
        // 4 GiB in 2 MiB pages, in tables 3 to 6.
        "movl $({tables} + {down} + 3 * 4096), %edi",
        "movl $2048, %ecx",
        "movl ${large}, %eax",
        "2:",
        "movl %eax, (%edi)",
        "addl $8, %edi",
        "addl $0x200000, %eax",
        "decl %ecx",
        "jnz 2b",
        // Table 1: those four, for the physical map and identity. Table 2: the image's GiB.
        "movl $({tables} + {down}), %edi",
        "leal (3 * 4096 + {table})(%edi), %eax",
        "movl %eax, (2 * 4096 + 510 * 8)(%edi)",
        "movl %eax, (1 * 4096)(%edi)",
        "addl $4096, %eax",
        "movl %eax, (1 * 4096 + 8)(%edi)",
        "addl $4096, %eax",
        "movl %eax, (1 * 4096 + 16)(%edi)",
        "addl $4096, %eax",
        "movl %eax, (1 * 4096 + 24)(%edi)",
        // Table 0, the root.
        "leal (1 * 4096 + {table})(%edi), %eax",
        "movl %eax, (%edi)",
        "movl %eax, ({physical_slot} * 8)(%edi)",
        "addl $4096, %eax",
        "movl %eax, (511 * 8)(%edi)",
        // CR4.PAE, the root, EFER.LME, then CR0.PG with WP: SDM vol. 3 §10.8.5.
        "movl $0x20, %eax",
        "movl %eax, %cr4",
        "movl %edi, %cr3",
        "movl $0xc0000080, %ecx",
        "rdmsr",
        "orl $0x100, %eax",
        "wrmsr",
        "movl %cr0, %eax",
        "orl $0x80010001, %eax",
        "movl %eax, %cr0",
        // A far jump into a 64-bit code segment.
        "lgdt 6f",
        "ljmp $8, $3f",
        ".code64",
        "3:",
        "movl %esi, %edi",
        "movq $({block} + {stack_top}), %rsp",
        "xorl %ebp, %ebp",
        "pushq $0", // a return address of 0 ends every backtrace
        "movabsq ${rust}, %rax",
        "jmpq *%rax",
        ".code32",
        // No long mode: say so on COM1, as far as anything is there, and end the run.
        "7:",
        "movl $9f, %esi",
        "4:",
        "movw $0x3fd, %dx",
        "5:",
        "inb %dx, %al",
        "testb $0x20, %al",
        "jz 5b",
        "movb (%esi), %al",
        "incl %esi",
        "movw $0x3f8, %dx",
        "testb %al, %al",
        "jz 8f",
        "outb %al, %dx",
        "jmp 4b",
        "8:",
        "movw ${debug_exit}, %dx",
        "movb ${failed}, %al",
        "outb %al, %dx",
        "22:",
        "hlt",
        "jmp 22b",
        "9:",
        ".asciz \"spandrel: this CPU has no long mode (64-bit); start QEMU with `-cpu max`\\n@spandrel failed\\n\"",
        ".balign 8",
        "33:",
        ".quad 0, 0x00af9b000000ffff",
        "6:",
        ".word 15",
        ".long 33b",
        ".code64",
        tables = sym TABLES,
        // Subtracting the offset of the image, as an addition that wraps.
        down = const IMAGE_OFFSET.wrapping_neg(),
        table = const TABLE,
        large = const LARGE,
        physical_slot = const PHYSICAL_MAP >> 39 & 511,
        block = sym BOOT,
        stack_top = const STACK_TOP,
        rust = sym boot::start::<U>,
        debug_exit = const DEBUG_EXIT,
        failed = const FAILED_CODE,
        options(att_syntax),
    )
}

/// Makes `$upcalls` the kernel of this image: the PVH note and the entry point.
#[macro_export]
macro_rules! entry {
    ($upcalls:ty) => {
        ::core::arch::global_asm!(
            // ELF note, name "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY): the 32-bit entry address.
            ".pushsection .note.Xen, \"a\", @note",
            ".balign 4",
            ".long 4",
            ".long 4",
            ".long 18",
            ".asciz \"Xen\"",
            ".long {start}",
            ".popsection",
            ".globl _start",
            ".set _start, {start}",
            start = sym $crate::entry::pvh_start::<$upcalls>,
        );
    };
}
