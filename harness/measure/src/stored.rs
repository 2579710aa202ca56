//! What one command writes as JSON and a later one reads back. A file may be damaged, cut off, somebody else's, or of a newer
//! program: everything is checked here, before anything is computed from it, and an error names the file and what is wrong
//! with it. What was read needs no further checks: its numbers can be added and drawn, its names can be parts of paths.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use stack::atomic_file::write_whole;

/// The largest that were ever written have one or two MB.
const LARGEST: u64 = 32 << 20;
/// A line of raw data has a few hundred bytes.
const LONGEST_LINE: u64 = 64 << 10;
const LONGEST_TEXT: usize = 4096;
const LONGEST_NAME: usize = 40;
/// Whole numbers up to here are exact in every program that reads JSON. Some millions of them can be added.
pub const LARGEST_NUMBER: u64 = (1 << 53) - 1;
/// Nothing that is measured is as small and not 0.
const SMALLEST_NUMBER: f64 = 1e-30;
/// Of any time that is asked for.
pub const LONGEST_SECONDS: u64 = 7 * 24 * 3600;

/// The content of a file.
pub trait Stored: DeserializeOwned {
    /// Of the file's form; a file that says another is refused.
    const VERSION: u32 = 1;

    /// What the types do not say: ranges, names, and what must agree.
    ///
    /// # Errors
    /// The first thing that is wrong.
    fn check(&self) -> Result<()>;
}

/// As the `version` of a file that was written before it had one.
pub fn first_version() -> u32 {
    1
}

impl Stored for HashMap<String, String> {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl<T: Stored> Stored for Vec<T> {
    const VERSION: u32 = T::VERSION;

    fn check(&self) -> Result<()> {
        self.iter().try_for_each(T::check)
    }
}

/// As JSON.
pub fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    write_whole(path, &serde_json::to_string(value)?)
}

/// `None` if there is no such file.
pub fn read<T: Stored>(path: &Path) -> Result<Option<T>> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {}", path.display()))?;
    let value = parse(&bytes).with_context(|| format!("{} is not what it should be", path.display()))?;
    Ok(Some(value))
}

/// One value a line.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = open(path)?.with_context(|| format!("{} is not there", path.display()))?;
    let (mut file, mut line, mut values) = (BufReader::new(file), Vec::new(), Vec::new());
    loop {
        line.clear();
        let read = file.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read {}", path.display()))? == 0 {
            return Ok(values);
        }
        let value = match line.len() as u64 {
            LONGEST_LINE => Err(anyhow!("it is longer than {LONGEST_LINE} bytes")),
            _ => sound(&line).and_then(|()| typed(&line)),
        };
        let number = values.len() + 1;
        values.push(value.with_context(|| format!("line {number} of {} cannot be read", path.display()))?);
    }
}

/// For reading; `None` if there is nothing of that name. Only a file: a pipe or a device would be read for ever.
pub fn open(path: &Path) -> Result<Option<File>> {
    let what = match fs::metadata(path) {
        Ok(what) => what,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    ensure!(what.is_file(), "cannot read {}: it is not a file", path.display());
    Ok(Some(File::open(path).with_context(|| format!("cannot read {}", path.display()))?))
}

fn parse<T: Stored>(bytes: &[u8]) -> Result<T> {
    ensure!(bytes.len() as u64 <= LARGEST, "it is larger than {} MiB", LARGEST >> 20);
    ensure!(!bytes.is_empty(), "it is empty");
    if let Some(version) = version(bytes).filter(|version| *version != u64::from(T::VERSION)) {
        bail!("it was written by another version ({version}, this is {})", T::VERSION);
    }
    sound(bytes)?;
    let value: T = typed(bytes)?;
    value.check()?;
    Ok(value)
}

/// Looked at first: a newer file may have another form altogether.
fn version(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Versioned {
        version: Option<u64>,
    }
    let one = serde_json::from_slice::<Versioned>(bytes).ok();
    let first = || serde_json::from_slice::<Vec<Versioned>>(bytes).ok()?.into_iter().next();
    one.or_else(first)?.version
}

fn typed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| anyhow!(one_line(&error.to_string())))
}

/// serde quotes what it found.
fn one_line(message: &str) -> String {
    message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(300).collect()
}

/// Every number and text, whatever it is for.
fn sound(bytes: &[u8]) -> Result<()> {
    typed::<Sound>(bytes).map(|Sound| ())
}

struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self, E> {
        if value <= LARGEST_NUMBER { Ok(self) } else { Err(E::custom(format!("{value} is too large"))) }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self, E> {
        self.visit_u64(value.unsigned_abs())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self, E> {
        match value.abs() {
            size if size > LARGEST_NUMBER as f64 => Err(E::custom(format!("{value:e} is too large"))),
            size if size > 0.0 && size < SMALLEST_NUMBER => Err(E::custom(format!("{value:e} is too small"))),
            _ => Ok(self),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self, E> {
        if text.len() > LONGEST_TEXT {
            return Err(E::custom(format!("a text of {} bytes is too long", text.len())));
        }
        if text.chars().any(char::is_control) {
            return Err(E::custom(format!("a text has a control character: {text:?}")));
        }
        // How other programs write a number that is none.
        if text.parse::<f64>().is_ok_and(|number| !number.is_finite()) {
            return Err(E::custom(format!("{text:?} is no number")));
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// A name that can be a part of a path, of an id and of a table.
pub fn plain_name(what: &str, name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    ensure!(
        (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(plain),
        "{what} {:?} is not 1 to {LONGEST_NAME} letters, digits, - and _",
        name.chars().take(LONGEST_NAME).collect::<String>()
    );
    Ok(())
}

/// `value` is `least` to `most`.
pub fn within<T: PartialOrd + fmt::Display>(what: &str, value: T, least: T, most: T) -> Result<()> {
    ensure!(least <= value && value <= most, "{what} is {value}, not {least} to {most}");
    Ok(())
}

/// `value` is 0 or more.
pub fn not_negative(what: &str, value: f64) -> Result<()> {
    ensure!(value >= 0.0, "{what} is {value}, below 0");
    Ok(())
}

/// No two are the same.
pub fn all_different<T: Ord + fmt::Debug>(what: &str, all: impl IntoIterator<Item = T>) -> Result<()> {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => bail!("{what} {:?} stands there twice", pair[0]),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
