//! What a trainer takes its mini-batches from.

use super::step::Held;
use crate::Result;
use crate::data::{Dataset, Features, Normalization, Whole, gather};
use crate::model::{Model, batch};
use std::ops::{Deref, Range};
use tch::{Device, Tensor};

/// Data as the network wants them: normalised, on the device.
#[derive(Debug)]
pub(super) struct NormalizedData {
    pub(super) features: batch::Source,
    pub(super) labels: Tensor,
    /// In the host's memory, where the weights are computed; infinite for a masked label. Of all rows, whoever holds them.
    pub(super) variances: Option<Vec<f64>>,
    /// Which rows have their features and labels here, where they are not all.
    pub(super) held: Option<Held>,
    /// How many rows there are.
    pub(super) rows: usize,
}

impl NormalizedData {
    /// `data` for a model whose rows have the shape `shape`, on `device`; of `whole`, where they are a part of it.
    pub(super) fn new(
        data: &Dataset,
        whole: Option<&Whole>,
        shape: &[usize],
        normalization: &Normalization,
        device: Device,
    ) -> Result<Self> {
        Ok(NormalizedData {
            features: batch::Source::new(data, shape, normalization, device)?,
            labels: batch::labels(data, normalization, device)?,
            variances: noise(whole.map_or(data, |whole| &whole.labels), normalization)?,
            held: whole.map(|whole| Held::Part(whole.own.clone())),
            rows: whole.map_or(data.rows(), Whole::rows),
        })
    }

    /// The number of the first row that is here, of those that follow each other.
    pub(super) fn first(&self) -> usize {
        if let Some(Held::Part(own)) = &self.held { own.start } else { 0 }
    }
}

/// The variances of the noise of the labels of `data` in normalised units, where there are some or labels are masked.
fn noise(data: &Dataset, normalization: &Normalization) -> Result<Option<Vec<f64>>> {
    match data.variances() {
        None if data.masked() == 0 => Ok(None),
        _ => normalization.noise(data).map(Some),
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
        /// What is known of all rows, where `data` are a part of them.
        others: Option<Others>,
    },
}

/// What is known of rows of which some are held by other processes.
#[derive(Debug)]
pub(super) struct Others {
    /// Which of them this process holds.
    own: Range<usize>,
    /// As [`NormalizedData::variances`].
    variances: Option<Vec<f64>>,
}

impl TrainingData {
    /// `data`, which fit `model`, for training on `device`; of `whole`, where they are a part of it.
    pub(super) fn new(
        data: &Dataset,
        whole: Option<&Whole>,
        model: &Model,
        normalization: &Normalization,
        device: Device,
    ) -> Result<Self> {
        let shape = model.input_shape();
        Ok(match data.features() {
            Features::Numbers { values, .. } if device == Device::Cpu && size_of::<f32>() * values.len() > LARGE => {
                let others = |whole: &Whole| {
                    let variances = noise(&whole.labels, normalization)?;
                    Ok::<_, crate::Error>(Others { own: whole.own.clone(), variances })
                };
                let others = whole.map(others).transpose()?;
                TrainingData::Raw { data: data.without_remarks(), shape: shape.to_vec(), others }
            }
            _ => TrainingData::Normalized(NormalizedData::new(data, whole, shape, normalization, device)?),
        })
    }

    /// The number of the first row that is here.
    pub(super) fn first(&self) -> usize {
        match self {
            TrainingData::Normalized(data) => data.first(),
            TrainingData::Raw { others, .. } => others.as_ref().map_or(0, |others| others.own.start),
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
            TrainingData::Raw { data, shape, others } => {
                let (own, held) = others.as_ref().map_or((None, None), |others| {
                    let (own, held) = others.held(&rows);
                    (Some(own), Some(held))
                });
                let part = data.subset(own.as_ref().unwrap_or(&rows))?;
                let batch = NormalizedData::new(&part, None, shape, normalization, Device::Cpu)?;
                let variances = match others {
                    None => batch.variances,
                    Some(Others { variances, .. }) => {
                        variances.as_ref().map(|all| gather(all, data.outputs(), &rows)).transpose()?
                    }
                };
                let batch = NormalizedData { variances, held, rows: rows.len(), ..batch };
                Ok((MaybeOwned::Owned(batch), (0..rows.len()).collect()))
            }
        }
    }
}

