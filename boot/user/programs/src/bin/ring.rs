//! `ring [COUNT]`: a producer and a consumer in two processes hand COUNT numbers (100,000 if not said)
//! over through a ring in shared memory, and neither ever looks in vain: the consumer sleeps on a
//! notification while the ring is empty, the producer on another while it is full.
//!
//! A signal is a system call, so nobody is signalled who does not sleep. Each side has a word that says
//! it is about to sleep. It sets it, looks at the ring once more, and only then waits; the other side
//! changes the ring, and then looks at the word. Whichever comes first, one of them sees the other: that
//! takes a full barrier between the store and the load on both sides. A bit that is set for a side that
//! does not sleep after all stays set, and costs it one look in vain later.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering, fence};
use user_rt::ipc::{Deadline, Notification, NotificationKind};
use user_rt::shared::{Memory, MemoryKind, Shared};
use user_rt::{ARCHIVE, Args, Command, Error, Protection, Rights, println};

user_rt::entry!(main);

/// Numbers that fit between the two.
const ROOM: u64 = 256;

/// Words of the shared page, each side's on a cache line of its own.
#[derive(Clone, Copy)]
enum Word {
    /// How many numbers were put in, and whether the producer is about to sleep.
    Put = 0,
    ProducerSleeps = 1,
    /// How many were taken out, and whether the consumer is about to sleep.
    Taken = 16,
    ConsumerSleeps = 17,
    /// How often either has slept, told at the end.
    ConsumerSlept = 18,
    Sum = 19,
    /// The numbers.
    First = 32,
}

/// One end of the ring.
struct End {
    shared: Shared,
    /// Signalled to wake the other end, waited for by this one.
    wake_other: Notification,
    wake_me: Notification,
    other_sleeps: Word,
    i_sleep: Word,
    slept: u64,
}

impl End {
    fn word(&self, word: Word) -> &AtomicU64 {
        &self.shared.words()[word as usize]
    }

    fn number(&self, number: u64) -> &AtomicU64 {
        &self.shared.words()[Word::First as usize + (number % ROOM) as usize]
    }

    /// Waits until `ready`, which looks at what the other end changes.
    fn wait_until(&mut self, ready: impl Fn(&Self) -> bool) -> Result<(), Error> {
        while !ready(self) {
            self.word(self.i_sleep).store(1, Ordering::Relaxed);
            // Pairs with the fence in `tell`: the word is seen there, or the change is seen here.
            fence(Ordering::SeqCst);
            if !ready(self) {
                self.wake_me.wait(Deadline::Never)?;
                self.slept += 1;
            }
            self.word(self.i_sleep).store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Stores a count that the other end waits for, and wakes it if it sleeps.
    fn tell(&self, count: Word, value: u64) -> Result<(), Error> {
        // Release: the number was written, or read. Pairs with the acquire of whoever waits for it.
        self.word(count).store(value, Ordering::Release);
        // Pairs with the fence in `wait_until`.
        fence(Ordering::SeqCst);
        match self.word(self.other_sleeps).load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => self.wake_other.signal(1),
        }
    }

    fn put(&mut self, number: u64, value: u64) -> Result<(), Error> {
        self.wait_until(|end| number - end.word(Word::Taken).load(Ordering::Acquire) < ROOM)?;
        self.number(number).store(value, Ordering::Relaxed);
        self.tell(Word::Put, number + 1)
    }

    fn take(&mut self, number: u64) -> Result<u64, Error> {
        self.wait_until(|end| end.word(Word::Put).load(Ordering::Acquire) > number)?;
        let value = self.number(number).load(Ordering::Relaxed);
        self.tell(Word::Taken, number + 1)?;
        Ok(value)
    }
}

fn main(args: Args) -> u8 {
    let result = match (args.get(1), args.number(2)) {
        (Some("consume"), Ok(count)) => consume(args, count),
        _ => produce(args.number(1).unwrap_or(100_000)),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            println!("ring: {error:?}");
            1
        }
    }
}

fn produce(count: u64) -> Result<(), Error> {
    let memory = Memory::new(4096)?;
    let [to_consumer, to_producer] = [Notification::new()?, Notification::new()?];
    let consumer = Command::new("ring")
        .arg("consume")
        .arg(&user_rt::alloc::format!("{count}"))
        .grant_usual()
        .grant_named("memory", memory.handle(), Rights::READ | Rights::WRITE)
        .grant_named("filled", to_consumer.handle(), Rights::READ)
        .grant_named("emptied", to_producer.handle(), Rights::WRITE)
        .start(&ARCHIVE)?;
    let mut end = End {
        shared: memory.attach(Protection::ReadWrite)?,
        wake_other: to_consumer,
        wake_me: to_producer,
        other_sleeps: Word::ConsumerSleeps,
        i_sleep: Word::ProducerSleeps,
        slept: 0,
    };
    for number in 0..count {
        end.put(number, number * number)?;
    }
    let status = consumer.wait()?.status();
    let sum = end.word(Word::Sum).load(Ordering::Acquire);
    let wanted = (0..count).map(|number| number * number).sum::<u64>();
    let slept = (end.slept, end.word(Word::ConsumerSlept).load(Ordering::Relaxed));
    println!(
        "ring: {count} numbers, sum {sum}; the producer slept {} times, the consumer {}",
        slept.0, slept.1
    );
    if status == 0 && sum == wanted { Ok(()) } else { Err(Error::BadArgument) }
}

fn consume(args: Args, count: u64) -> Result<(), Error> {
    let memory = args.given::<MemoryKind>("memory").ok_or(Error::NotFound)?;
    let mut end = End {
        shared: memory.attach(Protection::ReadWrite)?,
        wake_other: args.given::<NotificationKind>("emptied").ok_or(Error::NotFound)?,
        wake_me: args.given::<NotificationKind>("filled").ok_or(Error::NotFound)?,
        other_sleeps: Word::ProducerSleeps,
        i_sleep: Word::ConsumerSleeps,
        slept: 0,
    };
    let mut sum = 0;
    for number in 0..count {
        sum += end.take(number)?;
    }
    end.word(Word::ConsumerSlept).store(end.slept, Ordering::Relaxed);
    // Release: pairs with the acquire of the producer, which waits for the end of this process first.
    end.word(Word::Sum).store(sum, Ordering::Release);
    Ok(())
}
