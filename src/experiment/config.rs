//! What an experiment computes: one description, from the settings strings, a
//! file or a caller's JSON, with every default filled in.

use super::settings::{Origins, Settings};
use crate::base::Path;
use crate::base::options::{self, require};
use crate::data::noise::NoiseOptions;
use crate::data::{CsvOptions, ImageOptions, ImageSize, LabelStatistics};
use crate::model::ModelOptions;
use crate::torch::Precision;
use crate::train::distributed::{DistributedOptions, HeldRows};
use crate::train::fit::FitOptions;
use crate::train::loss::Loss;
use crate::train::trainer::TrainerOptions;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::mem::replace;
use std::path::PathBuf;

/// One experiment. [`Config::from_json`] fills in what depends on the data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A name for the run (default "experiment").
    #[serde(default = "untitled")]
    pub tag: String,
    /// The seed of everything that is random (default 0).
    #[serde(default)]
    pub seed: u64,
    /// The data and their division.
    pub dataset: DatasetOptions,
    /// The network (default by data set: `vanilla_ann` for tables, `vanilla_cnn` for images).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Network>,
    /// Instead of a trainer, which sees the statistics of the labels before simulated noise, a fit as on a user's own
    /// data (default none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<Protocol>,
    /// The loss (default `biv` with epsilon 0.1; in a fit, with epsilon `auto`).
    #[serde(default)]
    pub loss: Loss,
    /// The simulated noise of the training labels (default none).
    #[serde(default)]
    pub noise: Option<NoiseOptions>,
    /// The number of rows in a mini-batch (default 256).
    #[serde(default = "batch_size")]
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Adam's learning rate (default 0.01, the published code's).
    #[serde(default = "learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Whether an epoch leaves its last mini-batch out when that is not complete (default true).
    #[serde(default = "yes")]
    pub drop_last: bool,
    /// The number of epochs (default by data set: bike 100, else 20).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub epochs: Option<u64>,
    /// How often the test set is evaluated, beside at the end (default each epoch).
    #[serde(default)]
    pub eval_every: Cadence,
    /// The arithmetic of the network (default `f32`).
    #[serde(default)]
    pub precision: Precision,
    /// `cpu`, `cuda`, `cuda:N` or `auto` (default `cpu`).
    #[serde(default = "cpu")]
    pub device: String,
    /// How this process trains together with others, each of which has the same description and data (default: it trains
    /// alone). Rank 0 writes the run directory. In a fit they share the networks out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distributed: Option<DistributedOptions>,
    /// The file or folder of the data; for the named sets also a folder above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// The run directory; without one nothing is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// Whether a run that is in the run directory already goes on from its last checkpoint (default false).
    #[serde(default)]
    pub resume: bool,
    /// Whether a run that goes on may do so with other data than it began with (default false). The run directory then
    /// says in what they differ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_data: bool,
    /// A checkpoint is written when the last one is older than this, and at the end (default 60).
    #[serde(default = "minute")]
    #[schemars(range(min = 0.0))]
    pub checkpoint_seconds: f64,
}

/// Which data set, and how it is divided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetOptions {
    /// Which data set.
    pub kind: DatasetKind,
    /// The number of training rows.
    #[schemars(range(min = 1))]
    pub train_size: usize,
    /// The number of test rows (default: utkf 4000, wine 2491, bike 3379, csv all others, synthetic 1000).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub test_size: Option<usize>,
    /// Whether features and labels are normalised by the training set's statistics (default true).
    #[serde(default = "yes")]
    pub normalize: bool,
    /// How a folder of images is read; for `utkf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageOptions>,
    /// Whether identical images stay on one side of the division (default false); for `utkf`.
    #[serde(default)]
    pub keep_groups: bool,
    /// What the columns are; for `csv`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvOptions>,
    /// The file in the folder `data`; for `csv` (default: `data` is the file).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Which labels the statistics are of (default `clean`, those before simulated noise, as published;
    /// `labels` as a user has them, and in a fit).
    #[serde(default, skip_serializing_if = "LabelStatistics::is_published")]
    pub normalization: LabelStatistics,
}

/// A fit's networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Protocol {
    /// How many, each trained on the rows outside a fold of its own (default 5).
    #[schemars(range(min = 1, max = 1000))]
    pub members: usize,
    /// The part of the rows that `members` 1 holds out (default 0.3).
    #[schemars(range(min = 0.05, max = 0.95))]
    pub held_out: f64,
}

