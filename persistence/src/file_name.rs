//! What the files of an id are called.

use sha2::{Digest, Sha256};

/// The longest id that is a name as it is.
const LONGEST: usize = 64;

/// What a hashed name begins with; no plain one has it.
const HASHED: char = '~';

/// Names that Windows keeps for devices, whatever follows a dot.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// The name of an id's file or folder, without an extension.
///
/// The id itself where it is short and of `a-z`, `0-9`, `-` and `_`, so that people find it; else
/// `~` and its SHA-256. No name leaves its folder, and two ids never share one, also where a file
/// system does not tell `A` from `a`.
pub(super) fn of(id: &str) -> String {
    if is_plain(id) {
        return id.to_owned();
    }
    let mut name = String::from(HASHED);
    for byte in Sha256::digest(id.as_bytes()) {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}

fn is_plain(id: &str) -> bool {
    let port = |name: &str| id.strip_prefix(name).is_some_and(|rest| rest.len() == 1);
    id.len() <= LONGEST
        && id.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        && !DEVICES.contains(&id)
        && !port("com")
        && !port("lpt")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn plain_ids_are_their_own_names() {
        for id in ["t", "0199f7a2-90f4-7d3c-8a39-2a1f6f9f3b52", "run_1", &"x".repeat(64)] {
            assert_eq!(of(id), id);
        }
    }

    #[test]
    fn any_other_id_is_hashed_and_stays_in_its_folder() {
        let ids = [
            "..",
            ".",
            "a/b",
            "../../etc",
            "a\\b",
            "A",
            "a.b",
            "C:",
            "con",
            "com1",
            "lpt9",
            "-x",
            "~x",
            " ",
            "caf\u{e9}",
            "cafe\u{301}",
            "ﬀ",
            &"x".repeat(65),
            &"x".repeat(128),
        ];
        let names: BTreeSet<String> = ids.iter().map(|id| of(id)).collect();
        assert_eq!(names.len(), ids.len());
        for name in names {
            assert!(name.starts_with(HASHED) && name.len() == 65, "{name}");
            assert!(name[1..].bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()), "{name}");
        }
    }
}
