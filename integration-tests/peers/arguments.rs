//! What the command is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Measures the ledger beside the bare drivers and beside what others keep their agents' sessions in, with the
/// same work in one run.
#[derive(Clone, Debug, Parser)]
#[command(name = "peers")]
pub(crate) struct Arguments {
    /// Rounds, of which the medians are told.
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// The most events of one measurement; how many it is follows from how fast the contender is.
    #[arg(long, default_value_t = 40_000)]
    events: u64,

    /// About how long one measurement of writes takes.
    #[arg(long, default_value_t = 700)]
    milliseconds: u64,

    /// Only what has these words in its line on stderr ("append w1 b1", "sqlite", "limit"); all of them where it is
    /// given several times.
    #[arg(long)]
    only: Vec<String>,

    /// Fewer and shorter rounds, in about three minutes.
    #[arg(long)]
    quick: bool,

    /// A few events of everything, to see that it works: each contender's events are counted. No figures.
    #[arg(long, conflicts_with_all = ["quick", "document"])]
    pub(crate) smoke: bool,

    /// Ours and the limits alone.
    #[arg(long)]
    without_peers: bool,

    /// Growth to 2 million events, too.
    #[arg(long)]
    pub(crate) large: bool,

    /// Replaces what is between the markers of this document by the tables.
    #[arg(long)]
    pub(crate) document: Option<PathBuf>,

    /// Where the databases are made: a folder on the disk that is to be measured. The temporary folder unless told;
    /// PostgreSQL's, if it is started here, is always there.
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn rounds(&self) -> usize {
        if self.smoke {
            1
        } else if self.quick {
            self.rounds.min(2)
        } else {
            self.rounds.max(1)
        }
    }

    pub(crate) fn events(&self) -> u64 {
        if self.quick { self.events.min(10_000) } else { self.events }
    }

    /// Events of a bulk import.
    pub(crate) fn bulk_events(&self) -> u64 {
        if self.smoke {
            2_000
        } else if self.quick {
            40_000
        } else {
            200_000
        }
    }

    /// Lengths of the logs that are read.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        if self.smoke {
            vec![1_000, 2_000]
        } else if self.quick {
            vec![10_000, 50_000]
        } else if self.large {
            vec![10_000, 200_000, 2_000_000]
        } else {
            vec![10_000, 200_000]
        }
    }

    /// How often a round reads each thing.
    pub(crate) fn reads(&self) -> usize {
        if self.smoke {
            2
        } else if self.quick {
            20
        } else {
            100
        }
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(if self.quick { self.milliseconds.min(250) } else { self.milliseconds })
    }

    /// Whether the peers are asked.
    pub(crate) fn wants_peers(&self) -> bool {
        !self.without_peers
    }

    /// Whether this is to be measured: a workload, or one with its contender.
    pub(crate) fn wants(&self, line: &str) -> bool {
        self.only.iter().all(|words| has_words(line, words))
    }
}

/// Whether the words are in the line, whole and in any case: "b1" is not in "b100".
fn has_words(line: &str, words: &str) -> bool {
    let (line, words) = (line.to_lowercase(), words.to_lowercase());
    let ends = |character: Option<char>| character.is_none_or(|character| !character.is_alphanumeric());
    line.match_indices(&words).any(|(at, found)| {
        ends(line[..at].chars().next_back()) && ends(line[at + found.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        for (words, found) in
            [("w1 b1", false), ("w1 B100", true), ("sqlite", true), ("sql", false), ("append w1", true)]
        {
            assert_eq!(has_words("append w1 b100: limit, SQLite NORMAL", words), found, "{words}");
        }
    }
}