impl Default for Protocol {
    fn default() -> Self {
        let FitOptions { members, held_out, .. } = FitOptions::default();
        Protocol { members, held_out }
    }
}

/// Where the rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatasetKind {
    /// UTKFace: a folder of faces, their ages in the files' names.
    Utkf,
    /// Wine Quality.
    Wine,
    /// Bike Sharing.
    Bike,
    /// Friedman's function of ten features.
    Synthetic,
    /// A CSV file of your own.
    Csv,
}

/// Which network; the data give its input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Network {
    /// The published network for tables: hidden layers of 100, 50, 20 and 10; for wine with BatchNorm.
    VanillaAnn {},
    /// Linear layers with ReLU between them.
    Mlp {
        /// The width of each hidden layer.
        #[schemars(inner(range(min = 1)))]
        hidden: Vec<usize>,
        /// Whether a BatchNorm follows each hidden Linear (default false).
        #[serde(default)]
        batch_norm: bool,
    },
    /// The published network for images: six blocks of convolution, BatchNorm, ReLU and pooling.
    VanillaCnn {},
    /// A residual network (He et al. 2015).
    Resnet {
        /// 18, 34 or 50 (default 18).
        #[serde(default = "eighteen")]
        #[schemars(extend("enum" = [18, 34, 50]))]
        depth: usize,
    },
}

