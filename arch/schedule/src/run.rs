//! Who goes next.

use crate::memory::{Clock, Memory};
use crate::random::Random;
use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// What a run is like. A seed says it all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    pub seed: u64,
    /// Points after which a run is a livelock.
    pub limit: u64,
}

impl Setting {
    pub const fn seed(seed: u64) -> Self {
        Self { seed, limit: 3_000_000 }
    }
}

/// Points after which a task that could go and did not goes before all others: one of them may wait
/// for it without saying so.
const PATIENCE: u64 = 4_000;
/// How often, in points, that is looked at.
const LOOK: u64 = 500;

const DEADLOCK: &str = "a deadlock: every task waits";

/// New tasks have priorities between 0 and this.
const NEW: i64 = 1 << 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Ready,
    /// Until [`wake`] is called with this.
    Waits(usize),
    Over,
}

struct Task {
    status: Status,
    priority: i64,
    /// The number of the point at which it last went.
    went: u64,
    host: Option<Thread>,
}

/// What becomes of the task that goes when its turn to change comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    /// It goes below all others.
    Demote,
    /// It gets a priority as new tasks do.
    Shuffle,
}

struct State {
    random: Random,
    limit: u64,
    change: Change,
    /// The mean number of points between two changes.
    period: u64,
    next_change: u64,
    tasks: Vec<Task>,
    goes: usize,
    /// Someone else may have to go.
    is_dirty: bool,
    points: u64,
    lowest: i64,
    highest: i64,
    /// A task has ended, and all others wait: the one that goes next is to say so.
    is_dead: bool,
}

impl State {
    fn new(setting: Setting) -> Self {
        let mut random = Random::new(setting.seed);
        let change = if random.once_in(2) { Change::Demote } else { Change::Shuffle };
        let period = [8, 64, 512, 4096][random.below(4) as usize];
        let next_change = 1 + random.below(2 * period);
        Self {
            random,
            limit: setting.limit,
            change,
            period,
            next_change,
            tasks: Vec::new(),
            goes: 0,
            is_dirty: false,
            points: 0,
            lowest: 0,
            highest: NEW,
            is_dead: false,
        }
    }

    fn add(&mut self) -> usize {
        let priority = self.random.below(NEW as u64) as i64;
        self.tasks.push(Task { status: Status::Ready, priority, went: self.points, host: None });
        self.is_dirty = true;
        self.tasks.len() - 1
    }

    fn demote(&mut self, task: usize) {
        self.lowest -= 1;
        self.tasks[task].priority = self.lowest;
        self.is_dirty = true;
    }

    fn wake(&mut self, key: usize) {
        for task in &mut self.tasks {
            if task.status == Status::Waits(key) {
                task.status = Status::Ready;
                self.is_dirty = true;
            }
        }
    }

    /// A point of the task that goes.
    fn pass(&mut self) {
        self.points += 1;
        assert!(self.points != self.limit, "a livelock: {} points were passed", self.points);
        if self.points >= self.next_change {
            self.next_change = self.points + 1 + self.random.below(2 * self.period);
            match self.change {
                Change::Demote => self.demote(self.goes),
                Change::Shuffle => {
                    self.tasks[self.goes].priority = self.random.below(NEW as u64) as i64;
                    self.is_dirty = true;
                }
            }
        }
        if self.points.is_multiple_of(LOOK) {
            self.be_fair();
        }
    }

    /// Has a task go that could have gone for long.
    fn be_fair(&mut self) {
        self.tasks[self.goes].went = self.points;
        let ready = self.tasks.iter_mut().filter(|task| task.status == Status::Ready);
        if let Some(task) = ready.min_by_key(|task| task.went)
            && self.points - task.went > PATIENCE
        {
            self.highest += 1;
            task.priority = self.highest;
            self.is_dirty = true;
        }
    }

    /// Every task waits but those that are over: one that waits goes, and panics.
    fn tell_of_deadlock(&mut self) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.status != Status::Over) {
            task.status = Status::Ready;
            self.is_dead = true;
            self.is_dirty = true;
            self.choose();
        }
    }

    /// Chooses who goes; `None`: everyone waits.
    fn choose(&mut self) -> Option<usize> {
        if !self.is_dirty {
            return Some(self.goes);
        }
        let ready = self.tasks.iter().enumerate().filter(|(_, task)| task.status == Status::Ready);
        let (next, _) = ready.max_by_key(|(_, task)| task.priority)?;
        self.is_dirty = false;
        if next != self.goes {
            self.tasks[self.goes].went = self.points;
            self.tasks[next].went = self.points;
            self.goes = next;
            if let Some(host) = &self.tasks[next].host {
                host.unpark();
            }
        }
        Some(next)
    }
}

