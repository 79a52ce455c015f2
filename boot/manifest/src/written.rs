//! The manifest as a person writes it, and everything that can be wrong with it before it runs.
//!
//! What is checked here is what would otherwise be found out by a process that waits for ever: a
//! call to an endpoint that nobody serves, a wait for bits that nobody sets, servers that call
//! each other in a circle. Each problem says its line.

use crate::roles::{self, CLIENT, SERVER};
use crate::{Cpu, Manifest, Object, ObjectKind, Process, Restart, USUAL, Use, When, Which};
use abi::{DEFAULT_PRIORITY, MAX_ARGS, MAX_GRANTS, MAX_MEMORY, MAX_NAME, PAGE_BYTES};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use serde::Deserialize;
use std::format;
use toml::Spanned;

/// What is wrong, and in which line, from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// What is wrong, at a place in the text.
struct At(Range<usize>, String);

impl At {
    fn of<T>(place: &Spanned<T>, what: impl Into<String>) -> Self {
        Self(place.span(), what.into())
    }
}

type Name = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    until: Option<Name>,
    #[serde(default)]
    endpoints: Vec<Name>,
    #[serde(default)]
    notifications: Vec<Name>,
    /// Bytes by name.
    #[serde(default)]
    memory: BTreeMap<Name, Spanned<u64>>,
    /// PCI functions by name.
    #[serde(default)]
    device: BTreeMap<Name, Spanned<WrittenDevice>>,
    process: Vec<WrittenProcess>,
}

/// `vendor` and `device`, or `class`.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDevice {
    vendor: Option<u16>,
    device: Option<u16>,
    class: Option<u16>,
}

impl WrittenDevice {
    fn which(self) -> Option<Which> {
        match self {
            Self { vendor: Some(vendor), device: Some(device), class: None } => {
                Some(Which::Id { vendor, device })
            }
            Self { vendor: None, device: None, class: Some(class) } => Some(Which::Class(class)),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProcess {
    name: Name,
    /// If it is not the name.
    program: Option<Name>,
    #[serde(default)]
    arguments: Vec<Name>,
    priority: Option<u8>,
    /// Bytes.
    memory: Option<u64>,
    cpu: Option<Spanned<Cpu>>,
    restart: Option<Spanned<WrittenRestart>>,
    #[serde(default)]
    uses: BTreeMap<Name, Spanned<WrittenUse>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRestart {
    when: When,
    at_most: Option<u32>,
    /// Milliseconds.
    within: Option<u64>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a role such as \"client\" is wanted, or { as = ROLE } with `of = OBJECT` or `badge = NUMBER`"
)]
enum WrittenUse {
    Role(String),
    Full(FullUse),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullUse {
    r#as: String,
    /// The object, if it is not what the program calls it.
    of: Option<String>,
    #[serde(default)]
    badge: u64,
}

/// Checks a manifest for an archive with these programs, and packs it.
pub fn pack(text: &str, programs: &[&str]) -> Result<Vec<u8>, Problem> {
    let problem = |place: Range<usize>, what: String| {
        let before = text.get(..place.start).unwrap_or(text);
        Problem { line: 1 + before.matches('\n').count(), what }
    };
    let written: Written = toml::from_str(text)
        .map_err(|error| problem(error.span().unwrap_or_default(), error.message().to_string()))?;
    let manifest = check(&written, programs).map_err(|At(place, what)| problem(place, what))?;
    Ok(manifest.pack())
}

/// Objects that are always there; the first [`USUAL`] in the order of their slots.
const GIVEN: [(&str, ObjectKind); 5] = [
    ("console", ObjectKind::Console),
    ("timer", ObjectKind::Timer),
    ("archive", ObjectKind::Archive),
    ("machine", ObjectKind::Machine),
    ("supervisor", ObjectKind::Supervisor),
];

fn check<'a>(written: &'a Written, programs: &[&str]) -> Result<Manifest<'a>, At> {
    let objects = objects(written)?;
    let mut processes = Vec::<Process<'a>>::new();
    for process in &written.process {
        well_named(&process.name)?;
        if processes.iter().any(|earlier| earlier.name == process.name.get_ref()) {
            return Err(At::of(
                &process.name,
                format!("there are two processes `{}`", process.name.get_ref()),
            ));
        }
        processes.push(self::process(process, &objects, programs)?);
    }
    used(written, &objects, &processes)?;
    no_circle(written, &objects, &processes)?;
    let until = match &written.until {
        None => None,
        Some(name) => Some(until(name, &processes)?),
    };
    Ok(Manifest { until, objects, processes })
}

/// The objects: first those that are always there, then those declared.
fn objects(written: &Written) -> Result<Vec<Object<'_>>, At> {
    let mut objects: Vec<_> = GIVEN.iter().map(|&(name, kind)| Object { name, kind }).collect();
    for (name, kind) in declared(written) {
        well_named(name)?;
        if let Some(earlier) = objects.iter().find(|object| object.name == name.get_ref()) {
            let (name_, noun) = (name.get_ref(), roles::noun(earlier.kind));
            return Err(At::of(name, format!("the name `{name_}` is taken: it is that of a {noun}")));
        }
        objects.push(Object { name: name.get_ref(), kind });
    }
    for device in written.device.values() {
        if device.get_ref().which().is_none() {
            return Err(At::of(device, "a device is wanted by `vendor` and `device`, or by `class`"));
        }
    }
    for length in written.memory.values() {
        let bytes = *length.get_ref();
        if bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) || bytes > MAX_MEMORY {
            let what = format!("{bytes} bytes: a multiple of {PAGE_BYTES} up to {MAX_MEMORY} is wanted");
            return Err(At::of(length, what));
        }
    }
    Ok(objects)
}

