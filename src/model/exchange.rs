//! Models for other programs, and weights from them: safetensors files of a state dict as PyTorch names it, and ONNX.

use super::Model;
use super::archive::{StoredArray, is_archive, serialize};
use super::checkpoint::{assign, check_shape};
use super::layers::StateTensor;
use crate::base::error::quoted;
use crate::base::files;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tch::{Kind, Tensor};

/// How [`Model::export`] writes a file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExportOptions {
    /// What the file is (default: what its name ends with, `.onnx` or `.safetensors`).
    pub format: Option<ExportFormat>,
}

/// A format that other programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// The whole prediction, from features to labels in their own units, for ONNX Runtime and others.
    Onnx,
    /// The tensors under PyTorch's names.
    Safetensors,
}

/// How [`Model::import_weights`] takes a file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImportOptions {
    /// Whether the file must have all tensors of the model and no others (default true). Otherwise those that both have
    /// are taken.
    pub strict: bool,
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions { strict: true }
    }
}

/// What [`Model::import_weights`] took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// The model's tensors that the file had.
    pub imported: Vec<String>,
    /// Those that it had not.
    pub missing: Vec<String>,
    /// The file's tensors that the model has not, by their names there.
    pub left_over: Vec<String>,
}

/// Parts of names that PyTorch adds: `DataParallel` the first, `torch.compile` the other.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];

/// The end of the names of PyTorch's counters in BatchNorm, which nothing here needs.
const COUNTER: &str = "num_batches_tracked";

impl Model {
    /// Writes the model for other programs. A file at `path` is replaced when the new one is complete.
    ///
    /// A safetensors file has the tensors under PyTorch's names; its metadata have the `normalization` and the `network`
    /// (the layers) as JSON. What an ONNX file has says [`Model::to_onnx`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where neither options nor the file's name say the format; [`Error::Io`],
    /// [`Error::NotFound`]; [`Error::OutOfMemory`]; as [`Model::to_onnx`].
    pub fn export(&self, path: &Path, options: &ExportOptions) -> Result<()> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let format = match (options.format, ending.as_deref()) {
            (Some(format), _) => format,
            (None, Some("onnx")) => ExportFormat::Onnx,
            (None, Some("safetensors")) => ExportFormat::Safetensors,
            (None, _) => {
                let fault = "the name must end in .onnx or .safetensors, or options say the format";
                return Err(Error::InvalidArgument(format!("{}: {fault}", path.display())));
            }
        };
        let bytes = match format {
            ExportFormat::Onnx => self.to_onnx()?,
            ExportFormat::Safetensors => self.to_safetensors()?,
        };
        files::replace(path, &bytes)
    }

    fn to_safetensors(&self) -> Result<Vec<u8>> {
        let arrays = self.state().into_iter().map(|state| Ok((state.name, StoredArray::from_tensor(&state.tensor)?)));
        let arrays = arrays.collect::<Result<BTreeMap<_, _>>>()?;
        // Loaders for PyTorch ask for the format.
        let mut metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        metadata.extend(self.export_metadata()?.map(|(key, value)| (key.to_string(), value)));
        serialize(&arrays, metadata)
    }

    /// What the metadata of an exported file say: the layers and the normalisation, as JSON.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub(super) fn export_metadata(&self) -> Result<[(&'static str, String); 2]> {
        let json = |value: serde_json::Result<String>| value.map_err(|error| Error::Internal(error.to_string()));
        let network = json(serde_json::to_string(&self.options.description()?))?;
        Ok([("network", network), ("normalization", json(serde_json::to_string(&self.normalization))?)])
    }

    /// Takes the weights of a safetensors file, which another program saved, by their names and shapes: all, or on error
    /// none. `module.` and `_orig_mod.` in names are passed over, and so are counters called `num_batches_tracked`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`]; [`Error::Corrupt`] for another file; [`Error::Shape`] for a tensor of another
    /// shape; [`Error::InvalidArgument`] with their names where tensors are missing or left over, for a type that
    /// holds no real numbers, and for values that are not finite.
    pub fn import_weights(&mut self, path: &Path, options: &ImportOptions) -> Result<ImportReport> {
        let file = path.display();
        let bytes = files::read(path)?;
        let damaged = |error| Error::Corrupt(format!("{file}: not a safetensors file, or damaged ({error})"));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        if is_archive(&metadata) {
            let reason = "a model or a checkpoint of libbiv's own, which is loaded, not imported";
            return Err(Error::InvalidArgument(format!("{file}: {reason}")));
        }
        let tensors = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let state = self.state();
        let places: HashMap<&str, usize> = state.iter().enumerate().map(|(at, own)| (&*own.name, at)).collect();
        let mut report = ImportReport::default();
        let mut found: Vec<Option<StoredArray>> = state.iter().map(|_| None).collect();
        let mut named: Vec<(String, TensorView)> = tensors.tensors();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, tensor) in named {
            if name.rsplit('.').next() == Some(COUNTER) {
                continue;
            }
            let Some(&at) = places.get(&*name).or_else(|| places.get(&*unwrapped(&name))) else {
                report.left_over.push(name);
                continue;
            };
            check_shape(&state[at], tensor.shape())?;
            if found[at].replace(converted(&name, &tensor)?).is_some() {
                let own = &state[at].name;
                return Err(Error::InvalidArgument(format!("{file}: has two tensors for '{own}', '{name}' is one")));
            }
        }
        let named = |has: bool| {
            let own = state.iter().zip(&found).filter(move |(_, array)| array.is_some() == has);
            own.map(|(own, _)| own.name.clone()).collect::<Vec<_>>()
        };
        (report.imported, report.missing) = (named(true), named(false));
        if options.strict && !(report.missing.is_empty() && report.left_over.is_empty()) {
            return Err(Error::InvalidArgument(format!("{file}: {}", difference(&report))));
        }
        let before = self.snapshot()?;
        let assigned = state.into_iter().zip(&found).try_for_each(|(mut own, array): (StateTensor, _)| match array {
            Some(array) => assign(&mut own, array),
            None => Ok(()),
        });
        if let Err(error) = assigned {
            self.put_back(&before)?;
            return Err(error);
        }
        if !report.imported.is_empty() {
            // What was known of the errors of other weights.
            self.forget_error_bars();
        }
        Ok(report)
    }
}

