//! The disk: requests that are begun, and waited for by the device's interrupt.

use crate::memory::{self, System};
use crate::transport::Wired;
use core::fmt;
use core::ptr::NonNull;
use core::time::Duration;
use user_rt::abi::device::Command;
use user_rt::blocks::{AT_ONCE, BLOCK};
use user_rt::device::{Interrupt, PciFunction};
use user_rt::ipc::{Deadline, Notification};
use user_rt::{Error, TIMER};
use virtio_drivers::device::blk::{BlkReq, BlkResp, VirtIOBlk};

/// Why there is no disk, or no data.
pub enum Failure {
    /// A call failed.
    Call(Error),
    /// The device is none that this driver knows.
    NotVirtio,
    /// It is as another driver left it.
    NotReset,
    /// The device is too long about it, or says something nobody asked for.
    Broken,
    /// It refuses this request.
    Refused,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => write!(f, "a call failed: {error:?}"),
            Self::NotVirtio => f.write_str("this is no virtio device"),
            Self::NotReset => f.write_str("the device was not reset since its last driver"),
            Self::Broken => f.write_str("the device does not do its work"),
            Self::Refused => f.write_str("the device refuses"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

/// How long a read may take. Generous: the host may have other things to do.
const LATE: Duration = Duration::from_secs(30);

/// Where a request is, in memory that the device reaches.
#[derive(Clone, Copy)]
struct Place {
    request: NonNull<BlkReq>,
    response: NonNull<BlkResp>,
    data: NonNull<[u8]>,
}

/// See the module.
pub struct Disk {
    device: VirtIOBlk<System, Wired>,
    place: Place,
    interrupt: Interrupt,
    news: Notification,
    /// Held, since the device is reset when nobody holds it.
    _function: PciFunction,
}

impl Disk {
    /// Brings the device up.
    pub fn open(function: PciFunction) -> Result<Self, Failure> {
        // It is on only while another holds the function: then this one has joined it, and nothing was reset.
        if u64::from(function.read_config(4, 2)?) & Command::BUS_MASTER.bits() != 0 {
            return Err(Failure::NotReset);
        }
        function.set_command(Command::MEMORY | Command::BUS_MASTER)?;
        memory::prepare(&function)?;
        let (interrupt, news) = (function.interrupt(0)?, Notification::new()?);
        interrupt.bind(&news, 1)?;
        let (_, page) = memory::take(1).ok_or(Error::NoMemory)?;
        let (_, data) = memory::take(AT_ONCE * BLOCK / 4096).ok_or(Error::NoMemory)?;
        // SAFETY: inside a page of its own, and aligned to 64.
        let place = unsafe {
            Place {
                request: page.cast(),
                response: page.add(64).cast(),
                data: NonNull::slice_from_raw_parts(data, AT_ONCE * BLOCK),
            }
        };
        let device = VirtIOBlk::new(Wired::new(&function)?).map_err(|_| Failure::Broken)?;
        Ok(Self { device, place, interrupt, news, _function: function })
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> u64 {
        self.device.capacity()
    }

    /// Has the device read some blocks, at most [`AT_ONCE`], which it goes on doing when this returns.
    pub fn begin(&mut self, first: u64, count: usize) -> Result<u16, Failure> {
        let (request, data, response) = self.parts(count);
        // SAFETY: `read` looks at them again only when the device is done, and nobody else has them.
        unsafe { self.device.read_blocks_nb(first as usize, request, data, response) }
            .map_err(|_| Failure::Broken)
    }

    /// Reads some blocks, at most [`AT_ONCE`].
    pub fn read(&mut self, first: u64, count: usize) -> Result<&[u8], Failure> {
        let late = TIMER.now()? + LATE;
        let token = self.begin(first, count)?;
        while self.device.peek_used() != Some(token) {
            self.news.wait(Deadline::At(late)).map_err(|_| Failure::Broken)?;
            // A line stays up until the device has heard that it was seen.
            self.device.ack_interrupt();
            self.interrupt.acknowledge()?;
        }
        let (request, data, response) = self.parts(count);
        // SAFETY: the same that the request was begun with, and the device is done with them.
        unsafe { self.device.complete_read_blocks(token, request, data, response) }
            .map_err(|_| Failure::Refused)?;
        Ok(data)
    }

    /// Where a request of so many blocks is. Nobody else may have it meanwhile.
    fn parts<'a>(&self, count: usize) -> (&'a mut BlkReq, &'a mut [u8], &'a mut BlkResp) {
        let Place { mut request, mut response, mut data } = self.place;
        // SAFETY: mapped for good, aligned, zeroes or what was last there, of which both are made; the
        // caller sees to it that there is one request at a time.
        unsafe { (request.as_mut(), &mut data.as_mut()[..count * BLOCK], response.as_mut()) }
    }
}
