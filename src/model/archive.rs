//! Saved files: named arrays and a JSON state in one safetensors file, written
//! atomically and checked against a digest when read.

use crate::base::files;
use crate::base::memory::{collect, reserve};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::path::Path;
use tch::{Kind, Tensor};

/// The version of the format. A reader takes its own version and older ones.
const VERSION: u32 = 1;

/// The key of our own record in the safetensors metadata.
const RECORD: &str = "libbiv";

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveKind {
    /// A model: enough to predict.
    Model,
    /// A trainer: enough to go on as if it had never stopped.
    Training,
    /// A fit that is not complete.
    Fit,
}

/// The metadata next to the arrays.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    kind: ArchiveKind,
    /// JSON in a string, so that the digest is over its exact text.
    state: String,
    digest: String,
}

/// A file's content in memory.
#[derive(Debug)]
pub struct Archive {
    kind: ArchiveKind,
    state: String,
    arrays: BTreeMap<String, StoredArray>,
}

/// An array with its shape, in little-endian bytes as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredArray {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl StoredArray {
    /// A copy of a tensor, as f32.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        debug_assert_eq!(tensor.kind(), Kind::Float, "only f32 tensors are stored");
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        Self::f32(shape, &crate::torch::tensor::to_f32(tensor)?)
    }

    /// An array of f32 values.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn f32(shape: Vec<usize>, values: &[f32]) -> Result<Self> {
        let mut bytes = reserve(values.len() * 4)?;
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        Ok(StoredArray { shape, dtype: Dtype::F32, bytes })
    }

    /// A vector of f64 values.
    pub fn f64(values: Vec<f64>) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        StoredArray { shape: vec![values.len()], dtype: Dtype::F64, bytes }
    }

    /// A text.
    pub fn text(text: String) -> Self {
        StoredArray { shape: vec![text.len()], dtype: Dtype::U8, bytes: text.into_bytes() }
    }

    /// The text, which must be one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for another type.
    pub fn to_text(&self) -> Result<&str> {
        self.expect(Dtype::U8)?;
        std::str::from_utf8(&self.bytes).map_err(|error| Error::Corrupt(format!("an array is no text: {error}")))
    }

    /// The size of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in little-endian bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The values, which must be f32.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for another type; [`Error::OutOfMemory`].
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        self.expect(Dtype::F32)?;
        collect(self.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)))
    }

    /// The values, which must be f64.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for another type; [`Error::OutOfMemory`].
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        self.expect(Dtype::F64)?;
        collect(self.bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)))
    }

    fn expect(&self, dtype: Dtype) -> Result<()> {
        if self.dtype == dtype {
            return Ok(());
        }
        Err(Error::Corrupt(format!("an array has type {:?}, expected {dtype:?}", self.dtype)))
    }
}

