//! Which Power instructions touch floating-point, VMX or VSX registers, by opcode.
//!
//! Power ISA 3.1 Book I, chapters 4, 6 and 7; the opcode maps are in its appendices.

/// The extended opcodes (bits 21–30) under primary opcode 31 that do.
#[rustfmt::skip]
const UNDER_31: &[u32] = &[
    // lvebx lvehx lvewx lvx lvxl lvsl lvsr, and the stores
    7, 39, 71, 103, 359, 6, 38, 135, 167, 199, 231, 487,
    // lfsx lfsux lfdx lfdux lfiwax lfiwzx lfdpx, and the stores
    535, 567, 599, 631, 855, 887, 791, 663, 695, 727, 759, 983, 919,
    // lxsdx lxvd2x lxvw4x lxvdsx lxvx lxvh8x lxvb16x lxvl lxvll lxsspx lxsiwax lxsiwzx lxsibzx
    // lxsihzx lxvwsx lxvpx
    588, 844, 780, 332, 268, 812, 876, 269, 301, 524, 76, 12, 781, 813, 364, 333,
    // stxsdx stxvd2x stxvw4x stxvx stxvh8x stxvb16x stxvl stxvll stxsspx stxsiwx stxsibx stxsihx
    // stxvpx
    716, 972, 908, 396, 940, 1004, 397, 429, 652, 140, 909, 941, 461,
    // mfvsrd mfvsrwz mfvsrld mtvsrd mtvsrwa mtvsrwz mtvsrdd mtvsrws
    51, 115, 307, 179, 211, 243, 435, 403,
];

/// What kind of vector instruction a word is, if it is one.
pub fn vector(word: u32) -> Option<&'static str> {
    let primary = word >> 26;
    let extended = word >> 1 & 0x3ff;
    match primary {
        // maddhd, maddhdu, maddld: integer instructions that live among the vector ones.
        4 if matches!(word & 0x3f, 48 | 49 | 51) => None,
        4 => Some("a VMX instruction"),
        6 => Some("a vector pair load or store"),
        31 if UNDER_31.contains(&extended) => Some("a vector load, store or move"),
        48..=55 => Some("a floating-point load or store"),
        57 if word & 3 != 1 => Some("a vector load"),
        60 => Some("a VSX instruction"),
        61 => Some("a vector load or store"),
        59 | 63 => Some("a floating-point instruction"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_instructions_are_found() {
        for (word, text) in [
            (0xc823_0000, "lfd f1, 0(r3)"),
            (0xd823_0000, "stfd f1, 0(r3)"),
            (0x7c00_18ce, "lvx v0, 0, r3"),
            (0x7c00_19ce, "stvx v0, 0, r3"),
            (0x7c00_1e98, "lxvd2x vs0, 0, r3"),
            (0x7c00_1f98, "stxvd2x vs0, 0, r3"),
            (0xf403_0001, "lxv vs0, 0(r3)"),
            (0xf000_0450, "xxlor"),
            (0x1000_0484, "vor v0, v0, v0"),
            (0xfc20_1090, "fmr f1, f2"),
            (0xec22_182a, "fadds f1, f2, f3"),
            (0x7c03_0066, "mfvsrd r3, vs0"),
            (0xfffe_fd8e, "mtfsf"),
        ] {
            assert!(vector(word).is_some(), "{text}");
        }
    }

    #[test]
    fn integer_instructions_are_not() {
        for (word, text) in [
            (0x6000_0000, "nop"),
            (0x3860_0001, "li r3, 1"),
            (0xe861_0000, "ld r3, 0(r1)"),
            (0xf861_0000, "std r3, 0(r1)"),
            (0x7c08_02a6, "mflr r0"),
            (0x7c63_1a14, "add r3, r3, r3"),
            (0x4e80_0020, "blr"),
            (0x7c00_04ac, "sync"),
            (0x1064_2973, "maddld"),
            (0x4400_0022, "sc 1"),
        ] {
            assert!(vector(word).is_none(), "{text}");
        }
    }
}
