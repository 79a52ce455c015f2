//! The vectors, and the assembly between them and Rust.
//!
//! [`entry!`](crate::entry) instantiates all of it with the generic kernel, so that every call up
//! names its target by `sym`. The ideas:
//!
//! * A trap from user mode saves into the thread's frame, found through `Cpu`, and starts at the
//!   top of the CPU's one stack. The way out loads a frame and nothing else.
//! * The kernel never takes an interrupt where it would need a stack. With interrupts off there are
//!   just two places where one can arrive with PR=0: the first two instructions after `scv`, which
//!   leaves EE as the user had it, and the instructions after H_CEDE, which sets EE. In both the
//!   handler clears EE in the saved SRR1 and returns; sources are level-triggered and stay pending,
//!   and are taken on the way to user mode or polled by `irq::wait`. Anywhere else it is a fault of
//!   the kernel (`TRAP-3`).
//! * Vectors of AIL 3 lie at 0x4000 and run translated; those below 0x1000 are taken with
//!   translation off: machine check, system reset, and faults before translation is on. They run
//!   wholly in real mode, which ignores the top bits of addresses, on the stack for faults, and end
//!   the run.
//! * A machine check that finds translation on and RI=1 is handed on to the translated side, as if AIL
//!   applied to it. There it is a fault of the thread if user mode had it, or the caller's if the copy
//!   loop of `user.rs` had; anywhere else it ends the run. It cannot be survived with RI=0, where
//!   it has overwritten registers that somebody needed, nor by the kernel's own accesses.
//! * SRR0 and SRR1 are loaded with RI=0.
//!
//! Register state on arrival: Power ISA 3.0B Book III §6.4.3 and §6.5; `scv`: §4.3.1.
//!
//! Return instructions (`RET-1`): one `rfscv` in `spandrel_scv_return`, `rfid` in
//! `spandrel_sc_return` and `spandrel_return_any` go to user mode; the `rfid`s of
//! `spandrel_kernel_trap`, `spandrel_machine_check` and `start.rs` stay in the kernel, that of `of.rs` goes to firmware.

/// Where the assembly finds fields, in bytes from the start of their structure.
pub mod offset {
    use crate::cpu::Cpu;
    use crate::kernel_fault::Registers;
    use crate::trap::Frame;
    use core::mem::offset_of;

    pub const GPR: usize = offset_of!(Frame, gpr);
    pub const PC: usize = offset_of!(Frame, pc);
    pub const MSR: usize = offset_of!(Frame, msr);
    pub const LR: usize = offset_of!(Frame, lr);
    pub const CTR: usize = offset_of!(Frame, ctr);
    pub const XER: usize = offset_of!(Frame, xer);
    pub const CR: usize = offset_of!(Frame, cr);
    pub const ENTERED_BY: usize = offset_of!(Frame, entered_by);
    pub const FRAME: usize = offset_of!(Cpu, frame);
    pub const STACK: usize = offset_of!(Cpu, stack);
    pub const TOC: usize = offset_of!(Cpu, toc);
    pub const SCRATCH: usize = offset_of!(Cpu, scratch);
    pub const WAYS: usize = offset_of!(Cpu, ways);
    pub const LAST_WAY: usize = arch_contract::upcalls::WAYS - 1;
    pub const FAULTED: usize = offset_of!(Cpu, faulted);
    pub const FAULT_GPR: usize = offset_of!(Registers, gpr);
    pub const FAULT_SRR0: usize = offset_of!(Registers, srr0);
    pub const FAULT_SRR1: usize = offset_of!(Registers, srr1);
    pub const FAULT_LR: usize = offset_of!(Registers, lr);
    pub const FAULT_CTR: usize = offset_of!(Registers, ctr);
    pub const FAULT_XER: usize = offset_of!(Registers, xer);
    pub const FAULT_CR: usize = offset_of!(Registers, cr);
    pub const FAULT_DAR: usize = offset_of!(Registers, dar);
    pub const FAULT_DSISR: usize = offset_of!(Registers, dsisr);
    pub const FAULT_STACK: usize = offset_of!(Registers, stack);

