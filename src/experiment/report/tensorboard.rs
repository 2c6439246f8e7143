//! A run as a TensorBoard event file: `Event` protobufs in TFRecord framing.
//!
//! The format is TensorFlow's: `tensorflow/core/util/event.proto`, `framework/summary.proto`
//! and `lib/io/record_writer.cc`. Only the fields that scalars need are declared here.

use crate::experiment::history::{History, Record};
use crate::{Error, Result};
use prost::Message;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// How every event file's name begins; TensorBoard looks for it.
const PREFIX: &str = "events.out.tfevents.";

/// How the names of ours end, where others have the host's name.
const SUFFIX: &str = ".biv";

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    /// In a `oneof`, so that zero is written too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// Writes a run's scalars for TensorBoard, one event per record.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// A new file `events.out.tfevents.<seconds>.biv` in `folder` (made where it is missing) with all of
    /// `history`; `time` is now, in seconds since the Unix epoch. An older file of this library's in that
    /// folder is removed: TensorBoard would show both.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path, history: &History, time: f64) -> Result<Self> {
        remove_older(folder).map_err(|error| Error::io(folder, error))?;
        let path = folder.join(format!("{PREFIX}{time:.0}{SUFFIX}"));
        let file = File::create(&path).map_err(|error| Error::io(&path, error))?;
        let mut writer = EventWriter { path, file: BufWriter::new(file) };
        writer.write(&Event { wall_time: time, file_version: Some("brain.Event:2".into()), ..Event::default() })?;
        for record in history.records() {
            writer.append(&record)?;
        }
        writer.flush()?;
        Ok(writer)
    }

    /// Adds a record's scalars, at its mini-batch and time. They may stay in memory until [`EventWriter::flush`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let (batch, time, scalars) = match record {
            Record::Step(step) => {
                let scalars = [
                    ("train/loss".to_string(), step.loss),
                    ("train/effective_batch_size".to_string(), Some(step.effective_batch_size)),
                    ("train/epsilon".to_string(), Some(step.epsilon)),
                ];
                (step.batch, step.time, scalars.to_vec())
            }
            Record::Evaluation(test) => {
                let scalars = [
                    ("rmse", Some(test.rmse)),
                    ("mae", Some(test.mae)),
                    ("normalized_mse", Some(test.normalized_mse)),
                    ("r2", test.r2),
                ];
                // A section for each kind of labels: errors on noisy ones are not drawn into the charts of clean ones.
                let tag = |(name, scalar)| (format!("test_{}_labels/{name}", test.test_labels), scalar);
                (test.batch, test.time, scalars.map(tag).to_vec())
            }
        };
        let value = scalars
            .into_iter()
            .filter_map(|(tag, scalar)| scalar.map(|scalar| Value { tag, simple_value: Some(scalar as f32) }));
        let summary = Some(Summary { value: value.collect() });
        self.write(&Event { wall_time: time, step: batch as i64, summary, ..Event::default() })
    }

    /// Hands what was appended to the system, so that TensorBoard sees it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| Error::io(&self.path, error))
    }

    /// Writes one TFRecord: the length, its checksum, the data, its checksum.
    fn write(&mut self, event: &Event) -> Result<()> {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        let record = [&length[..], &masked_crc(&length), &data, &masked_crc(&data)].concat();
        self.file.write_all(&record).map_err(|error| Error::io(&self.path, error))
    }
}

