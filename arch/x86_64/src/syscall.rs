//! The fast way in and every way out: `syscall`, `sysretq`, `iretq`.
//!
//! `syscall` saves nothing but the program counter and the flags, in `rcx` and `r11`, and keeps
//! the user's stack pointer, so the first three instructions run on the user's stack with the
//! user's GS base, and no exception but those with a stack of their own can come there. All
//! registers go into the thread's frame at once; the callee-saved ones also stay where they are,
//! and a call that answers with its two result registers alone reloads only what Rust may have
//! overwritten.
//!
//! On the way out nothing that user mode chose may fault in ring 0 (`TRAP-6`): a program counter
//! above the lower half goes back up as a fault of its thread, and `sysretq` is used only where it
//! restores exactly what the frame says.

use crate::X86_64;
use crate::cpu::{Cpu, offset};
use crate::gdt::{KERNEL_CODE, USER_BASE};
use crate::trap::{BY_SYSCALL, Frame, bad_return};
use arch_contract::mutant::{self, Mutant};
use arch_contract::ret::{Reload, Resume};
use arch_contract::upcalls::{Upcalls, WAYS};
use core::arch::naked_asm;
use core::mem::{offset_of, size_of};
use core::ptr::NonNull;
use x86::msr;

// Entry code tests for zero.
const _: () = assert!(Reload::ResultOnly as u64 == 0);

/// What the kernel must not inherit: IF, TF, DF, AC, NT, IOPL.
const FLAGS_CLEARED: u64 = 1 << 9 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 14 | 3 << 12;
/// TF and RF: `sysretq` would trap too early with the one and drops the other.
const FLAGS_FOR_IRET: u32 = 1 << 8 | 1 << 16;

/// Makes `syscall` enter here on `cpu`, which is this CPU (SDM vol. 3 §5.8.8).
///
/// # Safety
/// On each CPU once, with its GDT and GS base set up; EFER.SCE is set by the caller.
pub unsafe fn init<U: Upcalls<X86_64>>(cpu: &Cpu) {
    cpu.enter_user.set(enter_user::<U> as *const ());
    cpu.ways.set(ways::<U>().as_ptr().cast());
    // SAFETY: ring 0; selectors and entry point are this kernel's.
    unsafe {
        msr::wrmsr(msr::IA32_STAR, u64::from(USER_BASE) << 48 | u64::from(KERNEL_CODE) << 32);
        msr::wrmsr(msr::IA32_LSTAR, entry::<U> as *const () as u64);
        msr::wrmsr(msr::IA32_FMASK, FLAGS_CLEARED & !kept());
    }
}

/// What mutants let the kernel inherit on CPUs other than the first.
fn kept() -> u64 {
    match () {
        () if mutant::is(Mutant::CallersAccess) => 1 << 18,
        () if mutant::is(Mutant::CallersStep) => 1 << 8,
        () => 0,
    }
}

/// A way of system calls, as entry code calls it.
type Entered = extern "C" fn(&'static Cpu, NonNull<Frame>) -> Resume<Frame>;

/// The calls with this number.
extern "C" fn way<U: Upcalls<X86_64>, const NUMBER: usize>(
    cpu: &'static Cpu,
    frame: NonNull<Frame>,
) -> Resume<Frame> {
    if mutant::is(Mutant::InterruptsInCalls) {
        // SAFETY: the stack is the kernel's, as in a window.
        unsafe { core::arch::asm!("sti", "nop", "cli") };
    }
    U::WAYS[NUMBER](cpu, frame)
}

/// Those of all numbers.
const fn ways<U: Upcalls<X86_64>>() -> &'static [Entered; WAYS] {
    const { &arch_contract::ways!(way, U) }
}