impl Archive {
    /// An archive without arrays yet.
    ///
    /// # Errors
    /// [`Error::Internal`] when `state` has no JSON form.
    pub fn new(kind: ArchiveKind, state: &impl Serialize) -> Result<Self> {
        let state = serde_json::to_string(state).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Archive { kind, state, arrays: BTreeMap::new() })
    }

    /// What the archive holds.
    pub fn kind(&self) -> ArchiveKind {
        self.kind
    }

    /// The state as its JSON text.
    pub fn state_text(&self) -> &str {
        &self.state
    }

    /// The same arrays with another state, as its JSON text.
    pub fn with_state(self, state: String) -> Self {
        Archive { state, ..self }
    }

    /// The arrays whose names begin with `prefix` and a dot, named without them; kind and state are these.
    pub fn part(&self, prefix: &str) -> Archive {
        let inside = |(name, array): (&String, &StoredArray)| {
            Some((name.strip_prefix(prefix)?.strip_prefix('.')?.to_string(), array.clone()))
        };
        Archive { kind: self.kind, state: self.state.clone(), arrays: self.arrays.iter().filter_map(inside).collect() }
    }

    /// Adds the arrays of `part`, with `prefix` and a dot before their names.
    pub fn add(&mut self, prefix: &str, part: Archive) {
        self.arrays.extend(part.arrays.into_iter().map(|(name, array)| (format!("{prefix}.{name}"), array)));
    }

    /// Adds the arrays of `other`, under their names.
    pub fn join(&mut self, other: Archive) {
        self.arrays.extend(other.arrays);
    }

    /// Adds an array.
    pub fn insert(&mut self, name: String, array: StoredArray) {
        self.arrays.insert(name, array);
    }

    /// The array `name`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is none.
    pub fn get(&self, name: &str) -> Result<&StoredArray> {
        self.arrays.get(name).ok_or_else(|| Error::Corrupt(format!("the file has no array '{name}'")))
    }

    /// The state.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is not a `T`.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.state).map_err(|error| Error::Corrupt(format!("the file's state: {error}")))
    }

    /// SHA-256 over everything that has a meaning in a file of format `version`, lengths included.
    fn digest(&self, version: u32) -> String {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(format!("{version} {:?}", self.kind).as_bytes());
        field(self.state.as_bytes());
        for (name, array) in &self.arrays {
            field(name.as_bytes());
            field(format!("{:?} {:?}", array.dtype, array.shape).as_bytes());
            field(&array.bytes);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes the archive in one go ([`crate::base::files::replace`]).
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NotFound`]; what was at `path` is then still there.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::replace(path, &self.to_bytes()?)
    }

    /// The bytes of the file that [`Archive::save`] writes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let (state, digest) = (self.state.clone(), self.digest(VERSION));
        let record = Record { version: VERSION, kind: self.kind, state, digest };
        let record = serde_json::to_string(&record).map_err(|error| Error::Internal(error.to_string()))?;
        serialize(&self.arrays, HashMap::from([(RECORD.to_string(), record)]))
    }

    /// Reads and checks a file that [`Archive::save`] wrote.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`]; [`Error::Corrupt`] for a file that is
    /// damaged, not ours or of a later version; [`Error::InvalidArgument`] for one of another kind.
    pub fn load(path: &Path, kind: ArchiveKind) -> Result<Self> {
        Self::from_bytes(&files::read(path)?, &path.display(), &[kind])
    }

    /// As [`Archive::load`], of the file's bytes, which messages call `origin`. Takes any of `kinds`, of which the first
    /// is what messages ask for.
    ///
    /// # Errors
    /// As [`Archive::load`].
    pub fn from_bytes(bytes: &[u8], origin: &dyn Display, kinds: &[ArchiveKind]) -> Result<Self> {
        let corrupt = |what: String| Error::Corrupt(format!("{origin}: {what}"));
        let damaged = |error| corrupt(format!("the file is damaged or not one of libbiv's ({error})"));
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let record = metadata.metadata().as_ref().and_then(|record| record.get(RECORD));
        let record = record.ok_or_else(|| corrupt("a safetensors file, but not one of libbiv's".into()))?;
        let version =
            serde_json::from_str::<serde_json::Value>(record).ok().and_then(|record| record["version"].as_u64());
        if let Some(version) = version
            && version > u64::from(VERSION)
        {
            return Err(corrupt(format!("has format version {version}, this library reads up to {VERSION}")));
        }
        let record: Record = serde_json::from_str(record).map_err(|error| corrupt(format!("the record: {error}")))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let arrays = tensors.iter().map(|(name, view)| {
            let mut bytes = reserve(view.data().len())?;
            bytes.extend_from_slice(view.data());
            Ok((name.to_string(), StoredArray { shape: view.shape().to_vec(), dtype: view.dtype(), bytes }))
        });
        let arrays = arrays.collect::<Result<_>>()?;
        let archive = Archive { kind: record.kind, state: record.state, arrays };
        if archive.digest(record.version) != record.digest {
            return Err(corrupt("the file is damaged: its content does not match its digest".into()));
        }
        if !kinds.contains(&archive.kind) {
            let name = |kind| match kind {
                ArchiveKind::Model => "a model",
                ArchiveKind::Training => "a training checkpoint",
                ArchiveKind::Fit => "a fit that is not complete",
            };
            let (found, wanted) = (name(archive.kind), kinds.first().map_or("nothing", |&kind| name(kind)));
            return Err(Error::InvalidArgument(format!("{origin}: holds {found}, {wanted} was asked for")));
        }
        Ok(archive)
    }
}

