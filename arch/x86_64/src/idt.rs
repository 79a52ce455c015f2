//! Interrupt vectors: 256 short stubs in one table, and the paths they share.
//!
//! Three ways in. From user mode the stub has pushed into the thread's frame already. From kernel
//! mode everything happens on the stack that was interrupted. The exceptions that may come at any
//! instruction (#DF, NMI, #MC, #DB) have stacks of their own; from kernel mode they trust neither
//! the saved code segment nor the GS base, but the CPU's address at the top of that stack.

use crate::X86_64;
use crate::cpu::{ExceptionStack, offset};
use crate::gdt::KERNEL_CODE;
use crate::syscall::enter_user;
use crate::trap::{Frame, from_anywhere, from_kernel, from_user};
use arch_contract::upcalls::Upcalls;
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};
use x86::dtables::{DescriptorTablePointer, lidt};

/// Bytes between one stub and the next.
const STUB: usize = 16;

/// A gate (SDM vol. 3 figure 6-8), in two words.
type Gate = [u64; 2];

#[repr(C, align(4096))]
struct Table(UnsafeCell<[Gate; 256]>);

// SAFETY: written once, by the boot CPU in `fill`, before any other runs.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

/// Present interrupt gate; the privilege that `int n` needs goes above.
const INTERRUPT_GATE: u64 = 0x8e;
const FROM_USER: u64 = 3 << 5;

fn stack_for(vector: usize) -> u64 {
    match vector {
        1 => ExceptionStack::Debug as u64,
        2 => ExceptionStack::NonMaskable as u64,
        8 => ExceptionStack::DoubleFault as u64,
        18 => ExceptionStack::MachineCheck as u64,
        _ => 0,
    }
}

/// Fills the table that all CPUs share.
///
/// # Safety
/// On the boot CPU, once, before any CPU loads it.
pub unsafe fn fill<U: Upcalls<X86_64>>() {
    let stubs = stubs::<U> as *const () as u64;
    // SAFETY: nobody else uses the table yet.
    let table = unsafe { &mut *TABLE.0.get() };
    for (vector, gate) in table.iter_mut().enumerate() {
        let at = stubs + (vector * STUB) as u64;
        // `int3` is for user mode too; every other `int n` is a general-protection fault there.
        let kind = INTERRUPT_GATE | if vector == 3 { FROM_USER } else { 0 };
        gate[0] = at & 0xffff
            | u64::from(KERNEL_CODE) << 16
            | stack_for(vector) << 32
            | kind << 40
            | (at >> 16 & 0xffff) << 48;
        gate[1] = at >> 32;
    }
}

/// Loads it.
///
/// # Safety
/// On each CPU, with its segments and stacks set up and interrupts off, after [`fill`].
pub unsafe fn load() {
    // SAFETY: only ever read, from `fill` on.
    let table = unsafe { &*TABLE.0.get() };
    // SAFETY: a complete table that lives for ever.
    unsafe { lidt(&DescriptorTablePointer::new_from_slice(table)) };
}

/// The stubs, one every [`STUB`] bytes, then the shared paths.
///
/// # Safety
/// Entered by the processor only.
#[unsafe(naked)]
unsafe extern "C" fn stubs<U: Upcalls<X86_64>>() {
    naked_asm!(
        // Exceptions that push an error code: 8, 10 to 14, 17, 21, 29, 30 (SDM vol. 3 §6.15, APM
        // vol. 2 §8.2). The others push a zero in its place.
        ".set spandrel_vector, 0",
        ".rept 256",
        ".balign {stub}",
        ".if spandrel_vector == 8 || (spandrel_vector >= 10 && spandrel_vector <= 14) || spandrel_vector == 17 || spandrel_vector == 21 || spandrel_vector == 29 || spandrel_vector == 30",
        ".else",
        "push 0",
        ".endif",
        "push spandrel_vector",
        ".if spandrel_vector == 2 || spandrel_vector == 8",
        "jmp 5f",
        ".elseif spandrel_vector == 1 || spandrel_vector == 18",
        "jmp 4f",
        ".else",
        "jmp 2f",
        ".endif",
        ".set spandrel_vector, spandrel_vector + 1",
        ".endr",

        // Ordinary: on the thread's frame, or on the kernel's stack.
        ".balign 16",
        "2:",
        "test byte ptr [rsp + {cs} - {entered_by}], 3",
        "jz 6f",
        "swapgs",
        "3:",
        push_general!(),
        "cld",
        "xor ebp, ebp",
        "mov rdi, gs:[{this}]",
        "mov rsi, rsp",
        "mov rsp, gs:[{stack_top}]",
        "call {from_user}",
        "jmp {enter_user}",

        // #DB and #MC from user mode: move the seven words to where they belong, then as above.
        "4:",
        "test byte ptr [rsp + {cs} - {entered_by}], 3",
        "jz 5f",
        "swapgs",
        "push rax",
        "mov rax, rsp",
        "mov rsp, gs:[{frame}]",
        "add rsp, {frame_size}",
        "push qword ptr [rax + 56]",
        "push qword ptr [rax + 48]",
        "push qword ptr [rax + 40]",
        "push qword ptr [rax + 32]",
        "push qword ptr [rax + 24]",
        "push qword ptr [rax + 16]",
        "push qword ptr [rax + 8]",
        "mov rax, [rax]",
        "jmp 3b",

        // From any state, on a stack of its own. The word above the frame is the CPU's address;
        // the GS base is saved as it is and put back, user's or kernel's.
        "5:",
        push_general!(),
        "cld",
        "mov ecx, 0xc0000101", // IA32_GS_BASE
        "rdmsr",
        "mov r12d, eax",
        "mov r13d, edx",
        "mov rax, [rsp + {frame_size}]",
        "mov rdi, rax",
        "mov rdx, rax",
        "shr rdx, 32",
        "wrmsr",
        "mov rsi, rsp",
        // A frame link that makes the interrupted instruction part of the backtrace.
        "push qword ptr [rsp + {rip}]",
        "push rbp",
        "mov rbp, rsp",
        "call {from_anywhere}",
        "add rsp, 16",
        "mov ecx, 0xc0000101",
        "mov eax, r12d",
        "mov edx, r13d",
        "wrmsr",
        "jmp 7f",

        // From the kernel.
        "6:",
        push_general!(),
        "cld",
        "mov rdi, rsp",
        "push qword ptr [rsp + {rip}]",
        "push rbp",
        "mov rbp, rsp",
        "call {from_kernel}",
        "add rsp, 16",

        "7:",
        pop_general!(),
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "add rsp, 16",
        "iretq",
        stub = const STUB,
        cs = const offset_of!(Frame, cs),
        rip = const offset_of!(Frame, rip),
        entered_by = const offset_of!(Frame, entered_by),
        frame_size = const size_of::<Frame>(),
        this = const offset::THIS,
        stack_top = const offset::STACK_TOP,
        frame = const offset::FRAME,
        from_user = sym from_user::<U>,
        from_kernel = sym from_kernel::<U>,
        from_anywhere = sym from_anywhere::<U>,
        enter_user = sym enter_user::<U>,
    )
}
