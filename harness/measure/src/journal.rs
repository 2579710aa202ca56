//! Reads the services' journals (one line per final effect) while they grow: each call takes what was added since
//! the last one. A last line that is not finished yet waits for the next call.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::stored;

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Entry {
    pub workflow: String,
    pub scenario: String,
    pub effect: String,
    pub outcome: String,
    pub accepted_us: i64,
    pub done_us: i64,
}

impl Entry {
    /// Times since 1970 that can be subtracted and drawn.
    fn is_sound(&self) -> bool {
        [self.accepted_us, self.done_us].iter().all(|us| TIMES.contains(us))
    }
}

/// Until the year 2100.
const TIMES: std::ops::Range<i64> = 0..4_102_444_800_000_000;

#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    read: BTreeMap<PathBuf, u64>,
    pub entries: Vec<Entry>,
    /// Finished lines that are no entries: a service wrote nonsense, or two wrote into one file.
    pub unreadable: u64,
}

impl Journal {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), read: BTreeMap::new(), entries: Vec::new(), unreadable: 0 }
    }

    /// Reads what is new; gives back where in `entries` that begins.
    pub fn poll(&mut self) -> Result<usize> {
        let before = self.entries.len();
        let files = fs::read_dir(&self.dir).with_context(|| format!("cannot read {}", self.dir.display()))?;
        for file in files {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                self.follow(&path)?;
            }
        }
        Ok(before)
    }

    fn follow(&mut self, path: &Path) -> Result<()> {
        let offset = self.read.entry(path.to_owned()).or_default();
        let Some(mut file) = stored::open(path)? else { return Ok(()) };
        let mut bytes = Vec::new();
        let read = file.seek(SeekFrom::Start(*offset)).and_then(|_| file.read_to_end(&mut bytes));
        read.with_context(|| format!("cannot read {}", path.display()))?;
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        *offset += end as u64 + 1;
        for line in bytes[..end].split(|byte| *byte == b'\n') {
            match serde_json::from_slice::<Entry>(line) {
                Ok(entry) if entry.is_sound() => self.entries.push(entry),
                _ => self.unreadable += 1,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn line(workflow: &str) -> String {
        format!(
            r#"{{"workflow":"{workflow}","scenario":"s1","effect":"email","outcome":"ok","accepted_us":5,"done_us":9}}"#
        )
    }

    #[test]
    fn a_torn_last_line_is_read_once_it_is_whole() {
        let dir = std::env::temp_dir().join(format!("study-journal-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut file = File::create(dir.join("emailservice.jsonl")).unwrap();
        let (second, torn) = (line("b"), line("c"));
        write!(file, "{}\n{second}\n{}", line("a"), &torn[..40]).unwrap();

        let mut journal = Journal::new(&dir);
        assert_eq!(journal.poll().unwrap(), 0);
        assert_eq!(
            journal.entries.iter().map(|entry| entry.workflow.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );

        write!(file, "{}\nnonsense\n", &torn[40..]).unwrap();
        assert_eq!(journal.poll().unwrap(), 2);
        assert_eq!(journal.entries[2].workflow, "c");
        assert_eq!(journal.unreadable, 1);

        assert_eq!(journal.poll().unwrap(), 3);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_time_that_cannot_be_is_no_entry() {
        let dir = std::env::temp_dir().join(format!("study-journal-times-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let far = i64::MAX.to_string();
        let lines =
            [line("a"), line("b").replace(":5,", ":-5,"), line("c").replace(":9}", &format!(":{far}}}"))];
        fs::write(dir.join("emailservice.jsonl"), lines.join("\n") + "\n").unwrap();
        let mut journal = Journal::new(&dir);
        journal.poll().unwrap();
        assert_eq!((journal.entries.len(), journal.unreadable), (1, 2));
        fs::remove_dir_all(&dir).unwrap();
    }
}