/// A safetensors file of `arrays` with `metadata`.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(super) fn serialize(arrays: &BTreeMap<String, StoredArray>, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let view = |(name, array): (&String, _)| {
        let StoredArray { shape, dtype, bytes }: &StoredArray = array;
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.clone(), view))
    };
    // The writer aborts where there is no memory for all the arrays at once: here that is an error.
    drop(reserve::<u8>(arrays.values().map(|array| array.bytes.len()).sum())?);
    let views = arrays.iter().map(view).collect::<std::result::Result<Vec<_>, _>>();
    let bytes = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
    bytes.map_err(|error| Error::Internal(error.to_string()))
}

/// Whether the metadata of a safetensors file are those of an [`Archive`].
pub(super) fn is_archive(metadata: &Metadata) -> bool {
    metadata.metadata().as_ref().is_some_and(|record| record.contains_key(RECORD))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Archive {
        let mut archive = Archive::new(ArchiveKind::Model, &"state").unwrap();
        archive.insert("weight".into(), StoredArray::f32(vec![2, 1], &[1.5, -2.0]).unwrap());
        archive.insert("mean".into(), StoredArray::f64(vec![1e-300]));
        archive
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.biv");
        archive().save(&path).unwrap();
        let loaded = Archive::load(&path, ArchiveKind::Model).unwrap();
        assert_eq!(loaded.arrays, archive().arrays);
        assert_eq!(loaded.state::<String>().unwrap(), "state");
        assert!(loaded.get("weight").unwrap().to_f64().is_err());
        let other = Archive::load(&path, ArchiveKind::Training).unwrap_err().to_string();
        assert!(other.ends_with("holds a model, a training checkpoint was asked for"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn no_flipped_or_missing_byte_goes_unnoticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.biv");
        archive().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert!(Archive::load(&path, ArchiveKind::Model).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            std::fs::write(&path, flipped).unwrap();
            if let Ok(loaded) = Archive::load(&path, ArchiveKind::Model) {
                assert_eq!((loaded.state, loaded.arrays), (archive().state, archive().arrays), "flipped at {at}");
            }
        }
    }

    #[test]
    fn links_stay_links_and_other_things_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        archive().save(&link).unwrap();
        assert!(link.is_symlink() && Archive::load(&target, ArchiveKind::Model).is_ok());
        let refused = archive().save(folder.path()).unwrap_err().to_string();
        assert!(refused.ends_with("not a regular file, nothing was saved"), "{refused}");
    }

    #[test]
    fn a_device_without_an_end_is_not_read() {
        let error = Archive::load(Path::new("/dev/zero"), ArchiveKind::Model).unwrap_err();
        assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("not a file"), "{error}");
    }

    #[test]
    fn later_versions_and_foreign_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.biv");
        let load = || Archive::load(&path, ArchiveKind::Model).unwrap_err().to_string();
        let later = r#"{"version":2,"something":"new"}"#;
        let metadata = |key: &str| Some(HashMap::from([(key.to_string(), later.to_string())]));
        let write = |key: &str| {
            let no_tensors = Vec::<(String, TensorView)>::new();
            std::fs::write(&path, safetensors::serialize(no_tensors, metadata(key)).unwrap()).unwrap();
        };
        write(RECORD);
        assert!(load().ends_with("has format version 2, this library reads up to 1"), "{}", load());
        write("other");
        assert!(load().ends_with("a safetensors file, but not one of libbiv's"), "{}", load());
        std::fs::write(&path, "hello").unwrap();
        assert!(load().contains("damaged or not one of libbiv's"), "{}", load());
    }
}