    // The assembly writes the vector at the address of the structure itself.
    const _: () = assert!(offset_of!(Registers, vector) == 0);
    // A store that is to fail is directed at the address of the structure itself.
    const _: () = assert!(SCRATCH == 0);
}

/// Instantiates the port: all entry assembly, with `$upcalls` (an
/// [`Upcalls`](arch_contract::upcalls::Upcalls)) as the kernel above it. Once per image.
#[macro_export]
macro_rules! entry {
    ($upcalls:ty) => {
        /// The port's Rust entry, named by the image's first instructions.
        #[unsafe(no_mangle)]
        extern "C" fn spandrel_boot(r3: u64, r4: u64, r5: u64) -> ! {
            $crate::start::boot::<$upcalls>(r3, r4, r5)
        }

        /// The same for a CPU that another started.
        #[unsafe(no_mangle)]
        extern "C" fn spandrel_secondary_boot(cpu: &'static $crate::cpu::Cpu) -> ! {
            $crate::secondary::boot::<$upcalls>(cpu)
        }

        core::arch::global_asm!(
            // ---- The vectors -------------------------------------------------------------
            ".pushsection .vectors, \"ax\", @progbits",
            "spandrel_vectors:",
            // Taken with translation off.
            ".macro real_vector at",
            ".org spandrel_vectors + \\at",
            "mtspr 274, 13",
            "li 13, \\at",
            "b spandrel_real_trap",
            ".endm",
            "real_vector 0x100",
            ".org spandrel_vectors + 0x200",
            "mtspr 274, 13",
            "b spandrel_machine_check",
            ".irp at, 0x300, 0x380, 0x400, 0x480, 0x500, 0x600, 0x700, 0x800, 0x900, 0x980, 0xa00, 0xb00, 0xc00, 0xd00, 0xe00, 0xe20, 0xe40, 0xe60, 0xe80, 0xea0, 0xf00, 0xf20, 0xf40, 0xf60, 0xf80",
            "real_vector \\at",
            ".endr",
            // scv, level by level: 32 bytes each. EE is still as the user had it; the first two
            // instructions are the window in which an interrupt may find PR=0 and no stack.
            ".org spandrel_vectors + 0x3000",
            "li 9, {by_scv}", // RI, not EE
            "mtmsrd 9, 1",
            "b spandrel_scv",
            ".set scv_at, 0x3020",
            ".rept 127",
            ".org spandrel_vectors + scv_at",
            "li 9, 2",
            "mtmsrd 9, 1",
            "b spandrel_bad_scv",
            ".set scv_at, scv_at + 0x20",
            ".endr",
            // Taken translated (AIL 3). r13 waits in SPRG1, r12 in the Cpu.
            ".macro virtual_vector at",
            ".org spandrel_vectors + 0x4000 + \\at",
            "mtspr 273, 13",
            "mfspr 13, 272",
            "std 12, {scratch}(13)",
            "li 12, \\at",
            "b spandrel_trap",
            ".endm",
            ".irp at, 0x300, 0x380, 0x400, 0x480, 0x500, 0x600, 0x700, 0x800, 0x900, 0x980, 0xa00, 0xb00",
            "virtual_vector \\at",
            ".endr",
            // sc: r9 to r12 are the call's to overwrite.
            ".org spandrel_vectors + 0x4c00",
            "mr 11, 13",
            "mfspr 13, 272",
            "b spandrel_sc",
            ".irp at, 0xd00, 0xe00, 0xe20, 0xe40, 0xe60, 0xe80, 0xea0, 0xf00, 0xf20, 0xf40, 0xf60, 0xf80",
            "virtual_vector \\at",
            ".endr",
            ".popsection",

            ".pushsection .text.trap, \"ax\", @progbits",
            // ---- System calls ------------------------------------------------------------
            // What both doors save: r11 holds the user's r13, r13 the Cpu, r10 the frame. The
            // volatile registers that a call may overwrite are not saved; CR is, for its
            // nonvolatile fields.
            ".macro save_for_call",
            "std 0, {gpr}+8*0(10)",
            "std 1, {gpr}+8*1(10)",
            "std 2, {gpr}+8*2(10)",
            ".irp r, 3, 4, 5, 6, 7, 8, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "std \\r, {gpr}+8*\\r(10)",
            ".endr",
            "std 11, {gpr}+8*13(10)",
            "mfcr 12",
            "std 12, {cr}(10)",
            "ld 1, {stack}(13)",
            "mr 3, 13",
            "mr 4, 10",
            ".endm",
            // And what both call: the way of the number in r0, which finds its r2 by r12. Nothing is called, nor
            // speculated to be, but what the table has: there is no branch to predict. It answers with a
            // `Resume`: the frame in r3, in r4 how much of it is to be loaded.
            ".macro call_way",
            "cmpldi 0, {last_way}",
            "ld 12, {ways}(13)",
            "li 11, {last_way}",
            "isel 0, 11, 0, 1",
            "sldi 11, 0, 3",
            "ldx 12, 12, 11",
            "mtctr 12",
            "bctrl",
            "cmpdi 4, 0",
            ".endm",
            // What both doors load when only the result was written: nonvolatile registers are
            // still the user's, and whatever else the kernel touched is restored or zeroed.
            // r3 holds the frame.
            ".macro load_result",
            "ld 0, {cr}(3)",
            "mtcr 0",
            "li 0, 0",
            "mtxer 0",
            "ld 1, {gpr}+8*1(3)",
            "ld 2, {gpr}+8*2(3)",
            "ld 13, {gpr}+8*13(3)",
            "ld 4, {gpr}+8*4(3)",
            "ld 3, {gpr}+8*3(3)",
            ".irp r, 5, 6, 7, 8, 9, 10, 11, 12",
            "li \\r, 0",
            ".endr",
            ".endm",

            // scv 0: LR holds the next instruction, CTR the user's MSR, r9 what the vector put there.
            ".balign 16",
            "spandrel_scv:",
            "mr 11, 13",
            "mfspr 13, 272",
            "ld 10, {frame}(13)",
            "std 9, {entered_by}(10)",
            "mflr 12",
            "std 12, {pc}(10)",
            "save_for_call",
            "call_way",
            "beq spandrel_scv_return",

            // ---- The way to user mode with another frame, whose address r3 holds ------------
            ".globl spandrel_return_full",
            "spandrel_return_full:",
            "std 3, {frame}(13)",
            // Whoever ran here last may have left a reservation (`MIG-3`). It is lost in a word that
            // means nothing.
            "li 4, 0",
            "stdcx. 4, 0, 13",
            // VRSAVE is user mode's with or without the units. A thread that has them on has its
            // own; one that has not finds zero, never another's (`FPU-2`).
            "ld 6, {msr}(3)",
            "andis. 5, 6, 0x0200",
            "bne 9f",
            "mtspr 256, 4",
            "9: ld 5, {entered_by}(3)",
            "cmpdi 5, {by_scv}",
            "bne spandrel_return_any",
            // The frame of an scv: the nonvolatile registers, and then as on its quick way back.
            ".irp r, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "ld \\r, {gpr}+8*\\r(3)",
            ".endr",
            ".globl spandrel_scv_return",
            "spandrel_scv_return:",
            "ld 5, {pc}(3)",
            "mtlr 5",
            "ld 6, {msr}(3)",
            "mtctr 6",
            "load_result",
            ".long 0x4c0000a4", // rfscv: to LR with the MSR of CTR

            // Any frame, whole. r4 is 0, r6 its MSR.
            ".globl spandrel_return_any",
            "spandrel_return_any:",
            "mtmsrd 4, 1", // neither EE nor RI from here on
            "ld 4, {pc}(3)",
            "mtspr 26, 4",
            "mtspr 27, 6",
            "ld 4, {lr}(3)",
            "mtlr 4",
            "ld 4, {ctr}(3)",
            "mtctr 4",
            "ld 4, {xer}(3)",
            "mtxer 4",
            "ld 4, {cr}(3)",
            "mtcr 4",
            ".irp r, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 3",
            "ld \\r, {gpr}+8*\\r(3)",
            ".endr",
            "rfid",

            // sc: SRR0 holds the next instruction.
            ".balign 16",
            "spandrel_sc:",
            "ld 10, {frame}(13)",
            "std 10, {entered_by}(10)", // not by scv
            "mfspr 12, 26",
            "std 12, {pc}(10)",
            "li 12, 2",
            "mtmsrd 12, 1", // RI: SRR0 is saved
            "save_for_call",
            "call_way",
            "bne spandrel_return_full",
            ".globl spandrel_sc_return",
            "spandrel_sc_return:",
            "li 5, 0",
            "mtmsrd 5, 1", // not RI: SRR0 and SRR1 are live
            "ld 6, {pc}(3)",
            "mtspr 26, 6",
            "ld 6, {msr}(3)",
            "mtspr 27, 6",
            "mtlr 5",
            "mtctr 5",
            "load_result",
            "rfid",

            // scv of another level: saved like a trap, since the process is about to hear of it.
            "spandrel_bad_scv:",
            "mr 11, 13",
            "mfspr 13, 272",
            "ld 10, {frame}(13)",
            "std 10, {entered_by}(10)", // not as by scv 0
            "mflr 12",
            "std 12, {pc}(10)",
            "save_for_call",
            "ld 2, {toc}(13)",
            "bl {on_bad_scv}",
            "b spandrel_return_full",

            // ---- Other traps from user mode ------------------------------------------------
            // r13 the Cpu, r12 the vector, SPRG1 the interrupted r13, scratch 0 its r12.
            ".balign 16",
            "spandrel_trap:",
            "std 11, {scratch}+8(13)",
            "mfcr 11",
            "std 11, {scratch}+16(13)",
            "mfspr 11, 27",
            "andi. 11, 11, 0x4000",
            "beq spandrel_kernel_trap",
            "ld 11, {frame}(13)",
            "std 12, {entered_by}(11)",
            ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "std \\r, {gpr}+8*\\r(11)",
            ".endr",
            "ld 3, {scratch}+8(13)",
            "std 3, {gpr}+8*11(11)",
            "ld 3, {scratch}(13)",
            "std 3, {gpr}+8*12(11)",
            "mfspr 3, 273",
            "std 3, {gpr}+8*13(11)",
            "ld 3, {scratch}+16(13)",
            "std 3, {cr}(11)",
            "mfspr 3, 26",
            "std 3, {pc}(11)",
            "mflr 3",
            "std 3, {lr}(11)",
            "mfctr 3",
            "std 3, {ctr}(11)",
            "mfxer 3",
            "std 3, {xer}(11)",
            "mfspr 6, 27",
            "mr 5, 12",
            "mr 4, 11",
            "mr 3, 13",
            "li 7, 2",
            "mtmsrd 7, 1", // RI: SRR0 and SRR1 are saved
            "ld 1, {stack}(13)",
            "ld 2, {toc}(13)",
            "bl {on_trap}",
            "b spandrel_return_full",

            // ---- Traps with PR=0 -----------------------------------------------------------
            // r13 the Cpu, r12 the vector; scratch: r12, r11, CR. Nothing else is touched until
            // it is known to be a fault.
            "spandrel_kernel_trap:",
            "cmpldi 12, 0x500",
            "beq 1f",
            "cmpldi 12, 0x900",
            "beq 1f",
            "cmpldi 12, 0xea0",
            "beq 1f",
            "cmpldi 12, 0xa00",
            "beq 1f",
            "cmpldi 12, 0x300",
            "beq 3f",
            "cmpldi 12, 0x380",
            "beq 3f",
            // Alignment: a device's registers, attached as memory, are not for every width.
            "cmpldi 12, 0x600",
            "beq 3f",
            // Nor, to some hypervisors, for every access.
            "cmpldi 12, 0x200",
            "beq 3f",
            "b 5f",
            // An interrupt. In the window after scv: SRR0 in 0x3000..0x4000 of quadrant 3.
            "1: mfspr 11, 26",
            "clrldi 11, 11, 4",
            "addi 11, 11, -0x3000",
            "cmpldi 11, 0x1000",
            "blt 2f",
            // In the window after H_CEDE?
            "mfspr 11, 26",
            "std 12, {faulted}(13)", // the first word of `Registers` is the vector
            "lis 12, spandrel_cede_window@highest",
            "ori 12, 12, spandrel_cede_window@higher",
            "sldi 12, 12, 32",
            "oris 12, 12, spandrel_cede_window@high",
            "ori 12, 12, spandrel_cede_window@l",
            "subf 11, 12, 11",
            "cmpldi 11, spandrel_cede_window_end - spandrel_cede_window",
            "ld 12, {faulted}(13)",
            "bge 5f",
            // Put it off: EE off in the context it goes back to.
            "2: mfspr 11, 27",
            "ori 11, 11, 0x8000",
            "xori 11, 11, 0x8000",
            "mtspr 27, 11",
            "4: ld 11, {scratch}+16(13)",
            "mtcr 11",
            "ld 11, {scratch}+8(13)",
            "ld 12, {scratch}(13)",
            "mfspr 13, 273",
            "rfid",
            // A data fault: in the copy loop of `user.rs` it goes to its landing.
            "3: mfspr 11, 26",
            "std 12, {faulted}(13)",
            "lis 12, spandrel_copy_user@highest",
            "ori 12, 12, spandrel_copy_user@higher",
            "sldi 12, 12, 32",
            "oris 12, 12, spandrel_copy_user@high",
            "ori 12, 12, spandrel_copy_user@l",
            "subf 11, 12, 11",
            "cmpldi 11, spandrel_copy_user_end - spandrel_copy_user",
            "addi 11, 12, spandrel_copy_user_end - spandrel_copy_user",
            "ld 12, {faulted}(13)",
            "bge 5f",
            "mtspr 26, 11",
            "b 4b",
            // The kernel is at fault. Everything is stored for the report, and a fresh stack is
            // chained to the old one through a frame whose saved LR is the address of the fault.
            "5: std 12, {faulted}(13)",
            "addi 12, 13, {faulted}",
            ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "std \\r, {fault_gpr}+8*\\r(12)",
            ".endr",
            "ld 3, {scratch}+8(13)",
            "std 3, {fault_gpr}+8*11(12)",
            "ld 3, {scratch}(13)",
            "std 3, {fault_gpr}+8*12(12)",
            "mfspr 3, 273",
            "std 3, {fault_gpr}+8*13(12)",
            "ld 3, {scratch}+16(13)",
            "b spandrel_fault_common",

            // A machine check: SPRG2 holds the interrupted r13. With RI=1, nobody needs what is in
            // SPRG1 and the scratch words: they are live while SRR0 and SRR1 are.
            "spandrel_machine_check:",
            "mfspr 13, 272",
            "std 12, {scratch}(13)",
            "std 11, {scratch}+8(13)",
            "mfcr 11",
            "std 11, {scratch}+16(13)",
            "mfspr 12, 27",
            "andi. 11, 12, 0x32", // IR, DR, RI
            "cmpldi 11, 0x32",
            "bne 6f",
            "std 12, {faulted}+{fault_srr1}(13)",
            "mfspr 11, 26",
            "std 11, {faulted}+{fault_srr0}(13)",
            "mfspr 11, 274",
            "mtspr 273, 11",
            "lis 12, spandrel_checked@highest",
            "ori 12, 12, spandrel_checked@higher",
            "sldi 12, 12, 32",
            "oris 12, 12, spandrel_checked@high",
            "ori 12, 12, spandrel_checked@l",
            "mtspr 26, 12",
            "mfmsr 11",
            "ori 11, 11, 0x1030", // ME, IR, DR
            "mtspr 27, 11",
            "rfid",
            // Translated: as on arrival, but at `spandrel_trap` with this vector.
            "spandrel_checked:",
            "ld 12, {faulted}+{fault_srr0}(13)",
            "mtspr 26, 12",
            "ld 12, {faulted}+{fault_srr1}(13)",
            "mtspr 27, 12",
            "ld 11, {scratch}+16(13)",
            "mtcr 11",
            "ld 11, {scratch}+8(13)",
            "li 12, 0x200",
            "b spandrel_trap",
            "6: ld 11, {scratch}+16(13)",
            "mtcr 11",
            "ld 11, {scratch}+8(13)",
            "ld 12, {scratch}(13)",
            "li 13, 0x200",

            // With translation off: r13 the vector, SPRG2 the interrupted r13.
            "spandrel_real_trap:",
            "mtspr 273, 12",
            "mfspr 12, 272",
            "addi 12, 12, {faulted}",
            "std 13, 0(12)",
            ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "std \\r, {fault_gpr}+8*\\r(12)",
            ".endr",
            "mfspr 3, 273",
            "std 3, {fault_gpr}+8*12(12)",
            "mfspr 3, 274",
            "std 3, {fault_gpr}+8*13(12)",
            "mfcr 3",

            // r12 the registers so far, r3 CR.
            "spandrel_fault_common:",
            "std 3, {fault_cr}(12)",
            "ld 4, {fault_stack}(12)",
            "mfspr 3, 26",
            "std 3, {fault_srr0}(12)",
            "std 3, 32+16(4)", // the saved LR of the frame that stands for the fault
            "mfspr 3, 27",
            "std 3, {fault_srr1}(12)",
            "mflr 3",
            "std 3, {fault_lr}(12)",
            "mfctr 3",
            "std 3, {fault_ctr}(12)",
            "mfxer 3",
            "std 3, {fault_xer}(12)",
            "mfspr 3, 19",
            "std 3, {fault_dar}(12)",
            "mfspr 3, 18",
            "std 3, {fault_dsisr}(12)",
            "std 1, 32(4)",
            "addi 3, 4, 32",
            "std 3, 0(4)",
            "mr 1, 4",
            "lis 2, .TOC.@highest",
            "ori 2, 2, .TOC.@higher",
            "sldi 2, 2, 32",
            "oris 2, 2, .TOC.@high",
            "ori 2, 2, .TOC.@l",
            "mr 3, 12",
            "bl {on_kernel_fault}",
            "trap",
            ".popsection",
            gpr = const $crate::trap_entry::offset::GPR,
            pc = const $crate::trap_entry::offset::PC,
            msr = const $crate::trap_entry::offset::MSR,
            lr = const $crate::trap_entry::offset::LR,
            ctr = const $crate::trap_entry::offset::CTR,
            xer = const $crate::trap_entry::offset::XER,
            cr = const $crate::trap_entry::offset::CR,
            entered_by = const $crate::trap_entry::offset::ENTERED_BY,
            by_scv = const $crate::trap::BY_SCV,
            frame = const $crate::trap_entry::offset::FRAME,
            stack = const $crate::trap_entry::offset::STACK,
            toc = const $crate::trap_entry::offset::TOC,
            fault_stack = const $crate::trap_entry::offset::FAULT_STACK,
            scratch = const $crate::trap_entry::offset::SCRATCH,
            faulted = const $crate::trap_entry::offset::FAULTED,
            fault_gpr = const $crate::trap_entry::offset::FAULT_GPR,
            fault_srr0 = const $crate::trap_entry::offset::FAULT_SRR0,
            fault_srr1 = const $crate::trap_entry::offset::FAULT_SRR1,
            fault_lr = const $crate::trap_entry::offset::FAULT_LR,
            fault_ctr = const $crate::trap_entry::offset::FAULT_CTR,
            fault_xer = const $crate::trap_entry::offset::FAULT_XER,
            fault_cr = const $crate::trap_entry::offset::FAULT_CR,
            fault_dar = const $crate::trap_entry::offset::FAULT_DAR,
            fault_dsisr = const $crate::trap_entry::offset::FAULT_DSISR,
            last_way = const $crate::trap_entry::offset::LAST_WAY,
            ways = const $crate::trap_entry::offset::WAYS,
            on_bad_scv = sym $crate::trap::on_bad_scv::<$upcalls>,
            on_trap = sym $crate::trap::on_trap::<$upcalls>,
            on_kernel_fault = sym $crate::kernel_fault::on_kernel_fault::<$upcalls>,
        );
    };
}