impl Others {
    /// Which of this process's rows are among `rows`, or the first one where none is; and the place of each of `rows` among
    /// these.
    fn held(&self, rows: &[usize]) -> (Vec<usize>, Held) {
        let mut own = vec![];
        let mut place = |row: &usize| {
            let is_own = self.own.contains(row);
            is_own.then(|| {
                own.push(row - self.own.start);
                own.len() - 1
            })
        };
        let places = rows.iter().map(&mut place).collect();
        if own.is_empty() {
            own.push(0);
        }
        (own, Held::Places(places))
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
            *placed = TrainingData::Raw { data, shape: vec![3], others: None };
            assert_eq!(losses(raw), losses(trainer()), "{model} {loss} {known}");
        }
    }

    #[test]
    fn a_part_of_the_rows_gives_those_of_a_mini_batch_that_it_has_whenever_it_is_normalised() {
        let all = rows(true);
        let model =
            Model::new(&parse("model", r#"{"kind":"mlp","inputs":3,"outputs":2,"hidden":[2]}"#).unwrap()).unwrap();
        let own = 30..75;
        let data = all.slice(own.clone());
        let whole = Whole { own: own.clone(), labels: all.clone() };
        let normalization = Normalization::fit(&all, crate::data::LabelStatistics::Labels);
        let placed = TrainingData::new(&data, Some(&whole), &model, &normalization, Device::Cpu).unwrap();
        let others = Some(Others { own: own.clone(), variances: noise(&all, &normalization).unwrap() });
        let raw = TrainingData::Raw { data, shape: vec![3], others };
        assert_eq!((placed.first(), raw.first()), (30, 30));
        for batch in [vec![74, 3, 30, 100, 31], vec![2, 90]] {
            // Of each row of the mini-batch its features, labels and variances.
            let seen = |data: &TrainingData| {
                let (data, rows) = data.mini_batch(batch.clone(), &normalization).unwrap();
                let values = |tensor: &Tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
                let (x, y) = (values(data.features.numbers().unwrap()), values(&data.labels));
                let variances = data.variances.as_ref().unwrap();
                let row = |&row: &usize| {
                    let place = data.held.as_ref().unwrap().place(row);
                    let here = place.map(|at| (x[3 * at..3 * at + 3].to_vec(), y[2 * at..2 * at + 2].to_vec()));
                    (here, variances[2 * row..2 * row + 2].to_vec())
                };
                rows.iter().map(row).collect::<Vec<_>>()
            };
            assert_eq!(seen(&placed), seen(&raw));
            let here: Vec<bool> = seen(&raw).iter().map(|(here, _)| here.is_some()).collect();
            assert_eq!(here, batch.iter().map(|row| own.contains(row)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn large_data_stay_the_callers() {
        let rows = LARGE / 4 / 64 + 1;
        let data = Dataset::new(vec![1.0; rows * 64], vec![64], vec![1.0; rows], 1, None).unwrap();
        let model = Model::new(&parse("model", r#"{"kind":"mlp","inputs":64,"hidden":[2]}"#).unwrap()).unwrap();
        let normalization = Normalization::identity(1);
        let placed = |data| TrainingData::new(data, None, &model, &normalization, Device::Cpu).unwrap();
        let TrainingData::Raw { data: kept, .. } = placed(&data) else { panic!() };
        assert_eq!(kept.feature_values().unwrap().as_ptr(), data.feature_values().unwrap().as_ptr());
        assert!(matches!(placed(&data.latest(rows - 1).unwrap()), TrainingData::Normalized(_)));
    }
}
