//! The crate's PCI transport, with the two things that it leaves out: that addresses are those of the bus, and
//! which message says that a queue was served. Without the second a device that sends messages (MSI-X)
//! never interrupts.

use crate::config::{Configuration, FUNCTION};
use crate::disk::Failure;
use crate::memory::{BAR_STRIDE, System};
use core::ptr::NonNull;
use user_rt::device::PciFunction;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, VIRTIO_PCI_CAP_COMMON_CFG};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Hal, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Capabilities that a vendor defines (PCI Local Bus, appendix H).
const VENDOR_SPECIFIC: u8 = 9;
/// Of a virtio capability (Virtio 1.2 §4.1.4): its BAR, and the offset in it.
const BAR: u8 = 4;
const OFFSET: u8 = 8;
/// Of the common configuration (Virtio 1.2 §4.1.4.3).
const QUEUE_SELECT: usize = 0x16;
const QUEUE_MSIX_VECTOR: usize = 0x1a;
const COMMON_BYTES: usize = 0x38;

/// The device uses bus addresses, as every other does. One that does not offer this takes them for
/// physical ones; one that does wants it accepted (Virtio 1.2 §6.1).
const ACCESS_PLATFORM: u64 = 1 << 33;

/// Queues interrupt by the first message.
const VECTOR: u16 = 0;

/// See the module.
pub struct Wired {
    inner: PciTransport,
    common: NonNull<u8>,
}

impl Wired {
    /// Finds the device's structures. Errors: `NotVirtio`.
    pub fn new(function: &PciFunction) -> core::result::Result<Self, Failure> {
        let configuration = Configuration::new(function)?;
        let mut root = PciRoot::new(Configuration::new(function)?);
        let inner = PciTransport::new::<System, _>(&mut root, FUNCTION).map_err(|_| Failure::NotVirtio)?;
        let mut capabilities = root.capabilities(FUNCTION);
        let common = capabilities.find(|capability| {
            capability.id == VENDOR_SPECIFIC
                && (capability.private_header >> 8) as u8 == VIRTIO_PCI_CAP_COMMON_CFG
        });
        let at = common.ok_or(Failure::NotVirtio)?.offset;
        let bar = configuration.read_word(FUNCTION, at + BAR) & 0xff;
        let offset = configuration.read_word(FUNCTION, at + OFFSET);
        let address = BAR_STRIDE * u64::from(bar + 1) + u64::from(offset);
        // SAFETY: `PciTransport::new` has found the same structure there.
        let common = unsafe { System::mmio_phys_to_virt(address, COMMON_BYTES) };
        Ok(Self { inner, common })
    }

    /// Writes a register of two bytes of the common configuration.
    fn write(&mut self, register: usize, value: u16) {
        // SAFETY: inside the structure, which is mapped, and aligned; the transport's own accesses are not
        // under way, since this has it borrowed.
        unsafe { self.common.add(register).cast::<u16>().write_volatile(value) };
    }
}

impl Transport for Wired {
    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver: PhysAddr,
        device: PhysAddr,
    ) {
        // Before the queue is enabled (Virtio 1.2 §4.1.4.3.2).
        self.write(QUEUE_SELECT, queue);
        self.write(QUEUE_MSIX_VECTOR, VECTOR);
        self.inner.queue_set(queue, size, descriptors, driver, device);
    }

    fn device_type(&self) -> DeviceType {
        self.inner.device_type()
    }
    fn read_device_features(&mut self) -> u64 {
        self.inner.read_device_features()
    }
    fn write_driver_features(&mut self, features: u64) {
        let offered = self.inner.read_device_features();
        self.inner.write_driver_features(features | offered & ACCESS_PLATFORM);
    }
    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.inner.max_queue_size(queue)
    }
    fn notify(&mut self, queue: u16) {
        self.inner.notify(queue);
    }
    fn get_status(&self) -> DeviceStatus {
        self.inner.get_status()
    }
    fn set_status(&mut self, status: DeviceStatus) {
        self.inner.set_status(status);
    }
    fn set_guest_page_size(&mut self, size: u32) {
        self.inner.set_guest_page_size(size);
    }
    fn requires_legacy_layout(&self) -> bool {
        self.inner.requires_legacy_layout()
    }
    fn queue_unset(&mut self, queue: u16) {
        self.inner.queue_unset(queue);
    }
    fn queue_used(&mut self, queue: u16) -> bool {
        self.inner.queue_used(queue)
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        self.inner.ack_interrupt()
    }
    fn read_config_generation(&self) -> u32 {
        self.inner.read_config_generation()
    }
    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        self.inner.read_config_space(offset)
    }
    fn write_config_space<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> Result<()> {
        self.inner.write_config_space(offset, value)
    }
}
