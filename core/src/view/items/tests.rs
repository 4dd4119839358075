use super::*;
use pretty_assertions::assert_eq;
use proptest::prelude::*;

use crate::view::legacy::testing::{Log, call, user};
use crate::{Category, EventType, RawJson, ThreadId};

/// A record of one of a few items, whose fields say where they are from.
fn draw() -> impl Strategy<Value = (u8, u8, bool, bool, bool)> {
    (0..4_u8, 0..5_u8, any::<bool>(), any::<bool>(), any::<bool>())
}

fn event(
    place: usize,
    (item, status, has_call, has_parent, has_caller): (u8, u8, bool, bool, bool),
) -> Event {
    let seq = place as u64 + 1;
    let status = match status {
        0 | 1 => ItemStatus::InProgress,
        2 => ItemStatus::Completed,
        3 => ItemStatus::Interrupted,
        _ => ItemStatus::Unknown("paused".into()),
    };
    // Of two runs, for an id is one run's own.
    let run = RunId::new(format!("r{}", item % 2)).unwrap();
    let kind = ItemKind::Unknown(format!("kind{seq}").into());
    let mut mark = ItemMark::new(ItemId::new(format!("i{}", item / 2)).unwrap(), kind, status);
    mark.call_id = has_call.then(|| CallId::new(format!("c{seq}")).unwrap());
    mark.parent_item_id = has_parent.then(|| ItemId::new(format!("p{seq}")).unwrap());
    Event {
        thread_id: ThreadId::new("t").unwrap(),
        seq,
        run_id: Some(run),
        journal_ordinal: None,
        event_type: EventType::from_stored("x"),
        category: Category::Lifecycle,
        caller: has_caller.then(|| Caller::new(format!("caller{seq}")).unwrap()),
        task_id: None,
        item: Some(mark),
        once_key: None,
        content: RawJson::string(&seq.to_string()),
        content_bytes: seq,
        truncated: false,
        metadata: None,
        created_at: Timestamp::from_unix_micros(seq as i64 * 1_000_000).unwrap(),
    }
}

fn log() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(draw(), 0..40)
        .prop_map(|drawn| drawn.into_iter().enumerate().map(|(place, drawn)| event(place, drawn)).collect())
}

type Index = BTreeMap<(RunId, ItemId), ItemEntry>;

/// What stores do with the changes of a slice.
fn store(index: &mut Index, slice: &[Event]) {
    let envelopes: Vec<Envelope> = slice.iter().cloned().map(Envelope::from).collect();
    for (run, change) in project_slice(&envelopes) {
        match index.get_mut(&(run.clone(), change.item_id.clone())) {
            Some(entry) => entry.merge(&change),
            None => {
                let key = (run.clone(), change.item_id.clone());
                index.insert(key, ItemEntry::of(&ThreadId::new("t").unwrap(), &run, change));
            }
        }
    }
}

