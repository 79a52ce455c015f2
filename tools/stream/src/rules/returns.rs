//! What must be true of the instruction that led to user mode.

use super::{
    Broken, Cpu, DECLARED_RETURN, INTERRUPTS_OFF, Image, Interrupts, ProcessIs, RESERVATION_CLEARED,
    RETURN_SERIALIZES, UserReturn,
};
use crate::Arch;

/// A CPU executes its first user instruction. What it executed before is the return.
pub fn enters_user(image: &Image, cpu: &Cpu, process: ProcessIs, broken: &mut Vec<Broken>) {
    let Some((instruction, at)) = cpu.last else {
        return broken.push((DECLARED_RETURN, "nothing that returns was executed".into()));
    };
    let name = instruction.name();
    let Some(declared) = image.returns.get(&at).filter(|_| instruction.is_return()) else {
        return broken.push((DECLARED_RETURN, format!("the last was {name} at {at:#x}")));
    };
    if cpu.interrupts == Interrupts::On {
        broken.push((INTERRUPTS_OFF, format!("they were on at the {name} at {at:#x}")));
    }
    if image.arch == Arch::Ppc64le {
        if !instruction.serializes() {
            broken.push((RETURN_SERIALIZES, format!("{name} does not")));
        }
        // Of two threads of one process nobody can tell from outside which it was.
        let maybe_the_same =
            process == ProcessIs::TheOneThatLeft && *declared == UserReturn::MaybeToTheCaller;
        if !maybe_the_same && cpu.conditional_store < cpu.entered_kernel {
            broken.push((RESERVATION_CLEARED, "there was no stcx.".into()));
        }
    }
}
