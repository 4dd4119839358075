//! The place of the tables in a document that people write.

use runledger_core::BoxError;

const BEGIN: &str = "<!-- peers: begin -->";
const END: &str = "<!-- peers: end -->";

/// The document with these tables between its markers.
pub(crate) fn replaced(document: &str, tables: &str) -> Result<String, BoxError> {
    let missing = || format!("the document has no {BEGIN} with an {END} after it");
    let begin = document.find(BEGIN).ok_or_else(missing)? + BEGIN.len();
    let end = begin + document[begin..].find(END).ok_or_else(missing)?;
    Ok(format!("{}\n\n{}\n\n{}", &document[..begin], tables.trim(), &document[end..]))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn what_people_wrote_stays() {
        let document = "# A\n<!-- peers: begin -->\nold\n<!-- peers: end -->\nend\n";
        let new = "# A\n<!-- peers: begin -->\n\n| t |\n\n<!-- peers: end -->\nend\n";
        assert_eq!(replaced(document, "\n| t |\n").unwrap(), new);
        assert_eq!(replaced(new, "| t |").unwrap(), new);
        assert!(replaced("<!-- peers: end --><!-- peers: begin -->", "").is_err());
    }
}
