//! `HV`: the machine may be more or less than the last one. What it has is found, and works.

use crate::outcome::{OrFail, Outcome, ensure_eq};
use crate::probe::{File, Meanwhile};
use crate::world::World;
use crate::{Not, Os};
use abi::membarrier::Command;
use abi::{Call, Error};

/// What an optional part of the machine stands behind works with it and without: vector registers of
/// whatever width, serializing for other cores, the clock, sleep. The case says what it saw. `HV-1`
pub fn hv_1_with_what_there_is<O: Os>(world: &World<O>) -> Outcome {
    for (name, has) in world.os.features() {
        let has = if has() { "with" } else { "without" };
        world.say(format_args!("conformance: {has} {name}"));
    }
    world.barrier(Command::RegisterPrivateExpeditedSyncCore)?;
    for cpu in (0..64).filter(|cpu| world.cpus() & 1 << cpu != 0) {
        world.move_to(cpu)?;
        world.barrier(Command::PrivateExpeditedSyncCore)?;
        world.sleep(100_000)?;
        for seed in 0..4 {
            let held = world.os.hold(File::Vector, seed, Meanwhile::Call(Call::Yield as u64, [0; 2]));
            held.map_err(Not::Failed)?;
        }
    }
    Ok(())
}

/// Where the machine has two instructions for a call, both are the same call. `HV-1`
pub fn hv_1_every_door<O: Os>(world: &World<O>) -> Outcome {
    let Some(door) = world.os.second_door() else {
        return Err(Not::Skipped("there is one door"));
    };
    let statuses = [(Call::Null as u64, 0), (Call::Yield as u64, 0), (u64::MAX, Error::BadCall as u64)];
    for (number, status) in statuses {
        ensure_eq!(door(number), status, "call {number:#x} by the second door");
    }
    Ok(())
}

/// What the machine cannot do is refused, twice as well as once, and leaves it as it was. `HV-2`
pub fn hv_2_refusals<O: Os>(world: &World<O>) -> Outcome {
    world.move_to(0)?;
    for cpu in [63, 64, u32::MAX].into_iter().filter(|&cpu| cpu >= 64 || world.cpus() & 1 << cpu == 0) {
        for on in [0, 1] {
            ensure_eq!(world.cpu_power(cpu, on), Err(Error::BadArgument), "turning CPU {cpu} to {on}");
        }
    }
    let cpu = world.others().next().unwrap_or(0);
    ensure_eq!(world.cpu_power(cpu, 2), Err(Error::BadArgument), "turning CPU {cpu} to 2");
    for on in [0, 0, 1, 1] {
        ensure_eq!(world.cpu_power(cpu, on), Ok(0), "turning CPU {cpu} to {on}");
    }
    ensure_eq!(world.cpus_on().or_fail("cpus")?, world.cpus(), "the CPUs that are on");
    world.move_to(cpu)?;
    world.sleep(1_000_000)
}