/// What the manifest declares, with its kind.
fn declared(written: &Written) -> impl Iterator<Item = (&Name, ObjectKind)> {
    let endpoints = written.endpoints.iter().map(|name| (name, ObjectKind::Endpoint));
    let notifications = written.notifications.iter().map(|name| (name, ObjectKind::Notification));
    let memory = written.memory.iter().map(|(name, bytes)| (name, ObjectKind::Memory(*bytes.get_ref())));
    let devices = written
        .device
        .iter()
        .filter_map(|(name, device)| Some((name, ObjectKind::Function(device.get_ref().which()?))));
    endpoints.chain(notifications).chain(memory).chain(devices)
}

fn process<'a>(
    written: &'a WrittenProcess,
    objects: &[Object<'_>],
    programs: &[&str],
) -> Result<Process<'a>, At> {
    let program = written.program.as_ref().unwrap_or(&written.name);
    if !programs.contains(&program.get_ref().as_str()) {
        return Err(At::of(program, format!("there is no program `{}`", program.get_ref())));
    }
    for argument in &written.arguments {
        let text = argument.get_ref();
        if text.contains(char::is_control) {
            let what = format!("`{}`: an argument has no control characters", text.escape_debug());
            return Err(At::of(argument, what));
        }
    }
    let uses: Vec<Use<'a>> =
        written.uses.iter().map(|(name, part)| a_use(name, part, objects)).collect::<Result<_, At>>()?;
    for (object, usual) in objects.iter().enumerate().take(USUAL) {
        if uses.iter().filter(|a_use| a_use.object as usize == object).count() > 1 {
            return Err(At::of(&written.name, format!("it uses the {} twice", usual.name)));
        }
    }
    let (own, room) =
        (uses.iter().filter(|a_use| a_use.object as usize >= USUAL).count(), MAX_GRANTS - USUAL);
    if own > room {
        return Err(At::of(&written.name, format!("it uses {own} objects, and there is room for {room}")));
    }
    // Each name comes with a mark, the number of a slot, and its end.
    let capabilities: usize = uses.iter().map(|a_use| a_use.name.len() + 5).sum();
    let words: usize = written.arguments.iter().map(|argument| argument.get_ref().len() + 1).sum();
    if program.get_ref().len() + 1 + words + capabilities > MAX_ARGS {
        return Err(At::of(&written.name, format!("its arguments are longer than {MAX_ARGS} bytes")));
    }
    Ok(Process {
        name: written.name.get_ref(),
        program: program.get_ref(),
        arguments: written.arguments.iter().map(|argument| argument.get_ref().as_str()).collect(),
        priority: written.priority.unwrap_or(DEFAULT_PRIORITY as u8),
        memory: written.memory.unwrap_or(u64::MAX),
        cpu: written.cpu.as_ref().map(cpu).transpose()?,
        restart: restart(written.restart.as_ref())?,
        uses,
    })
}

fn cpu(written: &Spanned<Cpu>) -> Result<Cpu, At> {
    let Cpu { budget, period } = *written.get_ref();
    if budget == 0 {
        return Err(At::of(written, "a budget of no CPU time is none at all"));
    }
    if budget > period {
        return Err(At::of(written, format!("a budget of {budget} ms is more than there is in {period} ms")));
    }
    Ok(Cpu { budget, period })
}

fn restart(written: Option<&Spanned<WrittenRestart>>) -> Result<Restart, At> {
    let Some(place) = written else {
        return Ok(Restart { when: When::Never, at_most: 0, within: 0 });
    };
    let WrittenRestart { when, at_most, within } = *place.get_ref();
    match (when, at_most, within) {
        (When::Never, None, None) => Ok(Restart { when, at_most: 0, within: 0 }),
        (When::Failure | When::Always, Some(at_most), Some(within)) => Ok(Restart { when, at_most, within }),
        (When::Never, ..) => Err(At::of(place, "what is never restarted has no limit")),
        _ => Err(At::of(place, "a limit is wanted: `at_most` restarts `within` so many milliseconds")),
    }
}

