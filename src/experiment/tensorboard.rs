//! TensorBoard's event files: length-prefixed, checksummed protocol buffers.

use super::history::{History, Record};
use crate::{Error, Result};
use prost::Message;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// `tensorflow.Event`, the fields in use.
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

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `tensorflow.Summary.Value` with a simple value.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    /// Optional, so that 0 is written too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An event file that grows.
#[derive(Debug)]
pub(super) struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Writes a file with the whole of `history` to `folder`, in place of an older one.
    pub(super) fn create(folder: &Path, history: &History, time: f64) -> Result<Self> {
        let io = |error| Error::io(folder, error);
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            if entry.file_name().to_string_lossy().starts_with("events.out.tfevents.") {
                std::fs::remove_file(entry.path()).map_err(io)?;
            }
        }
        let path = folder.join(format!("events.out.tfevents.{time:.0}.biv"));
        let file = File::create(&path).map_err(|error| Error::io(&path, error))?;
        let mut writer = EventWriter { path, file: BufWriter::new(file) };
        let version = Some("brain.Event:2".to_string());
        writer.write(&Event { wall_time: time, step: 0, file_version: version, summary: None })?;
        for record in history.records() {
            writer.append(&record)?;
        }
        writer.flush()?;
        Ok(writer)
    }

    /// Adds a record's numbers.
    pub(super) fn append(&mut self, record: &Record) -> Result<()> {
        let (batch, wall_time, scalars) = match record {
            Record::Step(step) => (
                step.batch,
                step.time,
                vec![
                    ("train/loss", step.loss),
                    ("train/effective_batch_size", Some(step.effective_batch_size)),
                    ("train/epsilon", Some(step.epsilon)),
                ],
            ),
            Record::Evaluation(test) => (
                test.batch,
                test.time,
                vec![
                    ("test/rmse", Some(test.rmse)),
                    ("test/mae", Some(test.mae)),
                    ("test/normalized_mse", Some(test.normalized_mse)),
                    ("test/r2", test.r2),
                ],
            ),
        };
        let scalar =
            |(tag, value): (&str, Option<f64>)| Some(Scalar { tag: tag.into(), simple_value: Some(value? as f32) });
        let summary = Some(Summary { value: scalars.into_iter().filter_map(scalar).collect() });
        self.write(&Event { wall_time, step: batch as i64, file_version: None, summary })
    }

    /// Makes what was added visible to others.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| Error::io(&self.path, error))
    }

    /// One record of the TFRecord format: length, its checksum, content, its checksum.
    fn write(&mut self, event: &Event) -> Result<()> {
        let content = event.encode_to_vec();
        let length = (content.len() as u64).to_le_bytes();
        let parts = [&length[..], &masked(&length), &content, &masked(&content)];
        parts.iter().try_for_each(|part| self.file.write_all(part)).map_err(|error| Error::io(&self.path, error))
    }
}

/// The checksum of the TFRecord format: a CRC-32C, rotated and shifted.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::example;
    use super::*;

    /// The records of a file, their lengths and checksums checked.
    fn events(bytes: &[u8]) -> Vec<Event> {
        let (mut rest, mut events) = (bytes, Vec::new());
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked(&rest[..8]));
            let content = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked(content));
            events.push(Event::decode(content).unwrap());
            rest = &rest[16 + length..];
        }
        events
    }

    #[test]
    fn the_first_record_has_the_bytes_that_tensorflow_writes() {
        let folder = tempfile::tempdir().unwrap();
        let writer = EventWriter::create(folder.path(), &History::default(), 0.0).unwrap();
        let bytes = std::fs::read(&writer.path).unwrap();
        // From a file of TensorFlow's own: 24 bytes of content with the time, whose checksum of the length is a3 7f 4b 22.
        assert_eq!(bytes[..2], [15, 0]);
        assert_eq!(bytes[12..27], *b"\x1a\x0dbrain.Event:2");
        assert_eq!(masked(&24u64.to_le_bytes()), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn the_whole_history_reads_back_and_an_older_file_goes() {
        let folder = tempfile::tempdir().unwrap();
        let history = example(20);
        EventWriter::create(folder.path(), &history, 1.0).unwrap();
        let mut writer = EventWriter::create(folder.path(), &history, 2.0).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        writer.append(&Record::Step(history.steps[0].clone())).unwrap();
        writer.flush().unwrap();
        let events = events(&std::fs::read(&writer.path).unwrap());
        assert_eq!(events.len(), 1 + 20 + 2 + 1);
        let values = |event: &Event| {
            let scalars = event.summary.iter().flat_map(|summary| &summary.value);
            scalars.map(|scalar| (scalar.tag.clone(), scalar.simple_value.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!((events[1].step, values(&events[1]).len()), (1, 3));
        assert_eq!(values(&events[1])[0], ("train/loss".into(), history.steps[0].loss.unwrap() as f32));
        assert_eq!(values(&events[3]).len(), 2, "a mini-batch without a loss");
        assert_eq!(values(&events[3])[1], ("train/epsilon".into(), 0.0));
        assert_eq!(values(&events[11])[0], ("test/rmse".into(), history.evaluations[0].rmse as f32));
    }
}
