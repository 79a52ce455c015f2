//! What the device tree says, copied out of it once.
//!
//! [`read`] is the only reader of a flattened tree: it has the blob [checked](crate::tree_check),
//! lets the `fdt` crate parse it, and makes one pass over all nodes. Nothing of the blob is kept,
//! so its memory can be reused at once (`BOOT-3`). It never panics, whatever the bytes: the tree is
//! input like any other, and it is fuzzed as such. (LoPAPR App. B, and Devicetree Specification.)

use crate::bridge::{self, BridgeError, BridgeNode};
use crate::tree_check::{self, CheckError};
use arch_contract::addr::PhysAddr;
use arch_contract::boot::{HardwareCpu, MAX_COMMAND_LINE, MAX_CPUS, MAX_RANGES, PhysRange};
use arrayvec::{ArrayString, ArrayVec};
use fdt::node::FdtNode;

/// Where the verdict goes: a terminal at this unit address is not one (`Power::power_off`).
pub const VERDICT_UNIT: u32 = 0x3000_0000;

/// Terminals a machine may have.
const MAX_TERMINALS: usize = 8;

/// A tree this kernel cannot boot from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreeError {
    Unsound(CheckError),
    /// More memory ranges or CPUs than there is room for.
    TooMany,
    /// A memory or initrd range wraps, or ends before it starts.
    BadRange,
    CommandLineTooLong,
    CommandLineNotText,
    NoMemory,
    NoCpu,
    /// The CPU nodes do not state the rate of the timebase.
    NoTimebase,
}

impl core::fmt::Display for TreeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unsound(why) => write!(f, "{why}"),
            Self::TooMany => write!(f, "it lists more memory ranges or CPUs than are supported"),
            Self::BadRange => write!(f, "a memory or initrd range wraps around"),
            Self::CommandLineTooLong => {
                write!(f, "the command line is longer than {MAX_COMMAND_LINE} bytes: shorten -append")
            }
            Self::CommandLineNotText => write!(f, "the command line is not UTF-8"),
            Self::NoMemory => write!(f, "it has no memory node"),
            Self::NoCpu => write!(f, "it has no CPU node"),
            Self::NoTimebase => write!(f, "it does not state timebase-frequency"),
        }
    }
}

/// What one value of a platform-support option allows (`ibm,arch-vec-5-platform-support`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offer {
    /// The tree does not say.
    Unsaid,
    /// Only the older: hash tables, XICS.
    OldOnly,
    /// Only the newer: radix trees, XIVE.
    NewOnly,
    Either,
}

/// What the hypervisor can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Platform {
    pub translation: Offer,
    pub interrupts: Offer,
}

impl Platform {
    pub const UNSAID: Self = Self { translation: Offer::Unsaid, interrupts: Offer::Unsaid };

    /// Reads `ibm,arch-vec-5-platform-support`: pairs of an option byte's number and its value.
    /// Byte 23 is the interrupt controller, byte 24 translation; the top two bits of the value say
    /// which: 0 the older, 1 the newer, 2 and 3 either.
    pub fn parse(value: &[u8]) -> Self {
        let mut platform = Self::UNSAID;
        for pair in value.chunks_exact(2) {
            let offer = match pair[1] >> 6 {
                0 => Offer::OldOnly,
                1 => Offer::NewOnly,
                _ => Offer::Either,
            };
            match pair[0] {
                23 => platform.interrupts = offer,
                24 => platform.translation = offer,
                _ => {}
            }
        }
        platform
    }
}

/// Whether the hypervisor lets the guest do something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grant {
    /// The tree does not say.
    Unsaid,
    Given,
    Refused,
}

/// Who runs the guest, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hypervisor {
    Unknown,
    Kvm,
}

/// How translations may be invalidated on all CPUs at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invalidation {
    /// By `tlbie` (guest translation shootdown enable, option vector 5).
    pub gtse: Grant,
    /// By H_RPT_INVALIDATE.
    pub hypercall: Grant,
    pub hypervisor: Hypervisor,
}