/// How often something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cadence {
    /// After every so many epochs.
    Epochs(#[schemars(range(min = 1))] u64),
    /// After every so many mini-batches.
    Steps(#[schemars(range(min = 1))] u64),
}

impl Default for Cadence {
    fn default() -> Self {
        Cadence::Epochs(1)
    }
}

fn untitled() -> String {
    "experiment".into()
}

fn batch_size() -> usize {
    256
}

fn learning_rate() -> f64 {
    0.01
}

fn yes() -> bool {
    true
}

fn cpu() -> String {
    "cpu".into()
}

fn minute() -> f64 {
    60.0
}

fn eighteen() -> usize {
    18
}

impl DatasetKind {
    /// Test size and number of epochs of the published experiment; of the other sets, ours.
    fn defaults(self) -> (Option<usize>, u64) {
        match self {
            DatasetKind::Utkf => (Some(4000), 20),
            DatasetKind::Wine => (Some(2491), 20),
            DatasetKind::Bike => (Some(3379), 100),
            DatasetKind::Synthetic => (Some(1000), 20),
            DatasetKind::Csv => (None, 20),
        }
    }
}

impl Config {
    /// Reads a description and fills in what depends on the data set. Under
    /// `"settings"` it may hold the published settings strings ([`Settings`]);
    /// the other fields then change what these say.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] with the path of the offending field, or with
    /// the setting and the position in it.
    pub fn from_json(json: &str) -> Result<Self> {
        Self::from_value(options::read("", json)?)
    }

    /// As [`Config::from_json`].
    ///
    /// # Errors
    /// As [`Config::from_json`].
    pub fn from_value(mut value: Value) -> Result<Self> {
        let settings = value.as_object_mut().and_then(|fields| fields.remove("settings"));
        let mut origins = Origins::default();
        if let Some(settings) = settings {
            let settings: Settings = options::from_value("settings", &settings)?;
            let change = replace(&mut value, settings.description(&mut origins)?);
            overlay(&mut value, change);
        }
        let config = options::from_value("", &value).and_then(|mut config: Config| {
            if config.fit.is_some() && value.get("loss").is_none() {
                config.loss = Loss::automatic();
            }
            config.resolved()
        });
        config.map_err(|error| origins.translate(error))
    }

    /// The description as JSON, every default spelt out.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The number of epochs.
    pub fn epochs(&self) -> u64 {
        self.epochs.unwrap_or(self.dataset.kind.defaults().1)
    }

    /// How the trainer trains.
    pub fn trainer(&self) -> TrainerOptions {
        TrainerOptions {
            loss: self.loss.clone(),
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            normalize: self.dataset.normalize,
            normalization: self.dataset.normalization,
            drop_last: self.drop_last,
            seed: self.seed,
            device: self.device.clone(),
            precision: self.precision,
            distributed: self.distributed.clone(),
            ..TrainerOptions::default()
        }
    }

    /// How the fit goes on, where there is one.
    pub fn fit_options(&self) -> Option<FitOptions> {
        let Protocol { members, held_out } = *self.fit.as_ref()?;
        Some(FitOptions {
            members,
            held_out,
            epochs: self.epochs(),
            loss: self.loss.clone(),
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            seed: self.seed,
            device: self.device.clone(),
            precision: self.precision,
            checkpoint_seconds: self.checkpoint_seconds,
            distributed: self.distributed.clone(),
            ..FitOptions::default()
        })
    }

    /// The network for rows whose features have this shape.
    ///
    /// # Errors
    /// [`Error::Internal`] for a network for images on a table.
    pub fn network(&self, feature_shape: &[usize], outputs: usize) -> Result<ModelOptions> {
        let seed = self.seed;
        let table = |hidden: &[usize], batch_norm| {
            ModelOptions::mlp(feature_shape.iter().product(), hidden, outputs, batch_norm, seed)
        };
        let image = || match *feature_shape {
            [channels, height, width] => Ok((channels, height, width)),
            _ => Err(Error::Internal("a network for images on a table".into())),
        };
        Ok(match &self.model {
            None | Some(Network::VanillaAnn {}) => table(&[100, 50, 20, 10], self.dataset.kind == DatasetKind::Wine),
            Some(Network::Mlp { hidden, batch_norm }) => table(hidden, *batch_norm),
            Some(Network::VanillaCnn {}) => {
                let (channels, height, width) = image()?;
                ModelOptions::VanillaCnn { channels, height, width, outputs, seed }
            }
            Some(Network::Resnet { depth }) => {
                let (channels, height, width) = image()?;
                ModelOptions::Resnet { depth: *depth, channels, height, width, outputs, seed }
            }
        })
    }

    /// Checks that the network takes images of `size`.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn check_images(&self, size: ImageSize) -> Result<()> {
        let network = self.network(&[3, size.height as usize, size.width as usize], 1)?;
        let given = self.dataset.images.as_ref().is_some_and(|images| images.size.is_some());
        let whose = if given { "" } else { "; that is the first image's own size: give another" };
        network.check_images().map_err(|error| match error.moved("model.", "dataset.images.size.") {
            Error::InvalidConfig { path, message } => Error::config(path, message + whose),
            other => other,
        })
    }

    /// Checks every field and fills in those that the data set determines.
    pub(crate) fn resolved(mut self) -> Result<Self> {
        let kind = self.dataset.kind;
        let (test_size, epochs) = kind.defaults();
        self.dataset.test_size = self.dataset.test_size.or(test_size);
        let epochs = *self.epochs.get_or_insert(epochs);
        if kind == DatasetKind::Utkf {
            self.dataset.images.get_or_insert_default();
        }

        let DatasetOptions { train_size, test_size, images, csv, file, keep_groups, .. } = &self.dataset;
        require(*train_size >= 1, "dataset.train_size", train_size, "at least 1")?;
        require(*test_size != Some(0), "dataset.test_size", 0, "at least 1")?;
        let is_images = kind == DatasetKind::Utkf;
        require(is_images || images.is_none(), "dataset.images", "given", "left out: only 'utkf' takes it")?;
        require(is_images || !keep_groups, "dataset.keep_groups", true, "left out: only 'utkf' takes it")?;
        let is_csv = kind == DatasetKind::Csv;
        require(is_csv || csv.is_none(), "dataset.csv", "given", "left out: only 'csv' takes it")?;
        require(is_csv || file.is_none(), "dataset.file", "given", "left out: only 'csv' takes it")?;
        require(!is_csv || csv.is_some(), "dataset.csv", "missing", "what the columns are")?;

        let default = if is_images { Network::VanillaCnn {} } else { Network::VanillaAnn {} };
        let takes_images = match self.model.get_or_insert(default) {
            Network::VanillaAnn {} => false,
            Network::Mlp { hidden, .. } => {
                for (layer, width) in hidden.iter().enumerate() {
                    require(*width >= 1, Path::from("model.hidden").item(layer), width, "at least 1")?;
                }
                false
            }
            Network::VanillaCnn {} => true,
            Network::Resnet { depth } => {
                require([18, 34, 50].contains(depth), "model.depth", *depth, "18, 34 or 50")?;
                true
            }
        };
        if takes_images != is_images {
            let (found, allowed) = match is_images {
                true => ("a network for tables", "'vanilla_cnn' or 'resnet': the data set is one of images"),
                false => ("a network for images", "'vanilla_ann' or 'mlp': the data set is a table"),
            };
            return Err(Error::config("model.kind", format!("is {found}, must be {allowed}")));
        }

        if let Some(images) = &self.dataset.images {
            images.validate().map_err(|error| error.moved("images.", "dataset.images."))?;
            images.size.map_or(Ok(()), |size| self.check_images(size))?;
        }
        if let Some(noise) = &self.noise {
            noise.validate()?;
        }
        let measured = csv.as_ref().is_some_and(|csv| csv.has_variances());
        self.trainer().validate().map_err(|error| error.moved("trainer.", ""))?;
        if let Some(fit) = self.fit_options() {
            fit.validate()?;
        }
        if self.distributed.as_ref().is_some_and(|distributed| distributed.rows == HeldRows::Own) {
            let fault = "is 'own', must be 'all': an experiment divides all rows into training and test set; a trainer takes \
                         rows of its own";
            return Err(Error::config("distributed.rows", fault));
        }
        let trained = self.fit.is_some() || self.loss.auto_factor().is_none();
        require(trained, "loss.epsilon", "auto", "a number: only a fit finds it")?;
        let weighted = matches!(self.loss, Loss::Iv { .. } | Loss::Biv { .. });
        if weighted && self.noise.is_none() && !measured && self.fit.is_none() {
            let allowed = "'mse' or 'cutoff_mse', or the labels must have noise: without it there are no variances";
            return Err(Error::config("loss.kind", format!("weighs by noise variances, must be {allowed}")));
        }
        let whole = !self.drop_last || self.batch_size <= *train_size;
        let allowed = format!("at most train_size, {train_size}: incomplete mini-batches are dropped");
        require(whole, "batch_size", self.batch_size, &allowed)?;
        require(epochs >= 1, "epochs", epochs, "at least 1")?;
        let (Cadence::Epochs(every) | Cadence::Steps(every)) = self.eval_every;
        require(every >= 1, "eval_every", every, "at least 1")?;
        require(self.checkpoint_seconds >= 0.0, "checkpoint_seconds", self.checkpoint_seconds, "at least 0")?;
        require(self.resume || !self.accept_data, "accept_data", true, "false without resume")?;
        require(self.out.is_some() || !self.resume, "resume", true, "false without out, a run directory")?;
        Ok(self)
    }
}

