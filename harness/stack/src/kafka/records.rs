//! Record batches of version 2, as they lie in a partition: uncompressed, as this project writes them.
//! <https://kafka.apache.org/documentation/#recordbatch>

use anyhow::{Context, Result, ensure};

/// From the beginning of a batch to its length, and to what the checksum covers.
const AFTER_LENGTH: usize = 12;
const CHECKED: usize = 21;
/// The checksum, between magic byte and attributes.
const CHECKSUM: std::ops::Range<usize> = 17..CHECKED;
/// From the beginning of a batch to its records.
const RECORDS: usize = 61;
const MAGIC: u8 = 2;
const COMPRESSION: i16 = 0b111;
/// Of a batch that the server wrote for itself.
const CONTROL: i16 = 1 << 5;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        value.map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// The records of whole batches. The last batch may be cut off, and batches may begin before the offset that was asked for.
pub(super) fn read(mut batches: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while let Some(length) = batches.get(8..AFTER_LENGTH) {
        let end = AFTER_LENGTH + u32::from_be_bytes(length.try_into()?) as usize;
        let Some(batch) = batches.get(..end) else { break };
        let fixed = batch.get(..RECORDS).context("a record batch is too short")?;
        ensure!(fixed[16] == MAGIC, "a record batch has version {}", fixed[16]);
        let first = i64::from_be_bytes(fixed[..8].try_into()?);
        let attributes = i16::from_be_bytes(fixed[CHECKED..CHECKED + 2].try_into()?);
        ensure!(attributes & COMPRESSION == 0, "a record batch is compressed");
        let count = if attributes & CONTROL == 0 { i32::from_be_bytes(fixed[57..].try_into()?) } else { 0 };
        let mut rest = Rest(&batch[RECORDS..]);
        for _ in 0..count {
            records.push(rest.record(first)?);
        }
        batches = &batches[end..];
    }
    Ok(records)
}

/// A batch of one record, of which the server sets the offset. `now`: milliseconds since the Unix epoch.
pub(super) fn batch(record: &Record, now: i64) -> Vec<u8> {
    // Attributes, and the differences to the first time and offset.
    let mut body = vec![0, 0, 0];
    match &record.key {
        Some(key) => data(&mut body, key),
        None => number(&mut body, -1),
    }
    data(&mut body, &record.value);
    number(&mut body, record.headers.len() as i64);
    for (name, value) in &record.headers {
        data(&mut body, name.as_bytes());
        data(&mut body, value);
    }
    let mut checked = Vec::new();
    // Attributes and the last difference of offsets.
    checked.extend([0; 6]);
    checked.extend([now.to_be_bytes(), now.to_be_bytes()].concat());
    // No producer id, epoch and sequence.
    checked.extend([0xff; 14]);
    checked.extend(1_i32.to_be_bytes());
    number(&mut checked, body.len() as i64);
    checked.extend(body);

    let mut batch = vec![0; 8];
    batch.extend(((CHECKED - AFTER_LENGTH + checked.len()) as u32).to_be_bytes());
    // The epoch of the leader, which the server sets.
    batch.extend([0; 4]);
    batch.push(MAGIC);
    batch.extend(crc32c(&checked).to_be_bytes());
    debug_assert_eq!(batch.len(), CHECKSUM.end);
    batch.extend(checked);
    batch
}

/// A number of variable length: small ones, also negative ones, are short.
fn number(bytes: &mut Vec<u8>, value: i64) {
    let mut left = (value << 1 ^ value >> 63).cast_unsigned();
    while left > 0x7f {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

fn data(bytes: &mut Vec<u8>, data: &[u8]) {
    number(bytes, data.len() as i64);
    bytes.extend(data);
}

/// What of a batch is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("a record is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.slice(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        anyhow::bail!("a number of a record is too long")
    }

    fn data(&mut self) -> Result<Option<Vec<u8>>> {
        // Null is -1.
        let Ok(length) = usize::try_from(self.number()?) else { return Ok(None) };
        Ok(Some(self.slice(length)?.to_vec()))
    }

    fn record(&mut self, first: i64) -> Result<Record> {
        self.number()?;
        self.slice(1)?;
        self.number()?;
        let offset = first + self.number()?;
        let key = self.data()?;
        let value = self.data()?.unwrap_or_default();
        let count = self.number()?;
        let headers = (0..count).map(|_| {
            let name = self.data()?.unwrap_or_default();
            Ok((String::from_utf8_lossy(&name).into_owned(), self.data()?.unwrap_or_default()))
        });
        let headers = headers.collect::<Result<_>>()?;
        Ok(Record { offset, key, value, headers })
    }
}

/// The checksum of Castagnoli.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_of_any_size_are_read_back() {
        for value in [0, -1, 1, 63, 64, -64, -65, 1 << 20, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            number(&mut bytes, value);
            assert_eq!(Rest(&bytes).number().unwrap(), value);
        }
    }

    #[test]
    fn a_batch_is_read_back_and_one_that_is_cut_off_is_left_out() {
        let record = Record {
            offset: 0,
            key: Some(b"k".to_vec()),
            value: vec![7; 300],
            headers: vec![("message_id".to_owned(), b"m".to_vec()), ("empty".to_owned(), Vec::new())],
        };
        let keyless = Record { key: None, ..record.clone() };
        let mut both = [batch(&record, 1), batch(&keyless, 2)].concat();
        assert_eq!(read(&both).unwrap(), [record.clone(), keyless]);
        both.pop();
        assert_eq!(read(&both).unwrap(), [record]);
    }
}