/// Makes `folder`, or removes what an earlier writer left there.
fn remove_older(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// CRC-32C, rotated and shifted, since a checksum of data that holds checksums is weak
/// (`tensorflow/core/lib/hash/crc32c.h`).
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::LabelKind;
    use crate::experiment::history::tests::{evaluation, step};
    use crate::experiment::history::{EvaluationRecord, StepRecord};
    use std::collections::BTreeMap;

    /// CRC-32C bit by bit, from its definition.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
        })
    }

    fn masked(bytes: &[u8]) -> u32 {
        crc(bytes).rotate_left(17).wrapping_add(0xa282_ead8)
    }

    /// A protobuf's fields by number, as bytes: a varint as eight of them.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let (head, tail) = bytes.split_at(length);
            *bytes = tail;
            head.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let length = match key & 7 {
                0 => {
                    found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            let (head, tail) = bytes.split_at(length);
            found.push((key >> 3, head.to_vec()));
            bytes = tail;
        }
        found
    }

    /// An event's wall time, its step and its scalars by tag.
    type Scalars = (f64, u64, BTreeMap<String, f32>);

    /// The file's version and its events.
    fn read(folder: &Path) -> (String, Vec<Scalars>) {
        let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let bytes = fs::read(&files[0]).unwrap();
        let (mut rest, mut version, mut events) = (&bytes[..], String::new(), Vec::new());
        let u32_at = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(u32_at(&rest[8..]), masked(&rest[..8]));
            let data = &rest[12..12 + length];
            assert_eq!(u32_at(&rest[12 + length..]), masked(data));
            rest = &rest[16 + length..];

            let (mut time, mut step, mut scalars) = (0.0, 0, BTreeMap::new());
            for (number, field) in fields(data) {
                match number {
                    1 => time = f64::from_le_bytes(field.try_into().unwrap()),
                    2 => step = u64::from_le_bytes(field.try_into().unwrap()),
                    3 => version = String::from_utf8(field).unwrap(),
                    5 => scalars.extend(fields(&field).iter().map(|(_, value)| {
                        let value = fields(value);
                        let tag = String::from_utf8(value[0].1.clone()).unwrap();
                        (tag, f32::from_le_bytes(value[1].1.clone().try_into().unwrap()))
                    })),
                    other => panic!("field {other}"),
                }
            }
            events.push((time, step, scalars));
        }
        (version, events)
    }

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        // RFC 3720, B.4: 32 bytes of zeros, of ones, and counting up.
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c::crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn another_reader_finds_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let skipped = StepRecord { loss: None, effective_batch_size: 0.0, ..step(2, 0.0) };
        let history = History { steps: vec![step(1, 0.5), skipped], evaluations: vec![evaluation(2, 1.5)] };
        let mut writer = EventWriter::create(folder.path(), &history, 1.7e9).unwrap();
        let (version, events) = read(folder.path());
        assert_eq!((version.as_str(), events.len()), ("brain.Event:2", 4));

        let constant = EvaluationRecord { r2: None, test_labels: LabelKind::Noisy, ..evaluation(300, 1.25) };
        writer.append(&Record::Step(step(300, 0.25))).unwrap();
        writer.append(&Record::Evaluation(constant)).unwrap();
        writer.flush().unwrap();
        let scalars = |pairs: &[(&str, f32)]| pairs.iter().map(|(tag, value)| (tag.to_string(), *value)).collect();
        let step = |time, batch, pairs: &[_]| (1.7e9 + time, batch, scalars(pairs));
        let (size, epsilon) = ("train/effective_batch_size", "train/epsilon");
        assert_eq!(
            read(folder.path()).1,
            [
                step(0.0, 0, &[]),
                step(1.0, 1, &[("train/loss", 0.5), (size, 7.25), (epsilon, 0.1)]),
                step(2.0, 2, &[(size, 0.0), (epsilon, 0.1)]),
                step(
                    2.5,
                    2,
                    &[
                        ("test_clean_labels/rmse", 1.5),
                        ("test_clean_labels/mae", 1.2),
                        ("test_clean_labels/normalized_mse", 0.5625),
                        ("test_clean_labels/r2", 0.4375)
                    ]
                ),
                step(300.0, 300, &[("train/loss", 0.25), (size, 7.25), (epsilon, 0.1)]),
                step(
                    300.5,
                    300,
                    &[
                        ("test_noisy_labels/rmse", 1.25),
                        ("test_noisy_labels/mae", 1.0),
                        ("test_noisy_labels/normalized_mse", 0.390625)
                    ]
                ),
            ]
        );
    }

    #[test]
    fn a_new_file_takes_the_place_of_an_older_one_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("events.out.tfevents.1.host");
        EventWriter::create(folder.path(), &History::default(), 1.7e9).unwrap();
        EventWriter::create(folder.path(), &History::default(), 1.8e9).unwrap();
        assert!(folder.path().join("events.out.tfevents.1800000000.biv").exists());
        assert_eq!(read(folder.path()).1.len(), 1);
        fs::write(&other, "another program's").unwrap();
        EventWriter::create(folder.path(), &History::default(), 1.9e9).unwrap();
        assert!(other.exists());
    }
}
