//! Operations as they are drawn: small numbers, which become ids and marks when they are played.

use proptest::prelude::*;

/// Who asks: one of two owners, or the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Owner(u8),
    System,
}

/// A mark as far as it differs from where the thread's journal stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) epoch: i8,
    pub(super) ordinal: i8,
}

/// An event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Which type, category, caller and payload: an index into what there is of each.
    pub(super) kind: u8,
    pub(super) caller: u8,
    pub(super) payload: u8,
    /// Which item it records, if any, and where that stands.
    pub(super) item: Option<(u8, u8)>,
    pub(super) once: Option<u8>,
    pub(super) at: u8,
}

/// A model call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) source: u8,
    pub(super) tokens: u8,
    pub(super) caller: u8,
    pub(super) child: Option<u8>,
    pub(super) at: u8,
}

/// A commit of events and calls.
#[derive(Clone, Debug)]
pub(super) struct Append {
    pub(super) who: Who,
    pub(super) thread: u8,
    /// The run: the active one, one by number, or none.
    pub(super) run: Run,
    pub(super) mark: Option<Mark>,
    /// How far off the expected seq is, if one is expected.
    pub(super) expected: Option<i8>,
    pub(super) events: Vec<Event>,
    pub(super) usage: Vec<Call>,
    pub(super) progress: bool,
    pub(super) create_missing: bool,
    pub(super) starts: bool,
}

/// An admission.
#[derive(Clone, Debug)]
pub(super) struct Admit {
    pub(super) who: Who,
    pub(super) thread: u8,
    pub(super) run: u8,
    pub(super) key: Option<u8>,
    pub(super) hash: u8,
    pub(super) input: u8,
    pub(super) strategy: u8,
    pub(super) leased: bool,
    pub(super) create_missing: bool,
    pub(super) at: u8,
}

/// Which run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Run {
    Active,
    Number(u8),
    None,
}

/// Which part of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) limit: u8,
    pub(super) before: Option<u8>,
    pub(super) after: Option<u8>,
}

