//! `run_events`: the log.

use runledger_core::{
    Caller, Category, Error, Event, EventType, ItemKind, ItemMark, ItemStatus, RawJson, Result,
};
use sea_orm::entity::prelude::*;

use super::cell::{Table, by_position};

const TABLE: Table = Table("event");

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "run_events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub thread_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub run_id: Option<String>,
    pub journal_ordinal: Option<i64>,
    pub once_key: Option<String>,
    pub event_type: String,
    pub category: String,
    pub caller: Option<String>,
    pub task_id: Option<String>,
    pub item_id: Option<String>,
    pub item_kind: Option<String>,
    pub item_status: Option<String>,
    pub call_id: Option<String>,
    pub parent_item_id: Option<String>,
    pub content: String,
    pub content_bytes: i64,
    pub truncated: bool,
    pub metadata: Option<String>,
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

by_position! {
    thread_id, seq, run_id, journal_ordinal, once_key, event_type, category, caller, task_id, item_id,
    item_kind, item_status, call_id, parent_item_id, content, content_bytes, truncated, metadata,
    created_at,
}

impl Model {
    /// What makes the event a record of an item; an item has all of id, kind and status, or none.
    fn item(&mut self) -> Result<Option<ItemMark>> {
        let (item_id, kind, status) = match (self.item_id.take(), &self.item_kind, &self.item_status) {
            (None, None, None) => return Ok(None),
            (Some(item_id), Some(kind), Some(status)) => (item_id, kind, status),
            _ => return Err(TABLE.corrupt("item_id", "is not there together with item_kind and item_status")),
        };
        Ok(Some(ItemMark {
            item_id: TABLE.id("item_id", item_id)?,
            kind: ItemKind::from_stored(kind),
            status: ItemStatus::from_stored(status),
            call_id: TABLE.optional_id("call_id", self.call_id.take())?,
            parent_item_id: TABLE.optional_id("parent_item_id", self.parent_item_id.take())?,
        }))
    }
}

impl TryFrom<Model> for Event {
    type Error = Error;

    fn try_from(mut row: Model) -> Result<Self> {
        Ok(Self {
            item: row.item()?,
            thread_id: TABLE.id("thread_id", row.thread_id)?,
            seq: TABLE.count("seq", row.seq)?,
            run_id: TABLE.optional_id("run_id", row.run_id)?,
            journal_ordinal: TABLE.optional_count("journal_ordinal", row.journal_ordinal)?,
            event_type: EventType::from_stored(&row.event_type),
            category: Category::from_stored(&row.category),
            caller: row.caller.as_deref().map(Caller::from_stored),
            task_id: TABLE.optional_id("task_id", row.task_id)?,
            once_key: row.once_key,
            content: RawJson::from_stored(&row.content),
            content_bytes: TABLE.count("content_bytes", row.content_bytes)?,
            truncated: row.truncated,
            metadata: row.metadata.as_deref().map(RawJson::from_stored),
            created_at: row.created_at.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::{ErrorKind, Timestamp};

    fn row() -> Model {
        Model {
            thread_id: "t".to_owned(),
            seq: 1,
            run_id: None,
            journal_ordinal: None,
            once_key: None,
            event_type: "a type of a newer version".to_owned(),
            category: "newer".to_owned(),
            caller: None,
            task_id: None,
            item_id: None,
            item_kind: None,
            item_status: None,
            call_id: None,
            parent_item_id: None,
            content: "no JSON at all".to_owned(),
            content_bytes: 14,
            truncated: false,
            metadata: None,
            created_at: Timestamp::now().to_chrono(),
        }
    }

    #[test]
    fn an_item_without_its_kind_is_corrupt() {
        let half = Model { item_id: Some("i".to_owned()), ..row() };
        assert_eq!(Event::try_from(half).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn what_a_newer_version_wrote_is_read_and_payloads_are_not_looked_at() {
        let event = Event::try_from(row()).unwrap();
        assert_eq!(event.event_type.as_str(), "a type of a newer version");
        assert_eq!(event.category, Category::Custom("newer".into()));
        assert_eq!(event.content.as_str(), "no JSON at all");
        assert_eq!(event.item, None);
    }
}