fn a_use<'a>(name: &'a Name, written: &Spanned<WrittenUse>, objects: &[Object<'_>]) -> Result<Use<'a>, At> {
    well_named(name)?;
    let called = name.get_ref().as_str();
    let (role, of, badge) = match written.get_ref() {
        WrittenUse::Role(role) => (role, called, 0),
        WrittenUse::Full(full) => (&full.r#as, full.of.as_deref().unwrap_or(called), full.badge),
    };
    let Some(index) = objects.iter().position(|object| object.name == of) else {
        return Err(At::of(name, format!("there is no object `{of}`")));
    };
    let kind = objects[index].kind;
    let known = roles::of(kind);
    let Some(&(_, rights)) = known.iter().find(|(known, _)| known == role) else {
        let known: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
        let what =
            format!("`{of}` is a {}, which knows no `{role}`, only: {}", roles::noun(kind), known.join(", "));
        return Err(At::of(written, what));
    };
    let takes_badge = matches!(kind, ObjectKind::Endpoint | ObjectKind::Supervisor) && role == CLIENT;
    if badge != 0 && !takes_badge {
        return Err(At::of(written, "only a client of an endpoint has a badge"));
    }
    Ok(Use { name: called, object: index as u32, rights: rights.bits(), badge })
}

/// Whether somebody is there for everybody that waits, and everything declared is used.
fn used(written: &Written, objects: &[Object<'_>], processes: &[Process<'_>]) -> Result<(), At> {
    for (name, kind) in declared(written) {
        let index = objects.iter().position(|object| object.name == name.get_ref());
        let uses: Vec<&Use<'_>> = processes
            .iter()
            .flat_map(|process| &process.uses)
            .filter(|a_use| Some(a_use.object as usize) == index)
            .collect();
        let (noun, name_) = (roles::noun(kind), name.get_ref());
        if uses.is_empty() {
            return Err(At::of(name, format!("nobody uses the {noun} `{name_}`")));
        }
        if matches!(kind, ObjectKind::Function(_)) && uses.len() > 1 {
            return Err(At::of(name, format!("the {noun} `{name_}` has more than one driver")));
        }
        for needed in roles::needed(kind) {
            let rights =
                roles::of(kind).iter().find(|(role, _)| role == needed).map(|(_, rights)| rights.bits());
            if uses.iter().all(|a_use| Some(a_use.rights) != rights) {
                return Err(At::of(name, format!("the {noun} `{name_}` has no {needed}")));
            }
        }
    }
    Ok(())
}

/// No process waits for one that waits for it: who is called by another never calls that one, by no
/// detour either.
fn no_circle(written: &Written, objects: &[Object<'_>], processes: &[Process<'_>]) -> Result<(), At> {
    let has = |process: &Process<'_>, object: u32, role: &str| {
        let kind = objects[object as usize].kind;
        let rights =
            roles::of(kind).iter().find(|(known, _)| *known == role).map(|(_, rights)| rights.bits());
        process.uses.iter().any(|a_use| a_use.object == object && Some(a_use.rights) == rights)
    };
    let endpoints = || (0..).zip(objects).filter(|(_, object)| object.kind == ObjectKind::Endpoint);
    let calls = |a: usize, b: usize| {
        endpoints().any(|(index, _)| has(&processes[a], index, CLIENT) && has(&processes[b], index, SERVER))
    };
    // Whoever is left when those that call nobody who is left are taken away lies on a circle, or
    // calls into one.
    let mut left: Vec<usize> = (0..processes.len()).collect();
    while let Some(at) = left.iter().position(|&a| left.iter().all(|&b| !calls(a, b))) {
        left.remove(at);
    }
    let Some(&first) = left.first() else { return Ok(()) };
    let mut path = Vec::from([first]);
    loop {
        let last = path[path.len() - 1];
        // There is one, or it would have been taken away.
        let next = left.iter().copied().find(|&b| calls(last, b)).unwrap_or(first);
        let known = path.iter().position(|&process| process == next);
        path.push(next);
        if let Some(start) = known {
            let names: Vec<&str> = path[start..].iter().map(|&process| processes[process].name).collect();
            let place = &written.process[next].name;
            let what =
                format!("a circle of calls, in which all can wait for each other: {}", names.join(" → "));
            return Err(At::of(place, what));
        }
    }
}

fn until(name: &Name, processes: &[Process<'_>]) -> Result<u32, At> {
    match (0..).zip(processes).find(|(_, process)| process.name == name.get_ref()) {
        None => Err(At::of(name, format!("there is no process `{}`", name.get_ref()))),
        Some((_, process)) if process.restart.when == When::Always => {
            Err(At::of(name, format!("`{}` is always restarted, so it never ends", process.name)))
        }
        Some((index, _)) => Ok(index),
    }
}

fn well_named(name: &Name) -> Result<(), At> {
    let text = name.get_ref();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > MAX_NAME || !text.chars().all(fits) {
        let what =
            format!("`{}`: a name is of a–z, 0–9 and -, and has 1–{MAX_NAME} of them", text.escape_debug());
        return Err(At::of(name, what));
    }
    Ok(())
}