struct Run {
    state: Mutex<State>,
    memory: Mutex<Memory>,
    /// What [`at_end`] was given.
    last: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl Run {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when it is `task`'s turn.
    fn wait_for_turn(&self, task: usize) {
        while self.state().goes != task {
            std::thread::park();
        }
    }
}

/// What a host thread is in a run.
#[derive(Clone)]
struct Me {
    run: Arc<Run>,
    task: usize,
    actor: usize,
    /// What an access knows besides: see [`knowing`](crate::memory::knowing).
    besides: Clock,
}

thread_local! {
    static ME: RefCell<Option<Me>> = const { RefCell::new(None) };
}

fn me() -> Option<Me> {
    // A host thread that ends is no task any more.
    ME.try_with(|me| me.borrow().clone()).ok().flatten()
}

pub(crate) fn is_on() -> bool {
    ME.try_with(|me| me.borrow().is_some()).unwrap_or(false)
}

/// Does something to the state of the run, then lets whoever must go on go on.
fn step(change: impl FnOnce(&mut State, usize)) {
    let Some(me) = me() else { return };
    let mut state = me.run.state();
    change(&mut state, me.task);
    let chosen = state.choose();
    if chosen.is_none() {
        // Whoever catches the panic goes on alone, and may wake the others.
        state.tasks[me.task].status = Status::Ready;
        state.goes = me.task;
    }
    drop(state);
    match chosen {
        Some(next) if next == me.task => {}
        Some(_) => {
            me.run.wait_for_turn(me.task);
            let is_dead = std::mem::take(&mut me.run.state().is_dead);
            assert!(!is_dead, "{DEADLOCK}");
        }
        None => panic!("{DEADLOCK}"),
    }
}

/// A point at which another task may go on. Not while the calling one panics: it may hold the
/// host's lock on what it prints.
pub fn point() {
    if std::thread::panicking() {
        return;
    }
    step(|state, _| state.pass());
}

/// The calling task only waits: others go first. Outside a run, yields the host's CPU.
pub fn yield_now() {
    if !is_on() {
        return std::thread::yield_now();
    }
    step(|state, task| {
        state.pass();
        state.demote(task);
    });
}

/// Whether something happens that happens once in `of` times. Never outside a run.
pub fn chance(of: u64) -> bool {
    me().is_some_and(|me| me.run.state().random.once_in(of))
}

/// One of `0..bound`; 0 outside a run, or if there is none.
pub fn pick(bound: u64) -> u64 {
    me().filter(|_| bound > 0).map_or(0, |me| me.run.state().random.below(bound))
}

/// From here on, the calling task's accesses are those of `actor`, below
/// [`ACTORS`](crate::memory::ACTORS). New tasks begin as the actor that made them.
pub fn act_as(actor: usize) {
    assert!(actor < crate::memory::ACTORS, "too many actors");
    ME.with_borrow_mut(|me| {
        if let Some(me) = me {
            me.actor = actor;
        }
    });
}

/// What [`act_as`] said; 0 outside a run.
pub fn actor() -> usize {
    me().map_or(0, |me| me.actor)
}

/// The memory, as the calling task's actor finds it. `None` outside a run.
pub(crate) fn memory<R>(
    access: impl FnOnce(&mut Memory, usize, &mut dyn FnMut(u64) -> u64) -> R,
) -> Option<R> {
    let me = me()?;
    let mut memory = me.run.memory.lock().unwrap_or_else(PoisonError::into_inner);
    let mut below = |bound| me.run.state().random.below(bound);
    memory.besides = me.besides;
    Some(access(&mut memory, me.actor, &mut below))
}

/// Has `last` called when no task of this run goes on any more. Never, outside a run.
pub fn at_end(last: impl FnOnce() + Send + 'static) {
    if let Some(me) = me() {
        me.run.last.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(last));
    }
}

/// Has the accesses of the calling task know `clock` besides; says what they knew until then.
pub(crate) fn know_besides(clock: Clock) -> Clock {
    ME.with_borrow_mut(|me| me.as_mut().map(|me| std::mem::replace(&mut me.besides, clock)))
        .unwrap_or_default()
}

/// Waits for [`wake`]. What was looked at before still holds: no other task went since.
pub(crate) fn wait(key: usize) {
    step(|state, task| {
        state.tasks[task].status = Status::Waits(key);
        state.is_dirty = true;
    });
}

/// Ends the waits for `key`.
pub(crate) fn wake(key: usize) {
    if let Some(me) = me() {
        me.run.state().wake(key);
    }
}

/// Makes a task of `host`, which runs `body` on a host thread of its own.
pub(crate) fn spawn(body: impl FnOnce() + Send + 'static) {
    let me = me().expect("in a run");
    let task = me.run.state().add();
    let child = Me { task, ..me.clone() };
    let host = std::thread::spawn(move || {
        child.run.wait_for_turn(task);
        ME.set(Some(child.clone()));
        body();
        ME.set(None);
        let mut state = child.run.state();
        state.tasks[task].status = Status::Over;
        state.is_dirty = true;
        if state.choose().is_none() {
            state.tell_of_deadlock();
        }
    });
    me.run.state().tasks[task].host = Some(host.thread().clone());
}

/// Runs `body` as the first task, and returns when every task is over.
///
/// # Panics
/// If `body` does, once the others are over.
pub fn run<R>(setting: Setting, body: impl FnOnce() -> R) -> R {
    let mut state = State::new(setting);
    let task = state.add();
    state.tasks[task].host = Some(std::thread::current());
    let memory = Mutex::new(Memory::new(setting.seed));
    let run = Arc::new(Run { state: Mutex::new(state), memory, last: Mutex::default() });
    ME.set(Some(Me { run: run.clone(), task, actor: 0, besides: Clock::default() }));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let result = body();
        while run.state().tasks[1..].iter().any(|task| task.status == Status::Ready) {
            yield_now();
        }
        result
    }));
    ME.set(None);
    // No other task goes on after this: those that are not over wait for ever.
    let last = std::mem::take(&mut *run.last.lock().unwrap_or_else(PoisonError::into_inner));
    last.into_iter().for_each(|last| last());
    result.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}
