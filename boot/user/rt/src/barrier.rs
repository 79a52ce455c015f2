//! The barrier that costs nothing.

/// Keeps the compiler from moving memory accesses across it; executes no instruction.
///
/// Not `core::sync::atomic::compiler_fence`: for ppc64le, LLVM makes a `sync` of it, and whoever
/// relies on another thread's [`membarrier`](crate::membarrier) in its place would never know.
#[inline(always)]
pub fn compiler_barrier() {
    // SAFETY: no instruction. What the compiler must believe, that it touches memory, is harmless.
    unsafe { core::arch::asm!("", options(nostack, preserves_flags)) };
}
