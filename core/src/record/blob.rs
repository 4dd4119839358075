//! Large payloads: stored once per thread by what they hold, and named by events.
//!
//! A ref takes the place of a string in a payload, and nothing else of the payload changes. Whoever wants
//! the payload as it was gives the bytes back to [`inline`]; whoever reads it as a typed record or as text is shown
//! how each part begins ([`BlobRef::shown`]), so that a ref is neither an error nor nothing.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::commit::MAX_COMMIT_BYTES;
use crate::json::spelled;
use crate::wire::text_enum;
use crate::{Error, RawJson, Result, text};

/// The name of what a blob holds: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct BlobHash(Box<str>);

impl BlobHash {
    const PREFIX: &'static str = "sha256:";

    /// Takes a hash; [`Error::InvalidInput`] where it is none.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        let digits = text.strip_prefix(Self::PREFIX).unwrap_or_default();
        if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Ok(Self(text.into()));
        }
        Err(Error::invalid(
            "blob",
            format!("{text:?} is no hash; it is \"sha256:\" and 64 digits of 0-9 and a-f"),
        ))
    }

    /// The name of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut name = String::from(Self::PREFIX);
        for byte in Sha256::digest(bytes) {
            // Writing to a string does not fail.
            let _ = write!(name, "{byte:02x}");
        }
        Self(name.into())
    }

    /// Takes text as a store returned it.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The hash as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

text_enum! {
    /// How a string was made of the blob that a ref names.
    #[derive(Default)]
    pub enum BlobForm {
        /// The blob is its text.
        #[default]
        Text = "text",
        /// It was a `data:` URL of the ref's media type; the blob is what it stood for.
        DataUrl = "data_url",
        /// The blob is the JSON string, with its quotes and escapes: it was spelled in another way than ours, or
        /// has half of a surrogate pair, which no text can have.
        Json = "json",
    }
}

impl BlobForm {
    fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

/// What a payload has instead of a large part of it: where the part is, and how it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlobRef {
    /// What it holds.
    pub blob: BlobHash,
    /// How large it is.
    pub bytes: u64,
    /// What it is, `text/plain` or `image/png` for example.
    pub media_type: String,
    /// How the string was made of it.
    #[serde(default, skip_serializing_if = "BlobForm::is_text")]
    pub form: BlobForm,
    /// How it begins, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
}

impl BlobRef {
    /// What a reader is shown in its place: how it begins, and how much more there is.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.preview {
            Some(preview) => {
                format!(
                    "{preview}\n[the beginning of {} bytes of {}: {}]",
                    self.bytes, self.media_type, self.blob
                )
            }
            None => format!("[{} bytes of {}: {}]", self.bytes, self.media_type, self.blob),
        }
    }

    /// The JSON string that it stands for, where `bytes` can be what it names.
    fn original<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
        if bytes.len() as u64 != self.bytes {
            return None;
        }
        match &self.form {
            BlobForm::Text => Some(spelled(std::str::from_utf8(bytes).ok()?).into()),
            BlobForm::DataUrl => Some(spelled(&data_url(&self.media_type, bytes)).into()),
            BlobForm::Json => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            BlobForm::Unknown(_) => None,
        }
    }
}

/// A blob of a commit, and the event that names it.
#[derive(Clone, PartialEq, Eq)]
pub struct NewBlob {
    /// The event's place among the commit's events, from 0.
    pub event: usize,
    /// What it holds.
    pub hash: BlobHash,
    /// What it is.
    pub media_type: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl NewBlob {
    /// Refuses what is not what it says it is.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |what: String| Err(Error::invalid("blobs", what));
        if !is_media_type(&self.media_type) {
            return invalid(format!(
                "has the media type {:?}; it must have 1 to 255 characters of printable ASCII",
                self.media_type
            ));
        }
        let hash = BlobHash::of(&self.bytes);
        if hash != self.hash {
            return invalid(format!("has {} under the name {}", hash, self.hash));
        }
        Ok(())
    }
}

impl fmt::Debug for NewBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewBlob({} of event {}, {} bytes)", self.hash, self.event, self.bytes.len())
    }
}

/// An event of a commit, and a blob that its payload names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobUse {
    /// The event's place among the commit's events, from 0.
    pub event: usize,
    /// The blob.
    pub hash: BlobHash,
}