/// What keeps a strict import from being one.
fn difference(report: &ImportReport) -> String {
    let list = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} {}", quoted(names)));
    let parts = [list("missing are", &report.missing), list("left over are", &report.left_over)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("the tensors are not the model's: {}; with \"strict\": false the others are taken", parts.join("; "))
}

/// The name without what wrappers added to it.
fn unwrapped(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    parts.join(".")
}

/// The tensor, of a shape that the model has, in f32.
fn converted(name: &str, tensor: &TensorView) -> Result<StoredArray> {
    let kind = match tensor.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        other => {
            let fault = format!("tensor '{name}' has type {other:?}, must be F32, F64, F16 or BF16");
            return Err(Error::InvalidArgument(fault));
        }
    };
    let shape: Vec<i64> = tensor.shape().iter().map(|&size| size as i64).collect();
    StoredArray::from_tensor(&Tensor::f_from_data_size(tensor.data(), &shape, kind)?.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::parse;
    use tch::Device;

    fn model(seed: u64) -> Model {
        let options = format!(r#"{{"kind": "mlp", "inputs": 3, "hidden": [4], "norm": "batch_norm", "seed": {seed}}}"#);
        Model::new(&parse("model", &options).unwrap()).unwrap()
    }

    /// A safetensors file of the model's tensors, each named and converted by `change`; those without a name are left out.
    fn file(path: &Path, model: &Model, change: impl Fn(&str, Tensor) -> Option<(String, Tensor)>) {
        let tensors: Vec<(String, Tensor)> =
            model.state().into_iter().filter_map(|state| change(&state.name, state.tensor.detach_copy())).collect();
        Tensor::write_safetensors(&tensors, path).unwrap();
    }

    #[test]
    fn what_is_exported_is_imported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let (source, mut target) = (model(1), model(2));
        source.export(&path, &ExportOptions::default()).unwrap();
        let report = target.import_weights(&path, &ImportOptions::default()).unwrap();
        assert_eq!((report.imported.len(), report.missing.len(), report.left_over.len()), (8, 0, 0));
        for tensor in source.tensors() {
            assert_eq!(source.tensor(&tensor.name).unwrap(), target.tensor(&tensor.name).unwrap());
        }
        let unnamed = source.export(&folder.path().join("weights"), &ExportOptions::default()).unwrap_err().to_string();
        assert!(
            unnamed.ends_with("weights: the name must end in .onnx or .safetensors, or options say the format"),
            "{unnamed}"
        );
        let bytes = std::fs::read(&path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        assert_eq!(metadata["format"], "pt");
        let network: serde_json::Value = serde_json::from_str(&metadata["network"]).unwrap();
        assert_eq!(network["layers"][1]["kind"], "batch_norm");
    }

    #[test]
    fn wrappers_counters_and_other_types_are_taken_for_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let source = model(1);
        for (prefix, kind) in [
            ("module.", Kind::Double),
            ("_orig_mod.", Kind::Half),
            ("_orig_mod.module.", Kind::BFloat16),
            ("module.module.", Kind::Float),
        ] {
            file(&path, &source, |name, tensor| Some((format!("{prefix}{name}"), tensor.to_kind(kind))));
            let mut target = model(2);
            target.import_weights(&path, &ImportOptions::default()).unwrap();
            let (found, expected) = (&target.state()[0].tensor, &source.state()[0].tensor);
            assert!(found.equal(&expected.to_kind(kind).to_kind(Kind::Float)), "{prefix}");
        }
    }

    #[test]
    fn all_that_is_missing_or_left_over_is_named_and_nothing_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let (source, mut target) = (model(1), model(2));
        let before = target.tensor("0.weight").unwrap();
        let mut fault = |options: &ImportOptions| target.import_weights(&path, options).unwrap_err().to_string();
        let strict = ImportOptions::default();
        file(&path, &source, |name, tensor| match name {
            "1.weight" | "3.bias" => None,
            "0.bias" => Some(("first.bias".into(), tensor)),
            _ => Some((name.into(), tensor)),
        });
        let message = fault(&strict);
        let expected = "weights.safetensors: the tensors are not the model's: missing are '0.bias', '1.weight', '3.bias'; \
                        left over are 'first.bias'; with \"strict\": false the others are taken";
        assert!(message.ends_with(expected), "{message}");

        // A message stays readable: the report of an import that is not strict has all names.
        let others: Vec<_> =
            (0..100).map(|at| (format!("{at:02}.other"), Tensor::zeros([1], (Kind::Float, Device::Cpu)))).collect();
        Tensor::write_safetensors(&others, &path).unwrap();
        let message = fault(&strict);
        assert!(
            message.contains("'3.bias'; left over are '00.other', ") && message.contains(", ... (80 more); with"),
            "{message}"
        );

        let loose = ImportOptions { strict: false };
        file(&path, &source, |name, tensor| {
            Some((name.into(), if name == "0.weight" { tensor.transpose(0, 1).contiguous() } else { tensor }))
        });
        assert_eq!(fault(&loose), "tensor '0.weight' has shape [3, 4], the model's has [4, 3]");
        file(&path, &source, |name, tensor| {
            Some((name.into(), if name == "3.bias" { tensor * f64::NAN } else { tensor }))
        });
        assert_eq!(fault(&loose), "tensor '3.bias': a value is not finite");
        file(&path, &source, |name, tensor| Some((name.into(), tensor.to_kind(Kind::Int64))));
        assert_eq!(fault(&loose), "tensor '0.bias' has type I64, must be F32, F64, F16 or BF16");
        source.save(&path).unwrap();
        assert!(fault(&loose).ends_with("which is loaded, not imported"));
        std::fs::write(&path, "hello").unwrap();
        assert!(fault(&loose).contains("not a safetensors file, or damaged"));
        assert_eq!(target.tensor("0.weight").unwrap(), before);

        file(&path, &source, |name, tensor| (name == "0.weight").then(|| ("module.0.weight".into(), tensor)));
        let report = target.import_weights(&path, &loose).unwrap();
        assert_eq!((report.imported, report.missing.len()), (vec!["0.weight".to_string()], 7));
        assert_eq!(target.tensor("0.weight").unwrap(), source.tensor("0.weight").unwrap());
    }

    #[test]
    fn a_copy_is_a_model_of_its_own() {
        let mut first = model(1);
        let copy = first.copy().unwrap();
        let rows = [0.5, -1.0, 2.0];
        let before = first.predict(&rows).unwrap();
        assert_eq!(copy.predict(&rows).unwrap(), before);
        first.set_tensor("3.bias", &StoredArray::f32(vec![1], &[9.0]).unwrap()).unwrap();
        assert_ne!(first.predict(&rows).unwrap(), before);
        assert_eq!(copy.predict(&rows).unwrap(), before);
        let bytes = first.to_bytes().unwrap();
        assert_eq!(
            Model::from_bytes(&bytes, &"memory").unwrap().predict(&rows).unwrap(),
            first.predict(&rows).unwrap()
        );
        let fault = Model::from_bytes(&bytes[..9], &"memory").unwrap_err().to_string();
        assert!(fault.starts_with("memory: the file is damaged"), "{fault}");
    }
}