impl Invalidation {
    const UNSAID: Self =
        Self { gtse: Grant::Unsaid, hypercall: Grant::Unsaid, hypervisor: Hypervisor::Unknown };
}

/// log2 of the bytes that a queue of XIVE has at least; an entry has four.
pub const LEAST_QUEUE_SHIFT: u32 = 12;

/// The XIVE controller (PAPR, "Interrupt Virtualization Presentation Engine"). Its node is there where
/// it was negotiated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XiveNode {
    /// Physical address of the thread context's page for operating systems.
    pub context: u64,
    /// Sources for interrupts between CPUs.
    pub first_ipi: u32,
    pub ipi_count: u32,
    /// log2 of the bytes of the smallest queue.
    pub queue_shift: u32,
    /// The least urgent priority that the hypervisor leaves to the guest.
    pub priority: u8,
}

/// RTAS calls by name. `None`: the firmware has no such call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RtasTokens {
    pub power_off: Option<u32>,
    pub os_term: Option<u32>,
    pub set_xive: Option<u32>,
    pub start_cpu: Option<u32>,
    pub stop_self: Option<u32>,
    pub query_cpu_stopped_state: Option<u32>,
    pub int_on: Option<u32>,
    pub int_off: Option<u32>,
    pub read_pci_config: Option<u32>,
    pub write_pci_config: Option<u32>,
    pub change_msi: Option<u32>,
    pub query_interrupt_source_number: Option<u32>,
}

/// A terminal of the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terminal {
    /// The unit address that hypervisor calls name it by.
    pub unit: u32,
    /// The number of its interrupt source.
    pub interrupt: Option<u32>,
}

/// All this kernel wants to know of the machine.
#[derive(Debug)]
pub struct Handover {
    pub memory: ArrayVec<PhysRange, MAX_RANGES>,
    pub reserved: ArrayVec<PhysRange, MAX_RANGES>,
    pub command_line: ArrayString<MAX_COMMAND_LINE>,
    pub initrd: Option<PhysRange>,
    /// Interrupt-server numbers, the boot CPU first.
    pub cpus: ArrayVec<HardwareCpu, MAX_CPUS>,
    /// Timebase ticks per second; not 0.
    pub timebase: u64,
    /// Width of the decrementer, 32 to 64.
    pub decrementer_bits: u32,
    /// Bytes of a data cache block, by the last CPU that states it; 0 if none does.
    pub cache_block: u32,
    /// The terminal that `/chosen` names, else the first; never the one at [`VERDICT_UNIT`].
    pub console: Option<Terminal>,
    pub rtas: RtasTokens,
    pub platform: Platform,
    pub invalidation: Invalidation,
    pub xive: Option<XiveNode>,
    /// The first PCI host bridge; others are not used. `None`: there is none.
    pub bridge: Option<Result<BridgeNode, BridgeError>>,
    /// `ibm,pa-features` says that the CPU walks radix trees; `None` if it says nothing.
    pub cpu_radix: Option<bool>,
}

/// What one pass collects before it is known which of it counts.
struct Pass {
    out: Handover,
    address_cells: usize,
    size_cells: usize,
    terminals: ArrayVec<Terminal, MAX_TERMINALS>,
    stdout: Option<u32>,
    initrd: (Option<u64>, Option<u64>),
    /// For XIVE; it stands in the root.
    priority: u8,
}