/// A blob as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    /// What it holds.
    pub hash: BlobHash,
    /// What it is, as the first commit that brought it said.
    pub media_type: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// A blob that a store returns; [`Error::Corrupt`] where it is not what it is named by.
    pub fn from_stored(hash: &BlobHash, media_type: String, bytes: Vec<u8>) -> Result<Self> {
        let found = BlobHash::of(&bytes);
        if found != *hash {
            return Err(Error::corrupt("blob", format!("{hash} holds {found}")));
        }
        Ok(Self { hash: found, media_type, bytes })
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({}, {}, {} bytes)", self.hash, self.media_type, self.bytes.len())
    }
}

/// A blob of a thread, without what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlobEntry {
    /// What it holds.
    pub hash: BlobHash,
    /// What it is, as the first commit that brought it said.
    pub media_type: String,
    /// How large it is.
    pub bytes: u64,
    /// How many events name it; it goes with the last of them.
    pub events: u64,
}

/// Parts of a payload from this many bytes on are large.
pub const BLOB_BYTES: usize = 32 * 1024;

/// The most blobs that one event's payload may name: twice what there are large parts in the largest payload.
pub const MAX_EVENT_BLOBS: usize = 4_096;

/// The most bytes of blobs that are put back into one payload: what one commit may bring.
const INLINE_BYTES: u64 = MAX_COMMIT_BYTES as u64;

/// How much of a text its ref shows, in bytes.
const PREVIEW_BYTES: usize = 2 * 1024;

/// How every ref begins, as we write it: the order of its fields is its spelling.
const REF_START: &str = "{\"blob\":\"sha256:";

/// Takes the large strings out of a payload: each of at least `from_bytes` bytes, however deep, becomes a
/// [`BlobRef`], and a `data:` URL in base64 the bytes it stands for. All else stays byte for byte, and
/// [`inline`] gives back exactly what was taken.
///
/// `None` where there is nothing large in it, and where it has refs already: which of them were there before could
/// not be told afterwards. What is large beyond [`MAX_EVENT_BLOBS`] stays. `event` is the place of the payload's
/// event in its commit, from 0.
#[must_use]
pub fn offload(content: &RawJson, event: usize, from_bytes: usize) -> Option<(RawJson, Vec<NewBlob>)> {
    let document = content.as_str();
    if document.len() < from_bytes {
        return None;
    }
    let mut rest = Rest { document, copied: 0, out: String::new() };
    let mut blobs: Vec<NewBlob> = Vec::new();
    for found in Scan::over(document) {
        let place = match found {
            Found::Ref(..) => return None,
            Found::String(_) if blobs.len() == MAX_EVENT_BLOBS => continue,
            Found::String(place) => place,
        };
        let Some((taken, bytes)) = document.get(place.clone()).and_then(|token| take(token, from_bytes))
        else {
            continue;
        };
        // A struct of texts and numbers has a JSON form.
        rest.replace(place, &serde_json::to_string(&taken).ok()?);
        if blobs.iter().all(|blob| blob.hash != taken.blob) {
            blobs.push(NewBlob { event, hash: taken.blob, media_type: taken.media_type, bytes });
        }
    }
    (!blobs.is_empty()).then(|| (rest.done(), blobs))
}

/// Puts the strings back whose blobs `lookup` has. A ref whose blob it does not have stays, and so does one beyond
/// what a commit may bring: a payload that names a blob over and over would have no end.
#[must_use]
pub fn inline<'a>(content: &RawJson, lookup: impl Fn(&BlobHash) -> Option<&'a [u8]>) -> RawJson {
    let mut room = Room(INLINE_BYTES);
    let original = |named: &BlobRef| {
        if room.has(named) { named.original(lookup(&named.blob)?) } else { None }
    };
    replace_refs(content, original).unwrap_or_else(|| content.clone())
}

/// The blobs that [`inline`] asks for, each once, in the order of the payload.
pub(crate) fn inlined(content: &RawJson) -> Vec<BlobHash> {
    let (mut room, mut seen) = (Room(INLINE_BYTES), HashSet::new());
    let named = blob_refs(content).into_iter().filter(|named| room.has(named)).map(|named| named.blob);
    named.filter(|hash| seen.insert(hash.clone())).collect()
}

/// How many bytes may be put back yet.
struct Room(u64);

