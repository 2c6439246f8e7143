//! What a trainer takes its mini-batches from.

use crate::Result;
use crate::data::{Dataset, Features, Normalization};
use crate::model::{Model, batch};
use std::ops::Deref;
use tch::{Device, Tensor};

/// Data as the network wants them: normalised, on the device.
#[derive(Debug)]
pub(super) struct NormalizedData {
    pub(super) features: batch::Source,
    pub(super) labels: Tensor,
    /// In the host's memory, where the weights are computed; infinite for a masked label.
    pub(super) variances: Option<Vec<f64>>,
}

impl NormalizedData {
    /// `data` for a model whose rows have the shape `shape`, on `device`.
    pub(super) fn new(data: &Dataset, shape: &[usize], normalization: &Normalization, device: Device) -> Result<Self> {
        Ok(NormalizedData {
            features: batch::Source::new(data, shape, normalization, device)?,
            labels: batch::labels(data, normalization, device)?,
            variances: match data.variances() {
                None if data.masked() == 0 => None,
                _ => Some(normalization.noise(data)?),
            },
        })
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.labels.size()[0] as usize
    }
}

/// Features of more bytes are not copied by a trainer on a CPU.
const LARGE: usize = 16 << 20;

/// A data set that a trainer trains on.
#[derive(Debug)]
pub(super) enum TrainingData {
    /// All of it, normalised once: a step takes its rows from there.
    Normalized(NormalizedData),
    /// Numbers of more than [`LARGE`] bytes, on a CPU: they stay the data set's, and a mini-batch is normalised when it
    /// is its turn, to the same values.
    Raw {
        /// As the model takes them.
        data: Dataset,
        /// That of the model's inputs.
        shape: Vec<usize>,
    },
}

impl TrainingData {
    /// `data`, which fit `model`, for training on `device`.
    pub(super) fn new(data: &Dataset, model: &Model, normalization: &Normalization, device: Device) -> Result<Self> {
        let shape = model.input_shape();
        Ok(match data.features() {
            Features::Numbers { values, .. } if device == Device::Cpu && size_of::<f32>() * values.len() > LARGE => {
                TrainingData::Raw { data: data.without_remarks(), shape: shape.to_vec() }
            }
            _ => TrainingData::Normalized(NormalizedData::new(data, shape, normalization, device)?),
        })
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        match self {
            TrainingData::Normalized(data) => data.rows(),
            TrainingData::Raw { data, .. } => data.rows(),
        }
    }

    /// The rows `rows`: normalised data, and which rows of these they are.
    pub(super) fn mini_batch(
        &self,
        rows: Vec<usize>,
        normalization: &Normalization,
    ) -> Result<(MaybeOwned<'_>, Vec<usize>)> {
        match self {
            TrainingData::Normalized(data) => Ok((MaybeOwned::Borrowed(data), rows)),
            TrainingData::Raw { data, shape } => {
                let batch = NormalizedData::new(&data.subset(&rows)?, shape, normalization, Device::Cpu)?;
                Ok((MaybeOwned::Owned(batch), (0..rows.len()).collect()))
            }
        }
    }
}

/// Normalised data, a trainer's or made for one mini-batch.
#[derive(Debug)]
pub(super) enum MaybeOwned<'a> {
    Borrowed(&'a NormalizedData),
    Owned(NormalizedData),
}