/// Puts the fields of `change` over those of `base`. Objects are merged, but for those that are one of several
/// kinds: an object with a `kind`, and `eval_every`, replace what was there.
pub fn overlay(base: &mut Value, change: Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) if !change.contains_key("kind") => {
            for (name, value) in change {
                if name == "eval_every" {
                    base.insert(name, value);
                } else {
                    overlay(base.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (base, change) => *base = change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> String {
        Config::from_json(json).unwrap_err().to_string()
    }

    #[test]
    fn defaults_follow_the_data_set() {
        let config = Config::from_json(r#"{"dataset":{"kind":"wine","train_size":4000},"loss":{"kind":"mse"}}"#);
        let config = config.unwrap();
        assert_eq!((config.epochs(), config.dataset.test_size), (20, Some(2491)));
        assert_eq!(config.model, Some(Network::VanillaAnn {}));
        assert_eq!(Config::from_value(config.to_value()).unwrap(), config, "a resolved description is one");
    }

    #[test]
    fn fields_change_what_the_settings_strings_say() {
        let json = r#"{"settings": {"experiment_settings":"t,1,bike,True,7000", "model_settings":"vanilla_ann,biv,0.5",
            "noise_settings":"True,uniform", "params_settings":"boundaries", "parameters":"0,1"},
            "epochs": 3, "dataset": {"test_size": 100}, "loss": {"kind": "cutoff_mse", "threshold": 2}}"#;
        let config = Config::from_json(json).unwrap();
        assert_eq!((config.epochs(), config.dataset.train_size, config.dataset.test_size), (3, 7000, Some(100)));
        assert_eq!(config.loss, Loss::CutoffMse { threshold: Some(2.0) });
    }

    #[test]
    fn one_kind_takes_the_place_of_another() {
        let settings = r#"{"experiment_settings":"t,1,bike,True,7000", "model_settings":"vanilla_ann,mse",
            "noise_settings":"False"}"#;
        let mut value: Value = serde_json::from_str(&format!(r#"{{"settings": {settings}}}"#)).unwrap();
        for (unit, cadence) in [("epochs", Cadence::Epochs(2)), ("steps", Cadence::Steps(2))] {
            overlay(&mut value, serde_json::json!({"eval_every": {unit: 2}}));
            assert_eq!(Config::from_value(value.clone()).unwrap().eval_every, cadence);
        }
        overlay(&mut value, serde_json::json!({"loss": {"kind": "cutoff_mse", "threshold": 9}}));
        overlay(&mut value, serde_json::json!({"loss": {"kind": "mse"}}));
        assert_eq!(Config::from_value(value).unwrap().loss, Loss::Mse {});
    }

    #[test]
    fn faults_are_named_with_their_path() {
        let bike = |rest: &str| format!(r#"{{"dataset":{{"kind":"bike","train_size":7000}},{rest}}}"#);
        let mse = |rest: &str| bike(&format!(r#""loss":{{"kind":"mse"}},{rest}"#));
        for (json, message) in [
            ("[1]".to_string(), "options: is a list [ ... ], must be an object"),
            ("{".into(), "EOF while parsing an object"),
            ("{}".into(), "dataset: is missing, must be an object { ... }"),
            (r#"{"dataset":["bike",7000,null,true,null,false,null]}"#.into(), "dataset: is a list [ ... ], must be an object"),
            (bike(r#""loss":["mse"]"#), "loss: is a list [ ... ], must be an object"),
            (
                mse(r#""noise":{"distribution":{"kind":"binary_uniform","components":[[1,0,1,null,null,null]]}}"#),
                "noise.distribution.components[0]: is a list [ ... ], must be an object",
            ),
            (mse(r#""epochs": 3, "epochs": 4"#), "epochs: is there twice at line 1 column"),
            (mse(r#""epoch": 3"#), "epoch: is no known field (did you mean 'epochs'?), allowed are 'accept_data', 'batch_size'"),
            (mse(r#""epochs": 0"#), "epochs: is 0, must be at least 1"),
            (mse(r#""epochs": -1"#), "epochs: is -1, must be at least 1"),
            (mse(r#""model": {"kind": "resnet"}"#), "model.kind: is a network for images, must be 'vanilla_ann' or 'mlp'"),
            (mse(r#""batch_size": 7001"#), "batch_size: is 7001, must be at most train_size, 7000"),
            (mse(r#""learning_rate": 0"#), "learning_rate: is 0, must be greater than 0"),
            (mse(r#""eval_every": {"steps": 0}"#), "eval_every.steps: is 0, must be at least 1"),
            (mse(r#""accept_data": true"#), "accept_data: is true, must be false without resume"),
            (mse(r#""resume": true"#), "resume: is true, must be false without out"),
            (mse(r#""distributed": {"rows": "own"}"#), "distributed.rows: is 'own', must be 'all': an experiment divides"),
            (mse(r#""distributed": {"rows": "own", "deterministic": true}"#), "distributed.rows: is 'own', which 'deterministic'"),
            (bike(r#""tag": "t""#), "loss.kind: weighs by noise variances, must be 'mse' or 'cutoff_mse'"),
            (bike(r#""noise": {"distribution": {"kind": "uniform", "low": 1, "high": 0}}"#), "noise.distribution.high: is 0"),
            (
                r#"{"dataset":{"kind":"utkf","train_size":10},"model":{"kind":"mlp","hidden":[]},"loss":{"kind":"mse"}}"#.into(),
                "model.kind: is a network for tables, must be 'vanilla_cnn' or 'resnet'",
            ),
            (
                r#"{"dataset":{"kind":"utkf","train_size":10,"images":{"size":63}},"loss":{"kind":"mse"}}"#.into(),
                "dataset.images.size.height: is 63, must be at least 64: 6 poolings halve the image",
            ),
            (
                r#"{"dataset":{"kind":"utkf","train_size":10,"images":{"size":{"height":64,"width":0}}}}"#.into(),
                "dataset.images.size.width: is 0, must be 1 to 16384",
            ),
            (r#"{"dataset":{"kind":"bike","train_size":0}}"#.into(), "dataset.train_size: is 0, must be at least 1"),
            (r#"{"dataset":{"kind":"csv","train_size":9}}"#.into(), "dataset.csv: is missing, must be what the columns"),
            (r#"{"dataset":{"kind":"iris","train_size":9}}"#.into(), "dataset.kind: is 'iris', must be 'utkf', 'wine', 'bike', 'synthetic' or 'csv'"),
            (r#"{"settings":{"x":""}}"#.into(), "settings.x: is no known field"),
        ] {
            assert!(fault(&json).contains(message), "{json}: {}", fault(&json));
        }
    }
}