impl Room {
    fn has(&mut self, named: &BlobRef) -> bool {
        let left = self.0.checked_sub(named.bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// The refs of a payload, in its order.
#[must_use]
pub fn blob_refs(content: &RawJson) -> Vec<BlobRef> {
    let document = content.as_str();
    if !document.contains(REF_START) {
        return Vec::new();
    }
    let named = |found| match found {
        Found::Ref(_, named) => Some(*named),
        Found::String(_) => None,
    };
    Scan::over(document).filter_map(named).collect()
}

impl RawJson {
    /// The payload that typed records and texts are read from: in the place of each ref stands what a reader is
    /// shown of it, so that a string is where a string was.
    #[must_use]
    pub fn shown(&self) -> Cow<'_, Self> {
        let text = |named: &BlobRef| Some(spelled(&named.shown()).into());
        replace_refs(self, text).map_or(Cow::Borrowed(self), Cow::Owned)
    }
}

/// Replaces refs by JSON strings; `None` where there are none.
fn replace_refs<'a>(
    content: &RawJson,
    mut replacement: impl FnMut(&BlobRef) -> Option<Cow<'a, str>>,
) -> Option<RawJson> {
    let document = content.as_str();
    if !document.contains(REF_START) {
        return None;
    }
    let mut rest = Rest { document, copied: 0, out: String::new() };
    for found in Scan::over(document) {
        let Found::Ref(place, named) = found else { continue };
        if let Some(text) = replacement(&named) {
            rest.replace(place, &text);
        }
    }
    Some(rest.done())
}

/// What becomes of one JSON string, quotes and all, if it is large.
fn take(token: &str, from_bytes: usize) -> Option<(BlobRef, Vec<u8>)> {
    // A text is no longer than its spelling.
    if token.len() < from_bytes.saturating_add(2) {
        return None;
    }
    let decoded = serde_json::from_str::<String>(token).ok();
    let text = match &decoded {
        Some(text) if text.len() < from_bytes => return None,
        Some(text) => Some(text.as_str()).filter(|text| spelled(text) == token),
        None => None,
    };
    let (form, media_type, bytes) = match (text, text.and_then(of_data_url)) {
        (Some(_), Some((media_type, bytes))) => (BlobForm::DataUrl, media_type, bytes),
        (Some(text), None) => (BlobForm::Text, "text/plain", text.as_bytes().to_vec()),
        (None, _) => (BlobForm::Json, "application/json", token.as_bytes().to_vec()),
    };
    let begins = match form {
        BlobForm::DataUrl if media_type.starts_with("text/") => {
            std::str::from_utf8(&bytes).ok().map(|text| begin(text).to_owned())
        }
        BlobForm::DataUrl => None,
        BlobForm::Text | BlobForm::Json | BlobForm::Unknown(_) => match &decoded {
            Some(text) => Some(begin(text).to_owned()),
            None => {
                let readable = text::replace_lone_surrogates(token);
                serde_json::from_str::<String>(&readable).ok().map(|text| begin(&text).to_owned())
            }
        },
    };
    let named = BlobRef {
        blob: BlobHash::of(&bytes),
        bytes: bytes.len() as u64,
        media_type: media_type.to_owned(),
        form,
        preview: begins,
    };
    Some((named, bytes))
}

fn begin(text: &str) -> &str {
    text.get(..text.floor_char_boundary(PREVIEW_BYTES)).unwrap_or_default()
}

fn data_url(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", BASE64.encode(bytes))
}

/// The media type and the bytes of a `data:` URL that [`data_url`] makes again.
fn of_data_url(text: &str) -> Option<(&str, Vec<u8>)> {
    let (media_type, encoded) = text.strip_prefix("data:")?.split_once(";base64,")?;
    if !is_media_type(media_type) {
        return None;
    }
    let bytes = BASE64.decode(encoded).ok()?;
    (data_url(media_type, &bytes) == text).then_some((media_type, bytes))
}

fn is_media_type(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// A document of which parts are replaced, from its beginning to its end.
struct Rest<'a> {
    document: &'a str,
    copied: usize,
    out: String,
}

impl Rest<'_> {
    fn replace(&mut self, place: Range<usize>, text: &str) {
        self.out.push_str(self.document.get(self.copied..place.start).unwrap_or_default());
        self.out.push_str(text);
        self.copied = place.end;
    }

    fn done(mut self) -> RawJson {
        self.out.push_str(self.document.get(self.copied..).unwrap_or_default());
        RawJson::from_stored(&self.out)
    }
}

/// What a document has that matters here, by where it stands.
enum Found {
    /// A string that is no key.
    String(Range<usize>),
    Ref(Range<usize>, Box<BlobRef>),
}

