//! How far the event of an XIVE source has come: so that at most one is in a queue.
//!
//! A source sends an event, and no other before that one was ended: its bit P. But whoever switches a source off
//! and on loses P, and the next event goes into the queue behind one that is still there. A queue that overflows
//! loses whatever it held, interrupts between CPUs among them; and a driver may bind, unbind and give back as
//! often as it likes while the queue's CPU does not come to look. So what the queue holds is kept here: a
//! source is only let through as if nothing had happened when its event was taken, and a place whose source was
//! given back with an event in the queue is not given out before that came.

/// How a source signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wiring {
    Message,
    Line,
}

/// Of one place for a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passage {
    /// No source has it.
    Free,
    /// The source sends nothing on, and nothing of it is in the queue.
    Silent,
    /// It sends on. If P is set, its event is in the queue.
    Open,
    /// A line's event was taken, and is not ended yet.
    Taken,
    /// It sends nothing on; an event from before is in the queue.
    Masked,
    /// The same, and no source has the place any more.
    Leaving,
}

/// What an event from the queue is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// News of its source.
    Delivered,
    /// From before it was masked.
    Ignored,
}

/// What lets a source through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// Bits P and Q are cleared; a line that is asserted sends at once.
    Fresh,
    /// P is set: its event is in the queue.
    Pending,
    /// It is through already.
    Nothing,
}

impl Passage {
    /// An event was taken from the queue. A message is ended by the caller.
    pub fn arrive(&mut self, wiring: Wiring) -> Arrival {
        let (next, arrival) = match (*self, wiring) {
            (Self::Open, Wiring::Line) => (Self::Taken, Arrival::Delivered),
            (Self::Open, Wiring::Message) => (Self::Open, Arrival::Delivered),
            (Self::Masked, _) => (Self::Silent, Arrival::Ignored),
            (Self::Leaving, _) => (Self::Free, Arrival::Ignored),
            (other, _) => (other, Arrival::Ignored),
        };
        *self = next;
        arrival
    }

    /// The source was switched off; `sent` is what P was.
    pub fn silence(&mut self, sent: bool) {
        *self = match *self {
            Self::Open if sent => Self::Masked,
            Self::Open | Self::Taken => Self::Silent,
            other => other,
        };
    }

    /// The source is to be let through. Says how.
    pub fn open(&mut self) -> Opening {
        let opening = match *self {
            Self::Silent | Self::Taken => Opening::Fresh,
            Self::Masked => Opening::Pending,
            Self::Open | Self::Free | Self::Leaving => return Opening::Nothing,
        };
        *self = Self::Open;
        opening
    }

    /// The source, which is switched off, gives the place back.
    pub fn leave(&mut self) {
        *self = if matches!(*self, Self::Masked | Self::Leaving) { Self::Leaving } else { Self::Free };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source, its events in the queue, and what is kept of it.
    struct Machine {
        passage: Passage,
        wiring: Wiring,
        p: bool,
        q: bool,
        asserted: bool,
        queued: u32,
    }

    impl Machine {
        /// The source has something to say.
        fn fire(&mut self) {
            match (self.p, self.q) {
                (false, false) => {
                    self.p = true;
                    self.queued += 1;
                }
                (true, _) if self.wiring == Wiring::Message => self.q = true,
                _ => {}
            }
        }
        fn level(&mut self) {
            if self.asserted && self.wiring == Wiring::Line {
                self.fire();
            }
        }
        fn end(&mut self) {
            let again = core::mem::take(&mut self.q);
            self.p = false;
            if again {
                self.fire();
            }
            self.level();
        }
        fn silence(&mut self) {
            self.passage.silence(self.p);
            (self.p, self.q) = (false, true);
        }
        fn open(&mut self) {
            match self.passage.open() {
                Opening::Fresh => {
                    (self.p, self.q) = (false, false);
                    self.level();
                }
                Opening::Pending => (self.p, self.q) = (true, false),
                Opening::Nothing => {}
            }
        }
        fn take(&mut self) {
            if self.queued > 0 {
                self.queued -= 1;
                let arrival = self.passage.arrive(self.wiring);
                if arrival == Arrival::Delivered && self.wiring == Wiring::Message {
                    self.end();
                }
            }
        }
        fn step(&mut self, what: u32) {
            match what {
                0 => self.take(),
                1 => self.silence(),
                2 => self.open(),
                3 => {
                    self.silence();
                    self.passage.leave();
                }
                // The place is given out again: with another number in the queue.
                4 if self.passage == Passage::Free => self.passage = Passage::Silent,
                5 if self.wiring == Wiring::Message => self.fire(),
                _ => {
                    self.asserted = !self.asserted;
                    self.level();
                }
            }
        }
    }

    /// `DEV-5`: whatever a driver does while nobody looks at the queue, no more than one event of a place is in
    /// it; and a line that is let through and asserted has one there, or one that was taken.
    #[test]
    fn dev_5_one_event_of_each_source_is_in_a_queue() {
        let steps = 7u32;
        for wiring in [Wiring::Message, Wiring::Line] {
            for program in 0..steps.pow(7) {
                let mut machine = Machine {
                    passage: Passage::Silent,
                    wiring,
                    p: false,
                    q: true,
                    asserted: false,
                    queued: 0,
                };
                let mut rest = program;
                for _ in 0..7 {
                    machine.step(rest % steps);
                    rest /= steps;
                    assert!(machine.queued <= 1, "{wiring:?} {program}");
                    if machine.passage == Passage::Open && machine.asserted && wiring == Wiring::Line {
                        assert_eq!(machine.queued, 1, "{wiring:?} {program}");
                    }
                }
            }
        }
    }
}
