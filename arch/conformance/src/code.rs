//! `CODE`: instructions that a program writes, on all CPUs that execute them.
//!
//! No page is writable and executable. But memory may be attached twice: written by one address, it is
//! executed by another.

use crate::outcome::{Not, OrFail, Outcome, ensure_eq};
use crate::world::World;
use crate::{ARENA, Os, Word};
use abi::membarrier::Command;
use abi::{PAGE_BYTES, Protection};

/// Two functions are written through the first, and executed through the second: the last word of one
/// page, the first of the next.
const WRITTEN: Word = Word::new(ARENA + (192 << 20) + PAGE_BYTES - 8);
const EXECUTED: Word = Word::new(ARENA + (224 << 20) + PAGE_BYTES - 8);
/// Their bytes.
const BYTES: u64 = 16;

const ROUNDS: u16 = 50;
/// What ends the other thread.
const OVER: u64 = u64::MAX;

/// The writer changes two functions, publishes them and asks for core serialization; another CPU calls
/// them all the while, but for the stores themselves: an emulator that translates code just then keeps
/// what it read for good (QEMU's TCG forgets its translations before it stores). Once the request has
/// returned, nobody finds what was there before. `CODE-2`, `CODE-1`
pub fn code_2_cross_modifying_code<O: Os>(world: &World<O>) -> Outcome {
    let Some(first) = world.os.code_returning(0) else {
        return Err(Not::Skipped("programs of the simulated machine are no instructions"));
    };
    let cpu = world.others().next().ok_or(Not::Skipped("too few CPUs"))?;
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpeditedSyncCore)?;
    let memory = world.memory(2).or_fail("memory_create")?;
    for (at, protection) in [(WRITTEN, Protection::ReadWrite), (EXECUTED, Protection::ReadExecute)] {
        let page = Word::new(at.address() - (PAGE_BYTES - 8));
        world.attach(memory, page, 2, protection).or_fail("memory_attach")?;
    }
    store(world, first);
    publish(world)?;
    let [told, stale, calls, stand, stands] = [0, 1, 2, 3, 4].map(|flag| world.flag(flag));
    let other = world.spawn(1 << cpu, move |world| {
        loop {
            let number = world.load(told);
            if number == OVER {
                return;
            }
            if world.load(stand) == 1 {
                world.store(stands, 1);
                world.wait_for(stand, 0);
                world.store(stands, 0);
            }
            let oldest = call(&world).into_iter().min().unwrap_or(0);
            if oldest < number {
                world.store(stale, number);
            }
            world.store(calls, world.load(calls) + 1);
            world.os.pause();
        }
    })?;
    let mut outcome = Ok(());
    for number in 1..=ROUNDS {
        let code = world.os.code_returning(number).unwrap_or(first);
        let before = world.load(calls);
        world.store(stand, 1);
        world.wait_for(stands, 1);
        store(world, code);
        world.store(stand, 0);
        outcome = publish(world).and_then(|()| {
            world.store(told, number.into());
            ensure_eq!(call(world), [u64::from(number); 2], "what the writer calls");
            Ok(())
        });
        if outcome.is_err() {
            break;
        }
        world.wait_until(|world| world.load(calls) > before + 1);
    }
    world.store(told, OVER);
    world.join(other)?;
    outcome?;
    ensure_eq!(world.load(stale), 0, "the round in which another CPU executed what was there before");
    Ok(())
}

fn store<O: Os>(world: &World<O>, code: u64) {
    world.store_plain(WRITTEN, code);
    world.store_plain(WRITTEN.plus(8), code);
}

fn publish<O: Os>(world: &World<O>) -> Outcome {
    world.publish_code(WRITTEN, BYTES)?;
    world.barrier(Command::PrivateExpeditedSyncCore)
}

fn call<O: Os>(world: &World<O>) -> [u64; 2] {
    // SAFETY: `store` has put functions there, whole words each, and nothing else ever.
    [EXECUTED, EXECUTED.plus(8)].map(|at| unsafe { world.os.execute(at) })
}