macro_rules! operations {
    ($($(#[$docs:meta])* $op:ident $body:tt,)+) => {
        /// Something that is asked of a ledger.
        #[derive(Clone, Debug)]
        pub(super) enum Op { $($(#[$docs])* $op $body,)+ /** Close the database and open it again. */ Reopen }

        impl Op {
            /// The name of each operation that a ledger is asked.
            pub(super) const NAMES: &[&str] = &[$(stringify!($op)),+];

            pub(super) fn name(&self) -> &'static str {
                match self { $(Self::$op { .. } => stringify!($op),)+ Self::Reopen => "Reopen" }
            }
        }
    };
}

operations! {
    Create { who: Who, thread: u8, at: u8 },
    Append (Append),
    /// Sends again what was sent before: that many back, from that event on or only so many of its events.
    Again { back: u8, skip: u8, take: u8 },
    Admit (Admit),
    Start { who: Who, thread: u8, mark: Mark, at: u8 },
    Finish { who: Who, thread: u8, run: Run, mark: Mark, outcome: u8, events: Vec<Event>, usage: Vec<Call>, at: u8 },
    PutIfAbsent { who: Who, thread: u8, run: Run, event: Event },
    Cancel { who: Who, thread: u8, run: Run, action: u8, at: u8 },
    /// Ends a run from outside that is still held under an epoch so far off.
    Interrupt { who: Who, thread: u8, run: Run, epoch: i8, outcome: u8, at: u8 },
    SetVisibility { who: Who, thread: u8, run: u8, visibility: u8 },
    Rewind { who: Who, thread: u8, run: u8 },
    Update { who: Who, thread: u8, key: u8, value: Option<u8>, at: u8 },
    SetOwner { who: Who, thread: u8, owner: Option<u8> },
    DeleteRun { who: Who, thread: u8, run: u8 },
    DeleteLog { who: Who, thread: u8 },
    DeleteThread { who: Who, thread: u8 },
    Events { who: Who, thread: u8, run: Option<u8>, kind: Option<u8>, caller: Option<u8>, range: Range },
    Messages { who: Who, thread: u8, run: Option<u8>, hidden: bool, range: Range },
    Items { who: Who, thread: u8, run: Option<u8>, open: bool, range: Range },
    Count { who: Who, thread: u8, hidden: bool },
    Usage { who: Who, thread: u8, run: Option<u8>, after: Option<u8>, active: bool },
    LastAi { who: Who, thread: u8 },
    Runs { owner: u8, thread: Option<u8>, status: Option<u8>, limit: u8, cursor: Option<u8> },
    Threads { owner: u8, limit: u8, cursor: Option<u8> },
    Head { who: Who, thread: u8 },
    FindRun { who: Who, run: u8 },
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![10 => Just(Who::Owner(0)), 1 => Just(Who::Owner(1)), 9 => Just(Who::System)]
}

/// Few, so that operations meet; the first most.
fn few(count: u8) -> impl Strategy<Value = u8> + Clone {
    prop_oneof![3 => Just(0), 2 => 0..count]
}

fn run() -> impl Strategy<Value = Run> {
    prop_oneof![8 => Just(Run::Active), 2 => (0..4_u8).prop_map(Run::Number), 1 => Just(Run::None)]
}

fn mark() -> impl Strategy<Value = Mark> {
    let at = |epoch, ordinal| Mark { epoch, ordinal };
    prop_oneof![
        8 => Just(at(0, 0)),
        2 => (-4..0_i8).prop_map(move |ordinal| at(0, ordinal)),
        1 => (-1..2_i8, -1..2_i8).prop_map(move |(epoch, ordinal)| at(epoch, ordinal)),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    (
        0..8_u8,
        0..4_u8,
        0..8_u8,
        prop::option::weighted(0.5, (0..4_u8, 0..4_u8)),
        prop::option::weighted(0.1, 0..3_u8),
        0..60_u8,
    )
        .prop_map(|(kind, caller, payload, item, once, at)| Event {
            kind,
            caller,
            payload,
            item,
            once,
            at,
        })
}

fn call() -> impl Strategy<Value = Call> {
    (0..5_u8, 0..4_u8, 0..4_u8, prop::option::weighted(0.1, 0..3_u8), 0..60_u8)
        .prop_map(|(source, tokens, caller, child, at)| Call { source, tokens, caller, child, at })
}

fn range() -> impl Strategy<Value = Range> {
    let seq = || prop::option::of(0..30_u8);
    (1..9_u8, seq(), seq()).prop_map(|(limit, before, after)| Range { limit, before, after })
}

prop_compose! {
    fn append()(
        who in who(),
        thread in few(3),
        run in run(),
        mark in prop::option::weighted(0.7, mark()),
        expected in prop::option::weighted(0.1, -1..2_i8),
        events in prop::collection::vec(event(), 0..5),
        usage in prop::collection::vec(call(), 0..3),
        progress in any::<bool>(),
        create_missing in prop::bool::weighted(0.2),
        starts in prop::bool::weighted(0.15),
    ) -> Append {
        Append { who, thread, run, mark, expected, events, usage, progress, create_missing, starts }
    }
}

prop_compose! {
    fn admit()(
        who in who(),
        thread in few(3),
        run in 0..6_u8,
        key in prop::option::of(0..3_u8),
        hash in few(2),
        input in 0..3_u8,
        strategy in few(4),
        leased in prop::bool::weighted(0.3),
        create_missing in any::<bool>(),
        at in 0..60_u8,
    ) -> Admit {
        Admit { who, thread, run, key, hash, input, strategy, leased, create_missing, at }
    }
}

fn writes() -> impl Strategy<Value = Op> {
    let thread = || few(3);
    prop_oneof![
        2 => (who(), 0..4_u8, 0..60_u8).prop_map(|(who, thread, at)| Op::Create { who, thread, at }),
        10 => append().prop_map(Op::Append),
        3 => (0..6_u8, 0..3_u8, 1..6_u8).prop_map(|(back, skip, take)| Op::Again { back, skip, take }),
        10 => admit().prop_map(Op::Admit),
        1 => (who(), thread(), run(), 0..3_u8, 0..60_u8)
            .prop_map(|(who, thread, run, action, at)| Op::Cancel { who, thread, run, action, at }),
        1 => (who(), thread(), run(), prop_oneof![3 => Just(0_i8), 1 => -1..2_i8], 0..5_u8, 0..60_u8).prop_map(
            |(who, thread, run, epoch, outcome, at)| Op::Interrupt { who, thread, run, epoch, outcome, at }
        ),
        1 => (who(), thread(), 0..4_u8, 0..3_u8).prop_map(|(who, thread, run, visibility)| {
            Op::SetVisibility { who, thread, run, visibility }
        }),
        1 => (who(), thread(), 0..4_u8).prop_map(|(who, thread, run)| Op::Rewind { who, thread, run }),
        2 => (who(), thread(), mark(), 0..60_u8)
            .prop_map(|(who, thread, mark, at)| Op::Start { who, thread, mark, at }),
        4 => (
            who(),
            thread(),
            run(),
            mark(),
            0..5_u8,
            prop::collection::vec(event(), 0..3),
            prop::collection::vec(call(), 0..2),
            0..60_u8,
        )
            .prop_map(|(who, thread, run, mark, outcome, events, usage, at)| {
                Op::Finish { who, thread, run, mark, outcome, events, usage, at }
            }),
        2 => (who(), thread(), run(), event(), prop::option::weighted(0.9, 0..3_u8)).prop_map(
            |(who, thread, run, event, once)| {
                Op::PutIfAbsent { who, thread, run, event: Event { once, ..event } }
            }
        ),
        1 => (who(), thread(), 0..3_u8, prop::option::of(0..8_u8), 0..60_u8)
            .prop_map(|(who, thread, key, value, at)| Op::Update { who, thread, key, value, at }),
        2 => (who(), thread(), 0..2_u8).prop_map(|(who, thread, run)| Op::DeleteRun { who, thread, run }),
    ]
}

/// What most of what comes after it is refused for.
fn upheavals() -> impl Strategy<Value = Op> {
    prop_oneof![
        (who(), few(3), prop::option::weighted(0.8, few(2))).prop_map(|(who, thread, owner)| Op::SetOwner {
            who,
            thread,
            owner
        }),
        (who(), few(3)).prop_map(|(who, thread)| Op::DeleteLog { who, thread }),
        (who(), few(3)).prop_map(|(who, thread)| Op::DeleteThread { who, thread }),
    ]
}

fn reads() -> impl Strategy<Value = Op> {
    let (thread, some) = (|| few(3), || prop::option::of(0..4_u8));
    let cursor = || prop::option::of(0..6_u8);
    prop_oneof![
        3 => (who(), thread(), some(), prop::option::of(0..8_u8), some(), range())
            .prop_map(|(who, thread, run, kind, caller, range)| {
                Op::Events { who, thread, run, kind, caller, range }
            }),
        2 => (who(), thread(), some(), any::<bool>(), range())
            .prop_map(|(who, thread, run, hidden, range)| Op::Messages { who, thread, run, hidden, range }),
        2 => (who(), thread(), some(), any::<bool>(), range())
            .prop_map(|(who, thread, run, open, range)| Op::Items { who, thread, run, open, range }),
        1 => (who(), thread(), any::<bool>())
            .prop_map(|(who, thread, hidden)| Op::Count { who, thread, hidden }),
        1 => (who(), thread(), some(), prop::option::of(0..5_u8), any::<bool>())
            .prop_map(|(who, thread, run, after, active)| Op::Usage { who, thread, run, after, active }),
        1 => (who(), thread()).prop_map(|(who, thread)| Op::LastAi { who, thread }),
        2 => (few(2), prop::option::of(few(3)), prop::option::of(0..8_u8), 1..4_u8, cursor())
            .prop_map(|(owner, thread, status, limit, cursor)| {
                Op::Runs { owner, thread, status, limit, cursor }
            }),
        1 => (few(2), 1..3_u8, cursor())
            .prop_map(|(owner, limit, cursor)| Op::Threads { owner, limit, cursor }),
        1 => (who(), thread()).prop_map(|(who, thread)| Op::Head { who, thread }),
        1 => (who(), 0..4_u8).prop_map(|(who, run)| Op::FindRun { who, run }),
    ]
}

/// A life of a handful of threads: mostly writing, sometimes deleting, now and then opened again.
pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        40 => writes(),
        12 => reads(),
        1 => upheavals(),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..70).prop_map(|ops| {
        let begun = (0..2).map(|thread| Op::Create { who: Who::Owner(0), thread, at: thread });
        begun.chain(ops).collect()
    })
}
