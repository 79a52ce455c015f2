//! The window to user memory: `stac` and `clac`; the AMR register, and IAMR beside it.

use super::{Broken, WINDOW_CLOSED};
use crate::Instruction;
use Instruction::{Clac, Isync, MtAmr, MtIamr, Stac};

/// What is known of the window of one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    #[default]
    Closed,
    Open,
    /// ppc64le: the register was written.
    Written,
}

/// A CPU executes an instruction of the kernel, after `last`, if that was in the kernel too: the way
/// into it is context synchronizing by itself.
pub fn executes(
    state: &mut State,
    last: Option<Instruction>,
    instruction: Instruction,
    broken: &mut Vec<Broken>,
) {
    if let (MtAmr | MtIamr, Some(last)) = (instruction, last)
        && *state != State::Written
        && !last.serializes()
    {
        broken.push((WINDOW_CLOSED, format!("{} instead of isync before mtspr amr", last.name())));
    }
    *state = match (*state, instruction) {
        (_, Stac) => State::Open,
        (_, Clac) => State::Closed,
        (State::Written, Isync) => State::Closed,
        (_, MtAmr | MtIamr) => State::Written,
        (State::Written, _) => {
            let name = instruction.name();
            broken.push((WINDOW_CLOSED, format!("{name} instead of isync after mtspr amr")));
            State::Closed
        }
        (state, _) => state,
    };
}

/// A CPU executes its first user instruction.
pub fn enters_user(state: &State, broken: &mut Vec<Broken>) {
    match state {
        State::Closed => {}
        State::Open => broken.push((WINDOW_CLOSED, "it is open".into())),
        State::Written => broken.push((WINDOW_CLOSED, "no isync after mtspr amr".into())),
    }
}