/// Where `syscall` enters.
///
/// # Safety
/// Entered by the processor only.
#[unsafe(naked)]
unsafe extern "C" fn entry<U: Upcalls<X86_64>>() {
    naked_asm!(
        "swapgs",
        "mov gs:[{scratch}], rsp",
        "mov rsp, gs:[{frame}]",
        "mov [rsp + {rip}], rcx",
        "mov [rsp + {rflags}], r11",
        "mov [rsp + {rdi}], rdi",
        "mov [rsp + {rsi}], rsi",
        "mov [rsp + {rdx}], rdx",
        "mov [rsp + {rax}], rax",
        "mov [rsp + {r8}], r8",
        "mov [rsp + {r9}], r9",
        "mov [rsp + {r10}], r10",
        "mov [rsp + {rbx}], rbx",
        "mov [rsp + {rbp}], rbp",
        "mov [rsp + {r12}], r12",
        "mov [rsp + {r13}], r13",
        "mov [rsp + {r14}], r14",
        "mov [rsp + {r15}], r15",
        "mov rcx, gs:[{scratch}]",
        "mov [rsp + {user_rsp}], rcx",
        "mov qword ptr [rsp + {entered_by}], {by_syscall}",
        "mov rdi, gs:[{this}]",
        "mov rsi, rsp",
        "mov rsp, gs:[{stack_top}]",
        // Without a branch: nothing is called, nor speculated to be, but what the table has.
        "mov ecx, {last_way}",
        "cmp rax, rcx",
        "cmova rax, rcx",
        "mov rcx, gs:[{ways}]",
        "call [rcx + rax*8]",
        // A `Resume`: the frame in `rax`, in `rdx` how much of it is to be loaded.
        "test edx, edx",
        "jnz {enter_user}",

        // The quick way back: the same thread, with its two results.
        "mov rcx, [rax + {rip}]",
        "mov r11, [rax + {rflags}]",
        "mov rdx, rcx",
        "shr rdx, 47",
        "jnz {enter_user}",
        "test r11d, {flags_for_iret}",
        "jnz {enter_user}",
        "mov rdi, [rax + {rdi}]",
        "mov rsi, [rax + {rsi}]",
        "mov rdx, [rax + {rdx}]",
        "mov r8, [rax + {r8}]",
        "mov r9, [rax + {r9}]",
        "mov r10, [rax + {r10}]",
        "mov rsp, [rax + {user_rsp}]",
        "mov rax, [rax + {rax}]",
        "swapgs",
        "sysretq",
        scratch = const offset::SCRATCH,
        frame = const offset::FRAME,
        this = const offset::THIS,
        stack_top = const offset::STACK_TOP,
        by_syscall = const BY_SYSCALL,
        flags_for_iret = const FLAGS_FOR_IRET,
        entered_by = const offset_of!(Frame, entered_by),
        rip = const offset_of!(Frame, rip),
        rflags = const offset_of!(Frame, rflags),
        user_rsp = const offset_of!(Frame, rsp),
        rax = const offset_of!(Frame, rax),
        rbx = const offset_of!(Frame, rbx),
        rdx = const offset_of!(Frame, rdx),
        rsi = const offset_of!(Frame, rsi),
        rdi = const offset_of!(Frame, rdi),
        rbp = const offset_of!(Frame, rbp),
        r8 = const offset_of!(Frame, r8),
        r9 = const offset_of!(Frame, r9),
        r10 = const offset_of!(Frame, r10),
        r12 = const offset_of!(Frame, r12),
        r13 = const offset_of!(Frame, r13),
        r14 = const offset_of!(Frame, r14),
        r15 = const offset_of!(Frame, r15),
        last_way = const WAYS - 1,
        ways = const offset::WAYS,
        enter_user = sym enter_user::<U>,
    )
}