impl Deref for MaybeOwned<'_> {
    type Target = NormalizedData;

    fn deref(&self) -> &NormalizedData {
        match self {
            MaybeOwned::Borrowed(data) => data,
            MaybeOwned::Owned(data) => data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::parse;
    use crate::base::random::{Purpose, stream};
    use crate::model::ModelOptions;
    use crate::train::trainer::{Trainer, TrainerOptions};
    use parking_lot::Mutex;
    use rand::RngExt;
    use std::ops::ControlFlow;
    use std::sync::Arc;

    /// Rows far from 0 with two labels of which some are masked, in several chunks.
    fn rows(known: bool) -> Dataset {
        let mut random = stream(3, Purpose::Synthetic, 0);
        let part = |random: &mut rand_chacha::ChaCha12Rng, count: usize| {
            let mut numbers =
                |count: usize| -> Vec<f64> { (0..count).map(|_| random.random_range(-1.0..1.0)).collect() };
            let x: Vec<f64> = numbers(3 * count).iter().map(|x| 1e6 + x).collect();
            let mut y = numbers(2 * count);
            y[7] = f64::NAN;
            let v: Vec<f64> = numbers(2 * count).iter().map(|v| v.abs()).collect();
            let view = |values, width| crate::data::array::ArrayView::f64(values, &[count, width]).unwrap();
            let options = parse("arrays", r#"{"missing_labels":"mask"}"#).unwrap();
            let (v, y) = (view(&v, 2), view(&y, 2));
            Dataset::from_arrays_with(&view(&x, 3), &y, known.then_some(&v), None, &options).unwrap()
        };
        let first = part(&mut random, 80);
        (0..5).fold(first, |data, _| data.append(&part(&mut random, 9)).unwrap())
    }

    #[test]
    fn rows_are_normalised_to_the_same_bits_whenever_that_is_done() {
        let kinds = [
            (r#"{"kind":"mlp","inputs":3,"outputs":2,"hidden":[8],"batch_norm":false}"#, "mse"),
            (r#"{"kind":"mlp","inputs":3,"outputs":2,"hidden":[8],"batch_norm":true}"#, "biv"),
            (r#"{"kind":"mean_variance","network":{"kind":"mlp","inputs":3,"outputs":2,"hidden":[8]}}"#, "gaussian"),
        ];
        for ((model, loss), known) in kinds.iter().flat_map(|kind| [(kind, true), (kind, false)]) {
            if *loss == "biv" && !known {
                continue;
            }
            let data = rows(known);
            let trainer = || {
                let model = Model::new(&parse::<ModelOptions>("model", model).unwrap()).unwrap();
                let options = format!(r#"{{"loss":{{"kind":"{loss}"}},"batch_size":16,"drop_last":false}}"#);
                let options: TrainerOptions = parse("trainer", &options).unwrap();
                Trainer::new(Arc::new(Mutex::new(model)), Some(&data), &options).unwrap()
            };
            let losses = |mut trainer: Trainer| {
                let mut losses = vec![];
                for _ in 0..3 {
                    trainer
                        .epoch(|_, step| {
                            losses.push(step.loss.to_bits());
                            ControlFlow::Continue(())
                        })
                        .unwrap();
                }
                losses
            };
            let mut raw = trainer();
            let Some((placed, _)) = &mut raw.data else { panic!() };
            assert!(matches!(placed, TrainingData::Normalized(_)));
            let data = raw.learner.model.lock().matched(&data).unwrap().without_remarks();
            *placed = TrainingData::Raw { data, shape: vec![3] };
            assert_eq!(losses(raw), losses(trainer()), "{model} {loss} {known}");
        }
    }

    #[test]
    fn large_data_stay_the_callers() {
        let rows = LARGE / 4 / 64 + 1;
        let data = Dataset::new(vec![1.0; rows * 64], vec![64], vec![1.0; rows], 1, None).unwrap();
        let model = Model::new(&parse("model", r#"{"kind":"mlp","inputs":64,"hidden":[2]}"#).unwrap()).unwrap();
        let normalization = Normalization::identity(1);
        let placed = |data| TrainingData::new(data, &model, &normalization, Device::Cpu).unwrap();
        let TrainingData::Raw { data: kept, .. } = placed(&data) else { panic!() };
        assert_eq!(kept.feature_values().unwrap().as_ptr(), data.feature_values().unwrap().as_ptr());
        assert!(matches!(placed(&data.latest(rows - 1).unwrap()), TrainingData::Normalized(_)));
    }
}
