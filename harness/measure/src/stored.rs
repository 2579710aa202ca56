//! JSON files that one command writes and a later one reads. A file may be damaged, truncated, foreign, or of a newer
//! program: everything is checked here, before anything is computed from it, and an error names the file and what is wrong
//! with it. What was read needs no further checks: its numbers can be added and drawn, its names can be parts of paths.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

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
/// The longest time that an option takes.
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
            _ => typed(&line).and_then(|value| sound(&value)).and_then(|()| typed(&line)),
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
    let value: Value = typed(bytes)?;
    // Looked at first: a newer file may have another form altogether.
    let version = value.get("version").or_else(|| value.get(0)?.get("version")).and_then(Value::as_u64);
    if let Some(version) = version.filter(|version| *version != u64::from(T::VERSION)) {
        bail!("it was written by another version ({version}, this is {})", T::VERSION);
    }
    sound(&value)?;
    let value: T = typed(bytes)?;
    value.check()?;
    Ok(value)
}

fn typed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| anyhow!(one_line(&error.to_string())))
}

/// serde quotes what it found.
fn one_line(message: &str) -> String {
    message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(300).collect()
}

/// Every number and text, whatever it is for.
fn sound(value: &Value) -> Result<()> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => sound_number(number),
        Value::String(text) => sound_text(text),
        Value::Array(all) => all.iter().try_for_each(sound),
        Value::Object(all) => all.iter().try_for_each(|(name, value)| {
            sound_text(name)?;
            sound(value)
        }),
    }
}

fn sound_number(number: &Number) -> Result<()> {
    if let Some(whole) = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs)) {
        ensure!(whole <= LARGEST_NUMBER, "{number} is too large");
        return Ok(());
    }
    let value = number.as_f64().unwrap_or(f64::INFINITY);
    ensure!(value.abs() <= LARGEST_NUMBER as f64, "{value:e} is too large");
    ensure!(value == 0.0 || value.abs() >= SMALLEST_NUMBER, "{value:e} is too small");
    Ok(())
}

fn sound_text(text: &str) -> Result<()> {
    ensure!(text.len() <= LONGEST_TEXT, "a text of {} bytes is too long", text.len());
    ensure!(!text.chars().any(char::is_control), "a text has a control character: {text:?}");
    // How other programs write a number that is none.
    ensure!(text.parse::<f64>().map_or(true, f64::is_finite), "{text:?} is no number");
    Ok(())
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