/// A ref as we write it. Anything else in it is refused where it stands: what only begins like a ref may hold the rest
/// of the document, and would be read to its end at each level.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ours {
    blob: BlobHash,
    bytes: u64,
    media_type: String,
    #[serde(default)]
    form: BlobForm,
    #[serde(default)]
    preview: Option<String>,
}

impl From<Ours> for BlobRef {
    fn from(Ours { blob, bytes, media_type, form, preview }: Ours) -> Self {
        Self { blob, bytes, media_type, form, preview }
    }
}

/// Walks over a document without parsing it: any depth takes no more stack, and nothing but strings more time
/// than a look at each byte.
struct Scan<'a> {
    document: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn over(document: &'a str) -> Self {
        Self { document, at: 0 }
    }

    /// The ref that begins here, if one does: spelled as we spell it, and nothing else in it.
    fn ref_at(&self, start: usize) -> Option<(Range<usize>, BlobRef)> {
        let rest = self.document.get(start..).filter(|rest| rest.starts_with(REF_START))?;
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Ours>();
        let named: BlobRef = stream.next()?.ok()?.into();
        let text = rest.get(..stream.byte_offset())?;
        let is_ours = serde_json::to_string(&named).is_ok_and(|spelled| spelled == text);
        let is_name = BlobHash::new(named.blob.as_str()).is_ok();
        (is_ours && is_name).then(|| (start..start + text.len(), named))
    }
}

impl Iterator for Scan<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let bytes = self.document.as_bytes();
        loop {
            let start = self.at;
            match bytes.get(start)? {
                b'{' => {
                    self.at += 1;
                    if let Some((place, named)) = self.ref_at(start) {
                        self.at = place.end;
                        return Some(Found::Ref(place, Box::new(named)));
                    }
                }
                b'"' => {
                    self.at = string_end(bytes, start)?;
                    let mut after = bytes.get(self.at..).unwrap_or_default().iter();
                    let is_key = after.find(|b| !b.is_ascii_whitespace()) == Some(&b':');
                    if !is_key {
                        return Some(Found::String(start..self.at));
                    }
                }
                _ => self.at += 1,
            }
        }
    }
}