/// Reads a flattened tree. `blob` may be longer than the tree in it.
pub fn read(blob: &[u8]) -> Result<Handover, TreeError> {
    tree_check::check(blob).map_err(TreeError::Unsound)?;
    // The check covers all that the parser asks of a header.
    let tree = fdt::Fdt::new(blob).map_err(|_| TreeError::Unsound(CheckError::Truncated))?;
    let mut pass = Pass::new();
    for range in tree.memory_reservations() {
        let range = PhysRange { start: PhysAddr(range.address() as u64), len: range.size() as u64 };
        pass.out.reserved.try_push(range).map_err(|_| TreeError::TooMany)?;
    }
    for (index, node) in tree.all_nodes().enumerate() {
        if index == 0 {
            pass.root(node);
        }
        match node.name.split('@').next().unwrap_or("") {
            "chosen" => pass.chosen(node)?,
            "rtas" => pass.rtas(node),
            "hypervisor" => pass.hypervisor(node),
            _ => match text(node, "device_type") {
                Some("memory") => pass.memory(node)?,
                Some("cpu") => pass.cpu(node)?,
                Some("serial") => pass.terminal(node),
                Some("power-ivpe") => pass.out.xive = xive(node, pass.priority),
                Some("pci") => pass.bridge(node),
                _ => {}
            },
        }
    }
    let boot_cpu = u32::from_be_bytes([blob[28], blob[29], blob[30], blob[31]]);
    pass.finish(HardwareCpu(boot_cpu))
}

impl Pass {
    fn new() -> Self {
        Self {
            out: Handover {
                memory: ArrayVec::new(),
                reserved: ArrayVec::new(),
                command_line: ArrayString::new(),
                initrd: None,
                cpus: ArrayVec::new(),
                timebase: 0,
                decrementer_bits: 32,
                cache_block: 0,
                console: None,
                rtas: RtasTokens::default(),
                platform: Platform::UNSAID,
                invalidation: Invalidation::UNSAID,
                xive: None,
                bridge: None,
                cpu_radix: None,
            },
            // What the specification says where the root says nothing.
            address_cells: 2,
            size_cells: 1,
            terminals: ArrayVec::new(),
            stdout: None,
            initrd: (None, None),
            priority: 7,
        }
    }

    fn root(&mut self, node: FdtNode) {
        if let Some(cells) = value(node, "#address-cells").and_then(|value| word(value, 0)) {
            self.address_cells = cells as usize;
        }
        if let Some(cells) = value(node, "#size-cells").and_then(|value| word(value, 0)) {
            self.size_cells = cells as usize;
        }
        // Pairs: the first reserved priority, and how many.
        let reserved = value(node, "ibm,plat-res-int-priorities").unwrap_or(&[]);
        let is_free = |&priority: &u8| {
            reserved.chunks_exact(8).all(|pair| {
                let (first, count) = (word(pair, 0).unwrap_or(0), word(pair, 1).unwrap_or(0));
                u32::from(priority).checked_sub(first).is_none_or(|offset| offset >= count)
            })
        };
        self.priority = (0..=7).rev().find(is_free).unwrap_or(0);
    }