/// Enters user mode with the frame in `rax`, every register loaded from it.
///
/// # Safety
/// Jumped to, with the frame of a `Resume` in `rax`, on the kernel's stack and GS base.
#[unsafe(naked)]
pub unsafe extern "C" fn enter_user<U: Upcalls<X86_64>>() {
    naked_asm!(
        // The next trap saves into this frame.
        "lea rcx, [rax + {frame_size}]",
        "mov gs:[{rsp0}], rcx",
        "mov gs:[{frame}], rax",
        "mov rcx, [rax + {rip}]",
        "mov rdx, rcx",
        "shr rdx, 47",
        "jnz 4f",
        // Selectors of user mode are not part of a thread; none keeps another's.
        "mov ds, edx",
        "mov es, edx",
        "mov fs, edx",
        "cmp qword ptr [rax + {entered_by}], {by_syscall}",
        "jne 2f",
        // The frame of a system call. `rcx` and `r11` hold nothing by its convention, so they are
        // what `sysretq` makes of them on either way out.
        "mov r11, [rax + {rflags}]",
        "test r11d, {flags_for_iret}",
        "jnz 3f",
        "mov r15, [rax + {r15}]",
        "mov r14, [rax + {r14}]",
        "mov r13, [rax + {r13}]",
        "mov r12, [rax + {r12}]",
        "mov rbp, [rax + {rbp}]",
        "mov rbx, [rax + {rbx}]",
        "mov r10, [rax + {r10}]",
        "mov r9, [rax + {r9}]",
        "mov r8, [rax + {r8}]",
        "mov rsi, [rax + {rsi}]",
        "mov rdi, [rax + {rdi}]",
        "mov rsp, [rax + {user_rsp}]",
        "swapgs",
        "mov gs, edx",
        "mov rdx, [rax + {rdx}]",
        "mov rax, [rax + {rax}]",
        "sysretq",
        "3:",
        "mov [rax + {rcx}], rcx",
        "mov [rax + {r11}], r11",

        // Any frame: `iretq` restores all of it.
        "2:",
        "mov rsp, rax",
        pop_general!(),
        "swapgs",
        "mov gs, edx",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "add rsp, 16",
        "iretq",

        // A program counter that cannot be returned to.
        "4:",
        "mov rdi, gs:[{this}]",
        "mov rsi, rax",
        "mov rsp, gs:[{stack_top}]",
        "xor ebp, ebp",
        "call {bad_return}",
        "jmp {again}",
        frame_size = const size_of::<Frame>(),
        rsp0 = const offset::TSS_RSP0,
        frame = const offset::FRAME,
        this = const offset::THIS,
        stack_top = const offset::STACK_TOP,
        entered_by = const offset_of!(Frame, entered_by),
        by_syscall = const BY_SYSCALL,
        rip = const offset_of!(Frame, rip),
        rflags = const offset_of!(Frame, rflags),
        user_rsp = const offset_of!(Frame, rsp),
        rax = const offset_of!(Frame, rax),
        rbx = const offset_of!(Frame, rbx),
        rcx = const offset_of!(Frame, rcx),
        rdx = const offset_of!(Frame, rdx),
        rsi = const offset_of!(Frame, rsi),
        rdi = const offset_of!(Frame, rdi),
        rbp = const offset_of!(Frame, rbp),
        r8 = const offset_of!(Frame, r8),
        r9 = const offset_of!(Frame, r9),
        r10 = const offset_of!(Frame, r10),
        r11 = const offset_of!(Frame, r11),
        r12 = const offset_of!(Frame, r12),
        r13 = const offset_of!(Frame, r13),
        r14 = const offset_of!(Frame, r14),
        r15 = const offset_of!(Frame, r15),
        flags_for_iret = const FLAGS_FOR_IRET,
        bad_return = sym bad_return::<U>,
        again = sym enter_user::<U>,
    )
}

/// Enters user mode for the first time on this CPU.
///
/// # Safety
/// On the kernel's stack, with everything set up; `next` is of a `Resume` of this CPU.
pub unsafe fn first<U: Upcalls<X86_64>>(next: NonNull<Frame>) -> ! {
    // SAFETY: `enter_user` takes the frame in `rax` and never returns.
    unsafe {
        core::arch::asm!("jmp {}", sym enter_user::<U>, in("rax") next.as_ptr(), options(noreturn));
    }
}
