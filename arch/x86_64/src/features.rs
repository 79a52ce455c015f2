//! What this CPU can do. Every use of an optional feature asks here (`HV-1`).

use crate::needed::{Missing, check};
use core::fmt;
use raw_cpuid::CpuId;

/// Optional features that were found, and what they imply.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    pub x2apic: bool,
    pub tsc_deadline: bool,
    pub invariant_tsc: bool,
    /// Something else owns the machine, and says so.
    pub hypervisor: bool,
    pub xsave: bool,
    pub xsaveopt: bool,
    pub avx: bool,
    pub smep: bool,
    pub smap: bool,
    pub umip: bool,
    pub pages_1g: bool,
    pub pcid: bool,
    pub serialize: bool,
    /// Ticks of the TSC per second, where CPUID says so.
    pub tsc_hz: Option<u64>,
    /// Ticks of the local APIC timer before its divider, where CPUID says so.
    pub apic_hz: Option<u64>,
}

impl Features {
    /// Asks this CPU. Fails with the first feature that is needed and missing (`BOOT-4`).
    pub fn find() -> Result<Self, Missing> {
        let cpuid = CpuId::new();
        let basic = cpuid.get_feature_info().ok_or(Missing("CPUID leaf 1"))?;
        let extended = cpuid.get_extended_processor_and_feature_identifiers().ok_or(Missing("long mode"))?;
        check([
            (extended.has_execute_disable(), "NX (no-execute pages)"),
            (extended.has_syscall_sysret(), "SYSCALL"),
            (basic.has_msr(), "MSR"),
            (basic.has_tsc(), "TSC (time-stamp counter)"),
            (basic.has_apic(), "APIC"),
            (basic.has_pge(), "PGE (global pages)"),
            (basic.has_fxsave_fxstor(), "FXSR (fxsave)"),
            (basic.has_sse2(), "SSE2"),
        ])?;
        let structured = cpuid.get_extended_feature_info();
        let structured = structured.as_ref();
        let xsave = basic.has_xsave();
        let rates = cpuid.get_tsc_info().filter(|info| info.nominal_frequency() != 0);
        let hypervisor = cpuid.get_hypervisor_info();
        let stated = hypervisor.as_ref();
        Ok(Self {
            x2apic: basic.has_x2apic(),
            tsc_deadline: basic.has_tsc_deadline(),
            invariant_tsc: cpuid.get_advanced_power_mgmt_info().is_some_and(|info| info.has_invariant_tsc()),
            hypervisor: basic.has_hypervisor(),
            xsave,
            xsaveopt: xsave && cpuid.get_extended_state_info().is_some_and(|info| info.has_xsaveopt()),
            avx: xsave && basic.has_avx(),
            smep: structured.is_some_and(|info| info.has_smep()),
            smap: structured.is_some_and(|info| info.has_smap()),
            umip: structured.is_some_and(|info| info.has_umip()),
            pages_1g: extended.has_1gib_pages(),
            pcid: basic.has_pcid(),
            serialize: has_serialize(),
            tsc_hz: rates
                .and_then(|info| info.tsc_frequency())
                .or_else(|| stated.and_then(|info| info.tsc_frequency()).map(|khz| u64::from(khz) * 1000)),
            apic_hz: stated.and_then(|info| info.apic_frequency()).map(|khz| u64::from(khz) * 1000),
        })
    }
}

/// CPUID.7.0:EDX[14], which the crate does not name.
fn has_serialize() -> bool {
    let leaf = |leaf| raw_cpuid::native_cpuid::cpuid_count(leaf, 0);
    leaf(0).eax >= 7 && leaf(7).edx & 1 << 14 != 0
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cpu features:")?;
        let found = [
            (self.x2apic, " x2apic"),
            (self.tsc_deadline, " tsc-deadline"),
            (self.invariant_tsc, " invariant-tsc"),
            (self.hypervisor, " hypervisor"),
            (self.xsave, " xsave"),
            (self.xsaveopt, " xsaveopt"),
            (self.avx, " avx"),
            (self.smep, " smep"),
            (self.smap, " smap"),
            (self.umip, " umip"),
            (self.pages_1g, " 1g-pages"),
            (self.pcid, " pcid"),
            (self.serialize, " serialize"),
        ];
        for (_, name) in found.iter().filter(|(there, _)| *there) {
            f.write_str(name)?;
        }
        match found.iter().any(|(there, _)| *there) {
            true => Ok(()),
            false => f.write_str(" none that is optional"),
        }
    }
}