/// Where the string ends that begins at `start`; `None` where it does not.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn json(text: &str) -> RawJson {
        RawJson::parse("content", text).unwrap()
    }

    /// Takes the large strings out and puts them back.
    fn there_and_back(content: &RawJson, from_bytes: usize) -> Option<(RawJson, Vec<NewBlob>)> {
        let (small, blobs) = offload(content, 3, from_bytes)?;
        assert!(blobs.iter().all(|blob| blob.event == 3 && blob.check().is_ok()));
        let named: Vec<BlobHash> = blob_refs(&small).into_iter().map(|named| named.blob).collect();
        assert!(blobs.iter().all(|blob| named.contains(&blob.hash)));
        assert!(named.iter().all(|hash| blobs.iter().any(|blob| blob.hash == *hash)));
        let find =
            |hash: &BlobHash| blobs.iter().find(|blob| blob.hash == *hash).map(|blob| blob.bytes.as_slice());
        assert_eq!(inline(&small, find), *content);
        assert_eq!(inline(&small, |_| None), small);
        Some((small, blobs))
    }

    #[test]
    fn a_large_text_is_named_and_the_rest_stays() {
        let content = json(r#"{ "a" : [1.50, "short"],"out":"0123456789é", "0123456789" :null}"#);
        let (small, blobs) = there_and_back(&content, 10).unwrap();
        assert_eq!(blobs.len(), 1);
        assert_eq!(blobs[0].bytes, "0123456789é".as_bytes());
        let expected = format!(
            r#"{{ "a" : [1.50, "short"],"out":{{"blob":"{}","bytes":12,"media_type":"text/plain","preview":"0123456789é"}}, "0123456789" :null}}"#,
            blobs[0].hash
        );
        assert_eq!(small.as_str(), expected);
        // What has refs is not looked through again, and what has nothing large is left alone.
        assert_eq!(offload(&small, 0, 5), None);
        assert_eq!(offload(&content, 0, 13), None);
    }

    #[test]
    fn a_data_url_is_the_bytes_it_stands_for() {
        let content = json(
            r#"[{"image_url":"data:image/png;base64,iVBORw0KGgo="},"data:image/png;base64,iVBORw0KGgo="]"#,
        );
        let (small, blobs) = there_and_back(&content, 20).unwrap();
        assert_eq!(blobs.len(), 1);
        assert_eq!(
            (blobs[0].media_type.as_str(), blobs[0].bytes.as_slice()),
            ("image/png", &b"\x89PNG\r\n\x1a\n"[..])
        );
        assert_eq!(blob_refs(&small)[0].preview, None);
        assert_eq!(blob_refs(&small)[0].shown(), format!("[8 bytes of image/png: {}]", blobs[0].hash));
        // What would not come back as it was is text.
        for odd in
            ["data:image/png;base64,iVBORw0KGgo", "data:;base64,iVBORw0KGgo=", "data:é;base64,iVBORw0KGgo="]
        {
            let content = RawJson::string(odd);
            assert_eq!(there_and_back(&content, 20).unwrap().1[0].media_type, "text/plain");
        }
        let content = json(r#""data:text/html;base64,PGI+aGVsbG88L2I+""#);
        assert_eq!(
            blob_refs(&there_and_back(&content, 20).unwrap().0)[0].preview.as_deref(),
            Some("<b>hello</b>")
        );
    }

    #[test]
    fn other_spellings_and_lone_surrogates_are_kept_as_spelled() {
        for (token, preview) in
            [(r#""caf\u00e9 a\/b""#, "café a/b"), (r#""\udce9 is half of one""#, "\u{fffd} is half of one")]
        {
            let (small, blobs) = there_and_back(&json(token), 8).unwrap();
            assert_eq!(blobs[0].bytes, token.as_bytes());
            let named = &blob_refs(&small)[0];
            assert_eq!((named.form.as_str(), named.preview.as_deref()), ("json", Some(preview)));
        }
    }

    #[test]
    fn a_preview_ends_between_characters() {
        let text = format!("{}é{}", "a".repeat(PREVIEW_BYTES - 1), "b".repeat(100));
        let (small, _) = there_and_back(&RawJson::string(&text), PREVIEW_BYTES).unwrap();
        let named = &blob_refs(&small)[0];
        assert_eq!(named.preview.as_ref().unwrap().len(), PREVIEW_BYTES - 1);
        let text: String = small.shown().decode().unwrap();
        assert!(
            text.starts_with("aaa") && text.ends_with(&format!("bytes of text/plain: {}]", named.blob)),
            "{text}"
        );
    }

    #[test]
    fn what_only_looks_like_a_ref_is_none() {
        let hash = BlobHash::of(b"x");
        for odd in [
            format!(r#"{{"blob":"{hash}","bytes":1,"media_type":"a","more":1}}"#),
            format!(r#"{{"blob":"{hash}","bytes":1}}"#),
            format!(r#"{{"blob": "{hash}","bytes":1,"media_type":"a"}}"#),
            r#"{"blob":"sha256:00","bytes":1,"media_type":"a"}"#.to_owned(),
            format!(r#"{{"blob":"{hash}","bytes":1"#),
            RawJson::string(&format!(r#"{{"blob":"{hash}","bytes":1,"media_type":"a"}}"#))
                .as_str()
                .to_owned(),
        ] {
            assert_eq!(blob_refs(&RawJson::from_stored(&odd)), [], "{odd}");
        }
        let other = |bytes: &'static [u8]| move |_: &BlobHash| Some(bytes);
        let content = json(&format!(r#"[{{"blob":"{hash}","bytes":1,"media_type":"text/plain"}}]"#));
        assert_eq!(inline(&content, other(b"x")).as_str(), r#"["x"]"#);
        for not_it in [&b"xy"[..], &b"\xff"[..]] {
            assert_eq!(inline(&content, other(not_it)), content);
        }
        let newer = json(&format!(r#"[{{"blob":"{hash}","bytes":1,"media_type":"a","form":"newer"}}]"#));
        assert_eq!(inline(&newer, other(b"x")), newer);
    }

    /// Each level only begins like a ref: to read every one to its end would take hours.
    #[test]
    fn what_only_begins_like_a_ref_is_left_at_once() {
        let depth = 400_000;
        for level in [r#"{"blob":"sha256:","z":"#, r#"{"blob":"sha256:","preview":"#] {
            let deep = format!("{}1{}", level.repeat(depth), "}".repeat(depth));
            assert_eq!(blob_refs(&RawJson::from_stored(&deep)), []);
        }
    }

    #[test]
    fn what_is_put_back_has_an_end() {
        let named = |text: &str, bytes: u64| {
            let hash = BlobHash::of(text.as_bytes());
            (format!(r#"{{"blob":"{hash}","bytes":{bytes},"media_type":"text/plain"}}"#), hash)
        };
        let all = [("a", INLINE_BYTES - 3), ("b", 2), ("c", u64::MAX), ("b", 2), ("d", 1), ("e", 1)];
        let (refs, hashes): (Vec<_>, Vec<_>) = all.iter().map(|(text, bytes)| named(text, *bytes)).unzip();
        let content = json(&format!("[{}]", refs.join(",")));
        // What does not fit is passed by; what is named again is put back again.
        assert_eq!(inlined(&content), [hashes[0].clone(), hashes[1].clone(), hashes[4].clone()]);
        let found = |hash: &BlobHash| {
            [("bb", 1), ("x", 4)].iter().find(|(_, at)| hashes[*at] == *hash).map(|(text, _)| text.as_bytes())
        };
        let expected = format!("[{},\"bb\",{},{},\"x\",{}]", refs[0], refs[2], refs[3], refs[5]);
        assert_eq!(inline(&content, found).as_str(), expected);
    }

    #[test]
    fn a_blob_is_what_it_says() {
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(BlobHash::of(b"abc"), BlobHash::new(abc).unwrap());
        let blob = NewBlob {
            event: 0,
            hash: BlobHash::of(b"x"),
            media_type: "a/b".to_owned(),
            bytes: b"x".to_vec(),
        };
        assert!(blob.check().is_ok());
        let wrong = NewBlob { bytes: b"y".to_vec(), ..blob.clone() };
        let nameless = NewBlob { media_type: String::new(), ..blob.clone() };
        let odd = NewBlob { media_type: "a\0".to_owned(), ..blob };
        for wrong in [wrong, nameless, odd] {
            assert_eq!(wrong.check().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let stored = Blob::from_stored(&BlobHash::of(b"x"), "a/b".to_owned(), b"y".to_vec());
        assert_eq!(stored.unwrap_err().kind(), ErrorKind::Corrupt);
    }

    /// Any document: strings spelled in any way, refs among them, any white space.
    fn documents() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            "[a-zé\u{1f600}]{0,40}".prop_map(|text| spelled(&text)),
            proptest::collection::vec(
                prop_oneof![
                    Just("\\ud83d"),
                    Just("\\ude00"),
                    Just("\\/"),
                    Just("\\\\"),
                    Just("\\\""),
                    Just("\\u00E9"),
                    Just("x"),
                    Just("{")
                ],
                0..12
            )
            .prop_map(|parts| format!("\"{}\"", parts.concat())),
            proptest::collection::vec(any::<u8>(), 0..30)
                .prop_map(|bytes| spelled(&data_url("image/png", &bytes))),
            Just("-1.50E+3".to_owned()),
            Just("null".to_owned()),
            "[a-z]{1,9}".prop_map(|text| {
                let named = BlobRef {
                    blob: BlobHash::of(text.as_bytes()),
                    bytes: text.len() as u64,
                    media_type: "text/plain".to_owned(),
                    form: BlobForm::Text,
                    preview: None,
                };
                serde_json::to_string(&named).unwrap()
            }),
        ];
        token.prop_recursive(4, 24, 4, |inner| {
            let key = "[a-z\\\\\"]{0,20}".prop_map(|text| spelled(&text));
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4)
                    .prop_map(|all| format!("[ {}]", all.join(" ,\n"))),
                proptest::collection::vec((key, inner), 0..4).prop_map(|all| {
                    let all: Vec<String> =
                        all.iter().map(|(key, value)| format!("{key} : {value}")).collect();
                    format!("{{{}}}", all.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_taken_comes_back_byte_for_byte(document in documents(), from_bytes in 0_usize..40) {
            let content = json(&document);
            if let Some((small, _)) = there_and_back(&content, from_bytes) {
                prop_assert!(blob_refs(&content).is_empty());
                RawJson::parse("content", small.as_str()).unwrap();
                RawJson::parse("content", small.shown().as_str()).unwrap();
            }
        }

        /// Text that no store checked: nothing panics.
        #[test]
        fn any_text_is_walked_over(text in "[ \\[\\]{}\",:\\\\blosha256\\PC]{0,60}", from_bytes in 0_usize..10) {
            let content = RawJson::from_stored(&text);
            let _ = (offload(&content, 0, from_bytes), blob_refs(&content), content.shown());
            let content = RawJson::from_stored(&format!("{REF_START}{text}"));
            let _ = (offload(&content, 0, from_bytes), blob_refs(&content), content.shown());
        }
    }
}
