//! The window to user memory: `stac` and `clac`; the AMR register, and IAMR beside it.
//!
//! What is written to a register no watcher is told. But AMR is written to open the window and to close
//! it again, in turns, from the boot code on, which writes IAMR too and leaves the window closed.

use super::{Broken, WINDOW_CLOSED};
use crate::Instruction;
use Instruction::{Clac, Isync, MtAmr, MtIamr, Stac};

/// What is known of the window of one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    #[default]
    Closed,
    Open,
    /// ppc64le: the register was written, and this is so.
    Written(Is),
}

/// How the window stands once `isync` was executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Is {
    Closed,
    Open,
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
        && !matches!(state, State::Written(_))
        && !last.serializes()
    {
        broken.push((WINDOW_CLOSED, format!("{} instead of isync before mtspr amr", last.name())));
    }
    *state = match (*state, instruction) {
        (_, Stac) => State::Open,
        (_, Clac) => State::Closed,
        (State::Written(Is::Closed), Isync) => State::Closed,
        (State::Written(Is::Open), Isync) => State::Open,
        (_, MtIamr) => State::Written(Is::Closed),
        (State::Open | State::Written(Is::Open), MtAmr) => State::Written(Is::Closed),
        (_, MtAmr) => State::Written(Is::Open),
        (State::Written(is), _) => {
            let name = instruction.name();
            broken.push((WINDOW_CLOSED, format!("{name} instead of isync after mtspr amr")));
            match is {
                Is::Closed => State::Closed,
                Is::Open => State::Open,
            }
        }
        (state, _) => state,
    };
}

/// A CPU executes its first user instruction.
pub fn enters_user(state: &State, broken: &mut Vec<Broken>) {
    match state {
        State::Closed => {}
        State::Open => broken.push((WINDOW_CLOSED, "it is open".into())),
        State::Written(_) => broken.push((WINDOW_CLOSED, "no isync after mtspr amr".into())),
    }
}