fn whole(log: &[Event]) -> Index {
    let mut index = Index::new();
    store(&mut index, log);
    index
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// However a log is cut into commits, the index is the same.
    #[test]
    fn slices_in_turn_are_the_whole(log in log(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(log.len() + 1)).collect();
        places.extend([0, log.len()]);
        places.sort_unstable();
        let mut index = Index::new();
        for pair in places.windows(2) {
            store(&mut index, &log[pair[0]..pair[1]]);
        }
        prop_assert_eq!(index, whole(&log));
    }

    /// What begins in a slice is the same whether or not the log before it is known.
    #[test]
    fn what_begins_in_a_slice_needs_nothing_before_it(log in log(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(log.len() + 1);
        let mut later = Index::new();
        store(&mut later, &log[cut..]);
        let begun = |index: Index, known: &Index| -> Index {
            index.into_iter().filter(|(key, _)| !known.contains_key(key)).collect()
        };
        let before = whole(&log[..cut]);
        prop_assert_eq!(begun(later, &before), begun(whole(&log), &before));
    }

    /// A change merged into a change is a change merged into a row.
    #[test]
    fn changes_and_rows_merge_alike(log in log(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(log.len() + 1);
        let mut changes: BTreeMap<(RunId, ItemId), ItemChange> = BTreeMap::new();
        for slice in [&log[..cut], &log[cut..]] {
            let envelopes: Vec<Envelope> = slice.iter().cloned().map(Envelope::from).collect();
            for (run, change) in project_slice(&envelopes) {
                changes
                    .entry((run, change.item_id.clone()))
                    .and_modify(|known| known.merge(&change))
                    .or_insert(change);
            }
        }
        let thread = ThreadId::new("t").unwrap();
        let index: Index = changes
            .into_iter()
            .map(|((run, item), change)| ((run.clone(), item), ItemEntry::of(&thread, &run, change)))
            .collect();
        prop_assert_eq!(index, whole(&log));
    }

    /// A live reader has the rows of the index, each with the payload of the event it points at; wherever it
    /// joined, and though it is told some events twice.
    #[test]
    fn a_live_reader_has_the_index(log in log(), cut in any::<prop::sample::Index>(), back in 0..5_usize) {
        let cut = cut.index(log.len() + 1);
        let mut first = ItemReducer::default();
        for event in &log[..cut] {
            let before = first.get(event.run_id.as_ref().unwrap(), &event.item.as_ref().unwrap().item_id).cloned();
            let changed = first.apply(event).cloned();
            let after = first.get(event.run_id.as_ref().unwrap(), &event.item.as_ref().unwrap().item_id).cloned();
            prop_assert_eq!(changed.is_some(), before != after);
        }
        let mut joined: ItemReducer = first.items().cloned().collect();
        for event in &log[cut.saturating_sub(back)..] {
            joined.apply(event);
        }
        let index = whole(&log);
        let mut items: Vec<Item> = index
            .into_values()
            .map(|entry| { let place = entry.updated_seq as usize - 1; Item::of(entry, &log[place]) })
            .collect();
        items.sort_by_key(|item| item.entry.started_seq);
        prop_assert_eq!(joined.items().cloned().collect::<Vec<_>>(), items);
    }
}

/// The first value that is known holds, whichever record brings it and however the log is cut.
#[test]
fn a_second_start_adds_what_the_first_lacks() {
    let log = [
        event(0, (0, 0, false, false, false)),
        event(1, (0, 0, true, false, false)),
        event(2, (0, 2, true, true, false)),
    ];
    let index = whole(&log);
    let entry = index.values().next().unwrap();
    assert_eq!(entry.call_id.as_ref().map(CallId::as_str), Some("c2"));
    assert_eq!(entry.parent_item_id.as_ref().map(ItemId::as_str), Some("p3"));
    assert_eq!((entry.started_seq, entry.updated_seq, entry.completed_seq), (1, 3, Some(3)));
}

#[test]
fn an_item_is_told_when_it_begins_and_when_it_ends_and_never_again() {
    let shell = ItemKind::CommandExecution;
    let log = Log::default()
        .marked("c", shell.clone(), ItemStatus::InProgress, r#"{"name":"sh","args":1}"#)
        .marked("c", shell.clone(), ItemStatus::InProgress, r#"{"name":"sh","args":2}"#)
        .item("u", ItemKind::UserMessage, &user("hi"))
        .marked("o", shell.clone(), ItemStatus::InProgress, r#"{"name":"sh","args":3}"#)
        .result("c", "x", None, &call("sh", "done"))
        .marked("c", shell, ItemStatus::Failed, r#"{"name":"sh","args":4}"#)
        .event("note", crate::Category::Trace, "1")
        .events();
    let mut stream = ItemReducer::default();
    let told: Vec<_> = log.iter().map(|event| stream.tell(event)).collect();
    let shown = |item: &Item| {
        let entry = &item.entry;
        let content = item.content.as_ref().map(ToString::to_string);
        (entry.item_id.to_string(), entry.status.clone(), entry.started_seq, entry.completed_seq, content)
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        told.iter().map(|item| item.as_ref().map(shown)).collect::<Vec<_>>(),
        [
            Some(("c".to_owned(), ItemStatus::InProgress, 1, None, text(r#"{"name":"sh","args":1}"#))),
            None,
            Some(("u".to_owned(), ItemStatus::Completed, 3, Some(3), text(&user("hi")))),
            Some(("o".to_owned(), ItemStatus::InProgress, 4, None, text(r#"{"name":"sh","args":3}"#))),
            Some(("c".to_owned(), ItemStatus::Completed, 1, Some(5), text(&call("sh", "done")))),
            None,
            None,
        ]
    );
    // What the completion names, the row has too.
    assert_eq!(told[4].as_ref().unwrap().entry.call_id.as_ref().unwrap().as_str(), "x");
    assert_eq!(stream.items().map(shown).collect::<Vec<_>>(), [shown(told[3].as_ref().unwrap())]);
}
