//! What firmware tells, from either kind, judged: what the kernel cannot do without ends the run with a
//! message (`BOOT-4`).
//!
//! Open Firmware is asked for its tree after the negotiation, and then done with; anything else
//! passes a flattened tree. Translation is off throughout.

use crate::cas::{self, Interrupts, Negotiation};
use crate::cpu::{Firmware, PHYSICAL_MAP};
use crate::spr::{self, number};
use crate::tree::{self, Handover, Offer, Platform};
use crate::{Ppc64le, console, of, of_tree};
use arch_contract::addr::PhysAddr;
use arch_contract::boot::PhysRange;
use arch_contract::upcalls::Upcalls;

/// What firmware left in r3 to r5, made one shape: Open Firmware passes its client interface in r5
/// and the initrd in r3 and r4; anything else passes 0 in r5 and a flattened tree in r3.
///
/// # Safety
/// They are what firmware passed, translation is off, and it was not called before.
pub unsafe fn take<U: Upcalls<Ppc64le>>(r3: u64, r4: u64, r5: u64) -> (Handover, Firmware) {
    match r5 {
        0 => (from_blob::<U>(r3), Firmware::FlattenedTree),
        entry => {
            // SAFETY: firmware passed it just now, and translation is off.
            let mut handover = from_firmware::<U>(unsafe { of::Firmware::new(entry) });
            if r4 != 0 {
                handover.initrd = Some(PhysRange { start: PhysAddr(r3), len: r4 });
            }
            (handover, Firmware::OpenFirmware)
        }
    }
}

/// The tree of firmware that passes one.
fn from_blob<U: Upcalls<Ppc64le>>(at: u64) -> Handover {
    let start = (at | PHYSICAL_MAP) as *const u8;
    // SAFETY: firmware says a tree lies there; any bits are valid bytes.
    let header = unsafe { &*start.cast::<[u8; 40]>() };
    let Some(size) = crate::tree_check::stated_size(header) else {
        U::boot_failure(format_args!(
            "no device tree at {at:#x} (r3) and no Open Firmware (r5 = 0): boot with -kernel on a pseries machine"
        ));
    };
    // SAFETY: as above, for the size that it states.
    read_tree::<U>(unsafe { core::slice::from_raw_parts(start, size) })
}

/// The tree of Open Firmware, after the negotiation; then firmware is done with.
fn from_firmware<U: Upcalls<Ppc64le>>(mut firmware: of::Firmware) -> Handover {
    select_console(&mut firmware);
    // Asked before the negotiation, for a hypervisor may end a guest that wants what it lacks.
    let mut support = [0; 32];
    let mut interrupts = Interrupts::Xics;
    if let Some(chosen) = firmware.find(c"/chosen")
        && let Some(length) = firmware.property(chosen, c"ibm,arch-vec-5-platform-support", &mut support)
    {
        let platform = Platform::parse(&support[..length.min(support.len())]);
        require_platform::<U>(platform);
        if platform.interrupts == Offer::NewOnly {
            interrupts = Interrupts::Xive;
        }
    }
    // Refused or missing, the tree says what there is; `require_features` judges that.
    let negotiation = cas::negotiate(&mut firmware, interrupts);
    let blob = match of_tree::flatten(&mut firmware) {
        Ok(blob) => blob,
        Err(error) => U::boot_failure(format_args!("cannot read the device tree: {error}")),
    };
    let handover = read_tree::<U>(blob);
    firmware.quiesce();
    if negotiation == Negotiation::Refused && handover.platform.translation == Offer::Unsaid {
        U::boot_failure(format_args!(
            "the hypervisor refuses a guest with radix translation (client-architecture-support)"
        ));
    }
    handover
}

/// Directs messages to the terminal firmware uses, before the whole tree is known.
fn select_console(firmware: &mut of::Firmware) {
    let mut path = [0; 64];
    let Some(chosen) = firmware.find(c"/chosen") else { return };
    let path = match firmware.property(chosen, c"stdout-path", &mut path) {
        Some(length) if length <= path.len() => &path[..length],
        _ => return,
    };
    // Firmware may have taken the terminal that is not one for its own; see `tree.rs`.
    if let Some(unit) = tree::unit_of_path(path).filter(|&unit| unit != tree::VERDICT_UNIT) {
        console::select(unit);
    }
}

fn read_tree<U: Upcalls<Ppc64le>>(blob: &[u8]) -> Handover {
    match tree::read(blob) {
        Ok(handover) => handover,
        Err(error) => U::boot_failure(format_args!("the device tree is unusable: {error}")),
    }
}

fn no_radix<U: Upcalls<Ppc64le>>() -> ! {
    U::boot_failure(format_args!(
        "this CPU has no radix MMU (PVR {:#010x}): use a POWER9 or later, such as -cpu power9",
        spr::read::<{ number::PVR }>()
    ))
}

/// What this kernel cannot do without (`BOOT-4`), as far as the hypervisor is concerned.
fn require_platform<U: Upcalls<Ppc64le>>(platform: Platform) {
    if platform.translation == Offer::OldOnly {
        no_radix::<U>();
    }
}

/// The same, and what the CPU says of itself.
pub fn require_features<U: Upcalls<Ppc64le>>(handover: &Handover) {
    require_platform::<U>(handover.platform);
    if handover.cpu_radix == Some(false) {
        no_radix::<U>();
    }
}
