//! Client-architecture-support: what this kernel can do, told to the hypervisor before it settles
//! how to run the guest (PAPR App. B.6.2.3, option vectors).
//!
//! The structure is bytes: processors it runs on, then vectors, each preceded by its length less
//! one. The answer is the device tree, which may change in the call, so it is read afterwards.

use crate::of::{Firmware, address};

/// How the negotiation went. Without it the tree still says what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Negotiation {
    Agreed,
    /// The hypervisor cannot run what was asked for.
    Refused,
    /// Firmware has no such method.
    Missing,
}

/// A processor: mask and value of the version register, big-endian. The codes 0x0f00000x stand for
/// architecture levels.
const fn processor(mask: u32, value: u32) -> [u8; 8] {
    let (m, v) = (mask.to_be_bytes(), value.to_be_bytes());
    [m[0], m[1], m[2], m[3], v[0], v[1], v[2], v[3]]
}

#[repr(C)]
struct Support {
    processors: [[u8; 8]; 8],
    /// Vectors less one.
    vectors: u8,
    vector1: [u8; 4],
    vector2: [u8; 1 + 33],
    vector3: [u8; 3],
    vector4: [u8; 3],
    vector5: [u8; 1 + 26],
}

/// Vector 5, by its byte numbers.
const VECTOR5: [u8; 27] = {
    let mut bytes = [0; 27];
    bytes[0] = 26 - 1;
    // 9–12: the most CPUs this kernel knows of.
    bytes[12] = arch_contract::boot::MAX_CPUS as u8;
    // 24: radix trees. 26: the guest invalidates its own translations (GTSE).
    bytes[24] = 0x40;
    bytes[26] = 0x40;
    bytes
};

/// Vector 2: Open Firmware's own settings; all ones leave an address to it.
const VECTOR2: [u8; 34] = {
    let mut bytes = [0; 34];
    bytes[0] = 33 - 1;
    let mut at = 4;
    // real-base, real-size, virt-base, virt-size, load-base.
    while at < 4 + 5 * 4 {
        bytes[at] = 0xff;
        at += 1;
    }
    // Real mode area: at least 128 MiB.
    bytes[27] = 128;
    // min-load: whatever is loaded stays; the largest hash table: irrelevant, 2^48.
    bytes[28] = 0xff;
    bytes[29] = 0xff;
    bytes[30] = 0xff;
    bytes[31] = 0xff;
    bytes[33] = 48;
    bytes
};

/// The interrupt controller that is asked for: byte 23 of vector 5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Interrupts {
    /// By hypervisor calls.
    Xics = 0,
    /// Natively.
    Xive = 0x40,
}

const SUPPORT: Support = Support {
    processors: [
        processor(0xffff_0000, 0x004e_0000), // POWER9
        processor(0xffff_0000, 0x0080_0000), // POWER10
        processor(0xffff_0000, 0x0082_0000), // POWER11
        processor(0xffff_ffff, 0x0f00_0005), // Power ISA 3.0
        processor(0xffff_ffff, 0x0f00_0006), // 3.1
        processor(0xffff_ffff, 0x0f00_0007), // 3.1 on POWER11
        processor(0xffff_ffff, 0x0f00_0005),
        // The end: a value with bits outside its mask.
        processor(0, 0xffff_ffff),
    ],
    vectors: 5 - 1,
    // Levels supported: none before 3.0; 3.0 and 3.1.
    vector1: [3 - 1, 0, 0, 0xc0],
    vector2: VECTOR2,
    // Floating point, vectors, decimal floating point.
    vector3: [2 - 1, 0, 0xe0],
    // Smallest share of a processor, in percent.
    vector4: [2 - 1, 0, 10],
    vector5: VECTOR5,
};

/// Asks.
pub fn negotiate(firmware: &mut Firmware, interrupts: Interrupts) -> Negotiation {
    let mut support = SUPPORT;
    support.vector5[23] = interrupts as u8;
    let Some(root) = firmware.open(c"/") else { return Negotiation::Missing };
    match firmware.method(c"ibm,client-architecture-support", root, address(&raw const support)) {
        Ok(0) => Negotiation::Agreed,
        Ok(_) => Negotiation::Refused,
        Err(_) => Negotiation::Missing,
    }
}
