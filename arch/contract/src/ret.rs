//! The way back to user mode.
//!
//! The instructions by which a port returns are a table of its own, `returns.toml`, which
//! `tools/x check` holds against the image.
//!
//! Every edge from kernel to user mode passes [`Return::return_to_user`]: system call exits,
//! fault exits, interrupt exits, first entries (`RET-1`). It is the only maker of a [`Resume`],
//! and [`Resume`] is the only thing a trap may answer, so a path that forgets the hook does not
//! compile.

use crate::irq::IrqsOff;
use core::{marker::PhantomData, ptr::NonNull};

/// What this CPU must do before the next user instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Owed {
    /// Whether a sync-core request reached this CPU, or its generation was found behind, since
    /// the core last serialized (`RET-2`).
    pub core_sync: CoreSyncOwed,
}

/// See [`Owed::core_sync`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoreSyncOwed {
    No,
    Yes,
}

/// How much of the frame the return path must load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Reload {
    /// The frame is the one the trap was taken from, and only the system-call result registers
    /// were written: what the entry left in nonvolatile registers is still right.
    ResultOnly = 0,
    /// Everything: another thread, or the frame was written.
    Full = 1,
}

/// Leave to enter user mode with a frame. Made by [`Return::return_to_user`] only. Entry code gets it in
/// two registers, the frame's address first.
#[must_use]
#[repr(C)]
pub struct Resume<F> {
    frame: NonNull<F>,
    reload: Reload,
    _not_send: PhantomData<*mut ()>,
}

impl<F> Resume<F> {
    /// For implementations of [`Return::return_to_user`].
    ///
    /// # Safety
    /// All that [`Owed`] named is settled, or is settled by the instructions between here and the
    /// return instruction; interrupts stay off until then (`RET-3`).
    pub unsafe fn settled(frame: NonNull<F>, reload: Reload) -> Self {
        Self { frame, reload, _not_send: PhantomData }
    }
    pub fn frame(&self) -> NonNull<F> {
        self.frame
    }
    pub fn reload(&self) -> Reload {
        self.reload
    }
}

/// The hooks.
pub trait Return: crate::trap::Traps {
    /// Whether *every* instruction this port returns to user mode with serializes the core.
    /// True: `return_to_user` settles sync-core debts at no cost. False: it must act on them.
    /// A constant on a machine, looked up in the model. `RET-4` refutes a false claim.
    fn user_return_serializes(cpu: &Self::Cpu) -> bool;

    /// The last hook before user mode. Generic code calls it with the thread's frame and what is
    /// owed, after the memory context is right; the caller returns the [`Resume`] to the
    /// architecture's trap code without doing anything else.
    ///
    /// # Safety
    /// 1. `frame` is valid, is a user frame, and stays in place until the next trap of this CPU.
    /// 2. The memory context loaded on this CPU is that of the frame's thread.
    /// 3. `reload` is [`Reload::ResultOnly`] only if `frame` is the one this very trap saved.
    unsafe fn return_to_user(
        cpu: &Self::Cpu,
        frame: NonNull<Self::Frame>,
        owed: Owed,
        reload: Reload,
        irq: &IrqsOff,
    ) -> Resume<Self::Frame>;

    /// What a switch of threads may end in. A port that loads every register from the frame needs
    /// nothing of what the way in has left on the kernel's stack, and goes to user mode from here; any
    /// other gives `resume` back, and the caller returns it.
    ///
    /// # Safety
    /// 1. `resume` is what [`return_to_user`](Self::return_to_user) has just answered, with
    ///    [`Reload::Full`].
    /// 2. Nothing in the functions between the upcall and here has to be dropped any more.
    #[inline(always)]
    unsafe fn go(_: &Self::Cpu, resume: Resume<Self::Frame>) -> Resume<Self::Frame> {
        resume
    }
}
