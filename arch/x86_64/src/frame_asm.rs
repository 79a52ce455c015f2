//! The one place where assembly spells out the order of [`Frame`](crate::trap::Frame)'s general
//! registers: pushed from its end, popped from its start.

/// Pushes all general registers but `rsp`, which is what a frame holds below its vector.
macro_rules! push_general {
    () => {
        ".irp r, rdi, rsi, rdx, rcx, rax, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15
        push \\r
        .endr"
    };
}

/// Pops them up to `rax`: `rcx`, `rdx`, `rsi` and `rdi` are still needed by whoever returns.
macro_rules! pop_general {
    () => {
        ".irp r, r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax
        pop \\r
        .endr"
    };
}