    fn chosen(&mut self, node: FdtNode) -> Result<(), TreeError> {
        for property in node.properties() {
            match property.name {
                "bootargs" => {
                    let end = property.value.iter().position(|&byte| byte == 0);
                    let bytes = &property.value[..end.unwrap_or(property.value.len())];
                    let line = core::str::from_utf8(bytes).map_err(|_| TreeError::CommandLineNotText)?;
                    self.out.command_line.clear();
                    self.out.command_line.try_push_str(line).map_err(|_| TreeError::CommandLineTooLong)?;
                }
                "linux,initrd-start" => self.initrd.0 = cells(property.value),
                "linux,initrd-end" => self.initrd.1 = cells(property.value),
                "stdout-path" | "linux,stdout-path" => {
                    self.stdout = self.stdout.or(unit_of_path(property.value));
                }
                "ibm,arch-vec-5-platform-support" => self.out.platform = Platform::parse(property.value),
                // The vector that was agreed on, by its byte numbers.
                "ibm,architecture-vec-5" => {
                    let radix_options = property.value.get(26).copied().unwrap_or(0);
                    self.out.invalidation.gtse = granted(radix_options & 0x40 != 0);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn hypervisor(&mut self, node: FdtNode) {
        if value(node, "compatible").is_some_and(|list| lists(list, "linux,kvm")) {
            self.out.invalidation.hypervisor = Hypervisor::Kvm;
        }
    }

    fn rtas(&mut self, node: FdtNode) {
        if let Some(list) = value(node, "ibm,hypertas-functions") {
            self.out.invalidation.hypercall = granted(lists(list, "hcall-rpt-invalidate"));
        }
        let tokens = &mut self.out.rtas;
        for property in node.properties() {
            let token = word(property.value, 0);
            match property.name {
                "power-off" => tokens.power_off = token,
                "ibm,os-term" => tokens.os_term = token,
                "ibm,set-xive" => tokens.set_xive = token,
                "start-cpu" => tokens.start_cpu = token,
                "stop-self" => tokens.stop_self = token,
                "query-cpu-stopped-state" => tokens.query_cpu_stopped_state = token,
                "ibm,int-on" => tokens.int_on = token,
                "ibm,int-off" => tokens.int_off = token,
                "ibm,read-pci-config" => tokens.read_pci_config = token,
                "ibm,write-pci-config" => tokens.write_pci_config = token,
                "ibm,change-msi" => tokens.change_msi = token,
                "ibm,query-interrupt-source-number" => tokens.query_interrupt_source_number = token,
                _ => {}
            }
        }
    }

    fn memory(&mut self, node: FdtNode) -> Result<(), TreeError> {
        let Some(reg) = value(node, "reg") else { return Ok(()) };
        if !(1..=2).contains(&self.address_cells) || !(1..=2).contains(&self.size_cells) {
            return Err(TreeError::BadRange);
        }
        for pair in reg.chunks_exact(4 * (self.address_cells + self.size_cells)) {
            let (start, len) = pair.split_at(4 * self.address_cells);
            let (Some(start), Some(len)) = (cells(start), cells(len)) else {
                return Err(TreeError::BadRange);
            };
            start.checked_add(len).ok_or(TreeError::BadRange)?;
            let range = PhysRange { start: PhysAddr(start), len };
            self.out.memory.try_push(range).map_err(|_| TreeError::TooMany)?;
        }
        Ok(())
    }

    fn cpu(&mut self, node: FdtNode) -> Result<(), TreeError> {
        let mut servers = None;
        for property in node.properties() {
            match property.name {
                "reg" => servers = servers.or(Some(property.value)),
                "ibm,ppc-interrupt-server#s" => servers = Some(property.value),
                "timebase-frequency" => self.out.timebase = cells(property.value).unwrap_or(0),
                "d-cache-block-size" => self.out.cache_block = word(property.value, 0).unwrap_or(0),
                "ibm,dec-bits" => {
                    self.out.decrementer_bits = word(property.value, 0).unwrap_or(32).clamp(32, 64);
                }
                // Two bytes of header, then bits; byte 40 bit 0 is "radix tree translation".
                "ibm,pa-features" => {
                    self.out.cpu_radix = Some(property.value.get(42).is_some_and(|byte| byte & 0x80 != 0));
                }
                _ => {}
            }
        }
        for server in servers.unwrap_or(&[]).chunks_exact(4) {
            let server = HardwareCpu(word(server, 0).unwrap_or(0));
            self.out.cpus.try_push(server).map_err(|_| TreeError::TooMany)?;
        }
        Ok(())
    }

    fn terminal(&mut self, node: FdtNode) {
        let Some(unit) = value(node, "reg").and_then(|value| word(value, 0)) else { return };
        let interrupt = value(node, "interrupts").and_then(|value| word(value, 0));
        // More terminals than there is room for: none of them is the console of a machine.
        let _ = self.terminals.try_push(Terminal { unit, interrupt });
    }

    fn bridge(&mut self, node: FdtNode) {
        if self.out.bridge.is_none() && bridge::is_bridge(node) {
            let cells = self.address_cells.clamp(1, 2);
            self.out.bridge = Some(BridgeNode::read(node, cells));
        }
    }

    fn finish(mut self, boot_cpu: HardwareCpu) -> Result<Handover, TreeError> {
        if self.out.memory.is_empty() {
            return Err(TreeError::NoMemory);
        }
        if self.out.cpus.is_empty() {
            return Err(TreeError::NoCpu);
        }
        if self.out.timebase == 0 {
            return Err(TreeError::NoTimebase);
        }
        if let Some(index) = self.out.cpus.iter().position(|&cpu| cpu == boot_cpu) {
            self.out.cpus.swap(0, index);
        }
        if let (Some(start), Some(end)) = self.initrd
            && start != end
        {
            let len = end.checked_sub(start).ok_or(TreeError::BadRange)?;
            self.out.initrd = Some(PhysRange { start: PhysAddr(start), len });
        }
        if let Some(Ok(bridge)) = &self.out.bridge
            && self.out.memory.iter().any(|range| range.overlaps(&bridge.window))
        {
            self.out.bridge = Some(Err(BridgeError::BadWindow));
        }
        // Firmware takes the terminal with the lowest unit address for its own, which may be the
        // one that is none: the console is never that.
        self.terminals.retain(|terminal| terminal.unit != VERDICT_UNIT);
        let named = |terminal: &&Terminal| Some(terminal.unit) == self.stdout;
        self.out.console = self.terminals.iter().find(named).or(self.terminals.first()).copied();
        Ok(self.out)
    }
}

/// `None`: the node does not say enough.
fn xive(node: FdtNode, priority: u8) -> Option<XiveNode> {
    // Two pairs of address and size: the pages for user mode and for operating systems.
    let context = cells(value(node, "reg")?.get(16..24)?)?;
    let ipis = value(node, "ibm,xive-lisn-ranges")?;
    let shifts = value(node, "ibm,xive-eq-sizes")?.chunks_exact(4).filter_map(|shift| word(shift, 0));
    // 4 KiB to 16 MiB, as there can be.
    let queue_shift = shifts.filter(|shift| (LEAST_QUEUE_SHIFT..=24).contains(shift)).min()?;
    Some(XiveNode { context, first_ipi: word(ipis, 0)?, ipi_count: word(ipis, 1)?, queue_shift, priority })
}

pub(crate) fn value<'a>(node: FdtNode<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    node.property(name).map(|property| property.value)
}

/// A property that is one string.
fn text<'a>(node: FdtNode<'_, 'a>, name: &str) -> Option<&'a str> {
    let value = value(node, name)?;
    core::str::from_utf8(value.strip_suffix(&[0])?).ok()
}

/// Whether a property that is a list of strings has `entry`.
pub(crate) fn lists(value: &[u8], entry: &str) -> bool {
    value.split(|&byte| byte == 0).any(|string| string == entry.as_bytes())
}

fn granted(yes: bool) -> Grant {
    if yes { Grant::Given } else { Grant::Refused }
}

pub(crate) fn word(value: &[u8], index: usize) -> Option<u32> {
    let bytes = value.get(4 * index..4 * index + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// One or two cells as a number.
pub(crate) fn cells(value: &[u8]) -> Option<u64> {
    match value.len() {
        4 => Some(u32::from_be_bytes(value.try_into().ok()?).into()),
        8 => Some(u64::from_be_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

/// The unit address a path ends with: `/vdevice/vty@71000000` is 0x71000000.
pub fn unit_of_path(path: &[u8]) -> Option<u32> {
    let end = path.iter().position(|&byte| byte == 0 || byte == b':').unwrap_or(path.len());
    let path = core::str::from_utf8(&path[..end]).ok()?;
    let (_, unit) = path.rsplit_once('@')?;
    u32::from_str_radix(unit, 16).ok()
}
